//! Every recorded conversation of every provider, once more: against the component, in its sandbox, with the rules of the real host. Natively
//! they run beside the provider (`plugins/*/src`), so the two cannot drift apart.
//!
//! Each is run twice. First to the letter. Then with credentials that are nowhere else, so that even a password of three letters can
//! be searched for. Both times the guest's whole memory is searched: while each request is out, and when it has answered.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use idp::provider::{ByName, CallContext, CredentialSet, Now, Providers, ProvidersConfig, SelectRequest};
use idp_oci::client::challenge;
use idp_oci::client::dialect::{Answer, Challenge};
use idp_oci::secret::Secret;
use idp_provider_sdk::testing::case::{Case, files};
use serde_json::Value;

use crate::scan::Needle;
use crate::script::{Run, Stage};
use crate::support::{config, root};

/// Shorter ones stand in a guest's memory by chance.
const LONG: usize = 12;

/// Credentials by slot and name.
type Secrets = HashMap<(String, String), String>;

struct Player {
    stage: Arc<Stage>,
    providers: Providers,
}

impl Player {
    fn new() -> Self {
        let stage = Arc::new(Stage::default());
        let transport = Arc::clone(&stage) as Arc<_>;
        Self { stage, providers: Providers::new(ProvidersConfig { transport, ..config() }) }
    }

    /// Everything that is wrong about a case.
    async fn play(&self, provider: &str, text: &str) -> Result<(), String> {
        let case = Case::parse(text)?;
        let sets = case.host.credential.iter();
        let given: Secrets = sets
            .flat_map(|(slot, set)| {
                set.secret.iter().map(move |(name, value)| ((slot.clone(), name.clone()), value.clone()))
            })
            .collect();
        let sent = self.once(provider, &case, &given, true).await?;
        // What has a form of its own (a document, a key) is long enough to be searched for as it is.
        let canary = |((slot, name), value): (&(String, String), &String)| {
            let form = value.starts_with('{') || value.contains('\n');
            let canary = format!("canary-of-{slot}-{name}-5f3759df");
            ((slot.clone(), name.clone()), if form { value.clone() } else { canary })
        };
        let canaries: Secrets = given.iter().map(canary).collect();
        let again =
            self.once(provider, &case, &canaries, false).await.map_err(|why| format!("canaries: {why}"))?;
        if sent == again {
            Ok(())
        } else {
            Err(format!("{sent} requests, and {again} with other credentials"))
        }
    }

    /// One run; how many requests were sent.
    async fn once(
        &self,
        provider: &str,
        case: &Case,
        secrets: &Secrets,
        exact: bool,
    ) -> Result<usize, String> {
        let mut needles = Vec::new();
        for ((slot, name), value) in secrets.iter().filter(|(_, value)| value.len() >= LONG) {
            needles.push(Needle::new(&format!("`{name}` of `{slot}`"), value));
            let key = value.lines().filter(|line| line.len() >= 40 && !line.contains(' '));
            needles.extend(key.map(|line| Needle::new(&format!("a line of `{name}`"), line)));
        }
        self.stage.set(Run { exchanges: case.exchange.clone(), exact, needles, ..Run::default() });
        let setup = &case.host;
        let scheme = setup.scheme.as_deref().unwrap_or("https");
        let registry = setup.registry.parse().map_err(|error| format!("{error}"))?;
        let mut request = SelectRequest::new(registry, scheme);
        request.flag = Some(provider.to_owned());
        request.settings = setup.settings.clone();
        let selection =
            self.providers.select(&request, async { None }).await.map_err(|error| error.to_string())?;
        let operation = setup.operation.as_deref().unwrap_or("push");
        let mut context = CallContext::new(request.registry, scheme, operation);
        context.settings = setup.settings.clone();
        context.dry_run = setup.dry_run;
        context.now = Now::At(setup.now_ms()?);
        for (slot, set) in &setup.credential {
            let mut public: Vec<_> =
                set.public.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            if !set.public.contains_key("source") {
                public.push(("source".to_owned(), "the test".to_owned()));
            }
            let named = secrets.iter().filter(|((of, _), _)| of == slot);
            let secrets =
                named.map(|((_, name), value)| (name.clone(), Secret::new(value.clone()))).collect();
            let set = CredentialSet { kind: set.kind.clone(), public, secrets, audience: Vec::new() };
            context.credentials.insert(slot.clone(), set);
        }
        let dialect =
            self.providers.load(&selection, context).await.map_err(|error| error.to_string())?.forgetful();
        for (key, value) in &setup.remembered {
            dialect.remembers(key, &Secret::new(value.clone()));
        }
        let stage = Arc::clone(&self.stage);
        let (sender, receiver) = std::sync::mpsc::channel();
        let told = dialect
            .ask(question(case), move |bytes| {
                let found = stage.with(|run| run.search("afterwards", |memory| memory.len() == bytes));
                let _ = sender.send(found);
            })
            .await;
        let run = self.stage.set(Run::default());
        let mut wrong = run.failures;
        let unused = run.exchanges.get(run.sent..).unwrap_or_default().iter();
        wrong.extend(unused.map(|unused| format!("`{}` was expected and never sent", unused.request)));
        match told {
            Err(error) => wrong.push(error.to_string()),
            Ok(None) => wrong.push(format!("the component does not export `{}`", case.question)),
            Ok(Some(told)) => {
                let mut outcome = told.outcome;
                for (pointer, secret) in told.secrets {
                    let place = outcome.as_mut().ok().and_then(|answer| answer.pointer_mut(&pointer));
                    *place.expect("a secret of the answer") = Value::from(secret.expose());
                }
                if exact && let Err(different) = case.compare(outcome.as_ref()) {
                    wrong.push(different);
                }
            }
        }
        if cfg!(target_os = "linux") {
            if receiver.try_recv().is_ok_and(|found| found == 0) {
                wrong.push("the guest's memory was not found afterwards".to_owned());
            }
            if run.sent > 0 && run.searched == 0 {
                wrong.push("the guest's memory was not found at any request".to_owned());
            }
        }
        if wrong.is_empty() { Ok(run.sent) } else { Err(wrong.join("; ")) }
    }
}

fn question(case: &Case) -> ByName {
    let challenges: Vec<Challenge> =
        case.host.challenges.iter().flat_map(|header| challenge::parse(header)).collect();
    let subject = case.host.subject.as_ref().map(|subject| {
        let (method, url) = subject.request.split_once(' ').unwrap_or(("GET", &subject.request));
        Answer {
            method: method.to_owned(),
            url: url.to_owned(),
            status: subject.status,
            headers: subject.headers.clone(),
            body: subject.body.clone(),
        }
    });
    ByName {
        question: case.question.clone(),
        arguments: case.arguments.clone(),
        challenges,
        attempt: case.host.attempt.unwrap_or(1),
        subject,
    }
}

/// The providers of the tree, by what lies there.
pub(crate) fn providers() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("plugins")).expect("the plugins");
    let mut names: Vec<_> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_case_holds_in_the_sandbox_and_leaves_no_secret_there() {
    let player = Player::new();
    let mut wrong = Vec::new();
    let mut played = 0;
    for provider in providers() {
        let cases = match files(&root().join("plugins").join(&provider).join("cases")) {
            Ok(cases) => cases,
            Err(why) => {
                wrong.push(format!("{provider}: {why}"));
                continue;
            }
        };
        for (path, text) in cases {
            played += 1;
            if let Err(why) = player.play(&provider, &text).await {
                wrong.push(format!("{provider}/{}: {why}", name(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {played} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is different is noticed, on every side of a case.
#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_does_not_hold_fails() {
    let player = Player::new();
    let path = root().join("plugins/gitea/cases/authorize-token.toml");
    let text = std::fs::read_to_string(path).expect("the case");
    assert_eq!(player.play("gitea", &text).await, Ok(()));
    let unused = format!(
        "{}\n[[exchange]]\nrequest = \"GET https://git.example/never\"\nstatus = 200\n",
        text.trim_end()
    );
    for (changed, words) in [
        (text.replacen("GET https://", "HEAD https://", 1), "expected `HEAD https://"),
        (text.replacen("Basic YWx", "Basic xYWx", 1), "expected authorization"),
        (text.replacen("bearer = \"", "bearer = \"x", 1), "answer.authorization.bearer: expected"),
        (text.replacen("auth.authorize", "auth.authorise", 1), "does not export"),
        (unused, "never sent"),
    ] {
        assert_ne!(changed, text, "{words}");
        let wrong = player.play("gitea", &changed).await.expect_err(words);
        assert!(wrong.contains(words), "{words}: {wrong}");
    }
}

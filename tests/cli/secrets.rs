//! No credential in any output: whatever way it comes in, whatever the registry does with it, at every log level, in both formats.
//!
//! Each case is one run of the binary with a random password. The registry is ours and accepts it, or is a hostile one that hands
//! every credential back in its errors and headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use idp_test_support::faults::{Fault, Reply, Server, on};
use idp_test_support::sandbox::{Output, Sandbox};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Runs of the binary; each takes some tens of milliseconds.
const CASES: u32 = 48;

/// How the password comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Flag,
    TokenFlag,
    Stdin,
    Environment,
    TokenEnvironment,
    PasswordFile,
    PlainYaml,
    DockerConfig,
    IdentityToken,
    Helper,
    BrokenHelper,
    Login,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Accepted,
    /// 401 with the credential in body and challenge.
    Unauthorized,
    /// 403 likewise, after being let in.
    Denied,
    /// 500 likewise; tried again once.
    Failed,
    /// Nobody answers.
    Nobody,
}

fn ways() -> impl Strategy<Value = Way> {
    prop::sample::select(vec![
        Way::Flag,
        Way::TokenFlag,
        Way::Stdin,
        Way::Environment,
        Way::TokenEnvironment,
        Way::PasswordFile,
        Way::PlainYaml,
        Way::DockerConfig,
        Way::IdentityToken,
        Way::Helper,
        Way::BrokenHelper,
        Way::Login,
    ])
}

fn ends() -> impl Strategy<Value = End> {
    prop::sample::select(vec![End::Accepted, End::Unauthorized, End::Denied, End::Failed, End::Nobody])
}

/// Gives the password to the run, by way of arguments, variables, files or stdin.
fn give(
    sandbox: &mut Sandbox,
    way: Way,
    registry: &str,
    password: &str,
    arguments: &mut Vec<String>,
) -> Vec<u8> {
    let user = ["--username".to_owned(), "user".to_owned()];
    match way {
        Way::Flag => {
            arguments.extend(user);
            arguments.push(format!("--password={password}"));
        }
        Way::TokenFlag => arguments.push(format!("--token={password}")),
        Way::Stdin | Way::Login => {
            arguments.extend(user);
            arguments.push("--password-stdin".to_owned());
            return format!("{password}\n").into_bytes();
        }
        Way::Environment => {
            sandbox.set_env("IDPBUILDER_REGISTRY_USERNAME", "user");
            sandbox.set_env("IDPBUILDER_REGISTRY_PASSWORD", password);
        }
        Way::TokenEnvironment => sandbox.set_env("IDPBUILDER_REGISTRY_TOKEN", password),
        Way::PasswordFile => {
            sandbox.write_private("home/.idpbuilder/secret", password);
            let entry = format!("{registry}: {{credentials: {{username: user, passwordFile: secret}}}}");
            sandbox.write("home/.idpbuilder/registries.yaml", &format!("registries:\n  {entry}\n"));
        }
        Way::PlainYaml => {
            let quoted = serde_json::to_string(password).expect("a string");
            let entry = format!("{registry}: {{credentials: {{username: user, password: {quoted}}}}}");
            sandbox.write_private("home/.idpbuilder/registries.yaml", &format!("registries:\n  {entry}\n"));
        }
        Way::DockerConfig => {
            let auth = STANDARD.encode(format!("user:{password}"));
            let config = serde_json::json!({"auths": {registry: {"auth": auth}}});
            sandbox.write_private("home/.docker/config.json", &config.to_string());
        }
        Way::IdentityToken => {
            let config = serde_json::json!({"auths": {registry: {"identitytoken": password}}});
            sandbox.write_private("home/.docker/config.json", &config.to_string());
        }
        Way::Helper | Way::BrokenHelper => {
            sandbox.write("home/.docker/config.json", r#"{"credsStore":"test"}"#);
            let answer = serde_json::json!({"ServerURL": registry, "Username": "user", "Secret": password});
            let file = sandbox.write_private("home/answer", &answer.to_string());
            // A helper that talks too much.
            let end = if way == Way::BrokenHelper { 1 } else { 0 };
            let script = format!("/bin/cat {0}; /bin/cat {0} >&2; exit {end}", file.display());
            sandbox.program("docker-credential-test", &script);
        }
    }
    Vec::new()
}

/// Every form in which the password would still be one.
fn forms(way: Way, password: &str) -> Vec<String> {
    let json = serde_json::to_string(password).expect("a string");
    let percent: String =
        password
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
    vec![
        password.to_owned(),
        json[1..json.len() - 1].to_owned(),
        percent,
        STANDARD.encode(password),
        encoded(way, password),
    ]
}

/// As it goes over the wire: with the user name, where there is one.
fn encoded(way: Way, password: &str) -> String {
    match way {
        Way::TokenFlag | Way::TokenEnvironment | Way::IdentityToken => STANDARD.encode(password),
        _ => STANDARD.encode(format!("user:{password}")),
    }
}

fn check(output: &Output, way: Way, password: &str) -> Result<(), TestCaseError> {
    for form in forms(way, password) {
        prop_assert!(!output.stdout.contains(&form), "on stdout: {form}\n{output}");
        prop_assert!(!output.stderr.contains(&form), "on stderr: {form}\n{output}");
    }
    Ok(())
}

fn hostile(runtime: &tokio::runtime::Runtime, way: Way, end: End, password: &str) -> Option<Server> {
    let status = match end {
        End::Accepted | End::Nobody => return None,
        End::Unauthorized => 401,
        End::Denied => 403,
        End::Failed => 500,
    };
    // What a helper that failed kept to itself, no registry can know.
    let password = if way == Way::BrokenHelper { "unknown to it" } else { password };
    let echo = forms(way, password).join(" ");
    let document =
        serde_json::json!({"errors": [{"code": "DENIED", "message": echo, "detail": {"sent": echo}}]});
    let basic = encoded(way, password);
    let echoing = |status| {
        let reply =
            Reply::status(status).header("content-type", "application/json").body(document.to_string());
        reply.header("x-echo", &basic).header("warning", &format!("299 - \"{basic}\""))
    };
    let challenge = format!("Basic realm=\"{basic}\"");
    let server = runtime.block_on(Server::script(Vec::new()));
    // First it wants to know who is there, then it says no.
    server.rule(on("*", "/v2/", Fault::Reply(echoing(401).header("www-authenticate", &challenge))).times(2));
    server
        .rule(on("*", "/v2/", Fault::Reply(echoing(status).header("www-authenticate", &challenge))).always());
    Some(server)
}

fn case(
    runtime: &tokio::runtime::Runtime,
    (password, way, end, level, json): (String, Way, End, &'static str, bool),
) -> Result<(), TestCaseError> {
    let mut sandbox = super::sandbox().with_env("IDPBUILDER_OCI_RETRY_COUNT", "0");
    let users = format!("user:{}\n", bcrypt::hash(&password, 4).expect("a hash"));
    let users = sandbox.write("users", &users);
    let ours = (end == End::Accepted)
        .then(|| sandbox.serve(&["--memory", "--htpasswd", users.to_str().expect("utf-8")]));
    let theirs = hostile(runtime, way, end, &password);
    let registry = match (&ours, &theirs) {
        (Some(ours), _) => ours.address.clone(),
        (None, Some(theirs)) => theirs.address(),
        (None, None) => "127.0.0.1:9".to_owned(),
    };
    sandbox.write("work/app/a", "a");
    let mut arguments: Vec<String> = if way == Way::Login {
        vec!["login".to_owned(), registry.clone()]
    } else {
        vec!["push".to_owned(), "./app".to_owned(), format!("{registry}/app:1")]
    };
    arguments.extend(["--log-level".to_owned(), level.to_owned()]);
    arguments.extend(["--output".to_owned(), if json { "json" } else { "text" }.to_owned()]);
    let stdin = give(&mut sandbox, way, &registry, &password, &mut arguments);
    let output = sandbox.idp_with_stdin(&arguments, &stdin);
    check(&output, way, &password)?;
    // The test would prove nothing if the password never arrived.
    let is_basic =
        !matches!(way, Way::TokenFlag | Way::TokenEnvironment | Way::IdentityToken | Way::BrokenHelper);
    if end == End::Accepted && is_basic {
        prop_assert_eq!(output.code, 0, "{}", output);
    } else {
        prop_assert!(output.code != 0, "{}", output);
    }
    Ok(())
}

#[test]
fn no_credential_in_any_output() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let passwords = r#"[a-zA-Z0-9!#$%&'()*+,./:;<=>?@^_`{|}~"\\-]{14,40}"#;
    let levels = prop::sample::select(vec!["error", "warn", "info", "debug", "trace"]);
    let strategy = (passwords, ways(), ends(), levels, any::<bool>());
    let config =
        Config { cases: CASES, max_shrink_iters: 40, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&strategy, |values| case(&runtime, values))
        .unwrap_or_else(|error| panic!("{error}"));
}

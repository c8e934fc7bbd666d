//! Credentials of the clouds, end to end: found as the clouds' own tools find them, used for registries that were named, kept sealed.

use std::sync::{Arc, Mutex};

use idp_test_support::net::Net;
use idp_test_support::products::acr::Acr;
use idp_test_support::products::base;
use idp_test_support::products::cloud::{Aws, Entra};
use idp_test_support::sandbox::Sandbox;

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const API: &str = "api.ecr.eu-west-1.amazonaws.com";
const STS: &str = "sts.eu-west-1.amazonaws.com";
const PORTAL: &str = "portal.sso.eu-west-1.amazonaws.com";

/// AWS with an image in its registry, and a home that reaches it.
fn aws() -> (Net, Arc<Mutex<Aws>>, Sandbox) {
    let net = Net::start();
    let site = net.site(&[ECR, API, STS, PORTAL], Aws::default());
    base::image(&mut site.lock().expect("a site").registry, "app", "1", "content");
    let mut sandbox = super::sandbox(&net);
    sandbox.set_env("IDPBUILDER_OCI_RETRY_COUNT", "1");
    sandbox.set_env("AWS_EC2_METADATA_DISABLED", "true");
    (net, site, sandbox)
}

fn reference() -> String {
    format!("{ECR}/app:1")
}

fn pull(sandbox: &Sandbox, code: i32) -> String {
    let output = sandbox.idp(["pull", &reference(), "oci:./out", "--log-level", "debug"]).exits(code);
    output.stderr
}

#[test]
fn keys_of_the_environment_buy_one_token_for_many_commands() {
    let (net, site, mut sandbox) = aws();
    site.lock().expect("a site").key = Some("AKIAEXAMPLE00001".to_owned());
    sandbox.set_env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE00001");
    sandbox.set_env("AWS_SECRET_ACCESS_KEY", "secret-of-environment");
    let said = pull(&sandbox, 0);
    assert!(!said.contains("secret-of-environment") && !said.contains("password-of-ecr"), "{said}");
    let _ = pull(&sandbox, 0);
    assert_eq!(net.count("POST", API, "/"), 1, "{:#?}", net.log());
    // What is kept is sealed, and is that of one identity.
    let kept = sandbox.path("home/.idpbuilder/providers/remembered");
    for file in std::fs::read_dir(&kept).expect("kept") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("read");
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("password-of-ecr") && !text.contains("QVdTOnBhc3N3b3Jk"), "{text}");
    }
    sandbox.set_env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE00002");
    let said = pull(&sandbox, 3);
    assert_eq!(net.count("POST", API, "/"), 2, "{:#?}", net.log());
    assert!(said.contains("AWS_ACCESS_KEY_ID"), "{said}");
}

#[test]
fn web_identity() {
    let (net, site, mut sandbox) = aws();
    site.lock().expect("a site").web_identity = Some("jwt-of-the-pod".to_owned());
    let file = sandbox.write_private("home/token", "jwt-of-the-pod\n");
    sandbox.set_env("AWS_WEB_IDENTITY_TOKEN_FILE", &file.display().to_string());
    sandbox.set_env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod");
    sandbox.set_env("AWS_REGION", "eu-west-1");
    let said = pull(&sandbox, 0);
    for secret in ["jwt-of-the-pod", "secret-of-sts", "session-of-sts"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    // The next command has the token, and does not even look for keys.
    let _ = pull(&sandbox, 0);
    assert_eq!((net.count("POST", STS, "/"), net.count("POST", API, "/")), (1, 1), "{:#?}", net.log());
    site.lock().expect("a site").web_identity = None;
    sandbox.set_env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/other");
    let said = pull(&sandbox, 3);
    assert!(said.contains("InvalidIdentityToken") && said.contains("must trust the issuer"), "{said}");
}

#[test]
fn an_sso_session_that_is_over_says_which_command_starts_a_new_one() {
    let (_net, site, mut sandbox) = aws();
    site.lock().expect("a site").session = Some("session-of-person".to_owned());
    sandbox.write(
        "home/.aws/config",
        "[profile dev]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = Dev\n\
         [sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n",
    );
    sandbox.set_env("AWS_PROFILE", "dev");
    let said = pull(&sandbox, 3);
    assert!(said.contains("run `aws sso login --profile dev`"), "{said}");
    // sha1sum of `corp`
    let cache = "home/.aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";
    let session = |at: &str| format!(r#"{{"accessToken":"session-of-person","expiresAt":"{at}"}}"#);
    sandbox.write_private(cache, &session("2001-01-01T00:00:00Z"));
    assert!(pull(&sandbox, 3).contains("is over; run `aws sso login --profile dev`"));
    sandbox.write_private(cache, &session("2099-01-01T00:00:00Z"));
    let said = pull(&sandbox, 0);
    assert!(!said.contains("session-of-person") && !said.contains("secret-of-sso"), "{said}");
}

#[test]
fn where_was_looked_in_vain() {
    let (_net, _site, sandbox) = aws();
    let said = pull(&sandbox, 3);
    assert!(said.contains("no credentials were found in AWS_PROFILE, AWS_ACCESS_KEY_ID"), "{said}");
}

/// The same answers, under a name that is nobody's: it looks like ECR, and gets nothing of AWS's.
#[test]
fn a_registry_that_only_looks_like_it_gets_nothing() {
    let net = Net::start();
    let site = net.site(&["registry.example", API, STS], Aws::default());
    site.lock().expect("a site").key = Some("AKIAEXAMPLE00001".to_owned());
    base::image(&mut site.lock().expect("a site").registry, "app", "1", "content");
    let mut sandbox = super::sandbox(&net);
    sandbox.set_env("IDPBUILDER_OCI_RETRY_COUNT", "1");
    sandbox.set_env("AWS_EC2_METADATA_DISABLED", "true");
    sandbox.set_env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE00001");
    sandbox.set_env("AWS_SECRET_ACCESS_KEY", "secret-of-environment");
    let refused = sandbox.idp(["pull", "registry.example/app:1", "oci:./out"]).exits(3);
    assert_eq!(net.count("POST", API, "/"), 0, "{:#?}", net.log());
    assert!(refused.stderr.contains("`cloud:aws` is not used, because nobody said"), "{refused}");
}

#[test]
fn an_application_of_entra_is_let_into_azures_registry() {
    let net = Net::start();
    let server = "team.azurecr.io";
    let site = net.site(&[server], Acr::new(server));
    site.lock().expect("a site").entra_tokens.insert("token-of-entra-1".to_owned());
    net.site(
        &["login.microsoftonline.com"],
        Entra { secret: "secret-of-app-1".to_owned(), token: "token-of-entra-1".to_owned() },
    );
    let mut sandbox = super::sandbox(&net);
    sandbox.set_env("IDPBUILDER_OCI_RETRY_COUNT", "1");
    sandbox.set_env("AZURE_TENANT_ID", "tenant-1");
    sandbox.set_env("AZURE_CLIENT_ID", "app-1");
    sandbox.set_env("AZURE_CLIENT_SECRET", "secret-of-app-1");
    for tag in ["1", "2"] {
        let pushed =
            sandbox.idp(["push", "./app", &format!("{server}/app:{tag}"), "--log-level", "debug"]).exits(0);
        for secret in ["secret-of-app-1", "token-of-entra-1"] {
            assert!(!pushed.stderr.contains(secret), "{secret} in {pushed}");
        }
    }
    // The second command still has the refresh token of the first.
    assert_eq!(net.count("POST", server, "/oauth2/exchange"), 1, "{:#?}", net.log());
    sandbox.set_env("AZURE_CLIENT_SECRET", "wrong-secret-1");
    let refused = sandbox.idp(["push", "./app", &format!("{server}/app:3")]).exits(3);
    assert!(
        refused.stderr.contains("AADSTS7000215") && refused.stderr.contains("AZURE_CLIENT_SECRET"),
        "{refused}"
    );
    assert!(!refused.stderr.contains("wrong-secret-1"), "{refused}");
}

/// The same component, given as a file: a stranger's.
#[test]
fn a_strangers_provider_needs_a_grant() {
    let (net, site, mut sandbox) = aws();
    site.lock().expect("a site").key = Some("AKIAEXAMPLE00001".to_owned());
    sandbox.set_env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE00001");
    sandbox.set_env("AWS_SECRET_ACCESS_KEY", "secret-of-environment");
    let component = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/providers/ecr.wasm");
    let with = |grants: &[&str], code| {
        let reference = reference();
        let mut arguments = vec!["pull", &reference, "oci:./out", "--provider", component];
        arguments.extend(grants.iter().flat_map(|grant| ["--grant", grant]));
        sandbox.idp(arguments).exits(code).stderr
    };
    let source = "source=cloud:aws";
    let said = with(&[], 3);
    assert!(said.contains("to allow it, add --grant 'source=cloud:aws'"), "{said}");
    let egress = format!("egress=https://{API} POST");
    let said = with(&[source], 3);
    assert!(said.contains(&format!("--grant '{egress}'")), "{said}");
    assert_eq!(net.count("POST", API, "/"), 0, "{:#?}", net.log());
    let _ = with(&[source, &egress], 0);
    let shown = sandbox.idp(["provider", "show", "ecr"]).exits(0).stdout;
    assert!(shown.contains(source), "{shown}");
}

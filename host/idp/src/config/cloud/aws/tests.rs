//! The chain against made-up environments, files and services on loopback.

use std::net::TcpListener;

use super::super::testing::{Service, Setting};
use super::super::{CloudCredential, CloudError, Wanted, find, selector, stamp};
use crate::config::sources::Cloud;

const CONFIG: &str = ".aws/config";
const CREDENTIALS: &str = ".aws/credentials";

impl Setting {
    async fn find(&self) -> Result<Option<CloudCredential>, CloudError> {
        find(Cloud::Aws, &Wanted::default(), &self.tools()).await
    }

    async fn found(&self) -> CloudCredential {
        self.find().await.expect("no error").expect("a credential")
    }

    async fn fails(&self) -> String {
        self.find().await.expect_err("an error").to_string()
    }
}

fn id(found: &CloudCredential) -> &str {
    assert_eq!(found.kind, "aws-keys");
    found.secrets[0].1.expose()
}

fn secret<'a>(found: &'a CloudCredential, name: &str) -> Option<&'a str> {
    found.secrets.iter().find(|(key, _)| key == name).map(|(_, value)| value.expose())
}

const ENV: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKENV"), ("AWS_SECRET_ACCESS_KEY", "secret-of-env")];

const STS_ANSWER: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA1</AccessKeyId>\
    <SecretAccessKey>secret&amp;role</SecretAccessKey><SessionToken>token-of-role</SessionToken>\
    <Expiration>2099-01-02T03:04:05Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

#[tokio::test]
async fn keys_of_the_environment() {
    let setting =
        Setting::new(&[ENV[0], ENV[1], ("AWS_SESSION_TOKEN", "token-of-env"), ("AWS_REGION", "eu-west-1")])
            .file(CREDENTIALS, "[default]\naws_access_key_id=AKFILE\naws_secret_access_key=secret-of-file\n");
    let found = setting.found().await;
    assert_eq!((id(&found), secret(&found, "session-token")), ("AKENV", Some("token-of-env")));
    assert_eq!(found.public("region"), Some("eu-west-1"));
    assert_eq!(found.public("source"), Some("the environment (AWS_ACCESS_KEY_ID)"));
    assert_eq!(setting.known().blank_text("secret-of-env token-of-env"), "*** ***");
    let half = Setting::new(&ENV[..1]).fails().await;
    assert!(half.contains("AWS_ACCESS_KEY_ID and no AWS_SECRET_ACCESS_KEY"), "{half}");
}

#[tokio::test]
async fn profiles() {
    let files = |variables: &[(&str, &str)]| {
        Setting::new(variables)
            .file(
                CONFIG,
                "[default]\nregion=eu-central-1\n[profile dev]\nregion = us-west-2\naws_account_id=42\n",
            )
            .file(
                CREDENTIALS,
                "[default]\naws_access_key_id=AKFILE\naws_secret_access_key=secret-of-file\n\
                 [dev]\naws_access_key_id=AKDEV\naws_secret_access_key=secret-of-dev\n",
            )
    };
    let found = files(&[]).found().await;
    assert_eq!((id(&found), found.public("region")), ("AKFILE", Some("eu-central-1")));
    // One that is named comes before the keys of the environment.
    let found = files(&[ENV[0], ENV[1], ("AWS_PROFILE", "dev")]).found().await;
    assert_eq!(
        (id(&found), found.public("region"), found.public("account")),
        ("AKDEV", Some("us-west-2"), Some("42"))
    );
    let error = files(&[("AWS_PROFILE", "nobody")]).fails().await;
    assert!(
        error.contains("`nobody`, which AWS_PROFILE names, is not configured; `aws configure"),
        "{error}"
    );
    assert_eq!(Setting::new(&[]).find().await, Ok(None));
    let setting = files(&[]);
    let wanted = Wanted { profile: Some("dev".to_owned()) };
    let found = find(Cloud::Aws, &wanted, &setting.tools()).await.expect("no error").expect("one");
    assert_eq!(id(&found), "AKDEV");
}

#[tokio::test]
async fn roles() {
    let sts = Service::start(|_| (200, STS_ANSWER.to_owned()));
    let setting = Setting::new(&[("AWS_PROFILE", "role"), ("AWS_ENDPOINT_URL_STS", &sts.base)]).file(
        CONFIG,
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/deploy\nsource_profile = base\nexternal_id = e+1\n\
         [profile base]\nregion=eu-west-1\naws_access_key_id=AKBASE\naws_secret_access_key=secret-of-base\n",
    );
    let found = setting.found().await;
    assert_eq!((id(&found), secret(&found, "secret-access-key")), ("ASIA1", Some("secret&role")));
    assert_eq!(found.public("account"), Some("123456789012"));
    let expires_at = stamp::unix("2099-01-02T03:04:05Z").expect("a time").to_string();
    assert_eq!(found.public("expires-at"), Some(expires_at.as_str()));
    let sent = sts.seen().remove(0);
    for part in
        ["Action=AssumeRole&", "ExternalId=e%2B1", "Credential=AKBASE/", "/us-east-1/sts/aws4_request"]
    {
        assert!(sent.contains(part), "{part} in {sent}");
    }
    assert!(!sent.contains("secret-of-base"));
}

#[tokio::test]
async fn roles_that_cannot_be_taken() {
    let refusal =
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>";
    let sts = Service::start(move |_| (403, refusal.to_owned()));
    let with = |config: &str| {
        Setting::new(&[("AWS_PROFILE", "a"), ("AWS_ENDPOINT_URL_STS", &sts.base)]).file(CONFIG, config)
    };
    let keys = "aws_access_key_id=AK\naws_secret_access_key=secret-of-a\n";
    for (config, expect) in [
        (
            format!("[profile a]\nrole_arn=arn:r\nsource_profile=a\n{keys}"),
            "AWS STS answered 403 (AccessDenied: not you); the identity from AWS profile a needs sts:AssumeRole on `arn:r`",
        ),
        ("[profile a]\nrole_arn=arn:r\n".to_owned(), "not one of source_profile and credential_source"),
        (
            "[profile a]\nrole_arn=arn:r\nsource_profile=b\n".to_owned(),
            "names the source profile `b`, which is not",
        ),
        (
            "[profile a]\nrole_arn=arn:r\nsource_profile=b\n[profile b]\nrole_arn=arn:s\nsource_profile=a\n"
                .to_owned(),
            "is its own source",
        ),
        (
            "[profile a]\nrole_arn=arn:r\nsource_profile=b\n[profile b]\nregion=x\n".to_owned(),
            "its source has no keys",
        ),
        (
            format!("[profile a]\nrole_arn=arn:r\nsource_profile=a\nmfa_serial=x\n{keys}"),
            "the code of an MFA device",
        ),
        ("[profile a]\nrole_arn=arn:r\ncredential_source=Moon\n".to_owned(), "credential_source `Moon`"),
        ("[profile a]\nlogin_session=arn:x\n".to_owned(), "uses `aws login`"),
    ] {
        let error = with(&config).fails().await;
        assert!(error.contains(expect), "{error}");
        assert!(!error.contains("secret-of-a"));
    }
}

#[tokio::test]
async fn web_identity() {
    let sts = Service::start(|request| {
        let good = request.contains("WebIdentityToken=jwt-1234567") && !request.contains("authorization");
        if good { (200, STS_ANSWER.to_owned()) } else { (400, String::new()) }
    });
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs_err::write(file.path(), "jwt-1234567\n").expect("written");
    let path = file.path().to_str().expect("utf-8");
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod"),
        ("AWS_ENDPOINT_URL_STS", &sts.base),
    ];
    let setting = Setting::new(&variables);
    let found = setting.found().await;
    assert_eq!((id(&found), found.public("account")), ("ASIA1", Some("123456789012")));
    assert_eq!(setting.known().blank_text("jwt-1234567"), "***");
    let error =
        Setting::new(&[variables[1], ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token")]).fails().await;
    assert!(
        error.contains("cannot read `/nowhere/token`, which AWS_WEB_IDENTITY_TOKEN_FILE names"),
        "{error}"
    );
}

#[tokio::test]
async fn single_sign_on() {
    let portal = Service::start(|request| {
        if request.contains("x-amz-sso_bearer_token: sso-token-1") {
            let keys = r#"{"accessKeyId":"ASIASSO","secretAccessKey":"secret-of-sso","sessionToken":"t-1","expiration":4070908800000}"#;
            (200, format!(r#"{{"roleCredentials":{keys}}}"#))
        } else {
            (401, r#"{"message":"Session token not found or invalid"}"#.to_owned())
        }
    });
    let config = "[profile sso]\nsso_session = corp\nsso_account_id = 111122223333\nsso_role_name = Dev\n\
                  [sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n";
    // sha1sum of the session's name, as the AWS CLI names its files.
    let real = ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";
    let setting = |token: Option<&str>| {
        let setting = Setting::new(&[("AWS_PROFILE", "sso"), ("AWS_ENDPOINT_URL_SSO", &portal.base)])
            .file(CONFIG, config);
        match token {
            Some(text) => setting.file(real, text),
            None => setting,
        }
    };
    let good = r#"{"accessToken":"sso-token-1","expiresAt":"2099-01-01T00:00:00Z","region":"eu-west-1"}"#;
    let found = setting(Some(good)).found().await;
    assert_eq!((id(&found), found.public("account")), ("ASIASSO", Some("111122223333")));
    assert_eq!(found.public("expires-at"), Some("4070908800"));
    assert!(portal.seen()[0].contains("GET /federation/credentials?role_name=Dev&account_id=111122223333"));
    for (token, expect) in [
        (None, "was never started"),
        (Some(r#"{"accessToken":"sso-token-1","expiresAt":"2001-01-01T00:00:00Z"}"#), "is over"),
        (Some(r#"{"accessToken":"other","expiresAt":"2099-01-01T00:00:00Z"}"#), "was refused"),
        (Some("{"), "cannot be read"),
    ] {
        let error = setting(token).fails().await;
        assert_eq!(
            error,
            format!("the SSO session of AWS profile `sso` {expect}; run `aws sso login --profile sso`")
        );
    }
}

#[tokio::test]
async fn a_session_goes_on() {
    let keys = r#"{"accessKeyId":"ASIASSO","secretAccessKey":"secret-of-sso","sessionToken":"t-1"}"#;
    let portal = Service::start(move |request| {
        if request.starts_with("POST /token") {
            let good =
                request.contains(r#""refreshToken":"refresh-1""#) && request.contains("client-secret-1");
            let answer = r#"{"accessToken":"sso-token-2","expiresIn":3600,"refreshToken":"refresh-2"}"#;
            if good { (200, answer.to_owned()) } else { (400, r#"{"error":"invalid_grant"}"#.to_owned()) }
        } else if request.contains("x-amz-sso_bearer_token: sso-token-2") {
            (200, format!(r#"{{"roleCredentials":{keys}}}"#))
        } else {
            (401, String::new())
        }
    });
    // sha1sum of the address: a profile of before there were sessions.
    let cache = ".aws/sso/cache/f7c9b39d0b4c7a7d82c79307585f77e1c5e74378.json";
    let with = |refresh: &str| {
        Setting::new(&[("AWS_ENDPOINT_URL_SSO", &portal.base), ("AWS_ENDPOINT_URL_SSO_OIDC", &portal.base)])
            .file(
                CONFIG,
                "[default]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n\
                 sso_account_id = 1\nsso_role_name = Dev\n",
            )
            .file(
                cache,
                &format!(
                    r#"{{"accessToken":"sso-token-1","expiresAt":"2001-01-01T00:00:00Z","refreshToken":"{refresh}",
                        "clientId":"c","clientSecret":"client-secret-1","startUrl":"kept"}}"#
                ),
            )
    };
    let setting = with("refresh-1");
    assert_eq!(id(&setting.found().await), "ASIASSO");
    let kept = fs_err::read_to_string(setting.path(cache)).expect("read");
    for part in ["sso-token-2", "refresh-2", r#""startUrl":"kept""#] {
        assert!(kept.contains(part), "{part} in {kept}");
    }
    // Good for an hour, and asked for once.
    assert_eq!(id(&setting.found().await), "ASIASSO");
    assert_eq!(portal.seen().iter().filter(|request| request.starts_with("POST /token")).count(), 1);
    let error = with("refresh-of-before").fails().await;
    assert!(error.contains("is over; run `aws sso login --profile default`"), "{error}");
}

#[tokio::test]
async fn helper_programs() {
    let with = |command: &str| {
        Setting::new(&[("AWS_PROFILE", "p")])
            .file(CONFIG, &format!("[profile p]\ncredential_process = {command}\n"))
    };
    let answer = r#"printf '{"Version":1,"AccessKeyId":"AKPROC","SecretAccessKey":"secret-of-proc","Expiration":"2099-01-01T00:00:00Z","AccountId":"7"}'"#;
    let setting = with(answer);
    let found = setting.found().await;
    assert_eq!((id(&found), found.public("account")), ("AKPROC", Some("7")));
    assert_eq!(found.public("source"), Some("AWS profile p (credential_process)"));
    assert_eq!(setting.known().blank_text("secret-of-proc"), "***");
    let error = with("sh -c 'echo locked >&2; exit 3'").fails().await;
    assert!(
        error.contains("`credential_process` of AWS profile `p` failed (exit status: 3): locked; run"),
        "{error}"
    );
    let error = with("echo hunter22").fails().await;
    assert!(error.contains("holds no credential") && !error.contains("hunter22"), "{error}");
}

#[tokio::test]
async fn containers() {
    let endpoint = Service::start(|request| {
        if request.contains("authorization: pod-token") {
            (200, r#"{"AccessKeyId":"ASIAPOD","SecretAccessKey":"secret-of-pod","Token":"t","Expiration":"2099-01-01T00:00:00Z"}"#.to_owned())
        } else {
            (403, r#"{"message":"no token"}"#.to_owned())
        }
    });
    let url = format!("{}/v1/credentials", endpoint.base);
    let uri = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str());
    let found = Setting::new(&[uri, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token")]).found().await;
    assert_eq!((id(&found), secret(&found, "session-token")), ("ASIAPOD", Some("t")));
    let error = Setting::new(&[uri]).fails().await;
    assert!(error.contains("answered 403 (no token)"), "{error}");
    let elsewhere = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://creds.example/x");
    let error = Setting::new(&[elsewhere]).fails().await;
    assert!(error.contains("not of this machine, without TLS"), "{error}");
}

#[tokio::test]
async fn instances() {
    let service = Service::start(|request| {
        let keys = r#"{"Code":"Success","AccessKeyId":"ASIAEC2","SecretAccessKey":"secret-of-ec2","Token":"t","Expiration":"2099-01-01T00:00:00Z"}"#;
        match request.split(' ').take(2).collect::<Vec<_>>().as_slice() {
            ["PUT", "/latest/api/token"] => (200, "session-1".to_owned()),
            _ if !request.contains("x-aws-ec2-metadata-token: session-1") => (401, String::new()),
            ["GET", "/latest/meta-data/iam/security-credentials/"] => (200, "node\n".to_owned()),
            ["GET", "/latest/meta-data/iam/security-credentials/node"] => (200, keys.to_owned()),
            _ => (404, String::new()),
        }
    });
    let endpoint = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.base.as_str());
    let found = Setting::new(&[endpoint]).found().await;
    assert_eq!(id(&found), "ASIAEC2");
    assert_eq!(found.public("source"), Some("the EC2 instance metadata service (role node)"));
    assert_eq!(service.seen().len(), 3);
    // Switched off, or something else is there: nothing is configured.
    assert_eq!(Setting::new(&[endpoint, ("AWS_EC2_METADATA_DISABLED", "true")]).find().await, Ok(None));
    let other = Service::start(|_| (404, "not found".to_owned()));
    assert_eq!(Setting::new(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &other.base)]).find().await, Ok(None));
    let closed = TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("an address");
    let nobody = format!("http://{closed}");
    assert_eq!(Setting::new(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &nobody)]).find().await, Ok(None));
}

#[test]
fn what_selects_an_identity() {
    let one = Setting::new(&ENV);
    let selected = |setting: &Setting| selector(Cloud::Aws, &Wanted::default(), &setting.tools());
    let before = selected(&one);
    assert_eq!(before, selected(&one));
    let other = one.variable("AWS_PROFILE", "x");
    assert_ne!(before, selected(&other));
    let before = selected(&other);
    let other = other.file(CREDENTIALS, "[default]\n");
    assert_ne!(before, selected(&other));
}

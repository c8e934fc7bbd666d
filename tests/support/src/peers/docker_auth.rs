//! CNCF distribution behind cesanta/docker_auth: a token service of its own, of the shape that Docker Hub has. It gives everybody a token
//! with what of the scopes may be had, says no lifetime, and refuses a wrong password with a Basic challenge.
//!
//! In: nothing. Out: [`DockerAuth`], two servers that share a key made for the test.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::distribution::{Options, Tokens};
use super::server::{Plan, Server, bcrypt_hash};
use super::{Distribution, Unavailable, built};

const PEER: &str = "docker_auth";

/// Who may do what: `writer` everything in `team/…` and `public/…`, and listing; `reader` and nobody may pull, from `team/…` and
/// `public/…` each.
#[derive(Debug)]
pub struct DockerAuth {
    tokens: Server,
    registry: Server,
}

impl DockerAuth {
    /// The user who may write.
    pub const WRITER: (&'static str, &'static str) = ("writer", "password-of-writer");

    /// The user who may read.
    pub const READER: (&'static str, &'static str) = ("reader", "password-of-reader");

    /// Starts the token service, then the registry that trusts it; deletion is on.
    pub async fn start() -> Result<Self, Unavailable> {
        let tokens = Self::service().await?;
        let options = Options {
            delete: true,
            tokens: Some(Tokens {
                realm: format!("http://{}/auth", tokens.address()),
                keys: tokens.dir().join("keys.json"),
            }),
            ..Options::default()
        };
        let registry = Distribution::v3(options).await?;
        Ok(Self { tokens, registry })
    }

    /// Starts the token service alone, at `/auth`; its key is in `keys.json` and `certificate.pem` of its directory, and
    /// its issuer is [`Tokens::ISSUER`].
    pub async fn service() -> Result<Server, Unavailable> {
        let program = built(PEER)?;
        Plan {
            peer: PEER,
            prepare: &|dir, port| {
                key_pair(dir)?;
                let config = dir.join("auth.yml");
                // JSON is YAML.
                fs::write(&config, config_of(dir, port)?.to_string())?;
                let mut command = Command::new(&program);
                command.arg("-logtostderr").arg(config);
                Ok(command)
            },
            ready: "/auth?service=registry",
            access_log: None,
        }
        .start()
        .await
    }

    /// The registry, with an access log.
    pub fn registry(&self) -> &Server {
        &self.registry
    }

    /// How many tokens it gave for a user (empty for nobody).
    pub fn tokens_of(&self, user: &str) -> usize {
        let line = format!("\"sub\":\"{user}\"");
        self.tokens.log().lines().filter(|it| it.contains("New token for") && it.contains(&line)).count()
    }
}

/// What docker_auth calls every P-256 key: it takes the thumbprint (RFC 7638) of the curve's base point for that of the key. With
/// `rootcertbundle` the registry computes the right one and trusts no token, so it is told the key under this name.
const KEY_ID: &str = "xx0BcA-wMohw8atYDJOe6peGModklG2wRHBlXHMvl0M";

/// ES256: key and certificate for the token service, a key set for the registry.
fn key_pair(dir: &Path) -> std::io::Result<()> {
    let key = KeyPair::generate().map_err(std::io::Error::other)?;
    let params = CertificateParams::new(vec!["tokens.test".to_owned()]).map_err(std::io::Error::other)?;
    let certificate = params.self_signed(&key).map_err(std::io::Error::other)?;
    fs::write(dir.join("certificate.pem"), certificate.pem())?;
    // An uncompressed point: 4, then both coordinates.
    let point = key.public_key_raw();
    let coordinate = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
    let keys = json!({"keys": [{
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID,
        "x": coordinate(1..33), "y": coordinate(33..65),
    }]});
    fs::write(dir.join("keys.json"), keys.to_string())?;
    fs::write(dir.join("key.pem"), key.serialize_pem())
}

fn config_of(dir: &Path, port: u16) -> std::io::Result<serde_json::Value> {
    let (writer, reader) = (DockerAuth::WRITER, DockerAuth::READER);
    Ok(json!({
        "server": {"addr": format!("127.0.0.1:{port}")},
        "token": {
            "issuer": Tokens::ISSUER,
            "expiration": 900,
            "certificate": dir.join("certificate.pem"),
            "key": dir.join("key.pem"),
            // Registries since 3 know keys by their thumbprint.
            "disable_legacy_key_id": true,
        },
        "users": {
            writer.0: {"password": bcrypt_hash(writer.1)?},
            reader.0: {"password": bcrypt_hash(reader.1)?},
            "": {},
        },
        "acl": [
            {"match": {"account": writer.0, "type": "registry", "name": "catalog"}, "actions": ["*"]},
            {"match": {"account": writer.0, "name": "/^(team|public)\\/.+$/"}, "actions": ["*"]},
            {"match": {"account": reader.0, "name": "team/*"}, "actions": ["pull"]},
            {"match": {"name": "public/*"}, "actions": ["pull"]},
        ],
    }))
}

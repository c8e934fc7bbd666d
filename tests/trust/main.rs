//! Signatures, SBOMs and provenance at registries, and cosign as second opinion.
//!
//! | module | what it shows |
//! |---|---|
//! | `own` | what we push is found and judged, with the referrers API and without; what strangers push is told |
//! | `cosign` | cosign takes what we write, we take what cosign writes, and both refuse the same things |

mod cosign;
mod own;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use idp_oci::blob::Blob;
use idp_oci::client::http::{Http, HttpOptions};
use idp_oci::client::retry::RetryPolicy;
use idp_oci::client::standard::{Credential, Standard};
use idp_oci::client::{Client, ClientOptions, Presence, Scheme, base_url};
use idp_oci::manifest::{Descriptor, Manifest};
use idp_oci::name::{Repository, Target};
use idp_oci::secret::Secret;
use idp_oci::server::{ServeOptions, serve};
use idp_oci::store::memory::MemoryStore;
use idp_package::trust::key::{PrivateKey, generate};
use idp_package::trust::verify::{Finding, NamedKey, Verdict, Verification};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The embedded registry, in this process. It has the referrers API.
struct Registry {
    /// `127.0.0.1:port`
    address: String,
    shutdown: CancellationToken,
}

impl Registry {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shutdown = CancellationToken::new();
        let options = ServeOptions {
            grace: Duration::from_millis(200),
            ..ServeOptions::new(listener, Arc::new(MemoryStore::default()))
        };
        tokio::spawn(serve(options, shutdown.clone()));
        Self { address, shutdown }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn client(address: &str) -> Client {
    let name: idp_oci::name::Registry = address.parse().expect("a registry");
    let http = Http::new(HttpOptions { proxy_from_env: false, ..HttpOptions::default() });
    let base = base_url(&name, Scheme::Http).expect("a URL");
    let dialect = Arc::new(Standard::new(base, Credential::Anonymous, http.clone()));
    let options = ClientOptions {
        retry: RetryPolicy::immediate(2),
        operation: "test".to_owned(),
        ..ClientOptions::default()
    };
    Client::new(name, Scheme::Http, http, dialect, options).expect("a client")
}

fn repository() -> Repository {
    "team/app".parse().expect("a repository")
}

/// A package, as far as signatures care: a manifest of its own. It is pushed under the tag.
async fn push(client: &Client, tag: &str) -> Descriptor {
    let config = Blob::from_bytes("application/vnd.oci.image.config.v1+json", Bytes::from("{}"));
    let (digest, none) = (&config.descriptor.digest, CancellationToken::new());
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}},"layers":[],"annotations":{{"tag":"{tag}"}}}}"#
    );
    let manifest = Manifest::parse(Bytes::from(text), None).expect("a manifest");
    client.push_blob(&repository(), &config, Presence::Unknown, &[], &none).await.expect("pushed");
    let target = Target::Tag(tag.parse().expect("a tag"));
    client.put_manifest(&repository(), &target, &manifest).await.expect("pushed");
    manifest.descriptor().clone()
}

/// A key and the half of it that verifies.
fn key(name: &str) -> (PrivateKey, NamedKey) {
    let generated = generate(None).expect("generated");
    let private = PrivateKey::parse(generated.private.expose().as_bytes(), None).expect("a key");
    (private, NamedKey { name: name.to_owned(), key: generated.public })
}

fn secret(text: &str) -> Secret {
    Secret::new(text)
}

fn valid(found: &Verification) -> Vec<&Finding> {
    found.findings.iter().filter(|finding| matches!(finding.verdict, Verdict::Valid(_))).collect()
}

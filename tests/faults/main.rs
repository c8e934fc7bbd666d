//! The binary against registries that fail: exit codes, how often it tries (counted at the server), what it prints, and what it
//! leaves behind. The client's own tests count requests of single verbs; these count what a whole push or pull asks.
//!
//! No time is asserted. Where a wait would do nothing but pass, the server asks for none (`Retry-After: 0`).

mod attempts;
mod auth;
mod cache;
mod content;
mod provider;
mod resume;
mod secrets;
mod streams;
mod unreachable;

use idp_test_support::faults::{Registry, Rule, Server};
use idp_test_support::images::TestImage;
use idp_test_support::sandbox::{Output, Sandbox};
use tokio::runtime::Runtime;

/// A registry that fails on command, and a home for the binary. The repository is `app`, the tag `1`.
struct World {
    // Before the runtime that it lives on.
    server: Server,
    sandbox: Sandbox,
    runtime: Runtime,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_idp"))
}

impl World {
    /// With this registry behind the rules.
    fn new(registry: Registry) -> Self {
        let runtime = runtime();
        let server = runtime.block_on(Server::start(registry));
        Self { server, sandbox: sandbox(), runtime }
    }

    /// With nothing behind the rules.
    fn script(rules: Vec<Rule>) -> Self {
        let runtime = runtime();
        let server = runtime.block_on(Server::script(rules));
        Self { server, sandbox: sandbox(), runtime }
    }

    fn rule(self, rule: Rule) -> Self {
        self.server.rule(rule);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sandbox.set_env(name, value);
        self
    }

    /// Tries in all.
    fn tries(self, count: usize) -> Self {
        self.env("IDPBUILDER_OCI_RETRY_COUNT", &count.to_string())
    }

    fn password(self, password: &str) -> Self {
        self.env("IDPBUILDER_REGISTRY_USERNAME", "user").env("IDPBUILDER_REGISTRY_PASSWORD", password)
    }

    fn reference(&self) -> String {
        format!("{}/app:1", self.server.address())
    }

    fn push(&self, image: &TestImage, more: &[&str]) -> Output {
        let layout = self.sandbox.path("work/image");
        if !layout.exists() {
            image.write_layout(&layout, Some("1")).expect("written");
        }
        let reference = self.reference();
        let mut arguments = vec!["push", "oci:image:1", &reference];
        arguments.extend(more);
        self.sandbox.idp(arguments)
    }

    fn pull(&self, target: &str) -> Output {
        self.sandbox.idp(["pull", &self.reference(), target])
    }

    /// Puts an image into the registry.
    fn holds(self, image: &TestImage) -> Self {
        self.server.registry(|registry| {
            for (digest, content) in &image.contents {
                let mut bytes = Vec::new();
                std::io::copy(&mut content.reader(), &mut bytes).expect("made by rule");
                if digest == image.digest() {
                    let media_type = image.root["mediaType"].as_str().expect("a media type");
                    registry.add_manifest("app", "1", media_type, bytes);
                } else {
                    registry.add_blob("app", bytes);
                }
            }
        });
        self
    }
}

/// An image of a config and one layer.
fn image() -> TestImage {
    TestImage::one_layer().expect("made by rule")
}

/// Digests of an image's blobs: config and layers.
fn blobs(image: &TestImage) -> Vec<String> {
    image.contents.keys().filter(|digest| *digest != image.digest()).cloned().collect()
}

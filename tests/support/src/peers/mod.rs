//! Real registries, a real Docker daemon and other clients, started by the tests on loopback and gone with them.
//!
//! `tests/peers/build` puts the programs in place; this module starts them, each with its data in a directory of its
//! own, and kills them when the handle is dropped (or when the test process dies). A peer that is not there gives
//! [`Unavailable`]; a test hands that to [`require`], which skips the test loudly, or fails it where
//! `IDP_REQUIRE_PEERS=1` says that everything must have run, as in CI.
//! May depend on nothing of the project. In: a peer's options. Out: an address, a daemon socket, a path of a program.
//!
//! ```no_run
//! # use idp_test_support::peers::{self, Distribution, Options};
//! # async fn test() {
//! let started = Distribution::v3(Options { auth: Some(("user".into(), "password".into())), ..Options::default() });
//! let Some(registry) = peers::require(started.await, "distribution") else { return };
//! let reference = format!("{}/team/app:1", registry.address());
//! # }
//! ```

mod access;
mod consumer;
mod crane;
mod distribution;
mod docker_auth;
mod dockerd;
mod gitea;
mod http;
pub mod moto;
mod olareg;
mod server;
mod versitygw;
mod zot;

use std::env;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

pub use access::Access;
pub use consumer::{Consumer, Entry, Fetched, Refused};
pub use crane::CraneRegistry;
pub use distribution::{Distribution, Options, Tokens};
pub use docker_auth::DockerAuth;
pub use dockerd::Dockerd;
pub use gitea::{Gitea, GiteaOptions};
pub use moto::Moto;
pub use olareg::{Login, Olareg};
pub use server::Server;
pub use versitygw::VersityGw;
pub use zot::Zot;

/// Why a peer cannot take part in a test, and what would help.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// Built from its Go module by `tests/peers/build`, which has not been run or could not build it.
    #[error("{peer} is not built ({}): run `tests/peers/build {peer}`", path.display())]
    NotBuilt {
        /// The peer's name under `tests/peers/`.
        peer: &'static str,
        /// Where its program was looked for.
        path: PathBuf,
    },
    /// Comes from a system package that is not installed.
    #[error(
        "no {program} on PATH: run `tests/peers/build {program}` as root, or install the package {package}"
    )]
    NotInstalled {
        /// The program looked for.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// Must run as root and does not.
    #[error("{peer} can only be started by root")]
    NeedsRoot {
        /// The peer's name.
        peer: &'static str,
    },
    /// The program is there and did not come up, or did not let itself be prepared for the test.
    #[error("{peer} did not come up: {why}\n--- end of its log\n{log}")]
    DidNotStart {
        /// The peer's name.
        peer: &'static str,
        /// What was tried and what came of it.
        why: String,
        /// The last lines the program printed.
        log: String,
    },
}

/// The peer, or `None` for a test that is to be skipped, with a line on the real standard error (which the test harness
/// does not capture).
///
/// # Panics
/// If the peer is not there though `IDP_REQUIRE_PEERS=1` is set, unless `name` is one of the comma-separated names in
/// `IDP_PEERS_EXCUSED`.
pub fn require<T>(peer: Result<T, Unavailable>, name: &str) -> Option<T> {
    let unavailable = match peer {
        Ok(peer) => return Some(peer),
        Err(unavailable) => unavailable,
    };
    let required = env::var_os("IDP_REQUIRE_PEERS").is_some_and(|value| value == "1");
    let excused = env::var("IDP_PEERS_EXCUSED").unwrap_or_default();
    assert!(
        !required || is_listed(name, &excused),
        "IDP_REQUIRE_PEERS=1 and the peer {name} cannot take part: {unavailable}"
    );
    let current = std::thread::current();
    let test = current.name().unwrap_or("a test");
    // A skipped test must not fail because nobody reads standard error.
    let _ = writeln!(io::stderr(), "SKIPPED: {test}: needs the peer {name}: {unavailable}");
    None
}

fn is_listed(name: &str, list: &str) -> bool {
    list.split(',').any(|entry| entry.trim() == name)
}

/// Path of another client, to use as a second opinion: built from its module, or (`podman`, `skopeo`) of a Debian package.
///
/// # Panics
/// On a name that is none of these.
pub fn tool(name: &str) -> Result<PathBuf, Unavailable> {
    match name {
        "cosign" => built("cosign"),
        "crane" => built("crane"),
        "helm" => built("helm"),
        "idpbuilder-package" => built("idpbuilder-package"),
        "oras" => built("oras"),
        "regctl" => built("regctl"),
        // Others would need ranges of user ids of their own.
        "podman" if !is_root() => Err(Unavailable::NeedsRoot { peer: "podman" }),
        "podman" => installed("podman", "podman"),
        "skopeo" => installed("skopeo", "skopeo"),
        other => {
            panic!(
                "there is no peer tool {other}; known: cosign, crane, helm, idpbuilder-package, oras, podman, regctl, skopeo"
            )
        }
    }
}

/// Path of a file that a peer brings: `data("harbor-api", "swagger.yaml")`.
pub fn data(peer: &'static str, file: &str) -> Result<PathBuf, Unavailable> {
    let path = peers_dir().join("share").join(peer).join(file);
    if path.is_file() { Ok(path) } else { Err(Unavailable::NotBuilt { peer, path }) }
}

/// Where `tests/peers/build` puts things: `$IDP_PEERS_DIR`, else `target/peers` of this checkout.
fn peers_dir() -> PathBuf {
    env::var_os("IDP_PEERS_DIR").filter(|value| !value.is_empty()).map_or_else(
        || {
            let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
            checkout.expect("this crate is two directories below the checkout's root").join("target/peers")
        },
        PathBuf::from,
    )
}

/// The program of a peer built from its Go module. Only this one, never one of the same name on PATH: its version is
/// the pinned one.
fn built(peer: &'static str) -> Result<PathBuf, Unavailable> {
    let path = peers_dir().join("bin").join(peer);
    if path.is_file() { Ok(path) } else { Err(Unavailable::NotBuilt { peer, path }) }
}

/// A program of a system package.
fn installed(program: &'static str, package: &'static str) -> Result<PathBuf, Unavailable> {
    env::split_paths(&search_path())
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
        .ok_or(Unavailable::NotInstalled { program, package })
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// PATH with the directories of system programs, which the PATH of a plain user often lacks.
fn search_path() -> std::ffi::OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excuse_holds_for_the_whole_name_only() {
        assert!(is_listed("zot", "gitea, zot"));
        assert!(!is_listed("zo", "gitea,zot"));
        assert!(!is_listed("zot", ""));
    }

    #[test]
    fn a_peer_that_is_not_built_says_what_to_run() {
        let error = built("no-such-peer").expect_err("nothing is built under this name");
        assert!(error.to_string().contains("tests/peers/build no-such-peer"), "{error}");
    }
}

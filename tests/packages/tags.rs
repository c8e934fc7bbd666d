//! Which tag Argo CD takes for a constraint, and how one tag spoils a repository.

use idp_test_support::peers::{self, Consumer};

use crate::artifact::{Artifact, Layer, tar};
use crate::registry::{Kind, TestRegistry};

/// What a `targetRevision` comes to.
#[derive(Debug)]
enum Picks {
    Tag(&'static str),
    /// Nothing, and the words for it.
    Fails(&'static str),
}

use Picks::{Fails, Tag};

/// The tags of a repository, a `targetRevision`, and what becomes of it.
type Case = (&'static [&'static str], &'static str, Picks);

/// What all versions of Argo CD have in common.
const CASES: [Case; 13] = [
    (&["1.0.0", "1.1.0", "2.0.0"], "1.x", Tag("1.1.0")),
    (&["1.0.0", "1.1.0", "2.0.0"], ">=1.0.0", Tag("2.0.0")),
    (&["1.0.0", "1.1.0-rc.1"], "1.x", Tag("1.0.0")),
    (&["1.0.0", "1.1.0-rc.1"], ">=1.0.0-0", Tag("1.1.0-rc.1")),
    (
        &["1.0.0", "sha256-1111111111111111111111111111111111111111111111111111111111111111"],
        "*",
        Tag("1.0.0"),
    ),
    // What parses as a version is a tag, and no range.
    (&["1.2.3"], "1.2", Fails("cannot get digest for revision 1.2")),
    (&["1.2", "1.2.3"], "1.2", Tag("1.2")),
    // The underscore becomes a plus for the comparison, and stays one where the winner is looked up.
    (&["1.1.0", "1.2.0-rc.1", "1.2.0_build.5", "v1.1.5", "2.0.0"], "1.x", Fails("1.2.0+build.5")),
    // One tag that cannot be read, and no constraint finds anything.
    (&["1.0.0", "99999999999999999999.0.0"], "1.x", Fails("value out of range")),
    // A date is a version, and so is a moving tag.
    (&["1.0.0", "1.1.0", "1.2", "v1.3.0", "20250101", "latest"], "*", Tag("20250101")),
    (&["1.0.0", "1.1.0", "1.2", "v1.3.0", "20250101", "latest"], ">=1.0.0", Tag("20250101")),
    (&["1.0.0", "1.1.0", "1.2", "v1.3.0", "20250101", "latest"], "1.x", Tag("v1.3.0")),
    (&["1.0.0", "1.1.0", "1.2", "v1.3.0", "20250101", "latest"], "~1.2.0", Tag("1.2")),
];

/// A zero before a number: to 3.1 that is no version, and it goes on; later ones find nothing in the whole repository.
const LEADING_ZERO: (&[&str], &str) = (&["1.0.0", "1.1.0", "1.0.0-01"], "1.x");

/// A package that is no other's: its tag is among its annotations.
fn tagged(tag: &str) -> Artifact {
    let mut artifact = Artifact::package(vec![Layer::of_tar(&tar(&[]))]);
    artifact.annotations["org.opencontainers.image.version"] = tag.into();
    artifact
}

fn picks(consumer: &Consumer, name: &str, leading_zero: Picks) {
    let registry = TestRegistry::start(Kind::Memory);
    let mut wrong = Vec::new();
    let own = [(LEADING_ZERO.0, LEADING_ZERO.1, leading_zero)];
    for (number, (tags, revision, expected)) in CASES.iter().chain(&own).enumerate() {
        let repository = format!("team/pkg-{number}");
        for tag in *tags {
            tagged(tag).push(&registry.address, &repository, tag);
        }
        let fetched = consumer.fetch(&format!("{}/{repository}", registry.address), revision);
        let picked = fetched.annotations.get("org.opencontainers.image.version").map(String::as_str);
        let as_expected = match (expected, &fetched.error) {
            (Tag(tag), None) => picked == Some(*tag),
            (Fails(words), Some(error)) => error.step == "resolve" && error.message.contains(words),
            _ => false,
        };
        if !as_expected {
            wrong.push(format!(
                "{revision} of {tags:?}: expected {expected:?}, saw {picked:?}, {:?}",
                fetched.error
            ));
        }
    }
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
}

#[test]
fn argo_cd_picks_the_tags_of_the_table() {
    let Some(consumer) = peers::require(Consumer::argo_cd(), "argocd-oci") else { return };
    picks(&consumer, "argocd-oci", Fails("version segment starts with 0"));
}

#[test]
fn argo_cd_3_1_picks_the_tags_of_the_table() {
    let Some(consumer) = peers::require(Consumer::argo_cd_3_1(), "argocd-oci-3.1") else { return };
    picks(&consumer, "argocd-oci-3.1", Tag("1.1.0"));
}

#[test]
fn a_digest_is_taken_as_it_stands() {
    let registry = TestRegistry::start(Kind::Memory);
    let digest = tagged("1.0.0").push(&registry.address, "team/pkg", "1.0.0");
    tagged("1.0.0-01").push(&registry.address, "team/pkg", "1.0.0-01");
    for (consumer, name) in [
        (Consumer::argo_cd(), "argocd-oci"),
        (Consumer::argo_cd_3_1(), "argocd-oci-3.1"),
        (Consumer::flux(), "flux-fetch"),
        (Consumer::oras(), "oras"),
    ] {
        let Some(consumer) = peers::require(consumer, name) else { continue };
        let fetched = consumer.fetch(&format!("{}/team/pkg", registry.address), &digest);
        assert!(fetched.error.is_none(), "{name}: {fetched:?}");
        assert_eq!(fetched.revision.as_deref(), Some(digest.as_str()), "{name}");
    }
}

//! A row for each way to make an artifact, and what each consumer makes of it.
//!
//! `/` ends a directory, `=` says what is in a file, `->` where a link leads.

use std::process::Command;

use idp_oci::digest::Digest;
use idp_test_support::peers::{self, Consumer, Fetched, Unavailable};
use serde_json::json;

use crate::artifact::{Artifact, FLUX_CONTENT, Layer, Member, TAR, gzip, tar};
use crate::registry::{Kind, TestRegistry};

const CONFIG_MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\n";
const OTHER: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n";
const CHART: &str = "apiVersion: v2\nname: mychart\nversion: 1.0.0\n";

/// What a consumer makes of an artifact.
#[derive(Debug)]
enum Seen {
    Tree(Vec<String>),
    /// It refuses, and says this among other things.
    Refused(&'static str),
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    artifact: Artifact,
    argo_cd: Seen,
    flux: Seen,
    oras: Seen,
}

fn tree(lines: &[&str]) -> Seen {
    Seen::Tree(lines.iter().map(|&line| line.to_owned()).collect())
}

/// The tree of the artifacts that differ in nothing that a tree shows.
fn plain() -> Seen {
    tree(&["manifests/", "manifests/cm.yaml = config map"])
}

fn members() -> Vec<Member> {
    vec![Member::directory("manifests"), Member::file("manifests/cm.yaml", CONFIG_MAP)]
}

fn with(more: Member) -> Vec<Member> {
    let mut members = members();
    members.push(more);
    members
}

fn package(members: &[Member]) -> Artifact {
    Artifact::package(vec![Layer::of_tar(&tar(members))])
}

fn row(name: &'static str, artifact: Artifact, argo_cd: Seen, flux: Seen, oras: Seen) -> Row {
    Row { name, artifact, argo_cd, flux, oras }
}

/// Of the shape of the format, and of what differs from it in the archive.
fn archives() -> Vec<Row> {
    let linked = |target: &str| package(&with(Member::symlink("manifests/link", target)));
    let long = format!("{}/größe-{}.yaml", "d".repeat(120), "x".repeat(40));
    let (long_directory, long_file) = (format!("{}/", "d".repeat(120)), format!("{long} = other"));
    let long_tree = || tree(&[&long_directory, &long_file]);
    let mut padded = tar(&members());
    padded.resize(padded.len().next_multiple_of(10240), 0);
    let stored = {
        let bytes = tar(&members());
        Layer { bytes: gzip(&bytes, 0), ..Layer::of_tar(&bytes) }
    };
    let dotted = [
        Member::directory("."),
        Member::directory("./manifests"),
        Member::file("./manifests/cm.yaml", CONFIG_MAP),
    ];
    let two_dots = [Member::directory("a.."), Member::file("a../cm.yaml", CONFIG_MAP)];
    let two_dots_tree = || tree(&["a../", "a../cm.yaml = config map"]);
    vec![
        row("the shape of the format", package(&members()), plain(), plain(), plain()),
        row(
            "a tar padded to 10 KiB, with its right digest",
            Artifact::package(vec![Layer::of_tar(&padded)]),
            plain(),
            plain(),
            Seen::Refused("content digest mismatch"),
        ),
        row("stored, not compressed", Artifact::package(vec![stored]), plain(), plain(), plain()),
        row("nothing in it", package(&[]), tree(&[]), tree(&[]), tree(&[])),
        row(
            "no entries for directories",
            package(&members()[1..]),
            plain(),
            plain(),
            Seen::Refused("no such file or directory"),
        ),
        row("names that begin with ./", package(&dotted), plain(), plain(), plain()),
        row(
            "a link within",
            linked("cm.yaml"),
            tree(&["manifests/", "manifests/cm.yaml = config map", "manifests/link -> cm.yaml"]),
            plain(),
            tree(&["manifests/", "manifests/cm.yaml = config map", "manifests/link -> cm.yaml"]),
        ),
        row(
            "an absolute link",
            linked("/etc/hostname"),
            tree(&["manifests/", "manifests/cm.yaml = config map", "manifests/link -> etc/hostname"]),
            plain(),
            Seen::Refused("is outside of"),
        ),
        row(
            "a link that leads out",
            linked("../../secret"),
            Seen::Refused("symlink"),
            plain(),
            Seen::Refused("is outside of"),
        ),
        row(
            "a hard link",
            package(&with(Member::hardlink("manifests/hard.yaml", "manifests/cm.yaml"))),
            plain(),
            tree(&["manifests/", "manifests/cm.yaml = config map", "manifests/hard.yaml = nothing"]),
            Seen::Refused("no such file or directory"),
        ),
        row(
            "a directory whose name ends in two dots",
            package(&two_dots),
            two_dots_tree(),
            Seen::Refused("tar contained invalid name error"),
            two_dots_tree(),
        ),
        row(
            "a long name, and not ASCII",
            package(&[Member::directory(&"d".repeat(120)), Member::file(&long, OTHER)]),
            long_tree(),
            long_tree(),
            long_tree(),
        ),
    ]
}

/// Of what differs in the manifest.
fn manifests() -> Vec<Row> {
    let bytes = tar(&members());
    let layer = || Layer::of_tar(&bytes);
    let named = [Member::directory("pkg"), Member::file("pkg/cm.yaml", CONFIG_MAP)];
    let mut titled = Layer::of_tar(&tar(&named));
    titled.annotations["org.opencontainers.image.title"] = json!("pkg");
    let titled_tree = || tree(&["pkg/", "pkg/cm.yaml = config map"]);
    let mut second = Layer::of_tar(&tar(&[Member::file("other.yaml", OTHER)]));
    second.annotations["org.opencontainers.image.title"] = json!("second");
    let big = Artifact { config: format!("\"{}\"", "c".repeat(5 << 20)).into(), ..package(&members()) };
    vec![
        row(
            "no annotations of the layer",
            Artifact::package(vec![Layer { annotations: json!({}), ..layer() }]),
            plain(),
            plain(),
            tree(&[]),
        ),
        row(
            "a title that is the top directory",
            Artifact::package(vec![titled]),
            titled_tree(),
            titled_tree(),
            titled_tree(),
        ),
        row(
            "a wrong digest of the tar",
            Artifact::package(vec![Layer {
                annotations: json!({
                    "org.opencontainers.image.title": ".",
                    "io.deis.oras.content.unpack": "true",
                    "io.deis.oras.content.digest": Digest::of(b"another").to_string(),
                }),
                ..layer()
            }]),
            plain(),
            plain(),
            Seen::Refused("content digest mismatch"),
        ),
        row(
            "a plain tar",
            Artifact::package(vec![Layer { media_type: TAR, bytes: bytes.clone(), ..layer() }]),
            plain(),
            Seen::Refused("requires gzip-compressed body"),
            Seen::Refused("gzip: invalid header"),
        ),
        row(
            "Flux's media type",
            Artifact::package(vec![Layer { media_type: FLUX_CONTENT, annotations: json!({}), ..layer() }]),
            Seen::Refused("is not in the list of allowed media types"),
            plain(),
            tree(&[]),
        ),
        row(
            "a JSON layer after the archive",
            Artifact::package(vec![layer(), Layer::json()]),
            plain(),
            plain(),
            plain(),
        ),
        row(
            "a JSON layer before the archive",
            Artifact::package(vec![Layer::json(), layer()]),
            plain(),
            Seen::Refused("requires gzip-compressed body"),
            plain(),
        ),
        row(
            "two archives",
            Artifact::package(vec![layer(), second]),
            Seen::Refused("expected only a single oci content layer, got 2"),
            plain(),
            Seen::Refused("is outside of"),
        ),
        row("a config of 5 MiB", big, Seen::Refused("exceeds push size limit 4194304"), plain(), plain()),
        row(
            "an index with one manifest",
            Artifact { in_index: true, ..package(&members()) },
            Seen::Refused("expected only a single oci content layer, got 0"),
            plain(),
            plain(),
        ),
    ]
}

fn charts() -> Vec<Row> {
    let bytes = tar(&[
        Member::file("mychart/Chart.yaml", CHART),
        Member::file("mychart/templates/cm.yaml", CONFIG_MAP),
    ]);
    let stripped = || tree(&["Chart.yaml = chart", "templates/", "templates/cm.yaml = config map"]);
    let kept = || {
        tree(&[
            "mychart/",
            "mychart/Chart.yaml = chart",
            "mychart/templates/",
            "mychart/templates/cm.yaml = config map",
        ])
    };
    let genuine = Artifact::chart(&bytes);
    let ours = Artifact {
        artifact_type: Some("application/vnd.cnoe.package.v1"),
        annotations: json!({ "io.cnoe.package.name": "mychart" }),
        ..Artifact::chart(&bytes)
    };
    vec![
        row("a chart", genuine, stripped(), kept(), tree(&[])),
        row("a chart with a type and annotations of ours", ours, stripped(), kept(), tree(&[])),
    ]
}

fn rows() -> Vec<Row> {
    [archives(), manifests(), charts()].into_iter().flatten().collect()
}

/// The tree as the rows write it.
fn lines(fetched: &Fetched) -> Vec<String> {
    let known = [("nothing", ""), ("config map", CONFIG_MAP), ("other", OTHER), ("chart", CHART)];
    let content = |sha256: &str| {
        known
            .iter()
            .find(|(_, content)| Digest::of(content.as_bytes()).hex() == sha256)
            .map_or_else(|| sha256.to_owned(), |(name, _)| (*name).to_owned())
    };
    fetched
        .tree
        .iter()
        .map(|entry| match entry.kind.as_str() {
            "directory" => format!("{}/", entry.path),
            "file" => format!("{} = {}", entry.path, content(&entry.sha256)),
            "link" => format!("{} -> {}", entry.path, entry.target),
            other => format!("{} is {other}", entry.path),
        })
        .collect()
}

/// Every row in a registry; all that is not as the row says, in one message.
fn holds(consumer: Result<Consumer, Unavailable>, name: &str, expected: fn(&Row) -> &Seen) {
    let Some(consumer) = peers::require(consumer, name) else { return };
    let registry = TestRegistry::start(Kind::Memory);
    let repository = format!("{}/team/pkg", registry.address);
    let mut wrong = Vec::new();
    for (number, row) in rows().iter().enumerate() {
        let tag = format!("1.0.{number}");
        let digest = row.artifact.push(&registry.address, "team/pkg", &tag);
        let fetched = consumer.fetch(&repository, &tag);
        let as_expected = match (expected(row), &fetched.error) {
            (Seen::Tree(tree), None) => lines(&fetched) == *tree,
            (Seen::Refused(words), Some(error)) => error.message.contains(words),
            _ => false,
        };
        // Flux takes the manifest out of an index.
        let resolved = row.artifact.in_index
            || fetched.error.is_some()
            || fetched.revision.as_deref() == Some(digest.as_str());
        if !(as_expected && resolved) {
            let (tree, error) = (lines(&fetched), &fetched.error);
            wrong.push(format!(
                "{}: expected {:?}, saw {tree:?}, {error:?}, {:?}",
                row.name,
                expected(row),
                fetched.revision
            ));
        }
    }
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
}

#[test]
fn argo_cd_makes_of_each_what_the_table_says() {
    holds(Consumer::argo_cd(), "argocd-oci", |row| &row.argo_cd);
}

#[test]
fn argo_cd_3_1_makes_of_each_what_the_table_says() {
    holds(Consumer::argo_cd_3_1(), "argocd-oci-3.1", |row| &row.argo_cd);
}

#[test]
fn flux_makes_of_each_what_the_table_says() {
    holds(Consumer::flux(), "flux-fetch", |row| &row.flux);
}

#[test]
fn oras_makes_of_each_what_the_table_says() {
    holds(Consumer::oras(), "oras", |row| &row.oras);
}

#[test]
fn helm_renders_a_chart_with_a_type_and_annotations_of_ours() {
    let Some(helm) = peers::require(peers::tool("helm"), "helm") else { return };
    let registry = TestRegistry::start(Kind::Memory);
    let home = tempfile::tempdir().expect("a directory");
    for (number, row) in charts().iter().enumerate() {
        let version = format!("1.0.{number}");
        row.artifact.push(&registry.address, "charts/mychart", &version);
        let output = Command::new(&helm)
            .env_clear()
            .env("HOME", home.path())
            .args(["template", "release", "--plain-http", "--version", &version])
            .arg(format!("oci://{}/charts/mychart", registry.address))
            .output()
            .expect("helm runs");
        let rendered = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && rendered.contains(CONFIG_MAP), "{}: {output:?}", row.name);
    }
}

/// A package whose files have the modes that a build may find.
fn with_modes() -> Artifact {
    package(&[
        Member::directory("bin").mode(0o700),
        Member::file("bin/tool", OTHER).mode(0o755),
        Member::file("private.yaml", OTHER).mode(0o600),
    ])
}

fn modes(consumer: &Consumer) -> Vec<(String, String)> {
    let registry = TestRegistry::start(Kind::Memory);
    with_modes().push(&registry.address, "team/pkg", "1.0.0");
    let fetched = consumer.fetch(&format!("{}/team/pkg", registry.address), "1.0.0");
    assert!(fetched.error.is_none(), "{fetched:?}");
    fetched.tree.into_iter().map(|entry| (entry.path, entry.mode)).collect()
}

#[test]
fn argo_cd_forgets_who_may_run_a_file() {
    for (consumer, name) in [(Consumer::argo_cd(), "argocd-oci"), (Consumer::argo_cd_3_1(), "argocd-oci-3.1")]
    {
        let Some(consumer) = peers::require(consumer, name) else { continue };
        let seen = modes(&consumer);
        let seen: Vec<_> = seen.iter().map(|(path, mode)| (path.as_str(), mode.as_str())).collect();
        assert_eq!(seen, [("bin", "0755"), ("bin/tool", "0644"), ("private.yaml", "0644")], "{name}");
    }
}

#[test]
fn flux_keeps_who_may_run_a_file() {
    let Some(consumer) = peers::require(Consumer::flux(), "flux-fetch") else { return };
    let seen = modes(&consumer);
    let seen: Vec<_> = seen.iter().map(|(path, mode)| (path.as_str(), mode.as_str())).collect();
    assert_eq!(seen, [("bin", "0700"), ("bin/tool", "0755"), ("private.yaml", "0600")]);
}

#[test]
fn flux_leaves_out_pictures_archives_and_what_the_package_says() {
    let Some(consumer) = peers::require(Consumer::flux(), "flux-fetch") else { return };
    let registry = TestRegistry::start(Kind::Memory);
    let files = [
        ".sourceignore",
        "chart.tgz",
        "cm.yaml",
        "drafts/cm.yaml",
        "icon.png",
        "icon.svg",
        "sources.tar.gz",
        "sources.zip",
    ];
    let mut members = vec![Member::directory("drafts")];
    members.extend(
        files.map(|name| Member::file(name, if name == ".sourceignore" { "/drafts/\n" } else { OTHER })),
    );
    package(&members).push(&registry.address, "team/pkg", "1.0.0");
    let fetched = consumer.fetch(&format!("{}/team/pkg", registry.address), "1.0.0");
    let kept: Vec<_> = fetched
        .tree
        .iter()
        .filter(|entry| !entry.dropped && entry.kind == "file")
        .map(|entry| entry.path.as_str())
        .collect();
    assert_eq!(kept, [".sourceignore", "chart.tgz", "cm.yaml", "icon.svg"]);
}

#[test]
fn the_consumers_show_the_annotations_of_the_manifest() {
    let registry = TestRegistry::start(Kind::Memory);
    package(&members()).push(&registry.address, "team/pkg", "1.0.0");
    for (consumer, name) in [
        (Consumer::argo_cd(), "argocd-oci"),
        (Consumer::argo_cd_3_1(), "argocd-oci-3.1"),
        (Consumer::flux(), "flux-fetch"),
    ] {
        let Some(consumer) = peers::require(consumer, name) else { continue };
        let fetched = consumer.fetch(&format!("{}/team/pkg", registry.address), "1.0.0");
        let seen: Vec<_> =
            fetched.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            seen,
            [("io.cnoe.package.name", "pkg"), ("org.opencontainers.image.version", "1.0.0")],
            "{name}"
        );
    }
}

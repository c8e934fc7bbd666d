//! The same files are the same package: golden digests of the examples, and of a tree that is written in other orders and ways.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use idp_oci::manifest::Shape;
use idp_oci::pipeline::Gathered;
use idp_oci::source::Selection;

use super::build::{Facts, Package};
use super::describe::{self, Description, Kind};
use super::manifest;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/packages")
}

fn build(directory: &Path) -> Gathered {
    let package = Package::open(directory).expect("a package");
    let source = package.into_source(Facts::default()).expect("a source");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(Gathered::of(source, &Selection::default())).expect("built")
}

fn describe(gathered: &Gathered) -> Description {
    let blob = describe::telling(gathered.root()).expect("a config");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let told = runtime.block_on(gathered.bytes(blob, 1 << 22)).expect("read");
    Description::of(gathered.root(), Some(&told)).expect("described")
}

/// A change of these is a change of every package that anybody has built: a new major version of the format.
#[test]
fn golden_digests() {
    let lines: Vec<String> = ["guestbook", "web", "hello", "apps", "platform"]
        .into_iter()
        .map(|name| {
            let built = build(&examples().join(name));
            let Shape::Image { layers, .. } = built.root().shape() else { panic!("an image manifest") };
            format!("{name} {} {}", built.root().digest(), layers[0].digest)
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn what_is_built_says_what_it_is() {
    let web = describe(&build(&examples().join("web")));
    assert_eq!(
        (web.kind, web.name.as_deref(), web.version.as_deref()),
        (Kind::Package, Some("web"), Some("2.0.1"))
    );
    assert_eq!((web.files, web.targets.len()), (Some(5), 2));
    let hello = describe(&build(&examples().join("hello")));
    assert_eq!((hello.kind, hello.r#type.as_deref()), (Kind::Package, Some("helm")));
    assert_eq!(hello.layers[0].media_type, "application/vnd.cncf.helm.chart.content.v1.tar+gzip");
    let platform = describe(&build(&examples().join("platform")));
    assert_eq!((platform.files, platform.dependencies.len()), (Some(0), 4));
}

fn manifest_text() -> &'static str {
    "apiVersion: packages.cnoe.io/v1alpha1\nkind: Package\nmetadata: {name: demo, version: 1.0.0}\nspec: {type: manifests}\n"
}

/// Ways of writing the same tree.
#[derive(Clone, Copy)]
enum Way {
    Forwards,
    Backwards,
    /// Files that are one file under two names, and a link.
    Linked,
    /// Nobody else may read it.
    Private,
}

fn write(base: &Path, way: Way) {
    let mut files = vec![
        (manifest::FILE, manifest_text().to_owned()),
        ("a.yaml", "kind: A\n".to_owned()),
        ("a-b/c.yaml", "kind: C\n".to_owned()),
        ("a/b.yaml", "kind: A\n".to_owned()),
        ("ünïcode/日本.yaml", "kind: U\n".to_owned()),
        ("deep/deep/deep/file.yaml", "kind: D\r\n".to_owned()),
    ];
    if matches!(way, Way::Backwards) {
        files.reverse();
    }
    for (name, text) in files {
        let path = base.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        if matches!(way, Way::Linked) && name == "a/b.yaml" {
            fs::hard_link(base.join("a.yaml"), &path).expect("linked");
        } else if matches!(way, Way::Linked) && name == "a-b/c.yaml" {
            fs::write(base.join(".git-kept"), &text).expect("written");
            fs::create_dir_all(base.join(".git")).expect("made");
            fs::rename(base.join(".git-kept"), base.join(".git/c")).expect("moved");
            symlink("../.git/c", &path).expect("linked");
        } else {
            fs::write(&path, text).expect("written");
        }
        let mode = if matches!(way, Way::Private) { 0o600 } else { 0o664 };
        if !path.is_symlink() {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        }
    }
}

#[test]
fn how_a_tree_was_written_does_not_matter() {
    let mut places =
        vec![tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    // Another file system, where there is one.
    places.extend(tempfile::tempdir_in("/dev/shm"));
    let mut digests = Vec::new();
    for place in &places {
        for (index, way) in [Way::Forwards, Way::Backwards, Way::Linked, Way::Private].into_iter().enumerate()
        {
            let base = place.path().join(index.to_string());
            fs::create_dir(&base).expect("made");
            write(&base, way);
            digests.push(build(&base).root().digest().clone());
        }
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
    insta::assert_snapshot!(digests[0]);
}

#[test]
fn what_unpacks_differently_elsewhere_is_refused() {
    let refuse = |make: &dyn Fn(&Path)| {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join(manifest::FILE), manifest_text()).expect("written");
        fs::write(directory.path().join("good.yaml"), "kind: A\n").expect("written");
        make(directory.path());
        let error = Package::open(directory.path()).expect_err("refused").to_string();
        error
            .replace(&directory.path().canonicalize().expect("a path").display().to_string(), "DIR")
            .replace(&directory.path().display().to_string(), "DIR")
    };
    let all = [
        refuse(&|base| symlink("/etc/passwd", base.join("absolute")).expect("linked")),
        refuse(&|base| symlink("../outside", base.join("outside")).expect("linked")),
        refuse(&|base| {
            fs::create_dir(base.join("loop")).expect("made");
            symlink("..", base.join("loop/up")).expect("linked");
        }),
        refuse(&|base| fs::write(base.join("GOOD.yaml"), "").expect("written")),
        refuse(&|base| {
            fs::write(base.join("caf\u{e9}.yaml"), "").expect("written");
            fs::write(base.join("cafe\u{301}.yaml"), "").expect("written");
        }),
        refuse(&|base| fs::write(base.join("back\\slash"), "").expect("written")),
        refuse(&|base| fs::write(base.join("dots.."), "").expect("written")),
        refuse(&|base| fs::write(base.join("line\nbreak"), "").expect("written")),
        refuse(&|base| {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                base.join("pipe"),
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::RUSR,
                0,
            )
            .expect("made");
        }),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

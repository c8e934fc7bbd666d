//! `idp.lock`: written, read, checked, explained.

use proptest::prelude::*;

use super::*;

fn locked() -> (Root, Lock) {
    let mut catalogue =
        catalogue(&[("a 1.0.0", "c ^1"), ("b 1.0.0", "c >=1 <3, d *"), ("c 1.2.0", "d *"), ("d 0.1.0", "")]);
    put(&mut catalogue, "b 1.0.0", "c >=1 <3, d *", &|metadata| {
        metadata.config_digest = Some(idp_oci::digest::Digest::of(b"config"));
        metadata.images = vec![super::super::Image {
            r#ref: "quay.example/x:v1".to_owned(),
            digest: Some(idp_oci::digest::Digest::of(b"image")),
            platforms: vec!["linux/amd64".to_owned()],
        }];
    });
    let root = root(&[("a", "^1"), ("b", "*")]);
    let lock = solved(&root, &catalogue, None, &Options::default()).lock;
    (root, lock)
}

#[test]
fn it_is_written_and_read() {
    let (_, lock) = locked();
    let text = lock.to_text().expect("text");
    assert_eq!(Lock::parse(&text).expect("a lock"), lock);
    assert_eq!(Lock::parse(&text).expect("a lock").to_text().expect("text"), text);
    insta::assert_snapshot!(text, @r#"
    # Written by `idp package lock`; do not edit. It belongs with the sources.
    lockVersion: 1
    root:
      name: platform
      version: "1.0.0"
      manifestHash: sha256:102cc09692bb09dd424efb29f1da8d98a836195dc24371d9e54011b7ef54908a
    packages:
    - name: a
      version: "1.0.0"
      repository: oci://r.example/team/a
      digest: sha256:76729d272930d44e7599cba4a8d5d128e243bf76d3db382cbac401f9f1d87760
      requestedBy:
      - from: platform
        constraint: ^1
      dependencies:
      - c
    - name: b
      version: "1.0.0"
      repository: oci://r.example/team/b
      digest: sha256:ac3329be8ccded02562f0cbce89c966dbda789d4bc34b80e4a2b07264f688adc
      configDigest: sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910
      requestedBy:
      - from: platform
        constraint: "*"
      dependencies:
      - c
      - d
    - name: c
      version: "1.2.0"
      repository: oci://r.example/team/c
      digest: sha256:d281cf943167985f9e92962a17ea06b1209698d3907ba240c1be5b466336f97b
      requestedBy:
      - from: a
        constraint: ^1
      - from: b
        constraint: ">=1 <3"
      dependencies:
      - d
    - name: d
      version: "0.1.0"
      repository: oci://r.example/team/d
      digest: sha256:68745d3a4ba12742f9b4a07dc38132bada304f662f7f990f3695c6dd2714a8e7
      requestedBy:
      - from: b
        constraint: "*"
      - from: c
        constraint: "*"
    images:
    - ref: quay.example/x:v1
      digest: sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d
      platforms:
      - linux/amd64
    "#);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let (_, lock) = locked();
    let text = lock.to_text().expect("text");
    let wrong = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}\n{text}");
        Lock::parse(&text.replacen(from, to, 1)).expect_err(to).to_string()
    };
    let all = [
        wrong("lockVersion: 1", "lockVersion: 2"),
        wrong("lockVersion: 1", "lockversion: 1"),
        wrong("version: \"1.2.0\"", "version: \"1.2\""),
        wrong("version: \"1.2.0\"", "version: 3.2.0"),
        wrong("name: c", "name: a"),
        wrong("name: c", "name: platform"),
        wrong("digest: sha256:", "digest: sha256:0"),
        wrong("from: platform", "from: someone"),
        wrong("root:", "root: ["),
    ];
    insta::assert_snapshot!(all.join("\n"), @r"
    `lockVersion: 2` is not known here; 1 is, and a newer idp may know more; lock again
    line 2, column 1: unknown field `lockversion`, expected one of lockVersion, root, packages, images
    line 29, column 12: `1.2` is no version; write MAJOR.MINOR.PATCH, for example 1.4.0 or 1.4.0-rc.1; 1.2.0 may be meant
    a asks for c ^1, and 3.2.0 is locked; lock again
    a is named twice; lock again
    platform is named twice; lock again
    line 11, column 11: `sha256:076729d272930d44e7599cba4a8d5d128e243bf76d3db382cbac401f9f1d87760` is not a digest: sha256 needs 64 lower-case hex digits
    someone asks for a and does not depend on it; lock again
    line 3, column 7: expected mapping start
    ");
    assert!(Lock::parse(&"#".repeat(5_000_000)).is_err());
}

#[test]
fn it_is_stale_when_what_it_was_made_from_changes() {
    let (root, lock) = locked();
    let options = Options::default();
    assert_eq!(lock.check(&root, &options), Vec::<String>::new());
    let mut same = root.clone();
    same.dependencies.reverse();
    same.version = "1.0.1".to_owned();
    assert_eq!(lock.check(&same, &options), Vec::<String>::new());
    let with = |change: &dyn Fn(&mut Root)| {
        let mut root = root.clone();
        change(&mut root);
        let stale = lock.check(&root, &options);
        assert!(!stale.is_empty());
        stale.join("; ")
    };
    let features = Options { features: names(&["tls"]), ..Options::default() };
    let all = [
        with(&|root| root.dependencies[0].version = "^2".to_owned()),
        with(&|root| root.dependencies[0].version = "^1.0".to_owned()),
        with(&|root| root.dependencies.push(MemoryCatalogue::dependency("z", "*"))),
        with(&|root| drop(root.dependencies.remove(1))),
        with(&|root| root.conflicts.push(MemoryCatalogue::named("z", "*"))),
        with(&|root| root.requires.kubernetes = Some(">=1.29".to_owned())),
        with(&|root| root.name = "other".to_owned()),
        lock.check(&root, &features).join("; "),
    ];
    insta::assert_snapshot!(all.join("\n"), @r"
    a is locked at 1.0.0, which is not ^2
    what the manifest says about dependencies, conflicts or requirements was changed
    z * is a dependency now, and is not locked
    b is no dependency any more
    what the manifest says about dependencies, conflicts or requirements was changed
    what the manifest says about dependencies, conflicts or requirements was changed
    it is the lock of platform, not of other
    it was made with no features, and now there are tls
    ");
}

#[test]
fn the_hash_is_of_what_decides() {
    let root_one = root(&[("a", "^1"), ("b", "*")]);
    // Written down so that it does not change with a release.
    insta::assert_snapshot!(manifest_hash(&root_one), @"sha256:102cc09692bb09dd424efb29f1da8d98a836195dc24371d9e54011b7ef54908a");
}

#[test]
fn who_asked_and_the_tree() {
    let (_, lock) = locked();
    let json = |value: &dyn erased::Json| value.json();
    insta::assert_snapshot!(json(&lock.explain("d")), @r#"[{"root":"platform","steps":[{"name":"b","version":"1.0.0","constraint":"*"},{"name":"d","version":"0.1.0","constraint":"*"}]},{"root":"platform","steps":[{"name":"a","version":"1.0.0","constraint":"^1"},{"name":"c","version":"1.2.0","constraint":"^1"},{"name":"d","version":"0.1.0","constraint":"*"}]}]"#);
    assert_eq!(lock.explain("nobody").len(), 0);
    insta::assert_snapshot!(json(&lock.tree()), @r#"{"name":"platform","version":"1.0.0","dependencies":[{"name":"a","version":"1.0.0","constraint":"^1","dependencies":[{"name":"c","version":"1.2.0","constraint":"^1","dependencies":[{"name":"d","version":"0.1.0","constraint":"*"}]}]},{"name":"b","version":"1.0.0","constraint":"*","dependencies":[{"name":"c","version":"1.2.0","constraint":">=1 <3","repeated":true},{"name":"d","version":"0.1.0","constraint":"*"}]}]}"#);
    assert_eq!(lock.order().expect("no cycle"), ["d", "c", "a", "b"]);
}

proptest! {
    /// Whatever is done to a lock, reading it ends in a lock or in an error.
    #[test]
    fn nothing_panics(cut in 0usize..1500, length in 0usize..40, with in "[ a-z0-9:*&<>\\-\\[\\]{}\"'|\n]{0,12}") {
        let text = locked().1.to_text().expect("text");
        let cut = cut.min(text.len());
        let end = (cut + length).min(text.len());
        let text = format!("{}{with}{}", &text[..cut], &text[end..]);
        if let Ok(lock) = Lock::parse(&text) {
            prop_assert!(lock.order().is_ok());
            prop_assert_eq!(Lock::parse(&lock.to_text().expect("text")), Ok(lock.clone()));
            for package in &lock.packages {
                lock.explain(&package.name);
            }
            lock.tree();
        }
    }
}

mod erased {
    pub(super) trait Json {
        fn json(&self) -> String;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> String {
            serde_json::to_string(self).expect("JSON")
        }
    }
}

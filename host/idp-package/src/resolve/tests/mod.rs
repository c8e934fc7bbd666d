//! Solving against catalogues in memory: what is chosen, what is asked, what is said where nothing fits.

mod brute;
mod lock;

use std::collections::BTreeSet;

use super::{
    Facts, Location, Lock, MemoryCatalogue, Metadata, Options, Resolution, ResolveError, Rewrite, Root,
    manifest_hash, solve,
};
use crate::manifest::{Api, Dependency, Provides, Requires};
use crate::version::Version;

pub(super) fn at(name: &str) -> Location {
    format!("oci://r.example/team/{name}").parse().expect("a location")
}

pub(super) fn root(dependencies: &[(&str, &str)]) -> Root {
    Root {
        name: "platform".to_owned(),
        version: "1.0.0".to_owned(),
        location: Some(at("platform")),
        dependencies: dependencies
            .iter()
            .map(|(name, version)| MemoryCatalogue::dependency(name, version))
            .collect(),
        conflicts: Vec::new(),
        replaces: Vec::new(),
        requires: Requires::default(),
        provides: Provides::default(),
    }
}

pub(super) type Change<'a> = &'a dyn Fn(&mut Metadata);

/// `("a 1.0.0", "b ^1, c *")`: a package and what it depends on, all in one namespace.
pub(super) fn catalogue(packages: &[(&str, &str)]) -> MemoryCatalogue {
    let mut catalogue = MemoryCatalogue::new();
    for (package, dependencies) in packages {
        put(&mut catalogue, package, dependencies, &|_| {});
    }
    catalogue
}

pub(super) fn put(catalogue: &mut MemoryCatalogue, package: &str, dependencies: &str, change: Change<'_>) {
    let (name, version) = package.split_once(' ').expect("a name and a version");
    let mut metadata = MemoryCatalogue::package(&at(name), version);
    metadata.dependencies = dependencies
        .split(", ")
        .filter_map(|dependency| dependency.split_once(' '))
        .map(|(name, version)| MemoryCatalogue::dependency(name, version))
        .collect();
    change(&mut metadata);
    catalogue.put(&at(name), version, metadata);
}

pub(super) fn run(
    root: &Root,
    catalogue: &MemoryCatalogue,
    lock: Option<&Lock>,
    options: &Options,
) -> Result<Resolution, ResolveError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(solve(root, catalogue, lock, options))
}

fn solved(root: &Root, catalogue: &MemoryCatalogue, lock: Option<&Lock>, options: &Options) -> Resolution {
    run(root, catalogue, lock, options).unwrap_or_else(|error| panic!("{error}"))
}

fn chosen(resolution: &Resolution) -> String {
    let all = resolution.lock.packages.iter().map(|package| format!("{} {}", package.name, package.version));
    all.collect::<Vec<_>>().join(", ")
}

fn unsatisfiable(root: &Root, catalogue: &MemoryCatalogue, options: &Options) -> String {
    match run(root, catalogue, None, options) {
        Err(ResolveError::Unsatisfiable(sentences)) => sentences.join("\n"),
        other => panic!("{other:?}"),
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_highest_releases_that_fit_are_chosen() {
    let catalogue = catalogue(&[
        ("a 1.0.0", "b ^1"),
        ("a 1.1.0", "b ^1"),
        ("a 2.0.0-rc.1", ""),
        ("b 1.0.0", ""),
        ("b 1.4.0", "c *"),
        ("b 2.0.0", ""),
        ("c 0.1.0", ""),
        ("unasked 1.0.0", ""),
    ]);
    let resolution = solved(&root(&[("a", ">=1.0.0-0")]), &catalogue, None, &Options::default());
    assert_eq!(chosen(&resolution), "a 1.1.0, b 1.4.0, c 0.1.0");
    assert_eq!(resolution.order, ["c", "b", "a"]);
    assert_eq!(resolution.changes.len(), 3);
    // Each thing once, and nothing that does not matter.
    let asked = catalogue.asked();
    let expect = [
        "0.1.0 of oci://r.example/team/c",
        "1.1.0 of oci://r.example/team/a",
        "1.4.0 of oci://r.example/team/b",
        "tags of oci://r.example/team/a",
        "tags of oci://r.example/team/b",
        "tags of oci://r.example/team/c",
    ];
    assert_eq!(asked, expect);
    assert_eq!(resolution.requests, expect.len());
    // A pre-release where there is nothing else.
    let resolution = solved(&root(&[("a", "2.0.0-rc.1")]), &catalogue, None, &Options::default());
    assert_eq!(chosen(&resolution), "a 2.0.0-rc.1");
}

#[test]
fn older_versions_are_taken_where_newer_ones_do_not_fit() {
    let catalogue = catalogue(&[
        ("a 1.0.0", "c ^1"),
        ("a 2.0.0", "c ^2"),
        ("b 1.0.0", "c ^1"),
        ("c 1.0.0", ""),
        ("c 2.0.0", ""),
    ]);
    let resolution = solved(&root(&[("a", "*"), ("b", "*")]), &catalogue, None, &Options::default());
    assert_eq!(chosen(&resolution), "a 1.0.0, b 1.0.0, c 1.0.0");
}

#[test]
fn lowest_takes_the_lower_bounds() {
    let catalogue = catalogue(&[
        ("a 1.0.0", "b >=1.1"),
        ("a 1.5.0", ""),
        ("b 1.0.0", ""),
        ("b 1.1.0", ""),
        ("b 1.2.0", ""),
    ]);
    let options = Options { lowest: true, ..Options::default() };
    assert_eq!(chosen(&solved(&root(&[("a", "^1")]), &catalogue, None, &options)), "a 1.0.0, b 1.1.0");
}

#[test]
fn a_lock_holds_what_it_can() {
    let mut catalogue = catalogue(&[("a 1.0.0", "b ^1"), ("b 1.0.0", ""), ("c 1.0.0", "")]);
    let root_one = root(&[("a", "^1"), ("c", "^1")]);
    let first = solved(&root_one, &catalogue, None, &Options::default());
    catalogue.asked();
    for (package, on) in [("a 1.1.0", "b ^1.1"), ("b 1.1.0", ""), ("b 1.2.0", ""), ("c 1.1.0", "")] {
        put(&mut catalogue, package, on, &|_| {});
    }
    // Nothing moves, and no tags are listed: the digests are asked.
    let again = solved(&root_one, &catalogue, Some(&first.lock), &Options::default());
    assert_eq!((&again.lock, again.changes.len()), (&first.lock, 0));
    assert!(catalogue.asked().iter().all(|question| question.starts_with("sha256:")));
    // One name moves; another moves only because it must.
    let options = Options { update: names(&["a"]), ..Options::default() };
    let updated = solved(&root_one, &catalogue, Some(&first.lock), &options);
    assert_eq!(chosen(&updated), "a 1.1.0, b 1.2.0, c 1.0.0");
    assert_eq!(updated.changes.iter().map(|change| change.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let options = Options { update: names(&["b"]), ..Options::default() };
    assert_eq!(
        chosen(&solved(&root_one, &catalogue, Some(&first.lock), &options)),
        "a 1.0.0, b 1.2.0, c 1.0.0"
    );
    // What nobody asks for any more goes.
    let smaller = solved(&root(&[("c", "^1")]), &catalogue, Some(&first.lock), &Options::default());
    assert_eq!(chosen(&smaller), "c 1.0.0");
    assert_eq!(smaller.changes.len(), 2);
    let options = Options { update: names(&["x"]), ..Options::default() };
    let error = run(&root_one, &catalogue, Some(&first.lock), &options).expect_err("no x");
    assert_eq!(error.to_string(), "x is not in the lock, so there is nothing to update; it has: a, b, c");
}

#[test]
fn what_moved_under_its_tag_stays_as_it_was_locked() {
    let mut catalogue = catalogue(&[("a 1.0.0", "")]);
    let root_one = root(&[("a", "^1")]);
    let first = solved(&root_one, &catalogue, None, &Options::default());
    let old = MemoryCatalogue::package(&at("a"), "1.0.0");
    put(&mut catalogue, "a 1.0.0", "", &|metadata| metadata.digest = idp_oci::digest::Digest::of(b"other"));
    // The old content is still there by its digest, under no version's tag.
    catalogue.put(&at("a"), "keep", old);
    let again = solved(&root_one, &catalogue, Some(&first.lock), &Options::default());
    assert_eq!(again.lock, first.lock);
    // And where it is gone, the version cannot be had as it was.
    catalogue.remove(&at("a"), "keep");
    let error = run(&root_one, &catalogue, Some(&first.lock), &Options::default()).expect_err("gone");
    assert!(error.to_string().contains("is not there"), "{error}");
    let options = Options { update: names(&["a"]), ..Options::default() };
    assert_eq!(solved(&root_one, &catalogue, Some(&first.lock), &options).changes.len(), 1);
}

#[test]
fn optional_dependencies_are_switched_on() {
    let mut catalogue = catalogue(&[("tls 1.0.0", ""), ("metrics 1.0.0", ""), ("b 1.0.0", "")]);
    let optional = |name: &str, when: Option<&str>| Dependency {
        optional: true,
        when: when.map(str::to_owned),
        ..MemoryCatalogue::dependency(name, "*")
    };
    put(&mut catalogue, "a 1.0.0", "b *", &|metadata| {
        metadata.dependencies.push(optional("tls", Some("secure")));
        metadata.dependencies.push(optional("metrics", None));
    });
    let with = |features: &[&str]| {
        let options = Options { features: names(features), ..Options::default() };
        chosen(&solved(&root(&[("a", "*")]), &catalogue, None, &options))
    };
    assert_eq!(with(&[]), "a 1.0.0, b 1.0.0");
    assert_eq!(with(&["secure"]), "a 1.0.0, b 1.0.0, tls 1.0.0");
    assert_eq!(with(&["a/secure", "metrics"]), "a 1.0.0, b 1.0.0, metrics 1.0.0, tls 1.0.0");
    assert_eq!(with(&["b/secure", "tls"]), "a 1.0.0, b 1.0.0");
}

#[test]
fn mirrors_are_asked_and_canonical_names_are_locked() {
    let mut catalogue = MemoryCatalogue::new();
    let mirror: Location = "oci://local.example:5000/mirror/team/a".parse().expect("a location");
    let mut metadata = MemoryCatalogue::package(&mirror, "1.0.0");
    metadata.dependencies.push(MemoryCatalogue::dependency("b", "*"));
    catalogue.put(&mirror, "1.0.0", metadata);
    let mirrored: Location = "oci://local.example:5000/mirror/team/b".parse().expect("a location");
    catalogue.put(&mirrored, "v1.0.0", MemoryCatalogue::package(&mirrored, "1.0.0"));
    let rewrite = Rewrite { from: "r.example".to_owned(), to: "local.example:5000/mirror".to_owned() };
    let options = Options { rewrites: vec![rewrite], ..Options::default() };
    let resolution = solved(&root(&[("a", "*")]), &catalogue, None, &options);
    assert_eq!(chosen(&resolution), "a 1.0.0, b 1.0.0");
    assert_eq!(resolution.lock.packages[1].repository, at("b"));
    assert!(!resolution.lock.to_text().expect("text").contains("local.example"));
}

#[test]
fn two_tags_of_a_version_have_to_hold_the_same() {
    let mut catalogue = catalogue(&[("a 1.0.0", ""), ("a 1.1.0", "")]);
    catalogue.put(&at("a"), "v1.1.0", MemoryCatalogue::package(&at("a"), "1.1.0"));
    assert_eq!(chosen(&solved(&root(&[("a", "*")]), &catalogue, None, &Options::default())), "a 1.1.0");
    let mut other = MemoryCatalogue::package(&at("a"), "1.1.0");
    other.digest = idp_oci::digest::Digest::of(b"other");
    catalogue.put(&at("a"), "v1.1.0", other);
    assert_eq!(chosen(&solved(&root(&[("a", "*")]), &catalogue, None, &Options::default())), "a 1.0.0");
    insta::assert_snapshot!(unsatisfiable(&root(&[("a", "^1.1")]), &catalogue, &Options::default()), @"1. Because platform 1.0.0 needs a ^1.1 and a 1.1.0 cannot be used (the tags `1.1.0` and `v1.1.0` say the same version and hold different content), there is no solution for platform 1.0.0.");
}

#[test]
fn what_others_made_may_say_its_version_otherwise() {
    let mut catalogue = MemoryCatalogue::new();
    put(&mut catalogue, "chart 1.14.2", "", &|metadata| metadata.version = "v1.14.2".to_owned());
    put(&mut catalogue, "plain 1.0.0", "", &|metadata| metadata.version = metadata.digest.to_string());
    let root_one = root(&[("chart", "^1"), ("plain", "*")]);
    let first = solved(&root_one, &catalogue, None, &Options::default());
    assert_eq!(chosen(&first), "chart 1.14.2, plain 1.0.0");
    assert_eq!(solved(&root_one, &catalogue, Some(&first.lock), &Options::default()).lock, first.lock);
}

#[test]
fn what_the_cluster_lacks_rules_versions_out() {
    let mut catalogue = MemoryCatalogue::new();
    let monitor = || Api {
        group: "monitoring.example".to_owned(),
        version: "v1".to_owned(),
        kind: "Monitor".to_owned(),
        optional: false,
    };
    put(&mut catalogue, "a 1.0.0", "", &|metadata| metadata.requires.kubernetes = Some(">=1.25".to_owned()));
    put(&mut catalogue, "a 2.0.0", "", &|metadata| metadata.requires.kubernetes = Some(">=1.29".to_owned()));
    put(&mut catalogue, "b 1.0.0", "", &|_| {});
    put(&mut catalogue, "b 2.0.0", "", &|metadata| metadata.requires.apis.push(monitor()));
    put(&mut catalogue, "operator 1.0.0", "", &|metadata| metadata.provides.apis.push(monitor()));
    let cluster = |version: &str, apis: &[&str]| {
        let kubernetes = Some(Facts::kubernetes(version).expect(version));
        Options { facts: Facts { kubernetes, apis: Some(names(apis)) }, ..Options::default() }
    };
    let pick = |dependencies: &[(&str, &str)], options: &Options| {
        chosen(&solved(&root(dependencies), &catalogue, None, options))
    };
    // Nothing is known, nothing is checked.
    assert_eq!(pick(&[("a", "*"), ("b", "*")], &Options::default()), "a 2.0.0, b 2.0.0");
    assert_eq!(pick(&[("a", "*"), ("b", "*")], &cluster("v1.28.2-gke.100+x", &[])), "a 1.0.0, b 1.0.0");
    assert_eq!(
        pick(&[("a", "*"), ("b", "*")], &cluster("1.29", &["monitoring.example/v1/Monitor"])),
        "a 2.0.0, b 2.0.0"
    );
    assert_eq!(pick(&[("b", "*")], &cluster("1.29.3-gke.1", &["monitoring.example/v1"])), "b 2.0.0");
    assert_eq!(pick(&[("b", "*"), ("operator", "*")], &cluster("1.29", &[])), "b 2.0.0, operator 1.0.0");
    let why = [
        unsatisfiable(&root(&[("a", "^2")]), &catalogue, &cluster("1.28.2", &[])),
        unsatisfiable(&root(&[("b", "^2")]), &catalogue, &cluster("1.28.2", &[])),
    ];
    insta::assert_snapshot!(why.join("\n\n"), @r"
    1. Because a 2.0.0 needs Kubernetes >=1.29 and the cluster runs Kubernetes 1.28.2, a 2.0.0 cannot be used.
    2. And because platform 1.0.0 needs a ^2, there is no solution for platform 1.0.0.

    1. Because platform 1.0.0 needs b ^2 and b 2.0.0 cannot be used (it needs monitoring.example/v1 Monitor, which neither the cluster knows nor a chosen package brings), there is no solution for platform 1.0.0.
    ");
}

#[test]
fn conflicts_and_replaces_are_kept_apart() {
    let mut catalogue = catalogue(&[("b 1.0.0", ""), ("b 2.0.0", ""), ("c 1.0.0", "")]);
    put(&mut catalogue, "a 1.0.0", "", &|_| {});
    put(&mut catalogue, "a 2.0.0", "", &|metadata| {
        metadata.conflicts.push(MemoryCatalogue::named("b", ">=2"))
    });
    put(&mut catalogue, "n 1.0.0", "", &|metadata| metadata.replaces.push(MemoryCatalogue::named("c", "*")));
    let options = Options::default();
    let pick =
        |dependencies: &[(&str, &str)]| chosen(&solved(&root(dependencies), &catalogue, None, &options));
    assert_eq!(pick(&[("a", "*")]), "a 2.0.0");
    assert_eq!(pick(&[("a", "*"), ("b", "^1")]), "a 2.0.0, b 1.0.0");
    assert_eq!(pick(&[("a", "*"), ("b", "^2")]), "a 1.0.0, b 2.0.0");
    // The root says it, too.
    let mut against = root(&[("b", "*")]);
    against.conflicts.push(MemoryCatalogue::named("b", "^2"));
    assert_eq!(chosen(&solved(&against, &catalogue, None, &options)), "b 1.0.0");
    let why = [
        unsatisfiable(&root(&[("a", "^2"), ("b", "^2")]), &catalogue, &options),
        unsatisfiable(&root(&[("n", "*"), ("c", "*")]), &catalogue, &options),
    ];
    insta::assert_snapshot!(why.join("\n\n"), @r"
    1. Because a 2.0.0 conflicts with b >=2 and platform 1.0.0 needs a ^2, b 2.0.0 cannot be used.
    2. And because platform 1.0.0 needs b ^2, there is no solution for platform 1.0.0.

    1. Because n 1.0.0 replaces c * and platform 1.0.0 needs c *, n 1.0.0 cannot be used.
    2. And because platform 1.0.0 needs n *, there is no solution for platform 1.0.0.
    ");
}

#[test]
fn a_name_from_two_places_is_a_conflict() {
    let mut catalogue = catalogue(&[("a 1.0.0", "x *"), ("x 1.0.0", ""), ("x 1.1.0", "")]);
    let other: Location = "oci://other.example/x".parse().expect("a location");
    catalogue.put(&other, "1.0.0", MemoryCatalogue::package(&other, "1.0.0"));
    catalogue.put(&other, "1.2.0", MemoryCatalogue::package(&other, "1.2.0"));
    put(&mut catalogue, "b 1.0.0", "", &|metadata| {
        metadata.dependencies = vec![Dependency {
            repository: Some("oci://other.example/x".to_owned()),
            ..MemoryCatalogue::dependency("x", "^1")
        }];
    });
    insta::assert_snapshot!(unsatisfiable(&root(&[("a", "*"), ("b", "*")]), &catalogue, &Options::default()), @r"
    1. Because a 1.0.0 needs x * from oci://r.example/team/x, b 1.0.0 needs x ^1 from oci://other.example/x and a cluster has one package called x, a 1.0.0 and b 1.0.0 cannot go together.
    2. And because platform 1.0.0 needs a *, b 1.0.0 cannot be used.
    3. And because platform 1.0.0 needs b *, there is no solution for platform 1.0.0.
    ");
    // Alone, either will do; and a version without it is found.
    assert_eq!(
        chosen(&solved(&root(&[("b", "*")]), &catalogue, None, &Options::default())),
        "b 1.0.0, x 1.2.0"
    );
    put(&mut catalogue, "b 0.9.0", "", &|_| {});
    let both = solved(&root(&[("a", "*"), ("b", "*")]), &catalogue, None, &Options::default());
    assert_eq!(both.lock.packages.len(), 3);
}

#[test]
fn why_nothing_fits_is_told() {
    let chain = catalogue(&[
        ("a 1.0.0", "c ^1"),
        ("a 1.1.0", "c ^1"),
        ("b 1.0.0", "c ^2"),
        ("c 1.0.0", ""),
        ("c 1.1.0", ""),
        ("c 2.0.0", ""),
    ]);
    let branching = catalogue(&[
        ("foo 1.0.0", "a ^1, b ^1"),
        ("foo 1.1.0", "x ^1, y ^1"),
        ("a 1.0.0", "b ^2"),
        ("b 1.0.0", ""),
        ("b 2.0.0", ""),
        ("x 1.0.0", "y ^2"),
        ("y 1.0.0", ""),
        ("y 2.0.0", ""),
    ]);
    let mut broken = catalogue(&[("e 1.0.0", "e ^1"), ("f 1.0.0", "platform *"), ("g 1.0.0", "h >>1")]);
    put(&mut broken, "d 1.0.0", "", &|metadata| metadata.name = "dd".to_owned());
    put(&mut broken, "i 1.0.0", "", &|metadata| metadata.version = "1.0.1".to_owned());
    put(&mut broken, "k 1.0.0", "", &|metadata| {
        metadata.conflicts.push(MemoryCatalogue::named("platform", "^1"))
    });
    let options = Options::default();
    let why = [
        unsatisfiable(&root(&[("a", "^1"), ("b", "*")]), &chain, &options),
        unsatisfiable(&root(&[("c", "^3")]), &chain, &options),
        unsatisfiable(&root(&[("nowhere", "*")]), &chain, &options),
        unsatisfiable(&root(&[("foo", "*")]), &branching, &options),
        unsatisfiable(&root(&[("d", "*")]), &broken, &options),
        unsatisfiable(&root(&[("e", "*")]), &broken, &options),
        unsatisfiable(&root(&[("f", "*")]), &broken, &options),
        unsatisfiable(&root(&[("g", "*")]), &broken, &options),
        unsatisfiable(&root(&[("i", "*")]), &broken, &options),
        unsatisfiable(&root(&[("k", "*")]), &broken, &options),
    ];
    insta::assert_snapshot!(why.join("\n\n"), @r"
    1. Because b 1.0.0 needs c ^2 and every version of a needs c ^1, no version of a goes together with b 1.0.0.
    2. And because platform 1.0.0 needs a ^1, b 1.0.0 cannot be used.
    3. And because platform 1.0.0 needs b *, there is no solution for platform 1.0.0.

    1. Because platform 1.0.0 needs c ^3 and c has no version ^3 (it has 1.0.0, 1.1.0 and 2.0.0), there is no solution for platform 1.0.0.

    1. Because platform 1.0.0 needs nowhere * and there is nothing to be had from oci://r.example/team/nowhere (there is no such repository), there is no solution for platform 1.0.0.

    1. Because a 1.0.0 needs b ^2 and foo 1.0.0 needs a ^1, foo 1.0.0 needs b 2.0.0.
    2. And because foo 1.0.0 needs b ^1, foo 1.0.0 cannot be used.
    3. Because foo 1.1.0 needs x ^1 and x 1.0.0 needs y ^2, foo 1.1.0 needs y 2.0.0.
    4. And because foo 1.1.0 needs y ^1, foo 1.1.0 cannot be used.
    5. And because foo 1.0.0 cannot be used (2), no version of foo can be used.
    6. And because platform 1.0.0 needs foo *, there is no solution for platform 1.0.0.

    1. Because platform 1.0.0 needs d * and d 1.0.0 cannot be used (what is at oci://r.example/team/d calls itself `dd`), there is no solution for platform 1.0.0.

    1. Because platform 1.0.0 needs e * and e 1.0.0 cannot be used (it depends on itself), there is no solution for platform 1.0.0.

    1. Because platform 1.0.0 needs f * and f 1.0.0 cannot be used (it depends on platform, which is what is being resolved: a cycle), there is no solution for platform 1.0.0.

    1. Because platform 1.0.0 needs g * and g 1.0.0 cannot be used (its dependency h: `>>1` is no constraint: `>>1` does not begin with a version; write for example ^1.2, ~1.2.3, >=1.2 <2 or 1.x || 2.x), there is no solution for platform 1.0.0.

    1. Because platform 1.0.0 needs i * and i 1.0.0 cannot be used (it calls itself version `1.0.1`), there is no solution for platform 1.0.0.

    1. Because platform 1.0.0 needs k * and k 1.0.0 cannot be used (it conflicts with platform ^1, which is what is being resolved), there is no solution for platform 1.0.0.
    ");
}

#[test]
fn a_cycle_is_named() {
    let catalogue =
        catalogue(&[("a 1.0.0", "b *"), ("b 1.0.0", "c *"), ("c 1.0.0", "a *, d *"), ("d 1.0.0", "")]);
    let error = run(&root(&[("a", "*")]), &catalogue, None, &Options::default()).expect_err("a cycle");
    assert_eq!(
        error.to_string(),
        "packages that need each other can be installed in no order: a needs b, b needs c, c needs a; one of them has to do without"
    );
}

#[test]
fn what_cannot_be_asked_is_no_answer() {
    let mut catalogue = catalogue(&[("a 1.0.0", "b *"), ("b 1.0.0", "")]);
    catalogue.fail(&at("b"));
    let error = run(&root(&[("a", "*")]), &catalogue, None, &Options::default()).expect_err("it fails");
    assert!(matches!(&error, ResolveError::Catalogue { location, .. } if *location == at("b")), "{error}");
}

#[test]
fn what_is_asked_and_tried_is_bounded() {
    let catalogue = catalogue(&[("a 1.0.0", "b *"), ("b 1.0.0", "c *"), ("c 1.0.0", "")]);
    let mut options = Options::default();
    options.limits.requests = 4;
    let error = run(&root(&[("a", "*")]), &catalogue, None, &options).expect_err("too much");
    assert!(matches!(error, ResolveError::TooMuch(_)), "{error}");
    let mut options = Options::default();
    options.limits.steps = 2;
    let error = run(&root(&[("a", "*")]), &catalogue, None, &options).expect_err("too much");
    assert!(matches!(error, ResolveError::TooMuch(_)), "{error}");
    let mut options = Options::default();
    options.limits.named = 0;
    assert!(unsatisfiable(&root(&[("a", "*")]), &catalogue, &options).contains("it names 1 other packages"));
}

#[test]
fn what_is_wrong_with_the_root_is_told() {
    let mut nowhere = root(&[("a", "*")]);
    nowhere.location = None;
    let wrong = [
        nowhere,
        root(&[("a", "")]),
        root(&[("a", "foo")]),
        root(&[("platform", "*")]),
        root(&[("A b", "*")]),
    ];
    let all = wrong.map(|root| {
        run(&root, &MemoryCatalogue::new(), None, &Options::default()).expect_err("wrong").to_string()
    });
    insta::assert_snapshot!(all.join("\n"), @r"
    its dependency a: `./a` is relative, and nothing says where the package itself is; give its repository, or write oci://registry/repository
    its dependency a: an empty constraint; write * for any version
    its dependency a: `foo` is no constraint: `foo` does not begin with a version; write for example ^1.2, ~1.2.3, >=1.2 <2 or 1.x || 2.x
    it depends on itself
    `A b` is no name of a package
    ");
}

#[test]
fn a_long_chain_neither_overflows_nor_asks_twice() {
    let mut catalogue = MemoryCatalogue::new();
    for index in 0..100 {
        put(&mut catalogue, &format!("p{index} 1.0.0"), &format!("p{} *", index + 1), &|_| {});
    }
    let why = unsatisfiable(&root(&[("p0", "*")]), &catalogue, &Options::default());
    assert!(why.contains("there is no such repository"), "{why}");
    put(&mut catalogue, "p100 1.0.0", "", &|_| {});
    catalogue.asked();
    let resolution = solved(&root(&[("p0", "*")]), &catalogue, None, &Options::default());
    assert_eq!(resolution.order.len(), 101);
    assert_eq!((resolution.order[0].as_str(), catalogue.asked().len()), ("p100", 202));
}

#[test]
fn many_versions_that_do_not_fit_are_told_shortly() {
    let mut catalogue = MemoryCatalogue::new();
    for minor in 0..100 {
        put(&mut catalogue, &format!("a 1.{minor}.0"), "b ^1", &|_| {});
    }
    put(&mut catalogue, "b 2.0.0", "", &|_| {});
    let why = unsatisfiable(&root(&[("a", ">=1.10")]), &catalogue, &Options::default());
    insta::assert_snapshot!(why, @r"
    1. Because a 1.10.0 to 1.99.0 need b ^1 and b has no version ^1 (it has 2.0.0), a 1.10.0 to 1.99.0 cannot be used.
    2. And because platform 1.0.0 needs a >=1.10, there is no solution for platform 1.0.0.
    ");
}

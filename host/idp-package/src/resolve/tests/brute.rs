//! Small graphs at random, against trying everything.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::version::Constraint;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const CONSTRAINTS: [&str; 8] =
    ["*", "^1", "^2", ">=2", "<2", "1.0.0 || 3.0.0", "!=2.0.0", ">=1.0.0-0 <3.0.0"];
const VERSIONS: [&str; 4] = ["1.0.0", "2.0.0-rc.1", "2.0.0", "3.0.0"];

/// A dependency or conflict: on which name, with which constraint, and for dependencies at which of two places.
type Edge = (usize, usize, bool);

#[derive(Debug, Clone)]
struct One {
    name: usize,
    version: usize,
    elsewhere: bool,
    dependencies: Vec<Edge>,
    conflicts: Vec<Edge>,
}

fn edges(most: usize) -> impl Strategy<Value = Vec<Edge>> {
    let edge = (0..NAMES.len(), 0..CONSTRAINTS.len(), prop::bool::weighted(0.15));
    prop::collection::vec(edge, 0..=most).prop_map(|mut edges| {
        edges.sort_unstable();
        edges.dedup_by_key(|edge| edge.0);
        edges
    })
}

fn one() -> impl Strategy<Value = One> {
    (
        0..NAMES.len(),
        0..VERSIONS.len(),
        prop::bool::weighted(0.2),
        edges(2),
        prop::collection::vec(edges(1), 0..=1),
    )
        .prop_map(|(name, version, elsewhere, mut dependencies, conflicts)| {
            dependencies.retain(|edge| edge.0 != name);
            let conflicts = conflicts.into_iter().flatten().filter(|edge| edge.0 != name).collect();
            One { name, version, elsewhere, dependencies, conflicts }
        })
}

fn place(name: usize, elsewhere: bool) -> Location {
    let team = if elsewhere { "other" } else { "team" };
    format!("oci://r.example/{team}/{}", NAMES[name]).parse().expect("a location")
}

fn dependency(edge: &Edge) -> Dependency {
    Dependency {
        repository: Some(place(edge.0, edge.2).to_string()),
        ..MemoryCatalogue::dependency(NAMES[edge.0], CONSTRAINTS[edge.1])
    }
}

fn matches(edge: &Edge, version: usize) -> bool {
    let constraint: Constraint = CONSTRAINTS[edge.1].parse().expect("a constraint");
    constraint.matches(&VERSIONS[version].parse::<Version>().expect("a version"))
}

/// Whether a choice for each name, or none, is right.
fn right(chosen: &[Option<&One>], root: &[Edge]) -> bool {
    let there =
        |edge: &Edge| chosen[edge.0].is_some_and(|one| one.elsewhere == edge.2 && matches(edge, one.version));
    root.iter().all(there)
        && chosen.iter().flatten().all(|one| {
            one.dependencies.iter().all(there)
                && one
                    .conflicts
                    .iter()
                    .all(|edge| !chosen[edge.0].is_some_and(|other| matches(edge, other.version)))
        })
}

fn any_right(all: &BTreeMap<(usize, usize, bool), One>, root: &[Edge]) -> bool {
    fn next<'a>(
        all: &'a BTreeMap<(usize, usize, bool), One>,
        root: &[Edge],
        chosen: &mut Vec<Option<&'a One>>,
    ) -> bool {
        if chosen.len() == NAMES.len() {
            return right(chosen, root);
        }
        let name = chosen.len();
        let choices = all.values().filter(|one| one.name == name).map(Some).chain([None]);
        for choice in choices {
            chosen.push(choice);
            if next(all, root, chosen) {
                return true;
            }
            chosen.pop();
        }
        false
    }
    next(all, root, &mut Vec::new())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_solution_is_found_where_there_is_one(
        packages in prop::collection::vec(one(), 3..14),
        wanted in edges(3),
        locked in edges(3),
    ) {
        let all: BTreeMap<_, _> =
            packages.into_iter().map(|one| ((one.name, one.version, one.elsewhere), one)).collect();
        let mut catalogue = MemoryCatalogue::new();
        for one in all.values() {
            let location = place(one.name, one.elsewhere);
            let mut metadata = MemoryCatalogue::package(&location, VERSIONS[one.version]);
            metadata.dependencies = one.dependencies.iter().map(dependency).collect();
            metadata.conflicts =
                one.conflicts.iter().map(|edge| MemoryCatalogue::named(NAMES[edge.0], CONSTRAINTS[edge.1])).collect();
            catalogue.put(&location, VERSIONS[one.version], metadata);
        }
        let of = |edges: &[Edge]| Root { dependencies: edges.iter().map(dependency).collect(), ..root(&[]) };
        // With a lock of something else, or with none: it decides which solution, not whether there is one.
        let lock = run(&of(&locked), &catalogue, None, &Options::default()).ok().map(|resolution| resolution.lock);
        let exists = any_right(&all, &wanted);
        for lock in [None, lock.as_ref()] {
            catalogue.asked();
            match run(&of(&wanted), &catalogue, lock, &Options::default()) {
                Ok(resolution) => {
                    let mut chosen = vec![None; NAMES.len()];
                    for package in &resolution.lock.packages {
                        let name = NAMES.iter().position(|name| *name == package.name).expect("a name");
                        let version =
                            VERSIONS.iter().position(|version| *version == package.version.to_string()).expect("a version");
                        let elsewhere = package.repository == place(name, true);
                        chosen[name] = Some(&all[&(name, version, elsewhere)]);
                    }
                    prop_assert!(right(&chosen, &wanted), "{:?}", resolution.lock);
                    prop_assert!(exists);
                    prop_assert_eq!(Lock::parse(&resolution.lock.to_text().expect("text")).expect("a lock"), resolution.lock);
                }
                Err(ResolveError::Unsatisfiable(sentences)) => {
                    prop_assert!(!exists, "{}", sentences.join("\n"));
                    prop_assert!(!sentences.is_empty());
                    prop_assert!(sentences.iter().all(|sentence| sentence.ends_with('.') && !sentence.contains("  ")));
                }
                // It was one but for its order.
                Err(ResolveError::Cycle(names)) => {
                    prop_assert!(exists && names.len() > 1);
                }
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            }
            let asked = catalogue.asked();
            let once: BTreeSet<_> = asked.iter().collect();
            prop_assert_eq!(once.len(), asked.len());
        }
    }
}

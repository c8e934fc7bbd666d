//! The packages of a lock as a graph: in which order they are installed, who asked for what, and the whole as a tree.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;

use super::{Lock, LockedPackage};
use crate::version::Version;

/// One package on the way from the root to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Its version, as locked.
    pub version: Version,
    /// The constraint that the step before has on it.
    pub constraint: String,
}

/// A way from the root to a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Chain {
    /// Where it starts.
    pub root: String,
    /// The packages on it; the last one is meant.
    pub steps: Vec<Step>,
}

/// A package and what it depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tree {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The constraint that the one above has on it; none at the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// What it depends on was shown above already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// What it depends on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Self>,
}

/// An order in which whatever a name depends on comes before it, the least name first where there is a choice.
///
/// # Errors
/// The names of a cycle, in order; the first one once.
pub(super) fn order(dependencies: &BTreeMap<&str, BTreeSet<&str>>) -> Result<Vec<String>, Vec<String>> {
    let mut waiting: BTreeMap<&str, BTreeSet<&str>> = dependencies.clone();
    let mut dependants: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, on) in dependencies {
        for on in on {
            dependants.entry(on).or_default().push(name);
        }
    }
    let mut ready: BTreeSet<&str> =
        waiting.iter().filter(|(_, on)| on.is_empty()).map(|(name, _)| *name).collect();
    let mut order = Vec::with_capacity(dependencies.len());
    while let Some(name) = ready.pop_first() {
        waiting.remove(name);
        order.push(name.to_owned());
        for dependant in dependants.get(name).into_iter().flatten() {
            if let Some(on) = waiting.get_mut(dependant) {
                on.remove(name);
                if on.is_empty() {
                    ready.insert(dependant);
                }
            }
        }
    }
    let Some((first, _)) = waiting.iter().next() else { return Ok(order) };
    let mut name: &str = first;
    // Everything that still waits waits for something that does: following that comes round.
    let mut way: Vec<&str> = Vec::new();
    while !way.contains(&name) {
        way.push(name);
        match waiting.get(name).and_then(|on| on.iter().find(|on| waiting.contains_key(**on))) {
            Some(next) => name = next,
            None => break,
        }
    }
    let start = way.iter().position(|on_way| *on_way == name).unwrap_or_default();
    Err(way[start..].iter().map(|name| (*name).to_owned()).collect())
}

/// `a needs b, b needs a`
pub(super) fn circle(names: &[String]) -> String {
    let next = names.iter().cycle().skip(1);
    let pairs = names.iter().zip(next).map(|(name, next)| format!("{name} needs {next}"));
    pairs.collect::<Vec<_>>().join(", ")
}

impl Lock {
    /// The names in the order in which they are installed: whatever a package depends on comes before it.
    ///
    /// # Errors
    /// The names of a cycle.
    pub fn order(&self) -> Result<Vec<String>, Vec<String>> {
        let dependencies = self.packages.iter().map(|package| {
            (package.name.as_str(), package.dependencies.iter().map(String::as_str).collect())
        });
        order(&dependencies.collect())
    }

    /// Why a package is there: a shortest way from the root over each of those who ask for it. Empty where it is not there.
    pub fn explain(&self, name: &str) -> Vec<Chain> {
        let Some(package) = self.package(name) else { return Vec::new() };
        // Who is reached from the root first is asked for by whom: backwards, that is a shortest way.
        let mut before: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = VecDeque::from([self.root.name.as_str()]);
        while let Some(at) = queue.pop_front() {
            for next in self.asked_by(at) {
                if next.name != self.root.name && !before.contains_key(next.name.as_str()) {
                    before.insert(&next.name, at);
                    queue.push_back(&next.name);
                }
            }
        }
        let chain = |from: &str| {
            let mut names = vec![name];
            let mut at = from;
            while at != self.root.name && names.len() <= self.packages.len() {
                names.push(at);
                at = before.get(at)?;
            }
            let mut above = self.root.name.as_str();
            let steps = names.into_iter().rev().map(|name| {
                let package = self.package(name)?;
                let constraint = package.constraint_of(above)?.to_owned();
                above = &package.name;
                Some(Step { name: package.name.clone(), version: package.version.clone(), constraint })
            });
            Some(Chain { root: self.root.name.clone(), steps: steps.collect::<Option<_>>()? })
        };
        package.requested_by.iter().filter_map(|by| chain(&by.from)).collect()
    }

    /// Everything, from the root down; what a package depends on is shown once.
    pub fn tree(&self) -> Tree {
        // Depth first without recursion: how deep it goes is said by strangers.
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let leaf = |name: &str, version: String, constraint: Option<&str>, repeated: bool| Tree {
            name: name.to_owned(),
            version,
            constraint: constraint.map(str::to_owned),
            repeated,
            dependencies: Vec::new(),
        };
        let below = |name: &str| {
            let mut below = self.asked_by(name);
            below.reverse();
            below
        };
        let root = leaf(&self.root.name, self.root.version.clone(), None, false);
        let mut open = vec![(root, below(&self.root.name))];
        loop {
            let depth = open.len();
            let (tree, rest) = &mut open[depth - 1];
            match rest.pop() {
                Some(next) => {
                    let again = !seen.insert(&next.name) && !next.dependencies.is_empty();
                    let constraint = next.constraint_of(&tree.name);
                    let node = leaf(&next.name, next.version.to_string(), constraint, again);
                    let rest = if again { Vec::new() } else { below(&next.name) };
                    open.push((node, rest));
                }
                None => {
                    let (tree, _) = open.pop().expect("one is open");
                    match open.last_mut() {
                        Some((above, _)) => above.dependencies.push(tree),
                        None => return tree,
                    }
                }
            }
        }
    }

    /// The package of a name.
    pub fn package(&self, name: &str) -> Option<&LockedPackage> {
        self.packages.iter().find(|package| package.name == name)
    }

    fn asked_by(&self, name: &str) -> Vec<&LockedPackage> {
        self.packages.iter().filter(|package| package.constraint_of(name).is_some()).collect()
    }
}

impl LockedPackage {
    fn constraint_of(&self, from: &str) -> Option<&str> {
        self.requested_by.iter().find(|by| by.from == from).map(|by| by.constraint.as_str())
    }
}

//! The dependencies as the solver asks for them. It asks without waiting, so what is not known yet is noted, taken for nothing, and
//! fetched before the next attempt: an attempt that finds no solution although parts are missing finds none with them either.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use pubgrub::{Dependencies, DependencyProvider, PackageResolutionStatistics, Ranges};

use super::choice::{Choice, Choices, Unit, allowed};
use super::known::{Against, Known, Listing, Package, Said};
use super::{Location, Options};
use crate::version::{Constraint, Version};
use idp_oci::digest::Digest;

/// A version that a lock holds.
#[derive(Debug, Clone)]
pub(super) struct Pin {
    pub(super) location: Location,
    pub(super) version: Version,
    pub(super) digest: Digest,
}

/// What has to be asked before the next attempt.
#[derive(Debug, Default)]
pub(super) struct Missing {
    pub(super) listings: BTreeSet<Location>,
    pub(super) said: BTreeSet<(Location, Version)>,
}

impl Missing {
    pub(super) fn is_empty(&self) -> bool {
        self.listings.is_empty() && self.said.is_empty()
    }
}

/// Why an attempt ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stop {
    #[error("nothing can be chosen before more is known")]
    Missing,
    #[error("too many steps")]
    Steps,
}

/// Conflicts with one package: which of them hold for a version is all that matters of it.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    constraints: Vec<Constraint>,
    /// Which of the constraints a version matches, in their order, and the index of that.
    signatures: BTreeMap<Vec<bool>, u32>,
}

impl Conflicts {
    /// What is chosen along with a version.
    pub(super) fn of(&self, version: &Version) -> Option<u32> {
        self.signatures.get(&self.signature(version)).copied()
    }

    fn signature(&self, version: &Version) -> Vec<bool> {
        self.constraints.iter().map(|constraint| constraint.matches(version)).collect()
    }

    /// Everything but versions that match one of the conflicts.
    fn without(&self, constraint: &Constraint) -> Choices {
        let Some(at) = self.constraints.iter().position(|other| other == constraint) else {
            return Ranges::full();
        };
        self.signatures
            .iter()
            .filter(|(signature, _)| signature[at])
            .fold(Ranges::full(), |all, (_, index)| {
                all.intersection(&Ranges::singleton(Choice::Of(*index)).complement())
            })
    }
}

/// One attempt.
pub(super) struct Provider<'a> {
    pub(super) root: &'a Package,
    pub(super) known: &'a Known,
    pub(super) options: &'a Options,
    pub(super) pins: &'a BTreeMap<String, Pin>,
    /// Versions that turned out not to do, and why.
    pub(super) banned: &'a BTreeMap<(Location, Version), String>,
    /// Where packages of a name are said to be.
    pub(super) sources: BTreeMap<&'a str, Vec<&'a Location>>,
    pub(super) conflicts: BTreeMap<&'a str, Conflicts>,
    pub(super) missing: RefCell<Missing>,
    /// Over all attempts.
    pub(super) steps: Cell<usize>,
}

impl<'a> Provider<'a> {
    pub(super) fn new(
        root: &'a Package,
        known: &'a Known,
        options: &'a Options,
        pins: &'a BTreeMap<String, Pin>,
        banned: &'a BTreeMap<(Location, Version), String>,
        steps: usize,
    ) -> Self {
        let packages = || known.packages().chain([root]);
        let mut sources: BTreeMap<&str, BTreeSet<&Location>> = BTreeMap::new();
        for need in packages().flat_map(|package| &package.needs) {
            sources.entry(&need.name).or_default().insert(&need.location);
        }
        let sources: BTreeMap<&str, Vec<&Location>> =
            sources.into_iter().map(|(name, places)| (name, places.into_iter().collect())).collect();
        let mut conflicts: BTreeMap<&str, Conflicts> = BTreeMap::new();
        for against in packages().flat_map(|package| &package.against) {
            // What nobody asks for is never there.
            if sources.contains_key(against.name.as_str()) {
                let known = conflicts.entry(&against.name).or_default();
                if !known.constraints.contains(&against.constraint) {
                    known.constraints.push(against.constraint.clone());
                }
            }
        }
        for (name, conflicts) in &mut conflicts {
            let listed = sources[name]
                .iter()
                .flat_map(|location| known.versions(location))
                .map(|found| &found.version);
            for version in listed.chain(pins.get(*name).map(|pin| &pin.version)) {
                let next = u32::try_from(conflicts.signatures.len()).unwrap_or(u32::MAX);
                let signature = conflicts.signature(version);
                conflicts.signatures.entry(signature).or_insert(next);
            }
        }
        let missing = RefCell::default();
        Self { root, known, options, pins, banned, sources, conflicts, missing, steps: Cell::new(steps) }
    }

    /// Where the package of a unit is.
    pub(super) fn location(&self, name: &str, source: u32) -> &'a Location {
        self.sources[name][source as usize]
    }

    pub(super) fn pin(&self, name: &str, location: &Location) -> Option<&'a Pin> {
        self.pins.get(name).filter(|pin| pin.location == *location)
    }

    fn unit(&self, name: &str, location: &Location) -> Unit {
        let at = self.sources[name]
            .iter()
            .position(|place| *place == location)
            .expect("all places were collected");
        Unit::Package { name: name.to_owned(), source: u32::try_from(at).unwrap_or(u32::MAX) }
    }

    /// What a version, or the root, depends on as the solver sees it.
    fn dependencies(&self, package: &Package) -> BTreeMap<Unit, Choices> {
        let mut found: BTreeMap<Unit, Choices> = BTreeMap::new();
        let mut add = |unit: Unit, choices: Choices| {
            found.entry(unit).and_modify(|all| *all = all.intersection(&choices)).or_insert(choices);
        };
        for need in &package.needs {
            let choices = &need.choices;
            // It will be asked in all likelihood, so it is asked along with the others.
            let pinned = self.pin(&need.name, &need.location);
            let pinned = pinned.is_some_and(|pin| choices.contains(&Choice::version(pin.version.clone())));
            if !pinned && !self.known.listings.contains_key(&need.location) {
                self.missing.borrow_mut().listings.insert(need.location.clone());
            }
            add(self.unit(&need.name, &need.location), choices.clone());
        }
        for Against { name, constraint, .. } in &package.against {
            if let Some(conflicts) = self.conflicts.get(name.as_str())
                && *name != package.metadata.name
            {
                add(Unit::Presence(name.clone()), conflicts.without(constraint));
            }
        }
        if let (Some(constraint), Some(_)) = (&package.kubernetes, &self.options.facts.kubernetes) {
            add(Unit::Kubernetes, allowed(constraint));
        }
        found
    }

    fn of_version(&self, name: &str, source: u32, version: &Version) -> Dependencies<Unit, Choices, String> {
        let location = self.location(name, source);
        let key = (location.clone(), version.clone());
        if let Some(reason) = self.banned.get(&key) {
            return Dependencies::Unavailable(reason.clone());
        }
        let package = match self.known.said.get(&key) {
            Some(Said::Unusable(reason)) => return Dependencies::Unavailable(reason.clone()),
            Some(Said::Package(package)) if package.metadata.name != name => {
                let other: String =
                    package.metadata.name.chars().filter(|char| !char.is_control()).take(80).collect();
                return Dependencies::Unavailable(format!("what is at {location} calls itself `{other}`"));
            }
            Some(Said::Package(package)) => Some(package),
            None => {
                self.missing.borrow_mut().said.insert(key);
                None
            }
        };
        let mut found = package.map(|package| self.dependencies(package)).unwrap_or_default();
        if self.sources[name].len() > 1 {
            found.insert(Unit::Source(name.to_owned()), Ranges::singleton(Choice::Of(source)));
        }
        if let Some(conflicts) = self.conflicts.get(name)
            && let Some(index) = conflicts.of(version)
        {
            found.insert(Unit::Presence(name.to_owned()), Ranges::singleton(Choice::Of(index)));
        }
        Dependencies::Available(found.into_iter().collect())
    }

    fn choose(&self, name: &str, source: u32, range: &Choices) -> Result<Option<Choice>, Stop> {
        let location = self.location(name, source);
        if let Some(pin) = self.pin(name, location) {
            let choice = Choice::version(pin.version.clone());
            if range.contains(&choice) {
                return Ok(Some(choice));
            }
        }
        let candidates = match self.known.listings.get(location) {
            Some(Listing::Versions(candidates)) => candidates,
            Some(Listing::Nothing(_)) => return Ok(None),
            None => {
                self.missing.borrow_mut().listings.insert(location.clone());
                return Err(Stop::Missing);
            }
        };
        let choices = candidates.iter().map(|candidate| Choice::version(candidate.version.clone()));
        let fits: Vec<Choice> = choices.filter(|choice| range.contains(choice)).collect();
        let (releases, others): (Vec<_>, Vec<_>) =
            fits.into_iter().partition(|choice| matches!(choice, Choice::Release(_)));
        let fits = if releases.is_empty() { others } else { releases };
        Ok(if self.options.lowest { fits.into_iter().next() } else { fits.into_iter().next_back() })
    }
}

impl DependencyProvider for Provider<'_> {
    type P = Unit;
    type V = Choice;
    type VS = Choices;
    type M = String;
    type Err = Stop;
    /// Kind, conflicts so far, whether it is locked. Equals are taken in the order in which they are named.
    type Priority = (u8, u32, bool, Reverse<u32>);

    fn prioritize(
        &self,
        unit: &Unit,
        range: &Choices,
        statistics: &PackageResolutionStatistics,
    ) -> Self::Priority {
        let conflicts = statistics.conflict_count();
        match unit {
            Unit::Root | Unit::Kubernetes => (3, conflicts, false, Reverse(0)),
            // They follow from what else is chosen.
            Unit::Source(_) | Unit::Presence(_) => (0, conflicts, false, Reverse(0)),
            Unit::Package { name, source } => {
                let location = self.location(name, *source);
                let locked = self
                    .pin(name, location)
                    .is_some_and(|pin| range.contains(&Choice::version(pin.version.clone())));
                let listed = locked || self.known.listings.contains_key(location);
                (if listed { 2 } else { 1 }, conflicts, locked, Reverse(*source))
            }
        }
    }

    fn choose_version(&self, unit: &Unit, range: &Choices) -> Result<Option<Choice>, Stop> {
        let first = |mut choices: Box<dyn Iterator<Item = Choice> + '_>| {
            choices.find(|choice| range.contains(choice))
        };
        Ok(match unit {
            Unit::Root => Some(Choice::Absent),
            Unit::Kubernetes => {
                let fact =
                    self.options.facts.kubernetes.as_ref().map(|version| Choice::version(version.release()));
                fact.filter(|fact| range.contains(fact))
            }
            Unit::Package { name, source } => return self.choose(name, *source, range),
            Unit::Source(name) => {
                let count = u32::try_from(self.sources[name.as_str()].len()).unwrap_or(u32::MAX);
                first(Box::new((0..count).map(Choice::Of)))
            }
            Unit::Presence(name) => {
                let count =
                    self.conflicts.get(name.as_str()).map_or(0, |conflicts| conflicts.signatures.len());
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                first(Box::new([Choice::Absent].into_iter().chain((0..count).map(Choice::Of))))
            }
        })
    }

    fn get_dependencies(
        &self,
        unit: &Unit,
        choice: &Choice,
    ) -> Result<Dependencies<Unit, Choices, String>, Stop> {
        Ok(match (unit, choice.as_version()) {
            (Unit::Root, _) => Dependencies::Available(self.dependencies(self.root).into_iter().collect()),
            (Unit::Package { name, source }, Some(version)) => self.of_version(name, *source, version),
            _ => Dependencies::Available(std::iter::empty().collect()),
        })
    }

    fn should_cancel(&self) -> Result<(), Stop> {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > self.options.limits.steps { Err(Stop::Steps) } else { Ok(()) }
    }
}

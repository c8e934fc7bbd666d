//! Solving: attempt, see what is missing, ask for it, attempt again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::StreamExt as _;
use idp_oci::name::Target;
use pubgrub::PubGrubError;
use serde::Serialize;

use super::choice::{Choice, Unit};
use super::explain::explain;
use super::known::{self, Known, Listing, Package, Said};
use super::lock::{Lock, LockedPackage, LockedRoot, RequestedBy, manifest_hash};
use super::provider::{Missing, Pin, Provider, Stop};
use super::{Catalogue, CatalogueError, Image, Location, Metadata, Options, Root, graph};
use crate::manifest::Api;
use crate::version::{Version, tags};

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Resolution {
    /// The lock.
    pub lock: Lock,
    /// The names in the order in which they are installed.
    pub order: Vec<String>,
    /// What differs from the lock that was given.
    pub changes: Vec<Change>,
    /// How often registries were asked.
    pub requests: usize,
}

/// A package that a lock has otherwise than the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// Its name.
    pub name: String,
    /// What was locked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Version>,
    /// What is locked now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Version>,
}

/// Why nothing was chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// What is to be resolved is wrong itself.
    #[error("{0}")]
    Root(String),
    /// No choice fits. The sentences say why, each from what stands before it.
    #[error("no versions fit together:\n{}", .0.join("\n"))]
    Unsatisfiable(Vec<String>),
    /// Packages that depend on each other in a circle can be installed in no order.
    #[error("packages that need each other can be installed in no order: {}; one of them has to do without", graph::circle(.0))]
    Cycle(Vec<String>),
    /// A name to update that the lock does not have.
    #[error("{0} is not in the lock, so there is nothing to update; it has: {1}")]
    NotLocked(String, String),
    /// A registry could not be asked.
    #[error("{location}: {message}")]
    Catalogue {
        /// Where.
        location: Location,
        /// What went wrong.
        message: String,
    },
    /// More was to be asked or tried than is allowed.
    #[error("resolving takes more than {0}; narrow the constraints, or lock what is known to work")]
    TooMuch(String),
}

/// What is chosen for each name.
type Selected = BTreeMap<String, (Location, Version)>;

/// Chooses one version for each name that `root` needs, the highest releases that fit together. With a lock, what it holds stays where it
/// can, but for the names in `options.update`.
///
/// # Errors
/// Why there is no choice, or why it is not known.
pub async fn solve(
    root: &Root,
    catalogue: &dyn Catalogue,
    lock: Option<&Lock>,
    options: &Options,
) -> Result<Resolution, ResolveError> {
    let read = known::read_root(root, manifest_hash(root), options).map_err(ResolveError::Root)?;
    let pins = pins(lock, options)?;
    let mut known = Known::default();
    let mut banned = BTreeMap::new();
    let mut requests = 0;
    let mut steps = 0;
    loop {
        let (selected, missing) = attempt(&read, &known, options, &pins, &banned, &mut steps)?;
        if let Some(selected) = selected
            && missing.is_empty()
        {
            let selected = reached(&read, &known, &selected);
            if let Some((key, reason)) = lacking_api(&read, &known, &selected, options)? {
                banned.insert(key, reason);
                continue;
            }
            return finish(root, &read, &known, &selected, lock, options, requests);
        }
        requests += ask(&missing, &mut known, catalogue, root, &pins, options, requests).await?;
    }
}

fn pins(lock: Option<&Lock>, options: &Options) -> Result<BTreeMap<String, Pin>, ResolveError> {
    let packages = lock.map(|lock| lock.packages.as_slice()).unwrap_or_default();
    for name in &options.update {
        if lock.is_some() && !packages.iter().any(|package| package.name == *name) {
            let all: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
            return Err(ResolveError::NotLocked(name.clone(), all.join(", ")));
        }
    }
    let kept = packages.iter().filter(|package| !options.lowest && !options.update.contains(&package.name));
    let pin = |package: &LockedPackage| Pin {
        location: package.repository.clone(),
        version: package.version.clone(),
        digest: package.digest.clone(),
    };
    Ok(kept.map(|package| (package.name.clone(), pin(package))).collect())
}

/// One run of the solver over what is known. Nothing is selected where it stopped for want of knowledge.
fn attempt(
    root: &Package,
    known: &Known,
    options: &Options,
    pins: &BTreeMap<String, Pin>,
    banned: &BTreeMap<(Location, Version), String>,
    steps: &mut usize,
) -> Result<(Option<Selected>, Missing), ResolveError> {
    let provider = Provider::new(root, known, options, pins, banned, *steps);
    let too_much = || ResolveError::TooMuch(format!("{} steps", options.limits.steps));
    let selected = match pubgrub::resolve(&provider, Unit::Root, Choice::Absent) {
        Ok(solution) => {
            let mut selected = Selected::new();
            for (unit, choice) in solution {
                if let (Unit::Package { name, source }, Some(version)) = (unit, choice.as_version()) {
                    let location = provider.location(&name, source).clone();
                    selected.insert(name, (location, version.clone()));
                }
            }
            Some(selected)
        }
        Err(PubGrubError::NoSolution(tree)) => {
            return Err(ResolveError::Unsatisfiable(explain(tree, &provider)));
        }
        Err(
            PubGrubError::ErrorChoosingVersion { source, .. }
            | PubGrubError::ErrorRetrievingDependencies { source, .. }
            | PubGrubError::ErrorInShouldCancel(source),
        ) => match source {
            Stop::Missing => None,
            Stop::Steps => return Err(too_much()),
        },
    };
    *steps = provider.steps.get();
    Ok((selected, provider.missing.into_inner()))
}

/// Asks for what is missing, a few things at once; how often was asked.
async fn ask(
    missing: &Missing,
    known: &mut Known,
    catalogue: &dyn Catalogue,
    root: &Root,
    pins: &BTreeMap<String, Pin>,
    options: &Options,
    before: usize,
) -> Result<usize, ResolveError> {
    let mut questions = Vec::new();
    for (location, version) in &missing.said {
        let pin = pins.values().find(|pin| pin.location == *location && pin.version == *version);
        let targets: Vec<Target> = match pin {
            Some(pin) => vec![Target::Digest(pin.digest.clone())],
            None => {
                let tags = known.versions(location).iter().find(|candidate| candidate.version == *version);
                let tags = tags.map(|candidate| candidate.tags.as_slice()).unwrap_or_default();
                tags.iter().filter_map(|tag| Some(Target::Tag(tag.parse().ok()?))).collect()
            }
        };
        questions.push((location.clone(), version.clone(), targets));
    }
    let count = missing.listings.len() + questions.iter().map(|(_, _, targets)| targets.len()).sum::<usize>();
    if before + count > options.limits.requests {
        return Err(ResolveError::TooMuch(format!("{} requests", options.limits.requests)));
    }
    let at_once = options.limits.concurrency.max(1);
    let listings = missing.listings.iter().cloned().map(|location| async move {
        let answer = catalogue.tags(&location.rewritten(&options.rewrites)).await;
        (location, answer)
    });
    let mut listings: Vec<_> = futures_util::stream::iter(listings).buffer_unordered(at_once).collect().await;
    listings.sort_by(|a, b| a.0.cmp(&b.0));
    for (location, answer) in listings {
        let listing = match answer {
            Ok(tags) => {
                let mut candidates = tags::candidates(&tags);
                candidates.drain(..candidates.len().saturating_sub(options.limits.versions));
                Listing::Versions(candidates)
            }
            Err(CatalogueError::NotFound(message) | CatalogueError::Unusable(message)) => {
                Listing::Nothing(message)
            }
            Err(CatalogueError::Failed(message)) => {
                return Err(ResolveError::Catalogue { location, message });
            }
        };
        known.listings.insert(location, listing);
    }
    let said = questions.into_iter().map(|(location, version, targets)| async move {
        let asked = location.rewritten(&options.rewrites);
        let mut answers = Vec::with_capacity(targets.len());
        for target in targets {
            let answer = catalogue.metadata(&asked, &target).await;
            answers.push((target, answer));
        }
        (location, version, answers)
    });
    let mut said: Vec<_> = futures_util::stream::iter(said).buffer_unordered(at_once).collect().await;
    said.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    for (location, version, answers) in said {
        let answer = match one(answers) {
            Err(CatalogueError::Failed(message)) => {
                return Err(ResolveError::Catalogue { location, message });
            }
            Err(CatalogueError::NotFound(message) | CatalogueError::Unusable(message)) => Err(message),
            Ok(metadata) => known::read(metadata, &location, &version, root, options),
        };
        let answer = answer.map_or_else(Said::Unusable, |package| Said::Package(Box::new(package)));
        known.said.insert((location, version), answer);
    }
    Ok(count)
}

/// What all the tags of a version say, where it is the same.
fn one(answers: Vec<(Target, Result<Metadata, CatalogueError>)>) -> Result<Metadata, CatalogueError> {
    let mut found: Option<(Target, Metadata)> = None;
    for (target, answer) in answers {
        let metadata = answer?;
        match &found {
            Some((first, other)) if other.digest != metadata.digest => {
                let message = format!(
                    "the tags `{first}` and `{target}` say the same version and hold different content"
                );
                return Err(CatalogueError::Unusable(message));
            }
            Some(_) => {}
            None => found = Some((target, metadata)),
        }
    }
    let nothing = || CatalogueError::NotFound("no tag says it any more".to_owned());
    found.map(|(_, metadata)| metadata).ok_or_else(nothing)
}

/// Only what the root reaches.
fn reached(root: &Package, known: &Known, selected: &Selected) -> Selected {
    let mut reached = Selected::new();
    let mut queue = VecDeque::from([root]);
    while let Some(package) = queue.pop_front() {
        for need in &package.needs {
            if let Some((location, version)) = selected.get(&need.name)
                && !reached.contains_key(&need.name)
            {
                reached.insert(need.name.clone(), (location.clone(), version.clone()));
                queue.extend(known.package(location, version));
            }
        }
    }
    reached
}

type Banned = ((Location, Version), String);

/// A version that needs a kind which neither the cluster knows nor a chosen package brings.
fn lacking_api(
    root: &Package,
    known: &Known,
    selected: &Selected,
    options: &Options,
) -> Result<Option<Banned>, ResolveError> {
    let Some(apis) = &options.facts.apis else { return Ok(None) };
    let chosen: Vec<(&(Location, Version), &Package)> =
        selected.values().filter_map(|key| Some((key, known.package(&key.0, &key.1)?))).collect();
    let brought: BTreeSet<(&str, &str, &str)> = chosen
        .iter()
        .map(|(_, package)| *package)
        .chain([root])
        .flat_map(|package| &package.metadata.provides.apis)
        .map(|api| (api.group.as_str(), api.version.as_str(), api.kind.as_str()))
        .collect();
    let lacking = |package: &Package| {
        let has = |api: &&Api| {
            let version = if api.group.is_empty() {
                api.version.clone()
            } else {
                format!("{}/{}", api.group, api.version)
            };
            api.optional
                || apis.contains(&version)
                || apis.contains(&format!("{version}/{}", api.kind))
                || brought.contains(&(&api.group, &api.version, &api.kind))
        };
        let api = package.metadata.requires.apis.iter().find(|api| !has(api))?;
        let clean = |text: &str| text.chars().filter(|char| !char.is_control()).take(100).collect::<String>();
        let group = if api.group.is_empty() { String::new() } else { format!("{}/", clean(&api.group)) };
        Some(format!(
            "it needs {group}{} {}, which neither the cluster knows nor a chosen package brings",
            clean(&api.version),
            clean(&api.kind)
        ))
    };
    if let Some(reason) = lacking(root) {
        let root = &root.metadata;
        return Err(ResolveError::Unsatisfiable(vec![format!(
            "{} {} cannot be used: {reason}.",
            root.name, root.version
        )]));
    }
    Ok(chosen.into_iter().find_map(|(key, package)| Some((key.clone(), lacking(package)?))))
}

fn finish(
    root: &Root,
    read: &Package,
    known: &Known,
    selected: &Selected,
    before: Option<&Lock>,
    options: &Options,
    requests: usize,
) -> Result<Resolution, ResolveError> {
    let chosen: BTreeMap<&str, (&(Location, Version), &Package)> = selected
        .iter()
        .filter_map(|(name, key)| Some((name.as_str(), (key, known.package(&key.0, &key.1)?))))
        .collect();
    let mut requested: BTreeMap<&str, BTreeSet<RequestedBy>> = BTreeMap::new();
    for (from, package) in
        chosen.iter().map(|(name, (_, package))| (*name, *package)).chain([(root.name.as_str(), read)])
    {
        for need in &package.needs {
            let by = RequestedBy { from: from.to_owned(), constraint: need.constraint.to_string() };
            requested.entry(&need.name).or_default().insert(by);
        }
    }
    let mut images: BTreeSet<Image> = BTreeSet::new();
    let mut packages = Vec::with_capacity(chosen.len());
    for (name, ((location, version), package)) in &chosen {
        images.extend(package.metadata.images.iter().cloned());
        let dependencies: BTreeSet<String> = package.needs.iter().map(|need| need.name.clone()).collect();
        packages.push(LockedPackage {
            name: (*name).to_owned(),
            version: version.clone(),
            repository: location.clone(),
            digest: package.metadata.digest.clone(),
            config_digest: package.metadata.config_digest.clone(),
            requested_by: requested.remove(name).unwrap_or_default().into_iter().collect(),
            dependencies: dependencies.into_iter().collect(),
        });
    }
    let lock = Lock {
        lock_version: 1,
        root: LockedRoot {
            name: root.name.clone(),
            version: root.version.clone(),
            manifest_hash: manifest_hash(root),
            features: options.features.clone(),
        },
        packages,
        images: images.into_iter().collect(),
    };
    let order = lock.order().map_err(ResolveError::Cycle)?;
    let changes = changes(before, &lock);
    Ok(Resolution { lock, order, changes, requests })
}

fn changes(before: Option<&Lock>, after: &Lock) -> Vec<Change> {
    let versions = |lock: Option<&Lock>| -> BTreeMap<String, (Version, LockedPackage)> {
        let packages = lock.map(|lock| lock.packages.as_slice()).unwrap_or_default();
        packages
            .iter()
            .map(|package| (package.name.clone(), (package.version.clone(), package.clone())))
            .collect()
    };
    let (mut before, after) = (versions(before), versions(Some(after)));
    let mut changes = Vec::new();
    for (name, (to, package)) in after {
        let from = before.remove(&name);
        let same = from.as_ref().is_some_and(|(_, old)| {
            (&old.version, &old.digest, &old.repository)
                == (&package.version, &package.digest, &package.repository)
        });
        if !same {
            changes.push(Change { name, from: from.map(|(from, _)| from), to: Some(to) });
        }
    }
    changes.extend(before.into_iter().map(|(name, (from, _))| Change { name, from: Some(from), to: None }));
    changes.sort_by(|a, b| a.name.cmp(&b.name));
    changes
}

//! Why there is no solution, in numbered sentences: each follows from facts and from sentences before it.

use std::collections::HashMap;
use std::sync::Arc;

use pubgrub::{DerivationTree, Derived, External, Term};

use super::choice::{Choice, Unit, allowed};
use super::known::{Listing, Package};
use super::provider::{Choices, Provider};
use crate::version::Version;

type Derivation = DerivationTree<Unit, Choices, String>;
type Terms<'a> = Vec<(&'a Unit, &'a Term<Choices>)>;

/// The sentences, from the first fact to the conclusion.
pub(super) fn explain(tree: Derivation, provider: &Provider<'_>) -> Vec<String> {
    let words = Words { provider };
    let tree = Arc::new(tree);
    let sentences = match &*tree {
        DerivationTree::External(fact) => {
            vec![format!("{}.", capital(&words.fact(fact).unwrap_or_default()))]
        }
        DerivationTree::Derived(_) => sentences(&tree, &words),
    };
    dismantle(tree);
    sentences
}

/// Takes a tree apart without recursion: how deep it is depends on what strangers' packages say.
fn dismantle(tree: Arc<Derivation>) {
    let mut waiting = vec![tree];
    while let Some(tree) = waiting.pop() {
        if let Ok(DerivationTree::Derived(derived)) = Arc::try_unwrap(tree) {
            waiting.push(derived.cause1);
            waiting.push(derived.cause2);
        }
    }
}

/// What a cause adds to a sentence.
enum Cause {
    /// It goes without saying.
    Nothing,
    Fact(String),
    /// A sentence before, and what it concludes.
    Sentence(usize, String),
}

fn sentences(tree: &Arc<Derivation>, words: &Words<'_>) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    // What became of each node: several lead to the same one.
    let mut done: HashMap<*const Derivation, Cause> = HashMap::new();
    let mut stack = vec![(tree, false)];
    while let Some((node, visited)) = stack.pop() {
        let key = Arc::as_ptr(node);
        if done.contains_key(&key) {
            continue;
        }
        let derived = match &**node {
            DerivationTree::External(fact) => {
                done.insert(key, words.fact(fact).map_or(Cause::Nothing, Cause::Fact));
                continue;
            }
            DerivationTree::Derived(derived) => derived,
        };
        if !visited {
            stack.push((node, true));
            // The deeper side first, so that its conclusion stands right above.
            let (first, second) = match (&*derived.cause1, &*derived.cause2) {
                (DerivationTree::External(_), _) => (&derived.cause2, &derived.cause1),
                _ => (&derived.cause1, &derived.cause2),
            };
            stack.push((second, false));
            stack.push((first, false));
            continue;
        }
        let conclusion = words.conclusion(&derived.terms.iter().collect());
        let cause = |cause: &Arc<Derivation>| &done[&Arc::as_ptr(cause)];
        let outcome = match (cause(&derived.cause1), cause(&derived.cause2)) {
            // Nothing new is said: the sentence before stands for it.
            (Cause::Nothing, Cause::Sentence(number, said))
            | (Cause::Sentence(number, said), Cause::Nothing)
                if *said == conclusion =>
            {
                Cause::Sentence(*number, said.clone())
            }
            (Cause::Fact(fact), Cause::Nothing) | (Cause::Nothing, Cause::Fact(fact))
                if *fact == conclusion =>
            {
                Cause::Fact(fact.clone())
            }
            (first, second) => {
                let because = because([first, second], sentences.len(), words, derived);
                sentences.push(format!("{}{conclusion}.", capital(&because)));
                Cause::Sentence(sentences.len(), conclusion)
            }
        };
        done.insert(key, outcome);
    }
    if let (true, Some(Cause::Fact(fact))) = (sentences.is_empty(), done.get(&Arc::as_ptr(tree))) {
        sentences.push(format!("{}.", capital(fact)));
    }
    sentences.into_iter().enumerate().map(|(index, text)| format!("{}. {text}", index + 1)).collect()
}

/// What stands before the conclusion.
fn because(
    causes: [&Cause; 2],
    last: usize,
    words: &Words<'_>,
    derived: &Derived<Unit, Choices, String>,
) -> String {
    let mut follows = false;
    let mut said: Vec<String> = Vec::new();
    for cause in causes {
        match cause {
            Cause::Nothing => {}
            Cause::Fact(fact) => said.push(fact.clone()),
            Cause::Sentence(number, _) if *number == last && !follows => follows = true,
            Cause::Sentence(number, conclusion) => said.push(format!("{conclusion} ({number})")),
        }
    }
    match (follows, said.is_empty()) {
        (true, true) => "so ".to_owned(),
        (true, false) => format!("and because {}, ", said.join(" and ")),
        (false, false) => format!("because {}, ", said.join(" and ")),
        (false, true) => words.only_one(derived),
    }
}

fn capital(text: &str) -> String {
    // Names of packages keep their lower case.
    for word in ["and because ", "because ", "so ", "there is "] {
        if text.starts_with(word) {
            return format!("{}{}", text[..1].to_uppercase(), &text[1..]);
        }
    }
    text.to_owned()
}

struct Words<'a> {
    provider: &'a Provider<'a>,
}

/// A thing in a sentence, and whether it is more than one.
struct Subject {
    text: String,
    plural: bool,
}

impl Subject {
    fn one(text: String) -> Self {
        Self { text, plural: false }
    }

    fn verb<'b>(&self, one: &'b str, many: &'b str) -> &'b str {
        if self.plural { many } else { one }
    }
}

impl Words<'_> {
    /// A fact as a part of a sentence; none where it goes without saying.
    fn fact(&self, fact: &External<Unit, Choices, String>) -> Option<String> {
        match fact {
            External::NotRoot(..) => None,
            External::NoVersions(Unit::Package { name, source }, set) => {
                Some(self.no_version(name, *source, set))
            }
            External::NoVersions(Unit::Kubernetes, _) => {
                let version = self.provider.options.facts.kubernetes.as_ref()?;
                Some(format!("the cluster runs Kubernetes {version}"))
            }
            External::NoVersions(..) => None,
            External::Custom(unit, set, reason) => {
                Some(format!("{} cannot be used ({reason})", self.subject(unit, set).text))
            }
            External::FromDependencyOf(unit, set, on, allowed) => self.dependency(unit, set, on, allowed),
        }
    }

    fn dependency(&self, unit: &Unit, set: &Choices, on: &Unit, choices: &Choices) -> Option<String> {
        let subject = self.subject(unit, set);
        let needs = subject.verb("needs", "need");
        match (unit, on) {
            (_, Unit::Source(_)) => None,
            (Unit::Package { name, .. }, Unit::Presence(other)) if name == other => None,
            (_, Unit::Presence(name)) => {
                let said = self.sayers(unit, set).find_map(|package| {
                    let all: Vec<String> = package
                        .against
                        .iter()
                        .filter(|against| against.name == *name)
                        .map(|against| {
                            let verb = match against.replaces {
                                true => subject.verb("replaces", "replace"),
                                false => subject.verb("conflicts with", "conflict with"),
                            };
                            format!("{verb} {name} {}", against.constraint)
                        })
                        .collect();
                    (!all.is_empty()).then(|| all.join(" and "))
                })?;
                Some(format!("{} {said}", subject.text))
            }
            (_, Unit::Kubernetes) => {
                let constraint = self.sayers(unit, set).find_map(|package| package.kubernetes.as_ref())?;
                Some(format!("{} {needs} Kubernetes {constraint}", subject.text))
            }
            (_, Unit::Package { name, source }) => {
                let mut said = self.sayers(unit, set).filter_map(|package| {
                    package
                        .needs
                        .iter()
                        .find(|need| need.name == *name && allowed(&need.constraint) == *choices)
                });
                let what = match said.next() {
                    Some(need) => match self.place(name, *source) {
                        Some(place) => format!("{name} {} from {place}", need.constraint),
                        None => format!("{name} {}", need.constraint),
                    },
                    None => self.subject(on, choices).text,
                };
                Some(format!("{} {needs} {what}", subject.text))
            }
            (_, Unit::Root) => None,
        }
    }

    fn no_version(&self, name: &str, source: u32, set: &Choices) -> String {
        let location = self.provider.location(name, source);
        let label = self.label(name, source);
        let candidates = match self.provider.known.listings.get(location) {
            Some(Listing::Nothing(reason)) => {
                return format!("there is nothing to be had from {location} ({reason})");
            }
            _ => self.provider.known.versions(location),
        };
        let versions: Vec<&Version> = candidates.iter().map(|candidate| &candidate.version).collect();
        let has = match versions.as_slice() {
            [] => return format!("{label} has no versions"),
            [.., last] if versions.len() > 8 => format!("it has {}, up to {last}", versions.len()),
            some => format!("it has {}", listed(some)),
        };
        let packages = self.provider.known.packages().chain([self.provider.root]);
        let mut needs = packages.flat_map(|package| &package.needs).filter(|need| need.name == name);
        match needs.find(|need| allowed(&need.constraint) == *set) {
            Some(need) => format!("{label} has no version {} ({has})", need.constraint),
            None => format!("{label} has no other version that fits ({has})"),
        }
    }

    /// Where nothing but what goes without saying leads to a conclusion: two that are called the same.
    fn only_one(&self, derived: &Derived<Unit, Choices, String>) -> String {
        let mut names = derived.terms.keys().filter_map(|unit| match unit {
            Unit::Package { name, .. } => Some(name),
            _ => None,
        });
        match names.next() {
            Some(name) => format!("because a cluster has one package called {name}, "),
            None => String::new(),
        }
    }

    /// What cannot all hold, said as what follows.
    fn conclusion(&self, terms: &Terms<'_>) -> String {
        let mut there = Vec::new();
        let mut needed = Vec::new();
        let mut terms = terms.clone();
        terms.sort_by_key(|(unit, _)| (*unit).clone());
        for (unit, term) in terms {
            match term {
                Term::Positive(_) if *unit == Unit::Root => {}
                Term::Positive(set) => there.push(self.subject(unit, set)),
                Term::Negative(set) => needed.push(self.subject(unit, set).text),
            }
        }
        let root = &self.provider.root.metadata;
        let needed = needed.join(" or ");
        match (there.as_slice(), needed.is_empty()) {
            ([], true) => format!("there is no solution for {} {}", root.name, root.version),
            ([], false) => format!("{} {} needs {needed}", root.name, root.version),
            ([one], true) => format!("{} cannot be used", one.text),
            ([one], false) => format!("{} {} {needed}", one.text, one.verb("needs", "need")),
            (many, true) => format!("{} cannot go together", joined(many)),
            (many, false) => format!("{} together need {needed}", joined(many)),
        }
    }

    fn subject(&self, unit: &Unit, set: &Choices) -> Subject {
        match unit {
            Unit::Root => {
                let root = &self.provider.root.metadata;
                Subject::one(format!("{} {}", root.name, root.version))
            }
            Unit::Kubernetes => Subject::one("this version of Kubernetes".to_owned()),
            Unit::Package { name, source } => self.versions(name, *source, set),
            Unit::Source(name) => {
                let places = self.provider.sources[name.as_str()].iter().enumerate();
                let inside = places.filter(|(index, _)| {
                    u32::try_from(*index).is_ok_and(|index| set.contains(&Choice::Of(index)))
                });
                let inside: Vec<String> = inside.map(|(_, location)| location.to_string()).collect();
                Subject::one(format!("{name} from {}", inside.join(" or ")))
            }
            Unit::Presence(name) => {
                let Some(conflicts) = self.provider.conflicts.get(name.as_str()) else {
                    return Subject::one(name.clone());
                };
                let all = self.provider.sources[name.as_str()].iter();
                let versions = all.flat_map(|location| self.provider.known.versions(location));
                let inside: Vec<&Version> = versions
                    .map(|candidate| &candidate.version)
                    .filter(|version| {
                        conflicts.of(version).is_some_and(|index| set.contains(&Choice::Of(index)))
                    })
                    .collect();
                let plural = inside.len() > 1;
                if inside.is_empty() {
                    return Subject::one(format!("the absence of {name}"));
                }
                Subject { text: format!("{name} {}", listed(&inside)), plural }
            }
        }
    }

    fn versions(&self, name: &str, source: u32, set: &Choices) -> Subject {
        let location = self.provider.location(name, source);
        let label = self.label(name, source);
        let listing = self.provider.known.listings.get(location);
        let mut known: Vec<&Version> =
            self.provider.known.versions(location).iter().map(|candidate| &candidate.version).collect();
        if let Some(pin) = self.provider.pin(name, location)
            && let Err(at) = known.binary_search(&&pin.version)
        {
            known.insert(at, &pin.version);
        }
        let inside: Vec<usize> =
            (0..known.len()).filter(|at| set.contains(&Choice::version(known[*at].clone()))).collect();
        let plural = inside.len() > 1;
        match inside.as_slice() {
            // No version is in it: it is about what is asked for.
            [] => Subject::one(label),
            all if all.len() == known.len() && listing.is_some() => Subject::one(match all.len() {
                1 => format!("{label} {}", known[0]),
                _ => format!("every version of {label}"),
            }),
            [first, .., last] if inside.len() > 3 && last - first + 1 == inside.len() => {
                Subject { text: format!("{label} {} to {}", known[*first], known[*last]), plural }
            }
            some => {
                let versions: Vec<&Version> = some.iter().map(|at| known[*at]).collect();
                Subject { text: format!("{label} {}", listed(&versions)), plural }
            }
        }
    }

    fn label(&self, name: &str, source: u32) -> String {
        match self.place(name, source) {
            Some(place) => format!("{name} (from {place})"),
            None => name.to_owned(),
        }
    }

    /// Where it is from, if there is more than one place.
    fn place(&self, name: &str, source: u32) -> Option<String> {
        (self.provider.sources[name].len() > 1).then(|| self.provider.location(name, source).to_string())
    }

    /// Who says what the versions in a set say.
    fn sayers<'b>(&'b self, unit: &'b Unit, set: &'b Choices) -> Box<dyn Iterator<Item = &'b Package> + 'b> {
        match unit {
            Unit::Root => Box::new([self.provider.root].into_iter()),
            Unit::Package { name, source } => {
                let location = self.provider.location(name, *source);
                let from = (location.clone(), Version::first_of(0, 0, 0));
                let all =
                    self.provider.known.said.range(from..).take_while(move |((at, _), _)| at == location);
                Box::new(all.filter_map(move |((at, version), _)| {
                    set.contains(&Choice::version(version.clone()))
                        .then(|| self.provider.known.package(at, version))?
                }))
            }
            _ => Box::new(std::iter::empty()),
        }
    }
}

/// `1.0.0, 1.1.0 and 2.0.0`, the last ones counted where there are many.
fn listed(versions: &[&Version]) -> String {
    let mut texts: Vec<String> = versions.iter().map(ToString::to_string).collect();
    if texts.len() > 6 {
        let more = texts.split_off(5).len();
        texts.push(format!("{more} more"));
    }
    and(&texts)
}

fn joined(subjects: &[Subject]) -> String {
    and(&subjects.iter().map(|subject| subject.text.clone()).collect::<Vec<_>>())
}

fn and(texts: &[String]) -> String {
    match texts {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

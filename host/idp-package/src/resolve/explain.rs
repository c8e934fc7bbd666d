//! Why there is no solution, in numbered sentences: each follows from facts and from sentences before it.

use std::collections::HashMap;
use std::sync::Arc;

use pubgrub::{DerivationTree, Derived, External, Term};

use super::choice::{Choice, Choices, Unit};
use super::known::{Listing, Package};
use super::provider::Provider;
use crate::version::Version;

type Derivation = DerivationTree<Unit, Choices, String>;
type Terms<'a> = Vec<(&'a Unit, &'a Term<Choices>)>;

/// The sentences, from the first fact to the conclusion.
pub(super) fn explain(tree: Derivation, provider: &Provider<'_>) -> Vec<String> {
    let words = Words { provider };
    let tree = Arc::new(tree);
    let sentences = match &*tree {
        DerivationTree::External(fact) => {
            words.fact(fact).map(|(_, said)| format!("{}.", capital(&said))).into_iter().collect()
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
#[derive(Clone)]
enum Cause {
    /// It goes without saying.
    Nothing,
    /// Facts without a sentence of their own, in the order of their ranks.
    Facts(Vec<(u8, String)>),
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
                done.insert(key, words.fact(fact).map_or(Cause::Nothing, |fact| Cause::Facts(vec![fact])));
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
        let cause = |cause: &Arc<Derivation>| done[&Arc::as_ptr(cause)].clone();
        let one = one_place(derived).map(|name| (5, format!("a cluster has one package called {name}")));
        let outcome = match (cause(&derived.cause1), cause(&derived.cause2), one) {
            (Cause::Nothing, Cause::Nothing, None) => Cause::Nothing,
            (Cause::Nothing, Cause::Nothing, Some(one)) => Cause::Facts(vec![one]),
            // Nothing new is said.
            (Cause::Nothing, other, None) | (other, Cause::Nothing, None) => other,
            (Cause::Nothing, Cause::Facts(mut facts), Some(one))
            | (Cause::Facts(mut facts), Cause::Nothing, Some(one)) => {
                facts.push(one);
                Cause::Facts(facts)
            }
            (first, second, one) => {
                let because = because([first, second], one, sentences.len());
                let conclusion = words.conclusion(&derived.terms.iter().collect());
                sentences.push(capital(&format!("{}{conclusion}.", start(&because))));
                Cause::Sentence(sentences.len(), conclusion)
            }
        };
        done.insert(key, outcome);
    }
    // There were facts, and nothing to conclude from them.
    if let (true, Some(Cause::Facts(facts))) = (sentences.is_empty(), done.get(&Arc::as_ptr(tree))) {
        let facts: Vec<String> = facts.iter().map(|(_, fact)| fact.clone()).collect();
        sentences.push(capital(&format!("{}.", and(&facts))));
    }
    sentences.into_iter().enumerate().map(|(index, text)| format!("{}. {text}", index + 1)).collect()
}

/// What a sentence follows from; what stands right above it is an empty text.
fn because(causes: [Cause; 2], one: Option<(u8, String)>, last: usize) -> Vec<String> {
    let mut ranked: Vec<(u8, String)> = one.into_iter().collect();
    for cause in causes {
        match cause {
            Cause::Nothing => {}
            Cause::Facts(facts) => ranked.extend(facts),
            Cause::Sentence(number, _) if number == last => ranked.push((0, String::new())),
            Cause::Sentence(number, conclusion) => ranked.push((1, format!("{conclusion} ({number})"))),
        }
    }
    ranked.sort();
    ranked.dedup();
    ranked.into_iter().map(|(_, said)| said).collect()
}

fn start(because: &[String]) -> String {
    match because {
        [] => String::new(),
        [above] if above.is_empty() => "so ".to_owned(),
        [above, said @ ..] if above.is_empty() => format!("and because {}, ", and(said)),
        said => format!("because {}, ", and(said)),
    }
}

/// The name of a package that is taken from one place only, where that is what a conclusion rests on.
fn one_place(derived: &Derived<Unit, Choices, String>) -> Option<&str> {
    let (first, second) = (source(&derived.cause1)?, source(&derived.cause2)?);
    match first {
        Unit::Source(name) if first == second && !derived.terms.contains_key(first) => Some(name),
        _ => None,
    }
}

/// What a cause says about where a package is taken from.
fn source(cause: &Derivation) -> Option<&Unit> {
    let is = |unit: &&Unit| matches!(unit, Unit::Source(_));
    match cause {
        DerivationTree::External(External::FromDependencyOf(_, _, unit, _)) => Some(unit).filter(is),
        DerivationTree::Derived(derived) => derived.terms.keys().find(is),
        DerivationTree::External(_) => None,
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
    /// It is every version of this.
    every: Option<String>,
}

impl Subject {
    fn one(text: String) -> Self {
        Self { text, plural: false, every: None }
    }

    fn some(text: String, plural: bool) -> Self {
        Self { text, plural, every: None }
    }

    fn verb<'b>(&self, one: &'b str, many: &'b str) -> &'b str {
        if self.plural { many } else { one }
    }
}

impl Words<'_> {
    /// A fact as a part of a sentence, and its rank; none where it goes without saying.
    fn fact(&self, fact: &External<Unit, Choices, String>) -> Option<(u8, String)> {
        match fact {
            External::NotRoot(..) => None,
            External::NoVersions(Unit::Package { name, source }, set) => {
                Some((4, self.no_version(name, *source, set)?))
            }
            External::NoVersions(Unit::Kubernetes, _) => {
                let version = self.provider.options.facts.kubernetes.as_ref()?;
                Some((4, format!("the cluster runs Kubernetes {version}")))
            }
            External::NoVersions(..) => None,
            External::Custom(unit, set, reason) => {
                Some((3, format!("{} cannot be used ({reason})", self.subject(unit, set).text)))
            }
            External::FromDependencyOf(unit, set, on, allowed) => {
                Some((2, self.dependency(unit, set, on, allowed)?))
            }
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
                    package.needs.iter().find(|need| need.name == *name && need.choices == *choices)
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

    /// That there is nothing to choose. What is left of a range when what was ruled out before is taken away goes without saying:
    /// versions are named as they are.
    fn no_version(&self, name: &str, source: u32, set: &Choices) -> Option<String> {
        let location = self.provider.location(name, source);
        let label = self.label(name, source);
        let candidates = match self.provider.known.listings.get(location) {
            Some(Listing::Nothing(reason)) => {
                return Some(format!("there is nothing to be had from {location} ({reason})"));
            }
            _ => self.provider.known.versions(location),
        };
        let versions: Vec<&Version> = candidates.iter().map(|candidate| &candidate.version).collect();
        let has = match versions.as_slice() {
            [] => return Some(format!("{label} has no versions")),
            [.., last] if versions.len() > 8 => format!("it has {}, up to {last}", versions.len()),
            some => format!("it has {}", listed(some)),
        };
        let packages = self.provider.known.packages().chain([self.provider.root]);
        let needs = packages.flat_map(|package| &package.needs).filter(|need| need.name == name);
        let mut asked: Vec<(String, Choices)> =
            needs.map(|need| (need.constraint.to_string(), need.choices.clone())).collect();
        asked.retain(|(_, choices)| set.subset_of(choices));
        asked.sort_by(|a, b| a.0.cmp(&b.0));
        asked.dedup_by(|a, b| a.0 == b.0);
        let none = |choices: &Choices| {
            !versions.iter().any(|version| choices.contains(&Choice::version((*version).clone())))
        };
        if let Some((constraint, _)) = asked.iter().find(|(_, choices)| none(choices)) {
            return Some(format!("{label} has no version {constraint} ({has})"));
        }
        let all = asked.iter().fold(Choices::full(), |all, (_, choices)| all.intersection(choices));
        if asked.is_empty() || !none(&all) {
            return None;
        }
        let constraints: Vec<String> = asked.into_iter().map(|(constraint, _)| constraint).collect();
        Some(format!("{label} has no version that is {} at once ({has})", and(&constraints)))
    }

    /// What cannot all hold, said as what follows.
    fn conclusion(&self, terms: &Terms<'_>) -> String {
        let mut there = Vec::new();
        let mut needed = Vec::new();
        let mut terms = terms.clone();
        terms.sort_by_key(|(unit, _)| (*unit).clone());
        for (unit, term) in terms {
            match (unit, term) {
                (Unit::Root, Term::Positive(_)) => {}
                (_, Term::Positive(set)) => there.push(self.subject(unit, set)),
                // What has to be chosen along rules out versions that would choose otherwise.
                (Unit::Presence(_), Term::Negative(set)) => there.push(self.subject(unit, &set.complement())),
                (_, Term::Negative(set)) => needed.push(self.subject(unit, set).text),
            }
        }
        let root = &self.provider.root.metadata;
        let needed = needed.join(" or ");
        match (there.as_slice(), needed.is_empty()) {
            ([], true) => format!("there is no solution for {} {}", root.name, root.version),
            ([], false) => format!("{} {} needs {needed}", root.name, root.version),
            ([Subject { every: Some(label), .. }], true) => format!("no version of {label} can be used"),
            ([one], true) => format!("{} cannot be used", one.text),
            ([one], false) => format!("{} {} {needed}", one.text, one.verb("needs", "need")),
            (
                [Subject { every: Some(label), .. }, other] | [other, Subject { every: Some(label), .. }],
                true,
            ) => {
                format!("no version of {label} goes together with {}", other.text)
            }
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
                if inside.is_empty() {
                    return Subject::one(format!("the absence of {name}"));
                }
                Subject::some(format!("{name} {}", listed(&inside)), inside.len() > 1)
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
            all if all.len() == known.len() && all.len() > 1 && listing.is_some() => {
                Subject { text: format!("every version of {label}"), plural: false, every: Some(label) }
            }
            [first, .., last] if inside.len() > 3 && last - first + 1 == inside.len() => {
                Subject::some(format!("{label} {} to {}", known[*first], known[*last]), plural)
            }
            some => {
                let versions: Vec<&Version> = some.iter().map(|at| known[*at]).collect();
                Subject::some(format!("{label} {}", listed(&versions)), plural)
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

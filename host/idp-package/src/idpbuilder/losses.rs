//! What a package says that idpbuilder has no place for. A manifest in, a list out: nothing is dropped without a word.

use std::collections::BTreeSet;

use serde::Serialize;

use super::part::Part;
use crate::manifest::{Dependency, Manifest, Mapping, Type};

/// Something that an exported directory does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Unconverted {
    /// The package it is of.
    pub package: String,
    /// The way to it: `spec.hooks[0]`.
    pub what: String,
    /// What is lost with it.
    pub why: String,
}

/// What is collected about one package.
pub(super) struct Losses<'a> {
    package: &'a str,
    pub(super) all: Vec<Unconverted>,
}

impl<'a> Losses<'a> {
    pub(super) fn new(package: &'a str) -> Self {
        Self { package, all: Vec::new() }
    }

    pub(super) fn add(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.all.push(Unconverted { package: self.package.to_owned(), what: what.into(), why: why.into() });
    }
}

/// What of a manifest is lost whatever its content is. `given` are the packages that are exported with it, `chosen` says that one of
/// its variants was asked for.
pub(super) fn of(part: &Part<'_>, given: &BTreeSet<&str>, chosen: bool, losses: &mut Losses<'_>) {
    let manifest = part.manifest;
    let spec = &manifest.spec;
    for (index, dependency) in spec.dependencies.iter().enumerate() {
        depends(index, dependency, given, losses);
    }
    if let Some(kubernetes) = &spec.requires.kubernetes {
        losses.add("spec.requires.kubernetes", format!("that the cluster is {kubernetes} is not checked"));
    }
    for (index, api) in spec.requires.apis.iter().enumerate() {
        losses.add(
            format!("spec.requires.apis[{index}]"),
            format!("that the cluster knows {} of {}/{} is not checked", api.kind, api.group, api.version),
        );
    }
    for (index, provider) in spec.requires.providers.iter().enumerate() {
        let why = format!("that {} {} is there is not checked", provider.package, provider.version);
        losses.add(format!("spec.requires.providers[{index}]"), why);
    }
    for (key, list, why) in [
        ("conflicts", &spec.conflicts, "nothing keeps it from being there beside"),
        ("replaces", &spec.replaces, "it is not taken away, if it is there:"),
    ] {
        for (index, named) in list.iter().enumerate() {
            losses.add(format!("spec.{key}[{index}]"), format!("{why} {} {}", named.name, named.version));
        }
    }
    if !spec.provides.apis.is_empty() {
        losses.add("spec.provides", "which kinds it brings is not told");
    }
    for (index, hook) in spec.hooks.iter().enumerate() {
        let why = format!(
            "{} runs at no time of its own; where it lies in a target's directory it is deployed with the rest",
            hook.path
        );
        losses.add(format!("spec.hooks[{index}]"), why);
    }
    if !spec.compatibility.consumers.is_empty() {
        losses.add("spec.compatibility", "who it is known to work with is not told");
    }
    if !chosen {
        for (index, variant) in
            spec.variants.iter().enumerate().filter(|(_, variant)| variant.selector.is_some())
        {
            let why = format!(
                "a cluster is not chosen by its labels; target `{}` is exported beside the others, unless a variant is asked for",
                variant.target
            );
            losses.add(format!("spec.variants[{index}].selector"), why);
        }
    }
    if part.images > 0 {
        losses.add(
            "images",
            format!(
                "the recorded digests of {} image references; what the content names is what runs",
                part.images
            ),
        );
    }
    if part.locked {
        losses.add("idp.lock", "the exact versions and digests of its dependencies");
    }
    metadata(manifest, losses);
}

fn depends(index: usize, dependency: &Dependency, given: &BTreeSet<&str>, losses: &mut Losses<'_>) {
    let Dependency { name, version, optional, when, .. } = dependency;
    let what = format!("spec.dependencies[{index}]");
    let why = match (given.contains(name.as_str()), optional) {
        (true, false) => {
            format!("{name} is exported beside it; that it is to be {version}, and there first, is not said")
        }
        (true, true) => format!(
            "{name} is exported beside it as if `{}` were switched on; that it is to be {version}, and there first, is not said",
            when.as_deref().unwrap_or("it")
        ),
        (false, false) => format!("{name} {version} was not given, and is not in the directory"),
        (false, true) => format!("{name} {version} is optional and was not given"),
    };
    losses.add(what, why);
}

/// Values, as far as the files say nothing of them. `found` tells whether a file of the package is in the content.
pub(super) fn values(manifest: &Manifest, found: &dyn Fn(&str) -> bool, losses: &mut Losses<'_>) {
    let Some(values) = &manifest.spec.values else { return };
    let is_chart = manifest.spec.r#type == Type::Helm;
    match values.mapping {
        Mapping::Placeholders => losses.add(
            "spec.values.mapping",
            "`${name}` in the content is left as it is, which is hardly what is to be deployed",
        ),
        Mapping::KustomizeReplacements => {
            losses.add("spec.values.mapping", "values are not put in; the content stands as it is");
        }
        Mapping::Helm | Mapping::None => {}
    }
    if let Some(schema) = &values.schema
        // Helm holds values to the schema of this name by itself.
        && !(is_chart && found(schema) && schema.ends_with("values.schema.json"))
    {
        losses.add("spec.values.schema", format!("values are not checked by {schema}"));
    }
    if let Some(defaults) = &values.defaults
        && !(values.mapping == Mapping::Helm && found(defaults))
    {
        losses.add("spec.values.defaults", format!("the values in {defaults}"));
    }
}

fn metadata(manifest: &Manifest, losses: &mut Losses<'_>) {
    let metadata = &manifest.metadata;
    let links = &metadata.links;
    let said = [
        ("displayName", metadata.display_name.is_some()),
        ("description", metadata.description.is_some()),
        ("categories", !metadata.categories.is_empty()),
        ("keywords", !metadata.keywords.is_empty()),
        ("icon", metadata.icon.is_some()),
        ("maintainers", !metadata.maintainers.is_empty()),
        ("licenses", metadata.licenses.is_some()),
        ("links", links.homepage.is_some() || links.source.is_some() || links.documentation.is_some()),
        ("releaseNotes", metadata.release_notes.is_some()),
        ("annotations", !metadata.annotations.is_empty()),
    ];
    let said: Vec<&str> = said.into_iter().filter(|(_, said)| *said).map(|(key, _)| key).collect();
    if !said.is_empty() {
        losses.add("metadata", format!("{}: idpbuilder shows none of it", said.join(", ")));
    }
}

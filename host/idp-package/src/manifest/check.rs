//! What values of a manifest have to be, beyond their shape.

use std::collections::BTreeSet;

use super::{Manifest, Type};
use crate::version::Constraint;

type Wrong = (String, String);

/// The first value that means nothing: its key and why.
pub(super) fn check(manifest: &Manifest) -> Result<(), Wrong> {
    let metadata = &manifest.metadata;
    let wrong = |key: &str, message: String| Err((key.to_owned(), message));
    name(&metadata.name).or_else(|why| wrong("metadata.name", why))?;
    version(&metadata.version).or_else(|why| wrong("metadata.version", why))?;
    if let Some(licenses) = &metadata.licenses
        && let Err(error) = spdx::Expression::parse(licenses)
    {
        return wrong(
            "metadata.licenses",
            format!("`{licenses}` is no SPDX licence expression: {}", error.reason),
        );
    }
    for (key, path) in [("metadata.icon", &metadata.icon), ("metadata.releaseNotes", &metadata.release_notes)]
    {
        if let Some(path) = path {
            relative(path).or_else(|why| wrong(key, why))?;
        }
    }
    for (key, link) in [
        ("metadata.links.homepage", &metadata.links.homepage),
        ("metadata.links.source", &metadata.links.source),
        ("metadata.links.documentation", &metadata.links.documentation),
    ] {
        if let Some(link) = link
            && !(link.starts_with("https://") || link.starts_with("http://") || link.starts_with("git"))
        {
            return wrong(key, format!("`{link}` is no link; write https://…"));
        }
    }
    let spec = &manifest.spec;
    relative(&spec.content.root).or_else(|why| wrong("spec.content.root", why))?;
    let mut seen = BTreeSet::new();
    for (index, dependency) in spec.dependencies.iter().enumerate() {
        let key = |last: &str| format!("spec.dependencies[{index}].{last}");
        name(&dependency.name).map_err(|why| (key("name"), why))?;
        if !seen.insert(&dependency.name) {
            let why = format!("`{}` is named twice; a cluster has one version of a package", dependency.name);
            return Err((key("name"), why));
        }
        if dependency.name == metadata.name {
            return Err((key("name"), "the package depends on itself".to_owned()));
        }
        constraint(&dependency.version).map_err(|why| (key("version"), why))?;
        if let Some(repository) = &dependency.repository
            && !(repository.starts_with("oci://")
                || repository.starts_with("./")
                || repository.starts_with("../"))
        {
            let why = format!(
                "`{repository}` is no repository; write oci://registry/repository, or ./name for one beside this package"
            );
            return Err((key("repository"), why));
        }
        if dependency.when.is_some() && !dependency.optional {
            return Err((
                key("when"),
                "only an optional dependency is switched on; add `optional: true`".to_owned(),
            ));
        }
    }
    for (list, named) in [("conflicts", &spec.conflicts), ("replaces", &spec.replaces)] {
        for (index, named) in named.iter().enumerate() {
            name(&named.name).map_err(|why| (format!("spec.{list}[{index}].name"), why))?;
            constraint(&named.version).map_err(|why| (format!("spec.{list}[{index}].version"), why))?;
        }
    }
    if let Some(kubernetes) = &spec.requires.kubernetes {
        constraint(kubernetes).or_else(|why| wrong("spec.requires.kubernetes", why))?;
    }
    if let Some(values) = &spec.values {
        for (key, path) in
            [("spec.values.schema", &values.schema), ("spec.values.defaults", &values.defaults)]
        {
            if let Some(path) = path {
                relative(path).or_else(|why| wrong(key, why))?;
            }
        }
    }
    let mut targets = BTreeSet::new();
    for (index, target) in spec.targets.iter().enumerate() {
        name(&target.name).map_err(|why| (format!("spec.targets[{index}].name"), why))?;
        relative(&target.path).map_err(|why| (format!("spec.targets[{index}].path"), why))?;
        if !targets.insert(target.name.as_str()) {
            let why = format!("two targets are called `{}`", target.name);
            return Err((format!("spec.targets[{index}].name"), why));
        }
    }
    for (index, variant) in spec.variants.iter().enumerate() {
        if !targets.contains(variant.target.as_str()) {
            let why = format!("there is no target `{}`", variant.target);
            return Err((format!("spec.variants[{index}].target"), why));
        }
    }
    for (index, hook) in spec.hooks.iter().enumerate() {
        relative(&hook.path).map_err(|why| (format!("spec.hooks[{index}].path"), why))?;
    }
    if spec.r#type == Type::Bundle && spec.dependencies.is_empty() {
        return wrong("spec.dependencies", "a bundle is its dependencies, and this one has none".to_owned());
    }
    Ok(())
}

/// A DNS label: it names repositories, Applications and objects.
fn name(text: &str) -> Result<(), String> {
    let inner = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    let good = !text.is_empty()
        && text.len() <= 63
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if good {
        return Ok(());
    }
    Err(format!(
        "`{text}` is no name; at most 63 lower-case letters, digits and dashes, no dash at either end"
    ))
}

/// What becomes a tag that every consumer reads alike (`design/package-format.md`, 4.4).
fn version(text: &str) -> Result<(), String> {
    let parsed = semver::Version::parse(text).map_err(|_| {
        let bare = text.strip_prefix('v').unwrap_or(text);
        let more = if text.starts_with('v') && semver::Version::parse(bare).is_ok() {
            format!("; without the v: {bare}")
        } else {
            String::new()
        };
        format!("`{text}` is no version; write MAJOR.MINOR.PATCH, for example 1.4.0 or 1.4.0-rc.1{more}")
    })?;
    if !parsed.build.is_empty() {
        return Err(format!(
            "`{text}` has build metadata; a tag cannot say `+`, and Argo CD fails on what stands for it"
        ));
    }
    if text.chars().any(|char| char.is_ascii_uppercase()) {
        return Err(format!(
            "`{text}` has capitals; some registries lower them, and then it is another version"
        ));
    }
    if [parsed.major, parsed.minor, parsed.patch].iter().any(|number| *number > i64::MAX as u64) {
        return Err(format!("`{text}` has a number too large for other tools"));
    }
    Ok(())
}

fn constraint(text: &str) -> Result<(), String> {
    text.parse::<Constraint>().map(|_| ()).map_err(|error| error.to_string())
}

/// A path inside the package, with forward slashes.
fn relative(path: &str) -> Result<(), String> {
    let bad = path.is_empty()
        || path.starts_with('/')
        || path.contains(['\\', '\0'])
        || path.split('/').any(|part| part == "..");
    if bad {
        Err(format!("`{path}` is no path inside the package; write it with / and without .."))
    } else {
        Ok(())
    }
}

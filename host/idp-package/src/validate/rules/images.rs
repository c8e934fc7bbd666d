//! Image references that cannot be pulled, or that are something else tomorrow.

use crate::kube::Source;
use crate::validate::Context;
use crate::validate::rule::{Findings, Place, Rule, Severity};

const MALFORMED: Rule =
    Rule::new("image-malformed", Severity::Error, "No runtime would take this for an image reference.");
const LATEST: Rule = Rule::new(
    "image-latest",
    Severity::Warning,
    "The image has no tag, or `latest`: what runs depends on when a node pulled it, and no rollback brings it back.",
);
const DIGEST: Rule = Rule::new(
    "image-no-digest",
    Severity::Info,
    "The image is named by a tag, which can be moved; a digest names exactly what was tested.",
);

pub(super) const RULES: &[Rule] = &[MALFORMED, LATEST, DIGEST];

pub(super) fn check(context: &Context<'_>, findings: &mut Findings<'_>) {
    for image in &context.images {
        let place = Place::line(&image.file, image.line, image.column);
        if let Some(why) = &image.wrong {
            // Values are put together by a template that may know better.
            let severity = match image.source {
                Source::Values | Source::AppValues => Severity::Warning,
                _ => MALFORMED.severity,
            };
            findings.add_as(&MALFORMED, severity, place, why.clone(), None);
            continue;
        }
        if image.digest.is_some() {
            continue;
        }
        match image.tag.as_deref() {
            // A chart's template often has the tag that its values leave out.
            None if matches!(image.source, Source::Values | Source::AppValues) => {}
            None | Some("latest") => {
                let message = match &image.tag {
                    None => format!("`{}` has no tag, which means `latest`", image.text),
                    Some(_) => format!("`{}` is whatever is newest", image.text),
                };
                findings.add(&LATEST, place, message, Some("name a version, or a digest".to_owned()));
            }
            Some(_) => {
                findings.add(&DIGEST, place, format!("`{}` has no digest", image.text), None);
            }
        }
    }
}

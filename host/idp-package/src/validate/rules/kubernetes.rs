//! Kubernetes objects: what names them, and whether they are of their kind's shape.

use std::collections::{BTreeMap, BTreeSet};

use crate::kube::{Node, Object, ObjectKey, Role, is_below, is_placeholder, parent};
use crate::validate::Context;
use crate::validate::rule::{Findings, Place, Rule, Severity};
use crate::validate::shapes::{self, GroupVersionKind, MismatchKind};

use super::units;

const NO_KIND: Rule = Rule::new(
    "kube-no-kind",
    Severity::Error,
    "A document looks like a Kubernetes object and lacks `apiVersion` or `kind`.",
);
const NO_NAME: Rule = Rule::new("kube-no-name", Severity::Error, "An object has no `metadata.name`.");
const NAME: Rule = Rule::new(
    "kube-name",
    Severity::Error,
    "A name or a namespace has characters or a length that a cluster refuses for this kind.",
);
const UNKNOWN_FIELD: Rule = Rule::new(
    "kube-unknown-field",
    Severity::Error,
    "A field is not one of its type: a strict cluster refuses the object, another drops the field.",
);
const TYPE: Rule = Rule::new("kube-type", Severity::Error, "A value is of another type than its field.");
const REQUIRED: Rule =
    Rule::new("kube-required", Severity::Error, "A field that has to be there is missing.");
const CHOICE: Rule =
    Rule::new("kube-choice", Severity::Error, "A value is none of those that its schema allows.");
const REMOVED: Rule = Rule::new(
    "kube-removed-api",
    Severity::Error,
    "The apiVersion is of a Kubernetes release long gone; today's clusters do not know it.",
);
const DEPRECATED: Rule = Rule::new(
    "kube-deprecated-api",
    Severity::Warning,
    "The apiVersion is to go away, by the word of the CustomResourceDefinition in this package.",
);
const UNKNOWN_KIND: Rule = Rule::new(
    "kube-unknown-kind",
    Severity::Warning,
    "The group is one of Kubernetes' own, or one that this package defines, and has no such kind or version.",
);
const DUPLICATE: Rule = Rule::new(
    "kube-duplicate",
    Severity::Error,
    "Two documents that are deployed together are the same object; which one is there in the end is chance.",
);
const NAMESPACE: Rule = Rule::new(
    "kube-namespace",
    Severity::Warning,
    "An object of a kind that has no namespace names one; it means nothing there.",
);

pub(super) const RULES: &[Rule] = &[
    NO_KIND,
    NO_NAME,
    NAME,
    UNKNOWN_FIELD,
    TYPE,
    REQUIRED,
    CHOICE,
    REMOVED,
    DEPRECATED,
    UNKNOWN_KIND,
    DUPLICATE,
    NAMESPACE,
];

/// Files in the form of objects that no cluster is given: tools read them.
const FOR_TOOLS: [&str; 14] = [
    "kustomize.config.k8s.io",
    "config.kubernetes.io",
    "kind.x-k8s.io",
    "k3d.io",
    "kubeadm.k8s.io",
    "kubelet.config.k8s.io",
    "kubeproxy.config.k8s.io",
    "apiserver.config.k8s.io",
    "kubescheduler.config.k8s.io",
    "audit.k8s.io",
    "client.authentication.k8s.io",
    "backstage.io",
    "scaffolder.backstage.io",
    "skaffold",
];

/// `apiVersion` and kind, the release that dropped them, and what there is instead.
const GONE: [(&str, &str, &str, &str); 37] = [
    ("extensions/v1beta1", "Deployment", "1.16", "apps/v1"),
    ("extensions/v1beta1", "DaemonSet", "1.16", "apps/v1"),
    ("extensions/v1beta1", "ReplicaSet", "1.16", "apps/v1"),
    ("extensions/v1beta1", "NetworkPolicy", "1.16", "networking.k8s.io/v1"),
    ("extensions/v1beta1", "PodSecurityPolicy", "1.16", ""),
    ("extensions/v1beta1", "Ingress", "1.22", "networking.k8s.io/v1"),
    ("apps/v1beta1", "Deployment", "1.16", "apps/v1"),
    ("apps/v1beta1", "StatefulSet", "1.16", "apps/v1"),
    ("apps/v1beta2", "Deployment", "1.16", "apps/v1"),
    ("apps/v1beta2", "DaemonSet", "1.16", "apps/v1"),
    ("apps/v1beta2", "ReplicaSet", "1.16", "apps/v1"),
    ("apps/v1beta2", "StatefulSet", "1.16", "apps/v1"),
    ("networking.k8s.io/v1beta1", "Ingress", "1.22", "networking.k8s.io/v1"),
    ("networking.k8s.io/v1beta1", "IngressClass", "1.22", "networking.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "Role", "1.22", "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "RoleBinding", "1.22", "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "ClusterRole", "1.22", "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "ClusterRoleBinding", "1.22", "rbac.authorization.k8s.io/v1"),
    ("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition", "1.22", "apiextensions.k8s.io/v1"),
    ("apiregistration.k8s.io/v1beta1", "APIService", "1.22", "apiregistration.k8s.io/v1"),
    (
        "admissionregistration.k8s.io/v1beta1",
        "MutatingWebhookConfiguration",
        "1.22",
        "admissionregistration.k8s.io/v1",
    ),
    (
        "admissionregistration.k8s.io/v1beta1",
        "ValidatingWebhookConfiguration",
        "1.22",
        "admissionregistration.k8s.io/v1",
    ),
    ("certificates.k8s.io/v1beta1", "CertificateSigningRequest", "1.22", "certificates.k8s.io/v1"),
    ("coordination.k8s.io/v1beta1", "Lease", "1.22", "coordination.k8s.io/v1"),
    ("scheduling.k8s.io/v1beta1", "PriorityClass", "1.22", "scheduling.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", "StorageClass", "1.22", "storage.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", "CSIDriver", "1.22", "storage.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", "VolumeAttachment", "1.22", "storage.k8s.io/v1"),
    ("batch/v1beta1", "CronJob", "1.25", "batch/v1"),
    ("discovery.k8s.io/v1beta1", "EndpointSlice", "1.25", "discovery.k8s.io/v1"),
    ("events.k8s.io/v1beta1", "Event", "1.25", "events.k8s.io/v1"),
    ("autoscaling/v2beta1", "HorizontalPodAutoscaler", "1.25", "autoscaling/v2"),
    ("autoscaling/v2beta2", "HorizontalPodAutoscaler", "1.26", "autoscaling/v2"),
    ("policy/v1beta1", "PodDisruptionBudget", "1.25", "policy/v1"),
    ("policy/v1beta1", "PodSecurityPolicy", "1.25", ""),
    ("node.k8s.io/v1beta1", "RuntimeClass", "1.25", "node.k8s.io/v1"),
    ("flowcontrol.apiserver.k8s.io/v1beta3", "FlowSchema", "1.32", "flowcontrol.apiserver.k8s.io/v1"),
];

pub(super) fn check(context: &Context<'_>, findings: &mut Findings<'_>) {
    for (path, scanned) in context.scan.scanned.iter().filter(|(_, scanned)| scanned.role == Role::Manifest) {
        for document in &scanned.documents {
            let has = |key: &str| document.get(key).is_some_and(|node| !node.is_null());
            if has("apiVersion") != has("kind") && (has("metadata") || has("spec")) {
                let missing = if has("kind") { "apiVersion" } else { "kind" };
                let message = format!("`{missing}` is missing; without it this is no Kubernetes object");
                findings.add(&NO_KIND, Place::of(path, document), message, None);
            }
        }
    }
    let objects = context.scan.objects();
    for object in objects.iter().filter(|object| !is_for_tools(object)) {
        names(context, object, findings);
        shape(context, object, findings);
    }
    duplicates(context, &objects, findings);
}

fn is_for_tools(object: &Object<'_>) -> bool {
    FOR_TOOLS.contains(&object.group()) || object.is("", "Config")
}

fn names(context: &Context<'_>, object: &Object<'_>, findings: &mut Findings<'_>) {
    let generated = object.at(&["metadata", "generateName"]).is_some();
    let Some(node) = object.at(&["metadata", "name"]).filter(|node| !node.is_null()) else {
        // Reviews ask a question and have no name; a template of a CRD may lie in a file of its own.
        if !generated && !object.kind().ends_with("Review") {
            let message = format!("this {} has no `metadata.name`", object.kind());
            findings.add(&NO_NAME, Place::of(object.file, object.node), message, None);
        }
        return;
    };
    if let Some(name) = node.text()
        && !is_placeholder(name)
        && let Some(why) = bad_name(object.group(), object.kind(), name)
    {
        let name: String = name.chars().take(80).collect();
        let message = format!("`{name}` cannot name a {}: {why}", object.kind());
        findings.add(&NAME, Place::of(object.file, node), message, None);
    }
    let Some(node) = object.at(&["metadata", "namespace"]) else { return };
    let Some(namespace) = node.text().filter(|namespace| !is_placeholder(namespace)) else { return };
    if !is_label(namespace) {
        let namespace: String = namespace.chars().take(80).collect();
        let message = format!("`{namespace}` cannot name a namespace: {LABEL}");
        findings.add(&NAME, Place::of(object.file, node), message, None);
    }
    if context.schemas.is_namespaced(object.group(), object.kind()) == Some(false) {
        let message = format!("a {} has no namespace", object.kind());
        findings.add(&NAMESPACE, Place::of(object.file, node), message, Some("take the line out".to_owned()));
    }
}

const LABEL: &str = "at most 63 lower-case letters, digits and dashes, no dash at either end";
const SUBDOMAIN: &str =
    "at most 253 lower-case letters, digits, dashes and dots; letters or digits beside dots";

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(inner)
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

fn is_subdomain(text: &str) -> bool {
    // A part between dots may be longer than a label.
    let part = |part: &str| {
        let inner = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
        !part.is_empty() && part.chars().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

fn bad_name(group: &str, kind: &str, name: &str) -> Option<&'static str> {
    match (group, kind) {
        // Any path segment.
        ("rbac.authorization.k8s.io", _) => {
            let bad = name.contains(['/', '%']) || matches!(name, "." | "..");
            bad.then_some("neither `/` nor `%`")
        }
        ("", "Namespace") => (!is_label(name)).then_some(LABEL),
        ("", "Service") => {
            // A letter first, since it becomes a host's name.
            let good = is_label(name) && !name.starts_with(|char: char| char.is_ascii_digit());
            (!good)
                .then_some("at most 63 lower-case letters, digits and dashes, a letter first, no dash last")
        }
        _ => (!is_subdomain(name)).then_some(SUBDOMAIN),
    }
}

fn shape(context: &Context<'_>, object: &Object<'_>, findings: &mut Findings<'_>) {
    let place = Place::of(object.file, object.at(&["apiVersion"]).unwrap_or(object.node));
    let (version, name) = (object.api_version(), object.kind());
    if is_placeholder(version) || is_placeholder(name) {
        return;
    }
    if let Some((_, _, release, instead)) =
        GONE.iter().find(|(gone, kind, ..)| *gone == version && *kind == name)
    {
        let fix =
            (!instead.is_empty()).then(|| format!("write `apiVersion: {instead}` and what its fields want"));
        let message = format!("Kubernetes {release} dropped {name} of {version}");
        findings.add(&REMOVED, place, message, fix);
        return;
    }
    let kind = GroupVersionKind::new(object.group(), object.version(), name);
    if context.schemas.is_deprecated(&kind) {
        findings.add(&DEPRECATED, place, format!("{version} {name} is deprecated"), None);
    }
    let unserved = context.schemas.is_unserved(&kind);
    let Some(shape) = context.schemas.find(&kind).filter(|_| !unserved) else {
        let versions = context.schemas.versions_of(object.group(), name);
        if !versions.is_empty() {
            let message = format!("{name} has no served version `{}`", object.version());
            let fix = Some(format!("there is: {}", versions.join(", ")));
            findings.add(&UNKNOWN_KIND, place, message, fix);
        } else if context.schemas.is_core_group(object.group()) && !object.kind().ends_with("List") {
            let release = shapes::release();
            let message = format!("Kubernetes {release} has no {name} in {version}");
            findings.add(&UNKNOWN_KIND, place, message, None);
        }
        return;
    };
    for mismatch in shapes::check(object.node, shape) {
        // These have rules of their own.
        if mismatch.path.is_empty() && mismatch.message.starts_with("`metadata`") {
            continue;
        }
        let rule = match mismatch.kind {
            MismatchKind::Unknown => &UNKNOWN_FIELD,
            MismatchKind::Type => &TYPE,
            MismatchKind::Missing => &REQUIRED,
            MismatchKind::Choice => &CHOICE,
        };
        let path = if mismatch.path.is_empty() { name } else { &mismatch.path };
        let message = format!("{path}: {}", mismatch.message);
        findings.add(rule, Place::line(object.file, mismatch.line, mismatch.column), message, mismatch.fix);
    }
}

fn duplicates(context: &Context<'_>, objects: &[Object<'_>], findings: &mut Findings<'_>) {
    let units = units::directories(context.scan);
    let mut seen: BTreeMap<(String, ObjectKey), &Object<'_>> = BTreeMap::new();
    for object in objects {
        let key = object.key();
        // The namespace may be put in by who deploys it; a template's braces may give two names.
        if key.name.is_empty() || is_placeholder(&key.name) || is_placeholder(&key.namespace) {
            continue;
        }
        let directory = parent(object.file);
        // A kustomization takes what it names, and may name one of two.
        if let Some(kustomization) = context.scan.kustomization_of(directory)
            && !kustomization.names.iter().any(|named| named.path.as_deref() == Some(object.file))
        {
            continue;
        }
        let deployed = units.iter().find(|unit| {
            unit.directory == directory || unit.recurse && is_below(object.file, &unit.directory)
        });
        let unit = deployed.map_or(directory, |unit| unit.directory.as_str());
        match seen.get(&(unit.to_owned(), key.clone())) {
            Some(first) => {
                // Files of a directory that nothing says is deployed as a whole may be meant one at a time.
                let certain = deployed.is_some() || first.file == object.file;
                let severity = if certain { DUPLICATE.severity } else { Severity::Warning };
                let message = format!("{key} is also in {} on line {}", first.file, first.node.line);
                let fix = Some("rename one of them, or take it out".to_owned());
                findings.add_as(&DUPLICATE, severity, Place::of(object.file, object.node), message, fix);
            }
            None => {
                seen.insert((unit.to_owned(), key), object);
            }
        }
    }
}

/// Kinds that no schema is known of.
pub(in crate::validate) fn unchecked(context: &Context<'_>) -> BTreeSet<String> {
    let unknown = |object: &Object<'_>| {
        let kind = GroupVersionKind::new(object.group(), object.version(), object.kind());
        let known = context.schemas.find(&kind).is_some() || is_for_tools(object);
        (!known && object.node.get("kind").and_then(Node::text).is_some())
            .then(|| format!("{} {}", object.api_version(), object.kind()))
    };
    context.scan.objects().iter().filter_map(unknown).take(1000).collect()
}

//! The shapes that hold for one package: the bundled ones, those of its own CustomResourceDefinitions, and those of
//! directories that the user gives.

use std::collections::HashMap;
use std::path::Path;

use crate::kube::{Files, LARGEST_TEXT, Limits, Object, parse};

use super::crd::{CrdKind, kinds_of, of_schema};
use super::{GroupVersionKind, Shape, bundled};

/// Why schemas cannot be had from a directory.
#[derive(Debug, thiserror::Error)]
#[error("no schemas from {directory}: {why}")]
pub struct SchemaError {
    directory: String,
    why: String,
}

/// Shapes by kind.
#[derive(Debug, Clone, Default)]
pub struct Schemas {
    kinds: HashMap<GroupVersionKind, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    shape: Shape,
    namespaced: Option<bool>,
    served: bool,
    deprecated: bool,
}

impl Schemas {
    /// The bundled ones alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what lies in a directory: CustomResourceDefinitions in YAML, and JSON Schemas as kubeconform names them
    /// (`KIND-GROUP-VERSION.json`, `GROUP/KIND_VERSION.json`), or that say `x-kubernetes-group-version-kind`.
    ///
    /// # Errors
    /// The directory cannot be read, or nothing in it is a schema.
    pub fn add_directory(&mut self, directory: &Path) -> Result<usize, SchemaError> {
        let wrong = |why: String| SchemaError { directory: directory.display().to_string(), why };
        let files = Files::from_directory(directory).map_err(|error| wrong(error.to_string()))?;
        let before = self.kinds.len();
        for (path, file) in files.iter() {
            let json = path.ends_with(".json");
            if !(json || path.ends_with(".yaml") || path.ends_with(".yml")) {
                continue;
            }
            let Ok(bytes) = file.read(LARGEST_TEXT) else { continue };
            let Ok(text) = std::str::from_utf8(&bytes) else { continue };
            for node in &parse(text, Limits::default()).documents {
                if let Some(object) = Object::of(path, node) {
                    self.add_crd(&object);
                } else if json {
                    let shape = of_schema(node);
                    for kind in kinds_of_schema(path, node) {
                        self.kinds.insert(
                            kind,
                            Known { shape: shape.clone(), namespaced: None, served: true, deprecated: false },
                        );
                    }
                }
            }
        }
        match self.kinds.len() - before {
            0 => Err(wrong(
                "no CustomResourceDefinition and no JSON Schema named like deployment-apps-v1.json in it"
                    .to_owned(),
            )),
            added => Ok(added),
        }
    }

    /// Adds the kinds of a CustomResourceDefinition.
    pub fn add_crd(&mut self, object: &Object<'_>) {
        for CrdKind { kind, shape, namespaced, served, deprecated } in kinds_of(object) {
            self.kinds.insert(kind, Known { shape, namespaced: Some(namespaced), served, deprecated });
        }
    }

    /// The shape of a kind.
    pub fn find(&self, kind: &GroupVersionKind) -> Option<&Shape> {
        // Files of kubeconform's layout are in lower case.
        let lower = || GroupVersionKind { kind: kind.kind.to_lowercase(), ..kind.clone() };
        let first = || GroupVersionKind { group: first_part(&kind.group), ..lower() };
        let known =
            self.kinds.get(kind).or_else(|| self.kinds.get(&lower())).or_else(|| self.kinds.get(&first()));
        known.map(|known| &known.shape).or_else(|| bundled::find(kind))
    }

    /// Whether objects of a kind have a namespace, where that is known.
    pub fn is_namespaced(&self, group: &str, kind: &str) -> Option<bool> {
        let own = self.kinds.iter().find(|(known, _)| known.group == group && known.kind == kind);
        own.and_then(|(_, known)| known.namespaced).or_else(|| bundled::scope_of(group, kind))
    }

    /// The versions of a kind that are known, without those that are not served.
    pub fn versions_of(&self, group: &str, kind: &str) -> Vec<String> {
        let own =
            self.kinds.iter().filter(|(known, is)| known.group == group && known.kind == kind && is.served);
        let mut versions: Vec<String> = own.map(|(known, _)| known.version.clone()).collect();
        versions.extend(bundled::versions_of(group, kind).into_iter().map(str::to_owned));
        versions.sort_unstable();
        versions.dedup();
        versions
    }

    /// Whether a CustomResourceDefinition calls this version deprecated.
    pub fn is_deprecated(&self, kind: &GroupVersionKind) -> bool {
        self.kinds.get(kind).is_some_and(|known| known.deprecated)
    }

    /// Whether a CustomResourceDefinition knows this version and does not serve it.
    pub fn is_unserved(&self, kind: &GroupVersionKind) -> bool {
        self.kinds.get(kind).is_some_and(|known| !known.served)
    }

    /// Whether a group is Kubernetes' own.
    pub fn is_core_group(&self, group: &str) -> bool {
        bundled::has_group(group)
    }
}

fn first_part(group: &str) -> String {
    group.split('.').next().unwrap_or_default().to_owned()
}

/// Which kinds a JSON Schema is of: as it says, else as its file is called.
fn kinds_of_schema(path: &str, node: &crate::kube::Node) -> Vec<GroupVersionKind> {
    let said = node.get("x-kubernetes-group-version-kind").map_or(&[][..], crate::kube::Node::items);
    let text = |node: &crate::kube::Node, key| node.text_at(&[key]).unwrap_or_default().to_owned();
    let kinds: Vec<_> = said
        .iter()
        .map(|kind| GroupVersionKind {
            group: text(kind, "group"),
            version: text(kind, "version"),
            kind: text(kind, "kind"),
        })
        .collect();
    if !kinds.is_empty() {
        return kinds;
    }
    let mut parts = path.rsplit('/');
    let stem = parts.next().unwrap_or_default().trim_end_matches(".json");
    // The catalogue of CRDs: GROUP/KIND_VERSION.json.
    if let (Some((kind, version)), Some(group)) = (stem.split_once('_'), parts.next()) {
        return vec![GroupVersionKind::new(group, version, &kind.to_lowercase())];
    }
    let words: Vec<&str> = stem.split('-').collect();
    match words[..] {
        [kind, version] => vec![GroupVersionKind::new("", version, &kind.to_lowercase())],
        [kind, ref group @ .., version] if !group.is_empty() => {
            vec![GroupVersionKind::new(&group.join("-"), version, &kind.to_lowercase())]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::Schemas;
    use crate::kube::{Limits, parse};
    use crate::validate::shapes::{GroupVersionKind, check};

    const CRD: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.x.example}
spec:
  group: x.example
  scope: Cluster
  names: {kind: Thing, plural: things}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [size, mode]
            properties:
              size: {type: integer}
              mode: {type: string, enum: [fast, slow], default: fast}
              port: {x-kubernetes-int-or-string: true}
              free: {type: object, x-kubernetes-preserve-unknown-fields: true}
              labels: {type: object, additionalProperties: {type: string}}
  - {name: v1alpha1, served: false}
";

    fn told(schemas: &Schemas, kind: &GroupVersionKind, text: &str) -> Vec<String> {
        let shape = schemas.find(kind).expect("a shape");
        let node = &parse(text, Limits::default()).documents[0];
        check(node, shape).into_iter().map(|found| format!("{}: {}", found.path, found.message)).collect()
    }

    #[test]
    fn definitions_and_schema_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs_err::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs_err::write(path, text).expect("a file");
        };
        let mut schemas = Schemas::new();
        assert!(schemas.add_directory(directory.path()).is_err());
        write("crds/things.yaml", CRD);
        let schema = r##"{"type":"object","additionalProperties":false,"required":["spec"],"properties":{"apiVersion":{"type":["string","null"]},"kind":{"type":"string"},"spec":{"$ref":"#/definitions/s"}},"definitions":{"s":{"properties":{"again":{"$ref":"#/definitions/s"},"on":{"type":"boolean"}},"additionalProperties":false}}}"##;
        write("widget-y-v1.json", schema);
        write("z.example/gadget_v2.json", schema);
        assert_eq!(schemas.add_directory(directory.path()).expect("schemas"), 4);

        // One that is inside itself everywhere ends all the same.
        let many: Vec<String> = (0..200).map(|at| format!(r##""f{at}":{{"$ref":"#"}}"##)).collect();
        write("deep-y-v1.json", &format!(r#"{{"type":"object","properties":{{{}}}}}"#, many.join(",")));
        assert_eq!(Schemas::new().add_directory(directory.path()).expect("schemas"), 5);

        let thing = GroupVersionKind::new("x.example", "v1", "Thing");
        let text = "apiVersion: x.example/v1\nkind: Thing\nmetadata: {name: a}\nspec: {mode: fats, port: 1, free: {a: 1}, labels: {a: 1}, extra: 1}\n";
        insta::assert_snapshot!(told(&schemas, &thing, text).join("\n"), @r#"
    spec.mode: `fats` is none of: fast, slow
    spec.labels.a: a text belongs here, and this is a number (`1`)
    spec.extra: `extra` is no field
    spec: `size` is missing
    "#);
        assert_eq!(schemas.is_namespaced("x.example", "Thing"), Some(false));
        assert!(schemas.is_unserved(&GroupVersionKind::new("x.example", "v1alpha1", "Thing")));
        assert_eq!(schemas.versions_of("x.example", "Thing"), ["v1"]);

        for (group, version, kind) in [("y.example", "v1", "Widget"), ("z.example", "v2", "Gadget")] {
            let kind = GroupVersionKind::new(group, version, kind);
            assert_eq!(told(&schemas, &kind, "spec: {again: {again: {on: 1}}}\n").len(), 1);
        }
    }
}

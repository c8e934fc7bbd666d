//! The table of one Kubernetes release that is part of the program (`shapes/renew.py` makes it).

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::{Arc, OnceLock};

use super::{Fields, GroupVersionKind, Shape};

static PACKED: &[u8] = include_bytes!("../../../shapes/kubernetes.json.gz");

/// As the file has it.
#[derive(serde::Deserialize)]
struct File {
    release: String,
    kinds: Vec<(String, String, String, bool, String)>,
    types: Vec<FileType>,
}

#[derive(serde::Deserialize)]
struct FileType {
    n: String,
    f: BTreeMap<String, String>,
    r: Vec<String>,
}

struct Table {
    release: String,
    kinds: HashMap<GroupVersionKind, (Shape, bool)>,
    types: Vec<Arc<Fields>>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(PACKED).read_to_end(&mut text).expect("the bundled table is gzip");
        let file: File = serde_json::from_slice(&text).expect("the bundled table is JSON of this shape");
        let types = file.types.into_iter().map(|kind| {
            let fields = kind.f.into_iter().map(|(name, written)| (name, shape(&written))).collect();
            Arc::new(Fields { name: kind.n, fields, required: kind.r, open: false })
        });
        let kinds = file.kinds.into_iter().map(|(group, version, kind, namespaced, written)| {
            (GroupVersionKind { group, version, kind }, (shape(&written), namespaced))
        });
        Table { release: file.release, kinds: kinds.collect(), types: types.collect() }
    })
}

fn shape(written: &str) -> Shape {
    match written.split_at_checked(1) {
        Some(("[", inner)) => Shape::List(Arc::new(shape(inner))),
        Some(("{", inner)) => Shape::Map(Arc::new(shape(inner))),
        Some(("#", index)) => index.parse().map_or(Shape::Any, Shape::Bundled),
        Some(("s", _)) => Shape::String(Vec::new()),
        Some(("i", _)) => Shape::Integer,
        Some(("n", _)) => Shape::Number,
        Some(("b", _)) => Shape::Boolean,
        Some(("q", _)) => Shape::IntOrString,
        Some(("Q", _)) => Shape::Quantity,
        Some(("o", _)) => Shape::Map(Arc::new(Shape::Any)),
        _ => Shape::Any,
    }
}

/// The Kubernetes release of the table.
pub fn release() -> &'static str {
    &table().release
}

pub(super) fn fields(index: usize) -> Option<&'static Arc<Fields>> {
    table().types.get(index)
}

/// The shape of a kind of that release.
pub(super) fn find(kind: &GroupVersionKind) -> Option<&'static Shape> {
    table().kinds.get(kind).map(|(shape, _)| shape)
}

/// Whether a kind of that release has a namespace; none where it is not one of them.
pub fn scope_of(group: &str, kind: &str) -> Option<bool> {
    static SCOPES: OnceLock<HashMap<(String, String), bool>> = OnceLock::new();
    SCOPES
        .get_or_init(|| {
            let kinds = table().kinds.iter();
            kinds.map(|(kind, (_, scope))| ((kind.group.clone(), kind.kind.clone()), *scope)).collect()
        })
        .get(&(group.to_owned(), kind.to_owned()))
        .copied()
}

/// The versions of a kind in that release; empty where it is not one of them.
pub(super) fn versions_of(group: &str, kind: &str) -> Vec<&'static str> {
    let kinds = table().kinds.keys().filter(|known| known.group == group && known.kind == kind);
    let mut versions: Vec<_> = kinds.map(|known| known.version.as_str()).collect();
    versions.sort_unstable();
    versions
}

/// Whether a group is of that release.
pub(super) fn has_group(group: &str) -> bool {
    table().kinds.keys().any(|known| known.group == group)
}

#[cfg(test)]
mod tests {
    use super::{find, scope_of, table, versions_of};
    use crate::validate::shapes::{GroupVersionKind, Shape};

    #[test]
    fn the_table_is_whole() {
        let table = table();
        assert!(table.kinds.len() > 80 && table.types.len() > 400);
        let every = table.types.iter().flat_map(|fields| fields.fields.values());
        for mut shape in every.chain(table.kinds.values().map(|(shape, _)| shape)) {
            while let Shape::List(inner) | Shape::Map(inner) = shape {
                shape = inner;
            }
            if let Shape::Bundled(index) = shape {
                assert!(*index < table.types.len());
            }
        }
        assert!(find(&GroupVersionKind::new("apps", "v1", "Deployment")).is_some());
        assert_eq!(scope_of("", "Namespace"), Some(false));
        assert_eq!(scope_of("apps", "Deployment"), Some(true));
        assert_eq!(scope_of("x.example", "X"), None);
        assert_eq!(versions_of("batch", "CronJob"), ["v1"]);
    }
}

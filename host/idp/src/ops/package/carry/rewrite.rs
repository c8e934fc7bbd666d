//! Packages built again: every image, package and chart in them is named where it is now.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use idp_oci::digest::Digest;
use idp_oci::pipeline::Gathered;
use idp_oci::sink::DirectorySink;
use idp_oci::source::{Content, FileEntry, Source, Tree};
use idp_package::build::{Facts, Package};
use idp_package::config::{CONFIG_TYPE, Config, MAX_CONFIG};
use idp_package::describe;
use idp_package::kube::{LARGEST_TEXT, Scan, images};
use idp_package::resolve::Rewrite;

use super::super::super::Error;
use super::super::images::files_of;
use super::super::subject::pipeline as failed;
use super::Entry;

/// What becomes of packages.
#[derive(Debug)]
pub(super) struct Again<'a> {
    rewrites: &'a [Rewrite],
    /// Manifests that are other ones now.
    digests: BTreeMap<Digest, Digest>,
    /// Where they were.
    repositories: BTreeSet<String>,
    /// What could not be rewritten.
    pub(super) left: Vec<String>,
}

impl<'a> Again<'a> {
    pub(super) fn new(rewrites: &'a [Rewrite]) -> Self {
        Self { rewrites, digests: BTreeMap::new(), repositories: BTreeSet::new(), left: Vec::new() }
    }

    /// Told what an entry became.
    pub(super) fn replaced(&mut self, entry: &Entry, now: &Digest) {
        if entry.digest != *now {
            self.digests.insert(entry.digest.clone(), now.clone());
            let plain = entry.reference.split('@').next().unwrap_or_default();
            let last = plain.rfind('/').unwrap_or(0);
            let end = plain[last..].find(':').map_or(plain.len(), |colon| last + colon);
            self.repositories.insert(plain[..end].to_owned());
        }
    }

    /// Whether something is under the name of a package that is another one now; asked of `repository@digest` and of cosign's tags.
    pub(super) fn is_about_replaced(&self, reference: &str) -> bool {
        let plain = reference.split(['@']).next().unwrap_or(reference);
        let tag = plain.rsplit(':').next().unwrap_or_default();
        let by_tag = self.digests.keys().any(|digest| tag.starts_with(&digest.referrers_tag()));
        by_tag || (reference.contains('@') && self.repositories.contains(plain))
    }

    /// The same package with the new names in it.
    pub(super) async fn build(&mut self, gathered: Gathered) -> Result<Box<dyn Source>, Error> {
        let root = gathered.root().clone();
        let Some(blob) = describe::telling(&root).filter(|blob| blob.media_type == CONFIG_TYPE) else {
            self.left.push(format!("{}: not built by idp, taken as it is", gathered.source));
            return Ok(Box::new(gathered));
        };
        let config = gathered.bytes(blob, MAX_CONFIG).await.map_err(failed)?;
        let mut config = Config::parse(&config).map_err(|error| Error::Unfit(error.to_string()))?;
        let io = |error| Error::Io { what: "unpacking a package".to_owned(), error };
        let kept = tempfile::tempdir().map_err(io)?;
        let directory = kept.path().join("content");
        gathered.save(Box::new(DirectorySink::new(&directory))).await.map_err(failed)?;
        let tree = Tree::of(&directory)?;
        let name = config.package.metadata.name.clone();
        let tree = self.files(&name, &tree)?;
        self.metadata(&mut config);
        let annotated = describe::Description::of(&root, None).map_err(Error::Unfit)?;
        let facts = Facts {
            created: annotated.created.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default(),
            source: annotated.source,
            revision: annotated.revision,
            images: std::mem::take(&mut config.images),
        };
        let package = Package::again(config, tree)?;
        let source = package.into_source(facts)?;
        // Its files go with the directory, so it is made now.
        let gathered = Gathered::of(source, &super::super::subject::selection()).await.map_err(failed)?;
        Ok(Box::new(gathered))
    }

    fn to(&self, text: &str) -> Option<String> {
        let longest = |rewrite: &&Rewrite| {
            text.strip_prefix(&rewrite.from)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
        };
        let rewrite = self.rewrites.iter().filter(longest).max_by_key(|rewrite| rewrite.from.len())?;
        Some(format!("{}{}", rewrite.to, &text[rewrite.from.len()..]))
    }

    /// The files with other names in them; those that name nothing are as they were.
    fn files(&mut self, package: &str, tree: &Tree) -> Result<Tree, Error> {
        let files = files_of(tree);
        let scan = Scan::new(&files, None);
        let mut edits: BTreeMap<String, BTreeSet<(u32, String, String)>> = BTreeMap::new();
        for image in images(&scan) {
            let Some(to) = image.reference.as_deref().and_then(|reference| self.to(reference)) else {
                continue;
            };
            edits.entry(image.file).or_default().insert((image.line, image.text, to));
        }
        let mut out = Vec::new();
        for (name, file) in tree.files() {
            let bytes = file.bytes(LARGEST_TEXT).ok().filter(|_| is_text(name));
            let text = bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
            let entry = match text {
                None => file.clone(),
                Some(text) => {
                    let (now, lost) = self.text(&text, edits.get(name));
                    self.left.extend(lost.into_iter().map(|what| format!("{package}: {name}: {what}")));
                    FileEntry {
                        size: now.len() as u64,
                        content: Content::Bytes(Bytes::from(now)),
                        executable: file.executable,
                    }
                }
            };
            out.push((name.to_owned(), entry));
        }
        Ok(Tree::of_files(package, out)?)
    }

    /// A text with its edits, and what it did not have where it should be.
    fn text(&self, text: &str, edits: Option<&BTreeSet<(u32, String, String)>>) -> (String, Vec<String>) {
        let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        let mut lost = Vec::new();
        for (line, from, to) in edits.into_iter().flatten() {
            let at = usize::try_from(*line).unwrap_or_default().saturating_sub(1);
            if let Some(found) = lines.get_mut(at).filter(|line| line.contains(from.as_str())) {
                *found = found.replacen(from.as_str(), to, 1);
            } else if !parts(&mut lines, at, from, to) {
                // Not even in parts: `repository: a/b` and `tag: 1`.
                lost.push(format!("line {line}: {from}"));
            }
        }
        let mut text = lines.concat();
        for rewrite in self.rewrites {
            text = text.replace(&format!("oci://{}", rewrite.from), &format!("oci://{}", rewrite.to));
        }
        (text, lost)
    }

    /// Dependencies and the lock, in what is not content.
    fn metadata(&self, config: &mut Config) {
        for dependency in &mut config.package.spec.dependencies {
            if let Some(repository) = &mut dependency.repository
                && let Some(to) = repository.strip_prefix("oci://").and_then(|place| self.to(place))
            {
                *repository = format!("oci://{to}");
            }
        }
        for image in &mut config.images {
            if let Some(to) = self.to(&image.reference) {
                image.reference = to;
            }
        }
        if let Some(lock) = &mut config.lock {
            self.value(lock);
        }
    }

    fn value(&self, value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) => {
                if let Some(to) = text.strip_prefix("oci://").and_then(|place| self.to(place)) {
                    *text = format!("oci://{to}");
                } else if let Some(to) = self.to(text) {
                    *text = to;
                } else if let Some(now) =
                    text.parse().ok().and_then(|digest: Digest| self.digests.get(&digest))
                {
                    *text = now.to_string();
                }
            }
            serde_json::Value::Array(list) => list.iter_mut().for_each(|value| self.value(value)),
            serde_json::Value::Object(map) => map.values_mut().for_each(|value| self.value(value)),
            _ => {}
        }
    }
}

fn is_text(name: &str) -> bool {
    [".yaml", ".yml", ".json", ".tpl", ".txt"].iter().any(|ending| name.ends_with(ending))
}

/// A repository that stands alone within a few lines, its tag elsewhere.
fn parts(lines: &mut [String], at: usize, from: &str, to: &str) -> bool {
    let repository = |text: &str| {
        let plain = text.split('@').next().unwrap_or(text);
        let last = plain.rfind('/').unwrap_or(0);
        plain[last..].find(':').map_or(plain.to_owned(), |colon| plain[..last + colon].to_owned())
    };
    let (from, to) = (repository(from), repository(to));
    let end = lines.len().min(at + 6);
    for line in &mut lines[at.saturating_sub(5).min(end)..end] {
        let value =
            line.trim_end().rsplit([' ', '"', '\'']).find(|word| !word.is_empty()).unwrap_or_default();
        if value == from {
            *line = line.replacen(&from, &to, 1);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use idp_package::resolve::Rewrite;

    use super::{Again, parts};

    #[test]
    fn names_are_rewritten_where_they_stand() {
        let rewrite = |from: &str, to: &str| Rewrite { from: from.to_owned(), to: to.to_owned() };
        let rewrites = [
            rewrite("docker.io/library/redis", "r.local:5000/m/library/redis"),
            rewrite("docker.io/library", "r.local:5000/other"),
        ];
        let again = Again::new(&rewrites);
        assert_eq!(again.to("docker.io/library/redis:7").as_deref(), Some("r.local:5000/m/library/redis:7"));
        assert_eq!(
            again.to("docker.io/library/redis-cli:7").as_deref(),
            Some("r.local:5000/other/redis-cli:7")
        );
        assert_eq!(again.to("quay.io/x"), None);
        let edits = [(2, "redis:7".to_owned(), "r.local:5000/m/library/redis:7".to_owned())].into();
        let (text, lost) =
            again.text("a:\n  image: redis:7 # redis:7\nurl: oci://docker.io/library/redis\n", Some(&edits));
        assert_eq!(
            text,
            "a:\n  image: r.local:5000/m/library/redis:7 # redis:7\nurl: oci://r.local:5000/m/library/redis\n"
        );
        assert!(lost.is_empty());
        let mut lines =
            ["image:\n".to_owned(), "  repository: docker.io/a/b\n".to_owned(), "  tag: \"1\"\n".to_owned()];
        assert!(parts(&mut lines, 2, "docker.io/a/b:1", "r.local/a/b:1"));
        assert_eq!(lines[1], "  repository: r.local/a/b\n");
    }
}

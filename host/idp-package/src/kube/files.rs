//! The files of a package as a sorted map, wherever they come from. Content is read when it is asked for, never past a bound.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// A text file that is larger is not read; a rule tells.
pub const LARGEST_TEXT: u64 = 10 * 1024 * 1024;

/// More files than this are no package.
const MOST_FILES: usize = 100_000;

/// One regular file.
#[derive(Debug, Clone)]
pub struct File {
    /// In bytes.
    pub size: u64,
    /// Whether any x bit is set.
    pub executable: bool,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Bytes),
    Disk(PathBuf),
}

impl File {
    /// A file whose content is in memory, as from an unpacked layer.
    pub fn bytes(content: impl Into<Bytes>, executable: bool) -> Self {
        let content = content.into();
        Self { size: content.len() as u64, executable, content: Content::Bytes(content) }
    }

    /// A file on disk that is read when it is asked for.
    pub fn disk(path: impl Into<PathBuf>, size: u64, executable: bool) -> Self {
        Self { size, executable, content: Content::Disk(path.into()) }
    }

    /// Its content, where that is not larger than `most`.
    ///
    /// # Errors
    /// It is larger, or it cannot be read.
    pub fn read(&self, most: u64) -> Result<Bytes, ReadError> {
        if self.size > most {
            return Err(ReadError::TooLarge { size: self.size, most });
        }
        match &self.content {
            Content::Bytes(bytes) => Ok(bytes.clone()),
            Content::Disk(path) => {
                let file = fs_err::File::open(path).map_err(|error| ReadError::Io(error.to_string()))?;
                let mut bytes = Vec::new();
                // It may have grown since it was listed.
                file.take(most + 1)
                    .read_to_end(&mut bytes)
                    .map_err(|error| ReadError::Io(error.to_string()))?;
                if bytes.len() as u64 > most {
                    return Err(ReadError::TooLarge { size: bytes.len() as u64, most });
                }
                Ok(bytes.into())
            }
        }
    }
}

/// Why a file was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is larger than what is read.
    #[error("{size} bytes; at most {most} are read")]
    TooLarge {
        /// In bytes.
        size: u64,
        /// In bytes.
        most: u64,
    },
    /// The system's own words.
    #[error("{0}")]
    Io(String),
}

/// A package's files: path with forward slashes from the content's root, to what is there. Directories are implied.
#[derive(Debug, Clone, Default)]
pub struct Files(BTreeMap<String, File>);

impl Files {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, in place of one of the same path.
    pub fn insert(&mut self, path: impl Into<String>, file: File) {
        self.0.insert(path.into(), file);
    }

    /// All files below a directory that `.idpignore` does not exclude; `.git` is never one.
    /// A symbolic link counts as what it leads to, unless that is outside the directory.
    ///
    /// # Errors
    /// A directory cannot be listed, a name is not UTF-8, or there are too many files.
    pub fn from_directory(directory: &Path) -> std::io::Result<Self> {
        let root = fs_err::canonicalize(directory)?;
        let mut files = Self::new();
        let walk = ignore::WalkBuilder::new(&root)
            .standard_filters(false)
            .add_custom_ignore_filename(".idpignore")
            .follow_links(true)
            .filter_entry(|entry| entry.file_name() != ".git")
            .build();
        for entry in walk {
            let entry = entry.map_err(std::io::Error::other)?;
            if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                continue;
            }
            let path = entry.path();
            if !fs_err::canonicalize(path)?.starts_with(&root) {
                continue;
            }
            let relative = path.strip_prefix(&root).map_err(std::io::Error::other)?;
            let name = relative.to_str().ok_or_else(|| {
                std::io::Error::other(format!("{}: the name is not UTF-8", relative.display()))
            })?;
            let metadata = fs_err::metadata(path)?;
            if files.0.len() == MOST_FILES {
                return Err(std::io::Error::other(format!(
                    "more than {MOST_FILES} files; this is no package"
                )));
            }
            files.insert(
                name.replace(std::path::MAIN_SEPARATOR, "/"),
                File::disk(path, metadata.len(), is_executable(&metadata)),
            );
        }
        Ok(files)
    }

    /// One file.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.0.get(path)
    }

    /// All of them, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &File)> {
        self.0.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any file lies below this directory; `.` and the empty path are the root.
    pub fn has_directory(&self, path: &str) -> bool {
        let path = clean(path);
        path.is_empty() && !self.is_empty() || self.below(&path).next().is_some()
    }

    /// The files below a directory, by path.
    pub fn below<'a>(&'a self, directory: &str) -> impl Iterator<Item = (&'a str, &'a File)> {
        let directory = clean(directory);
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        self.0
            .range(prefix.clone()..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, file)| (path.as_str(), file))
    }
}

impl FromIterator<(String, File)> for Files {
    fn from_iter<I: IntoIterator<Item = (String, File)>>(files: I) -> Self {
        Self(files.into_iter().collect())
    }
}

#[cfg(unix)]
fn is_executable(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &std::fs::Metadata) -> bool {
    false
}

/// A path without `.` and trailing slashes; the root is empty.
pub(crate) fn clean(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

/// The directory a file lies in; the root is empty.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The last part of a path.
pub(crate) fn base(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, base)| base)
}

/// `relative` seen from a directory, with `..` resolved; none where it leads out of the package.
pub(crate) fn join(directory: &str, relative: &str) -> Option<String> {
    if relative.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::{File, Files, ReadError, join};

    #[test]
    fn paths_stay_inside() {
        assert_eq!(join("a/b", "../c").as_deref(), Some("a/c"));
        assert_eq!(join("a", "..").as_deref(), Some(""));
        assert_eq!(join("", "./x//y").as_deref(), Some("x/y"));
        assert_eq!(join("a", "../../c"), None);
        assert_eq!(join("a", "/c"), None);
    }

    #[test]
    fn directories_are_implied() {
        let files: Files = ["a/b", "a-b", "c/d/e"]
            .map(|path| (path.to_owned(), File::bytes("", false)))
            .into_iter()
            .collect();
        assert!(files.has_directory("a") && files.has_directory("./c/d/") && files.has_directory("."));
        assert!(!files.has_directory("a-b") && !files.has_directory("c/d/e"));
        assert_eq!(files.below("a").map(|(path, _)| path).collect::<Vec<_>>(), ["a/b"]);
    }

    #[test]
    fn a_directory_is_listed_without_what_leads_out_of_it() {
        let outside = tempfile::tempdir().expect("a directory");
        let inside = outside.path().join("package");
        fs_err::create_dir_all(inside.join(".git")).expect("a directory");
        fs_err::create_dir_all(inside.join("x")).expect("a directory");
        for (name, text) in [("package/x/a.yaml", "a"), ("secret", "s"), ("package/.git/HEAD", "h")] {
            fs_err::write(outside.path().join(name), text).expect("a file");
        }
        fs_err::write(inside.join(".idpignore"), "*.bak\n").expect("a file");
        fs_err::write(inside.join("x/a.bak"), "b").expect("a file");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("../secret", inside.join("out")).expect("a link");
            std::os::unix::fs::symlink("x/a.yaml", inside.join("in")).expect("a link");
        }
        let files = Files::from_directory(&inside).expect("a listing");
        let names: Vec<_> = files.iter().map(|(path, _)| path).collect();
        assert_eq!(names, [".idpignore", "in", "x/a.yaml"]);
        let file = files.get("x/a.yaml").expect("the file");
        assert_eq!(file.read(1).expect("its content"), "a");
        assert_eq!(file.read(0), Err(ReadError::TooLarge { size: 1, most: 0 }));
    }
}

//! Fuzz targets: one function for each parser of bytes that others wrote. `tests/fuzz` runs them with coverage (`cargo xtask fuzz`); the
//! test below replays the kept corpus, where every input that once broke something lies, for everybody.
//!
//! In: any bytes. Out: nothing, or a panic when something does not hold. Inside of the crate because most parsers are nobody else's
//! business; compiled for tests and with the feature `fuzzing` only.

mod answers;
mod archives;
mod content;
mod recipe;
mod text;
mod unpack;

/// Takes any bytes, and panics when something does not hold.
pub type Target = fn(&[u8]);

/// What is fuzzed, by name: the name of its corpus as well.
pub const TARGETS: &[(&str, Target)] = &[
    ("challenge", text::challenge),
    ("reference", text::reference),
    ("headers", text::headers),
    ("location", text::location),
    ("error", text::error),
    ("manifest", content::manifest),
    ("tar", content::tar),
    ("layout", content::layout),
    ("archive", archives::archive),
    ("daemon", archives::daemon),
    ("directory", unpack::directory),
    ("pull", answers::pull),
    ("push", answers::push),
];

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::TARGETS;

    /// Every input that is kept, past crashes among them, without coverage and on any toolchain.
    #[test]
    fn the_corpus_holds() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus");
        let folders = |path: &Path| -> BTreeSet<String> {
            let entries =
                std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
        };
        let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(folders(&corpus), names, "one folder for each target");
        for (name, target) in TARGETS {
            let folder = corpus.join(name);
            let files = folders(&folder);
            assert!(files.len() >= 3, "{name}: a corpus");
            for file in files {
                let input = std::fs::read(folder.join(&file)).expect("readable");
                let outcome = std::panic::catch_unwind(|| target(&input));
                assert!(outcome.is_ok(), "cargo xtask fuzz {name} tests/fuzz/corpus/{name}/{file}");
            }
        }
    }
}

//! A registry's store is killed at random moments under concurrent pushes, mounts and deletions, again and again; after each
//! start everything that was acknowledged is there, byte for byte, and a check finds nothing.
//!
//! The process that is killed is this test binary once more: with a directory in its environment, the test below is the
//! child. It says what it is about to do and what was acknowledged, a line each.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use crate::digest::Digest;
use crate::media;
use crate::name::{Repository, Tag, Target};
use crate::store::collect::GcOptions;
use crate::store::fs::FsStore;
use crate::store::fsck::FsckOptions;
use crate::store::{Page, StorageSettings, Store as _, StoredManifest};

const DIRECTORY: &str = "IDP_TEST_CRASH_DIRECTORY";
const SEED: &str = "IDP_TEST_CRASH_SEED";
/// Whether the child collects garbage meanwhile, without end.
const COLLECT: &str = "IDP_TEST_CRASH_COLLECT";
/// How long a blob is kept there that no manifest names: longer than a push takes here, shorter than the test.
const GRACE: Duration = Duration::from_secs(1);
const ROUNDS: &str = "IDP_TEST_CRASH_ROUNDS";
const WORKERS: usize = 6;
const BLOBS: usize = 8;
const MANIFESTS: usize = 6;
const TAGS: usize = 4;

/// Enough of chance for this.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit
    }
}

/// Content is the same for all workers, so that they need, bring and drop the same files.
fn blob(index: usize) -> Bytes {
    let mut chance = Chance(index as u64);
    let size = [10, 40_000, 3, 200_000, 5_000, 33_000, 70, 90_000][index];
    (0..size).map(|_| u8::try_from(chance.below(256)).unwrap_or(0)).collect()
}

fn named(index: usize) -> [usize; 2] {
    [index % BLOBS, (index + 3) % BLOBS]
}

fn manifest(index: usize) -> StoredManifest {
    let [config, layer] = named(index).map(|index| Digest::of(&blob(index)));
    // One of them is a file.
    let padding = "x".repeat(if index == 2 { 100_000 } else { index });
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"a/b","digest":"{config}","size":1}},"layers":[{{"mediaType":"c/d","digest":"{layer}","size":1}}],"annotations":{{"x":"{padding}"}}}}"#,
        media::OCI_MANIFEST,
    );
    let digest = Digest::of(text.as_bytes());
    StoredManifest { media_type: media::OCI_MANIFEST.to_owned(), digest, bytes: text.into() }
}

fn repository(worker: usize) -> Repository {
    format!("team/worker-{worker}").parse().expect("a repository")
}

fn tag(index: usize) -> Tag {
    format!("v{index}").parse().expect("a tag")
}

/// What a worker's repository holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    blobs: BTreeSet<usize>,
    manifests: BTreeSet<usize>,
    tags: BTreeMap<usize, usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Push(usize),
    Mount(usize),
    DeleteBlob(usize),
    Put(usize, usize),
    DeleteManifest(usize),
    DeleteTag(usize),
}

impl Step {
    fn to_line(self, worker: usize) -> String {
        let (kind, a, b) = match self {
            Self::Push(a) => (0, a, 0),
            Self::Mount(a) => (1, a, 0),
            Self::DeleteBlob(a) => (2, a, 0),
            Self::Put(a, b) => (3, a, b),
            Self::DeleteManifest(a) => (4, a, 0),
            Self::DeleteTag(a) => (5, a, 0),
        };
        format!("{worker} {kind} {a} {b}")
    }

    fn of_line(line: &str) -> Option<(usize, Self)> {
        let numbers: Vec<usize> = line.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [worker, kind, a, b] = numbers[..] else { return None };
        let step = match kind {
            0 => Self::Push(a),
            1 => Self::Mount(a),
            2 => Self::DeleteBlob(a),
            3 => Self::Put(a, b),
            4 => Self::DeleteManifest(a),
            5 => Self::DeleteTag(a),
            _ => return None,
        };
        Some((worker, step))
    }

    /// What it does to a repository, if it comes to anything.
    fn apply(self, state: &mut State) {
        match self {
            Self::Push(blob) | Self::Mount(blob) => {
                state.blobs.insert(blob);
            }
            Self::DeleteBlob(blob) => {
                state.blobs.remove(&blob);
            }
            Self::Put(manifest, tag) => {
                state.manifests.insert(manifest);
                state.tags.insert(tag, manifest);
            }
            Self::DeleteManifest(manifest) => {
                state.manifests.remove(&manifest);
                state.tags.retain(|_, named| *named != manifest);
            }
            Self::DeleteTag(tag) => {
                state.tags.remove(&tag);
            }
        }
    }
}

/// Does it; whether it came to anything.
async fn take(store: &FsStore, worker: usize, step: Step) -> bool {
    let repository = repository(worker);
    match step {
        Step::Push(index) => {
            let bytes = blob(index);
            let digest = Digest::of(&bytes);
            let mut staged = store.stage().await.expect("staged");
            for chunk in bytes.chunks(50_000) {
                staged.append(vec![bytes.slice_ref(chunk)]).await.expect("appended");
            }
            staged.commit(&repository, &digest).await.expect("committed");
            true
        }
        Step::Mount(index) => store.mount(&repository, &Digest::of(&blob(index)), None).await.expect("asked"),
        Step::DeleteBlob(index) => {
            store.delete_blob(&repository, &Digest::of(&blob(index))).await.expect("asked")
        }
        Step::Put(index, name) => {
            store.put_manifest(&repository, &manifest(index), None, &[tag(name)]).await.expect("put");
            true
        }
        Step::DeleteManifest(index) => {
            store.delete_manifest(&repository, &manifest(index).digest).await.expect("asked")
        }
        Step::DeleteTag(name) => store.delete_tag(&repository, &tag(name)).await.expect("asked"),
    }
}

fn choose(chance: &mut Chance, state: &State) -> Step {
    match chance.below(10) {
        0..=2 => Step::Push(chance.below(BLOBS)),
        3 => Step::Mount(chance.below(BLOBS)),
        4 | 5 => {
            // As a client does: not what a manifest names.
            let index = chance.below(BLOBS);
            if state.manifests.iter().any(|manifest| named(*manifest).contains(&index)) {
                Step::Push(index)
            } else {
                Step::DeleteBlob(index)
            }
        }
        6 | 7 => {
            let index = chance.below(MANIFESTS);
            match named(index).into_iter().find(|blob| !state.blobs.contains(blob)) {
                Some(lacking) => Step::Push(lacking),
                None => Step::Put(index, chance.below(TAGS)),
            }
        }
        8 => Step::DeleteManifest(chance.below(MANIFESTS)),
        _ => Step::DeleteTag(chance.below(TAGS)),
    }
}

/// What is really there, whole.
async fn look(store: &FsStore, worker: usize) -> State {
    let repository = repository(worker);
    let mut state = State::default();
    for index in 0..BLOBS {
        let expected = blob(index);
        if let Some(found) = store.blob(&repository, &Digest::of(&expected)).await.expect("asked") {
            let chunks: Vec<Bytes> = found.read_from(0).try_collect().await.expect("read");
            assert_eq!(chunks.concat(), expected, "blob {index} of {repository}");
            state.blobs.insert(index);
        }
    }
    for index in 0..MANIFESTS {
        let expected = manifest(index);
        let target = Target::Digest(expected.digest.clone());
        if let Some(found) = store.manifest(&repository, &target).await.expect("asked") {
            assert_eq!(found, expected);
            state.manifests.insert(index);
        }
    }
    for name in 0..TAGS {
        if let Some(found) = store.manifest(&repository, &Target::Tag(tag(name))).await.expect("asked") {
            let index = (0..MANIFESTS).find(|index| manifest(*index) == found).expect("one of ours");
            state.tags.insert(name, index);
        }
    }
    let all = Page { after: None, limit: 100 };
    let listed = store.tags(&repository, &all).await.expect("listed").map_or(0, |tags| tags.entries.len());
    assert_eq!(listed, state.tags.len(), "every tag of {repository} names something");
    state
}

fn say(line: &str) {
    // One write a line: a kill leaves whole lines.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

fn settings() -> StorageSettings {
    StorageSettings { grace_seconds: Some(GRACE.as_secs()), ..StorageSettings::default() }
}

async fn collect_for_ever(store: Arc<FsStore>) {
    loop {
        store.collect(GcOptions::default()).await.expect("collected");
    }
}

async fn work_until_killed(root: &Path, seed: u64) {
    let store = Arc::new(FsStore::open_with(root, settings()).await.expect("opened"));
    let collects = std::env::var_os(COLLECT).is_some();
    if collects {
        tokio::spawn(collect_for_ever(Arc::clone(&store)));
    }
    let workers: Vec<tokio::task::JoinHandle<()>> = (0..WORKERS)
        .map(|worker| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut state = look(&store, worker).await;
                let mut chance = Chance(seed.wrapping_mul(31).wrapping_add(worker as u64));
                loop {
                    let mut step = choose(&mut chance, &state);
                    if let (true, Step::Put(index, _)) = (collects, step) {
                        // As the server does: what it says is there lives long enough to be named.
                        let named = named(index);
                        let digests = named.map(|index| Digest::of(&blob(index)));
                        let missing =
                            store.missing_blobs(&repository(worker), &digests).await.expect("asked");
                        if let Some(at) = digests.iter().position(|digest| missing.contains(digest)) {
                            step = Step::Push(named[at]);
                        }
                    }
                    say(&format!("\n> {}\n", step.to_line(worker)));
                    let done = take(&store, worker, step).await;
                    if done {
                        step.apply(&mut state);
                    }
                    say(&format!("\n{} {}\n", if done { "=" } else { "-" }, step.to_line(worker)));
                }
            })
        })
        .collect();
    let (ended, ..) = futures_util::future::select_all(workers).await;
    ended.expect("nothing fails in a child");
}

/// Starts a child, kills it after a while, and says what it did: of each worker what was acknowledged, and what was not.
fn kill_one(root: &Path, seed: u64, after: Duration, collects: bool) -> Vec<(Vec<Step>, Option<Step>)> {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    if collects {
        command.env(COLLECT, "1");
    }
    let mut child = command
        .args(["--exact", "store::crash::nothing_acknowledged_is_lost", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, root)
        .env(SEED, seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let output = child.stdout.take().expect("piped");
    let (begun, is_begun) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut did = vec![(Vec::new(), None); WORKERS];
        for line in std::io::BufReader::new(output).lines().map_while(Result::ok) {
            let Some((sign, rest)) = line.split_at_checked(2) else { continue };
            let Some((worker, step)) = Step::of_line(rest) else { continue };
            let of_worker: &mut (Vec<Step>, Option<Step>) = &mut did[worker];
            match sign {
                "> " => of_worker.1 = Some(step),
                "= " => {
                    let _ = begun.send(());
                    of_worker.1 = None;
                    of_worker.0.push(step);
                }
                "- " => of_worker.1 = None,
                _ => {}
            }
        }
        did
    });
    // However slow the machine is: from the first thing that was acknowledged on.
    is_begun.recv_timeout(Duration::from_secs(60)).expect("the child works; its output says why not");
    std::thread::sleep(after);
    // Ended by itself: the test in it failed.
    assert!(child.try_wait().expect("asked").is_none(), "the child failed; its output says why");
    child.kill().expect("killed");
    child.wait().expect("waited");
    reader.join().expect("read")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

#[test]
fn nothing_acknowledged_is_lost() {
    if let Some(root) = std::env::var_os(DIRECTORY) {
        let seed = std::env::var(SEED).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        runtime().block_on(work_until_killed(Path::new(&root), seed));
        return;
    }
    again_and_again(false);
}

#[test]
fn nothing_that_is_needed_is_collected() {
    again_and_again(true);
}

fn again_and_again(collects: bool) {
    let rounds: u64 = std::env::var(ROUNDS).ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let directory = tempfile::tempdir().expect("a directory");
    let mut chance = Chance(rounds);
    let mut states = vec![State::default(); WORKERS];
    let (mut acknowledged, mut collected) = (0, 0);
    let mut round = 0;
    // Where the disk is slow, little grows older than the grace in these rounds: then there are more of them.
    while round < rounds || (collects && collected == 0 && round < 6 * rounds) {
        let after = Duration::from_millis(chance.below(if collects { 1_000 } else { 400 }) as u64);
        let did = kill_one(directory.path(), round, after, collects);
        runtime().block_on(async {
            let store = FsStore::open_with(directory.path(), settings()).await.expect("opened after a crash");
            let report = store.fsck(FsckOptions { fast: false, repair: false }).await.expect("checked");
            assert_eq!(report.findings, [], "round {round}");
            assert_eq!(report.incomplete.len(), 0, "round {round}: {:?}", report.incomplete);
            // One file for everyone who was cut off between its file and its row, or between its row and its file.
            let most = 2 * WORKERS + if collects { WORKERS * BLOBS } else { 0 };
            assert!(report.unused <= most as u64, "round {round}: {} unused", report.unused);
            for (worker, (done, begun)) in did.into_iter().enumerate() {
                let mut expected = states[worker].clone();
                done.iter().for_each(|step| step.apply(&mut expected));
                acknowledged += done.len();
                let found = look(&store, worker).await;
                let mut or = expected.clone();
                if let Some(step) = begun {
                    step.apply(&mut or);
                }
                let fits = |expected: &State| {
                    if !collects {
                        return found == *expected;
                    }
                    // Blobs that no manifest names may have been collected; that the others are there is said above.
                    let same = (&found.manifests, &found.tags) == (&expected.manifests, &expected.tags);
                    same && found.blobs.is_subset(&expected.blobs)
                };
                assert!(
                    fits(&expected) || fits(&or),
                    "round {round}, worker {worker}, at {begun:?}:\nfound    {found:?}\nexpected {expected:?}"
                );
                collected += expected.blobs.difference(&found.blobs).count();
                states[worker] = found;
            }
            store.fsck(FsckOptions { fast: true, repair: true }).await.expect("collected");
        });
        round += 1;
    }
    assert!(acknowledged > 0, "some work was done");
    if collects {
        assert!(collected > 0, "something was collected");
        runtime().block_on(async {
            let store = FsStore::open(directory.path()).await.expect("opened");
            let options = GcOptions { grace: Some(Duration::ZERO), ..GcOptions::default() };
            store.collect(options).await.expect("collected");
            let report = store.fsck(FsckOptions { fast: false, repair: false }).await.expect("checked");
            assert_eq!((report.findings.len(), report.incomplete.len(), report.unused), (0, 0, 0));
            for (worker, state) in states.iter().enumerate() {
                let needed: BTreeSet<usize> = state.manifests.iter().copied().flat_map(named).collect();
                let found = look(&store, worker).await;
                assert_eq!(
                    (&found.blobs, &found.manifests),
                    (&needed, &state.manifests),
                    "what is named, and nothing else"
                );
            }
        });
    }
}

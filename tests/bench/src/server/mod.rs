//! The embedded registry beside distribution, both on the disk of this machine (S2 to S6). distribution syncs every file that it renames,
//! ours syncs before it acknowledges: durability is equal, or better on our side.
//!
//! In: the binary. Out: tables. The load comes from this process over kept connections, so that no client is measured.

mod client;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use idp_test_support::peers::{Distribution, Options, Server};
use tempfile::TempDir;

use crate::MIB;
use crate::table::Table;
use client::{Connection, digest, index, small_image};

/// Small images of each client.
const IMAGES: usize = 60;
const CLIENTS: usize = 10;
const ROUNDS: usize = 3;
const REPOSITORIES: usize = 10_000;
const TAGS: usize = 100_000;

/// Our registry in a process of its own.
struct Ours {
    child: Child,
    address: String,
    started: Duration,
    _root: TempDir,
}

impl Ours {
    fn start(command: impl Fn() -> Command) -> Result<Self> {
        Self::with(command, &[])
    }

    fn with(command: impl Fn() -> Command, arguments: &[&str]) -> Result<Self> {
        let root = tempfile::tempdir()?;
        let mut command = command();
        command
            .args(["registry", "serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--root"])
            .arg(root.path().join("registry"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let began = Instant::now();
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        let address = line.trim().to_owned();
        ensure!(!address.is_empty(), "the registry did not start");
        Ok(Self { child, address, started: began.elapsed(), _root: root })
    }

    fn memory(&self) -> u64 {
        resident(self.child.id())
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

async fn theirs() -> Result<Server> {
    Ok(Distribution::v3(Options::default()).await?)
}

/// All tables.
pub(crate) async fn tables(command: impl Fn() -> Command + Copy) -> Result<Vec<Table>> {
    Ok(vec![pushes(command).await?, pulls(command).await?, lists(command).await?, idle(command).await?])
}

/// How long each of many small pushes took.
async fn load(address: &str, name: &str, clients: usize, images: usize) -> Result<(Duration, Vec<Duration>)> {
    let began = Instant::now();
    let mut tasks = Vec::new();
    for client in 0..clients {
        let (address, name) = (address.to_owned(), format!("{name}/client{client}"));
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(&address).await?;
            let mut took = Vec::new();
            for number in 0..images {
                let (layer, config, manifest) = small_image(&format!("{name} {number}"));
                let started = Instant::now();
                connection.blob(&name, &layer).await?;
                connection.blob(&name, &config).await?;
                connection.manifest(&name, &format!("t{number}"), &manifest).await?;
                took.push(started.elapsed());
            }
            Ok::<_, anyhow::Error>(took)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    all.sort_unstable();
    Ok((began.elapsed(), all))
}

fn part(sorted: &[Duration], hundredths: usize) -> Duration {
    sorted
        .get((sorted.len() * hundredths / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1000.0)
}

/// S2 and S6.
async fn pushes(command: impl Fn() -> Command + Copy) -> Result<Table> {
    let mut table = Table::new(
        "Registry: small images of unique content (a 4 KiB layer, a config, a manifest; 5 requests each), durable (S2, S6)",
        &["load", "server", "images a second", "median ms", "p99 ms", "ratio"],
    );
    for (clients, images, load_name) in
        [(1, IMAGES, "1 client"), (CLIENTS, IMAGES, "10 clients"), (100, 1, "100 images at once")]
    {
        let mut best: BTreeMap<&str, (f64, Duration, Duration)> = BTreeMap::new();
        for round in 0..ROUNDS {
            let (ours, theirs) = (Ours::start(command)?, theirs().await?);
            for (server, address) in [("idp", ours.address.as_str()), ("distribution", theirs.address())] {
                let (all, each) = load(address, &format!("round{round}"), clients, images).await?;
                let rate = each.len() as f64 / all.as_secs_f64();
                let entry = (rate, part(&each, 50), part(&each, 99));
                if best.get(server).is_none_or(|best| best.0 < rate) {
                    best.insert(server, entry);
                }
            }
        }
        let base = best.get("distribution").map_or(1.0, |best| best.0);
        for (server, (rate, median, p99)) in best.iter().rev() {
            table.row(vec![
                load_name.to_owned(),
                (*server).to_owned(),
                format!("{rate:.0}"),
                milliseconds(*median),
                milliseconds(*p99),
                format!("{:.1}", rate / base),
            ]);
        }
    }
    Ok(table)
}

/// S3.
async fn pulls(command: impl Fn() -> Command + Copy) -> Result<Table> {
    let mut table = Table::new(
        "Registry: pull of one blob again and again over one connection (S3)",
        &["blob", "server", "MiB a second", "ratio"],
    );
    let (ours, theirs) = (Ours::start(command)?, theirs().await?);
    for (size, times) in [(MIB, 300), (10 * MIB, 60), (100 * MIB, 8)] {
        let blob = noise(usize::try_from(size)?);
        let mut best: BTreeMap<&str, f64> = BTreeMap::new();
        for (_, address) in [("idp", ours.address.as_str()), ("distribution", theirs.address())] {
            Connection::open(address).await?.blob("bench/pull", &blob).await?;
        }
        for _ in 0..ROUNDS {
            for (server, address) in [("idp", ours.address.as_str()), ("distribution", theirs.address())] {
                let mut connection = Connection::open(address).await?;
                let began = Instant::now();
                for _ in 0..times {
                    let got = connection.swallow(&format!("/v2/bench/pull/blobs/{}", digest(&blob))).await?;
                    ensure!(got == size, "{server} sent {got} of {size} bytes");
                }
                let rate = (size * times) as f64 / MIB as f64 / began.elapsed().as_secs_f64();
                let entry = best.entry(server).or_default();
                *entry = entry.max(rate);
            }
        }
        let base = best["distribution"];
        for (server, rate) in best.iter().rev() {
            table.row(vec![
                format!("{} MiB", size / MIB),
                (*server).to_owned(),
                format!("{rate:.0}"),
                format!("{:.2}", rate / base),
            ]);
        }
    }
    Ok(table)
}

fn noise(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}

/// S4. distribution's side is made in its directory, as its own pushes make it: over HTTP it would take minutes.
async fn lists(command: impl Fn() -> Command + Copy) -> Result<Table> {
    let mut table = Table::new("Registry: lists (S4)", &["page", "server", "ms, best of 5", "ratio"]);
    let (ours, theirs) = (Ours::with(command, &[])?, theirs().await?);
    let (name, manifest) = ("many/tags", index(""));
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let address = ours.address.clone();
            let manifest = manifest.clone();
            tokio::spawn(async move {
                let mut connection = Connection::open(&address).await?;
                for number in (worker..REPOSITORIES).step_by(8) {
                    connection.manifest(&format!("catalog/r{number:05}"), "1", &manifest).await?;
                }
                // Several tags with a manifest: 1.2 has `?tag=`.
                for first in (worker * 50..TAGS).step_by(8 * 50) {
                    connection.tags(name, &manifest, first..(first + 50).min(TAGS)).await?;
                }
                Ok::<_, anyhow::Error>(())
            })
        })
        .collect();
    for worker in workers {
        worker.await??;
    }
    seed(theirs.dir(), name, &manifest)?;
    let pages = [
        ("catalogue, 10 000 repositories: first 100", "/v2/_catalog?n=100".to_owned()),
        ("catalogue: 100 from the middle", "/v2/_catalog?n=100&last=catalog/r05000".to_owned()),
        ("100 000 tags: first 100", format!("/v2/{name}/tags/list?n=100")),
        ("100 000 tags: 100 from the middle", format!("/v2/{name}/tags/list?n=100&last=t050000")),
    ];
    for (what, path) in pages {
        let mut best: BTreeMap<&str, Duration> = BTreeMap::new();
        for _ in 0..5 {
            for (server, address) in [("idp", ours.address.as_str()), ("distribution", theirs.address())] {
                let mut connection = Connection::open(address).await?;
                let began = Instant::now();
                let got = connection.swallow(&path).await?;
                ensure!(got > 500, "{server}: {path}: {got} bytes are no page of 100");
                let took = began.elapsed();
                let entry = best.entry(server).or_insert(took);
                *entry = (*entry).min(took);
            }
        }
        let base = best["distribution"].as_secs_f64();
        for (server, took) in best.iter().rev() {
            table.row(vec![
                what.to_owned(),
                (*server).to_owned(),
                format!("{:.2}", took.as_secs_f64() * 1000.0),
                format!("{:.0}", base / took.as_secs_f64()),
            ]);
        }
    }
    Ok(table)
}

/// distribution's directory with the same repositories and tags.
fn seed(dir: &Path, name: &str, manifest: &Bytes) -> Result<()> {
    let (root, digest) = (dir.join("data/docker/registry/v2"), digest(manifest));
    let hex = digest.trim_start_matches("sha256:");
    let content = root.join("blobs/sha256").join(&hex[..2]).join(hex);
    fs::create_dir_all(&content)?;
    fs::write(content.join("data"), manifest)?;
    let link = |folder: &Path| -> Result<()> {
        fs::create_dir_all(folder)?;
        Ok(fs::write(folder.join("link"), &digest)?)
    };
    for number in 0..REPOSITORIES {
        let repository = root.join(format!("repositories/catalog/r{number:05}"));
        fs::create_dir_all(repository.join("_layers"))?;
        link(&repository.join("_manifests/revisions/sha256").join(hex))?;
        link(&repository.join("_manifests/tags/1/current"))?;
    }
    let repository = root.join("repositories").join(name);
    fs::create_dir_all(repository.join("_layers"))?;
    link(&repository.join("_manifests/revisions/sha256").join(hex))?;
    for number in 0..TAGS {
        link(&repository.join(format!("_manifests/tags/t{number:06}/current")))?;
    }
    Ok(())
}

/// S5.
async fn idle(command: impl Fn() -> Command + Copy) -> Result<Table> {
    let mut table = Table::new(
        "Registry: to be there (S5)",
        &[
            "server",
            "start to first address, ms (best of 10)",
            "idle memory, MiB",
            "after 600 small pushes and a 1 GiB blob, MiB",
        ],
    );
    let mut started = Duration::MAX;
    for _ in 0..10 {
        started = started.min(Ours::start(command)?.started);
    }
    let ours = Ours::start(command)?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    Connection::open(&ours.address).await?.swallow("/v2/").await?;
    let idle = ours.memory();
    load(&ours.address, "idle", CLIENTS, IMAGES).await?;
    let blob = noise(64 << 20);
    Connection::open(&ours.address).await?.repeated("idle/large", &blob, 16).await?;
    table.row(vec![
        "idp".to_owned(),
        milliseconds(started),
        crate::mebibytes(idle),
        crate::mebibytes(ours.memory()),
    ]);
    Ok(table)
}

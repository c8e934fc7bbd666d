//! What `idp` costs beside its peers. `cargo xtask bench` builds the release binary and runs this; it prints Markdown tables.
//!
//! Pairs run A/B/A/B in one process on one machine, so that ratios mean something where absolute times do not. Every load is
//! bounded. `docs/performance.md` holds the last tables and how to repeat them.

mod again;
mod daemon;
mod data;
mod measure;
mod memory;
mod package;
mod server;
mod table;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use idp_test_support::images::TestImage;
use idp_test_support::peers::{self, Distribution, Dockerd, Options, Server};
use measure::{Series, run};
use table::Table;

/// Runs of each side of a short comparison.
const PAIRS: usize = 21;

const MIB: u64 = 1024 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let idp =
        env::var_os("IDP_BINARY").map(PathBuf::from).context("IDP_BINARY names the binary to measure")?;
    let bench = Bench { idp, scratch: tempfile::tempdir()? };
    let mut out = std::io::stdout().lock();
    let wanted: Vec<String> = env::args().skip(1).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let mut print = |tables: Vec<Table>| -> Result<()> {
        for table in tables {
            std::io::Write::write_fmt(&mut out, format_args!("{table}\n"))?;
        }
        Ok(())
    };
    if wants("start") {
        print(vec![bench.start()?, bench.size()?])?;
    }
    if wants("small") {
        print(vec![bench.small_push().await?, bench.provider().await?])?;
    }
    if wants("push") {
        print(bench.pushes().await?)?;
    }
    if wants("pull") {
        print(bench.pulls().await?)?;
    }
    if wants("again") {
        print(vec![bench.resume().await?, bench.copies().await?])?;
    }
    if wants("daemon") {
        print(vec![bench.daemon_pushes().await?, bench.daemon().await?])?;
    }
    if wants("registry") {
        print(server::tables(|| bench.idp()).await?)?;
    }
    if wants("package") {
        print(vec![package::table(|| bench.idp(), bench.scratch.path()).await?])?;
    }
    // The one that shows something also without a release build.
    if wants("memory") {
        print(vec![memory::table(|| bench.idp(), bench.scratch.path()).await?])?;
    }
    Ok(())
}

struct Bench {
    idp: PathBuf,
    scratch: tempfile::TempDir,
}

impl Bench {
    /// The binary with an empty home: nothing of this machine's user is read or written.
    fn idp(&self) -> Command {
        let mut command = Command::new(&self.idp);
        command.env_clear().env("HOME", self.scratch.path()).env("PATH", "/usr/bin:/bin");
        command
    }

    fn crane(&self) -> Result<Command> {
        let mut command = Command::new(peers::tool("crane")?);
        command.env("DOCKER_CONFIG", self.scratch.path());
        Ok(command)
    }

    /// `--version`: what every command pays before it starts.
    fn start(&self) -> Result<Table> {
        let (mut ours, mut theirs) = (Series::default(), Series::default());
        for _ in 0..PAIRS {
            ours.push(run(self.idp().arg("--version"))?);
            theirs.push(run(self.crane()?.arg("version"))?);
        }
        let mut table = Table::new("Start: `--version` (P2)", TIMES);
        times(&mut table, "idp --version", &ours, &theirs);
        times(&mut table, "crane version", &theirs, &theirs);
        Ok(table)
    }

    /// A 20 KiB artifact, whole process, into repositories that do not exist yet (C3, and the requests of C1).
    async fn small_push(&self) -> Result<Table> {
        let layout = self.scratch.path().join("small");
        TestImage::big(20 * 1024)?.write_layout(&layout, Some("1"))?;
        let registry = Distribution::v3(Options::default()).await?;
        let (mut ours, mut theirs) = (Series::default(), Series::default());
        let (mut our_requests, mut their_requests) = (0, 0);
        // Which registry this is, is found out once a day, not once a push.
        run(&mut self.push(&layout, registry.address(), "warm", &[]))?;
        for round in 0..PAIRS {
            let before = count(&registry).await?;
            ours.push(run(&mut self.push(&layout, registry.address(), &format!("ours/{round}"), &[]))?);
            let between = count(&registry).await?;
            let reference = format!("{}/theirs/{round}:1", registry.address());
            theirs.push(run(self.crane()?.arg("push").arg(&layout).arg(reference))?);
            (our_requests, their_requests) = (between - before, count(&registry).await? - between);
        }
        let mut table =
            Table::new("Push of a 20 KiB artifact to distribution 3.1.1, whole process (C3)", REQUESTS);
        requests(&mut table, "idp push", our_requests, &ours, &theirs);
        requests(&mut table, "crane push", their_requests, &theirs, &theirs);
        Ok(table)
    }

    /// The same push through the provider and without one (P1).
    async fn provider(&self) -> Result<Table> {
        let layout = self.scratch.path().join("small");
        let auth = Some(("someone".to_owned(), "a password".to_owned()));
        let mut table = Table::new("What the provider costs in a whole push of 20 KiB (P1)", TIMES);
        for (what, options) in
            [("open", Options::default()), ("htpasswd", Options { auth, ..Options::default() })]
        {
            let login: &[&str] =
                if options.auth.is_some() { &["-u", "someone", "-p", "a password"] } else { &[] };
            let registry = Distribution::v3(options).await?;
            let (mut with, mut without) = (Series::default(), Series::default());
            run(&mut self.push(&layout, registry.address(), "warm", login))?;
            for round in 0..PAIRS {
                with.push(run(&mut self.push(&layout, registry.address(), &format!("with/{round}"), login))?);
                let native = [login, &["--provider", "none"]].concat();
                let repository = format!("without/{round}");
                without.push(run(&mut self.push(&layout, registry.address(), &repository, &native))?);
            }
            times(&mut table, &format!("{what}: provider `generic`"), &with, &without);
            times(&mut table, &format!("{what}: `--provider none`"), &without, &without);
        }
        Ok(table)
    }

    /// What is on the disk.
    fn size(&self) -> Result<Table> {
        let mut table = Table::new("Size of the stripped binary", &["binary", "MiB"]);
        let crane = peers::tool("crane")?;
        for (name, path) in [("idp", self.idp.as_path()), ("crane", crane.as_path())] {
            table.row(vec![name.to_owned(), mebibytes(std::fs::metadata(path)?.len())]);
        }
        Ok(table)
    }

    /// A fresh 1 GiB layer from the Docker daemon (the memory of C7): two sizes, so that flat can be seen.
    async fn daemon(&self) -> Result<Table> {
        let header =
            &["push from the daemon", "peak memory MiB", "wall s", "CPU s", "memory of crane's image"];
        let mut table = Table::new("Peak memory of a push from the Docker daemon", &header[..4]);
        let daemon = match Dockerd::start().await {
            Ok(daemon) => daemon,
            Err(error) => {
                table.row(vec![
                    format!("not measured: {error}"),
                    String::new(),
                    String::new(),
                    String::new(),
                ]);
                return Ok(table);
            }
        };
        for size in [64 * MIB, 1024 * MIB] {
            let registry = Distribution::v3(Options::default()).await?;
            let name = format!("bench:{}", size / MIB);
            let archive = self.scratch.path().join("image.tar");
            TestImage::big(size)?.write_docker_classic(&archive, &[&name])?;
            let load = Command::new("docker")
                .args(["-H", &daemon.host(), "load", "-q", "-i"])
                .arg(&archive)
                .output()?;
            if !load.status.success() {
                bail!("docker load: {}", String::from_utf8_lossy(&load.stderr));
            }
            std::fs::remove_file(&archive)?;
            let mut series = Series::default();
            let mut command = self.idp();
            command.env("DOCKER_HOST", daemon.host()).arg("push").arg(&name);
            series.push(run(command.arg(format!("{}/bench/app:1", registry.address())))?);
            table.row(vec![
                format!("idp, 1 layer of {} MiB", size / MIB),
                mebibytes(series.peak()),
                format!("{:.1}", series.median().as_secs_f64()),
                format!("{:.1}", series.cpu().as_secs_f64()),
            ]);
            if let Ok(skopeo) = peers::tool("skopeo") {
                let mut theirs = Series::default();
                let mut command = Command::new(skopeo);
                command.args(["copy", "--insecure-policy", "--dest-tls-verify=false", "--src-daemon-host"]);
                command.arg(daemon.host()).arg(format!("docker-daemon:{name}"));
                theirs.push(run(command.arg(format!("docker://{}/bench/skopeo:1", registry.address())))?);
                table.row(vec![
                    format!("skopeo, 1 layer of {} MiB", size / MIB),
                    mebibytes(theirs.peak()),
                    format!("{:.1}", theirs.median().as_secs_f64()),
                    format!("{:.1}", theirs.cpu().as_secs_f64()),
                ]);
            }
        }
        Ok(table)
    }

    fn push(&self, layout: &Path, address: &str, repository: &str, more: &[&str]) -> Command {
        let mut command = self.idp();
        command
            .arg("push")
            .arg(format!("oci:{}", layout.display()))
            .arg(format!("{address}/{repository}:1"))
            .args(more);
        command
    }
}

const TIMES: &[&str] = &["command", "min ms", "median ms", "ratio of medians", "CPU ms", "peak MiB"];
const REQUESTS: &[&str] =
    &["command", "requests", "min ms", "median ms", "ratio of medians", "CPU ms", "peak MiB"];

fn cells(what: &str, series: &Series, base: &Series) -> Vec<String> {
    vec![
        what.to_owned(),
        milliseconds(series.min()),
        milliseconds(series.median()),
        format!("{:.2}", series.median().as_secs_f64() / base.median().as_secs_f64()),
        milliseconds(series.cpu()),
        mebibytes(series.peak()),
    ]
}

fn times(table: &mut Table, what: &str, series: &Series, base: &Series) {
    table.row(cells(what, series, base));
}

fn requests(table: &mut Table, what: &str, requests: usize, series: &Series, base: &Series) {
    let mut cells = cells(what, series, base);
    cells.insert(1, requests.to_string());
    table.row(cells);
}

async fn count(registry: &Server) -> Result<usize> {
    Ok(registry.requests().await.context("distribution writes an access log")?.len())
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1000.0)
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / MIB as f64)
}

//! The data plane: how many requests a push takes, and how fast content moves up and down (C1, C2, C4, C5, C9 of performance.md).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use idp_test_support::images::TestImage;
use idp_test_support::peers::{self, Distribution, Options, Server};

use super::measure::{Series, run};
use super::table::Table;
use super::{Bench, MIB, REQUESTS, count, requests};

/// Runs of each side where a run takes seconds.
const ROUNDS: usize = 5;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Idp,
    Crane,
    Skopeo,
    Oras,
}

impl Tool {
    const ALL: [Self; 4] = [Self::Idp, Self::Crane, Self::Skopeo, Self::Oras];

    fn name(self) -> &'static str {
        match self {
            Self::Idp => "idp",
            Self::Crane => "crane",
            Self::Skopeo => "skopeo",
            Self::Oras => "oras",
        }
    }
}

/// One of several images that are pushed.
struct Load {
    what: &'static str,
    layers: Vec<(u64, u64)>,
    rounds: usize,
}

impl Bench {
    /// Fresh pushes and pushes of what is there: requests, time, processor, memory.
    pub(crate) async fn pushes(&self) -> Result<Vec<Table>> {
        let loads = [
            Load { what: "1 layer of 20 KiB (C1)", layers: vec![(1, 20 * 1024)], rounds: 11 },
            Load {
                what: "60 layers of 64 KiB (C4)",
                layers: (0..60).map(|seed| (seed, 64 * 1024)).collect(),
                rounds: ROUNDS,
            },
            Load {
                what: "12 layers of 40 MiB (C5)",
                layers: (0..12).map(|seed| (seed + 100, 40 * MIB)).collect(),
                rounds: ROUNDS,
            },
            Load { what: "1 layer of 1 GiB (C5)", layers: vec![(200, 1024 * MIB)], rounds: 3 },
        ];
        let mut tables = Vec::new();
        for load in loads {
            let layout = self.layout(&load.layers)?;
            let registry = Distribution::v3(Options::default()).await?;
            self.warm(&registry).await?;
            let mut series: Vec<(Tool, Series, usize)> = Vec::new();
            for tool in Tool::ALL {
                series.push((tool, Series::default(), 0));
            }
            for round in 0..load.rounds {
                for (tool, series, seen) in &mut series {
                    let before = count(&registry).await?;
                    let repository = format!("{}/{round}", tool.name());
                    let Some(mut command) = self.push_by(*tool, &layout, &registry, &repository, "1")? else {
                        continue;
                    };
                    series.push(run(&mut command)?);
                    *seen = count(&registry).await? - before;
                }
                self.wipe(&registry)?;
            }
            tables.push(table(&format!("Fresh push, {}", load.what), &series));
            std::fs::remove_dir_all(&layout)?;
        }
        tables.push(self.again().await?);
        Ok(tables)
    }

    /// The same 60 layers under a new tag, by a machine that brought them and by one that did not (C2).
    async fn again(&self) -> Result<Table> {
        let layout = self.layout(&(0..60).map(|seed| (seed, 64 * 1024)).collect::<Vec<_>>())?;
        let registry = Distribution::v3(Options::default()).await?;
        self.warm(&registry).await?;
        let mut table = Table::new("Push of 60 layers that are there, under a new tag (C2)", REQUESTS);
        let mut crane = Series::default();
        let mut rows = Vec::new();
        for tool in [Tool::Crane, Tool::Skopeo, Tool::Oras, Tool::Idp] {
            let Some(mut first) = self.push_by(tool, &layout, &registry, tool.name(), "0")? else { continue };
            run(&mut first)?;
            let (mut series, mut seen) = (Series::default(), 0);
            for round in 1..=11 {
                let before = count(&registry).await?;
                let tag = round.to_string();
                let Some(mut command) = self.push_by(tool, &layout, &registry, tool.name(), &tag)? else {
                    continue;
                };
                series.push(run(&mut command)?);
                seen = count(&registry).await? - before;
            }
            if tool == Tool::Crane {
                crane = series.clone();
            }
            rows.push((tool.name().to_owned(), series, seen));
        }
        // A machine that has never been there: its home is empty but for which registry this is.
        let stranger = tempfile::tempdir()?;
        let (mut series, mut seen) = (Series::default(), 0);
        for round in 100..111 {
            let state = stranger.path().join(".idpbuilder/state/hosts");
            for seen in std::fs::read_dir(&state).into_iter().flatten().flatten() {
                if seen.path().extension().is_some_and(|extension| extension == "seen") {
                    std::fs::remove_file(seen.path())?;
                }
            }
            let mut command = self.idp();
            command.env("HOME", stranger.path()).arg("push").arg(format!("oci:{}", layout.display()));
            command.arg(format!("{}/idp:{round}", registry.address()));
            let before = count(&registry).await?;
            let one = run(&mut command)?;
            // The first finds out which registry this is, and what it does.
            if round > 100 {
                series.push(one);
                seen = count(&registry).await? - before;
            }
        }
        rows.push(("idp, on another machine".to_owned(), series, seen));
        for (name, series, seen) in &rows {
            requests(&mut table, name, *seen, series, &crane);
        }
        Ok(table)
    }

    /// Pulls to a layout on disk.
    pub(crate) async fn pulls(&self) -> Result<Vec<Table>> {
        let mut tables = Vec::new();
        for (what, layers) in [
            ("12 layers of 40 MiB", (0..12).map(|seed| (seed + 100, 40 * MIB)).collect::<Vec<_>>()),
            ("1 layer of 1 GiB", vec![(200, 1024 * MIB)]),
        ] {
            let layout = self.layout(&layers)?;
            let registry = Distribution::v3(Options::default()).await?;
            self.warm(&registry).await?;
            let Some(mut push) = self.push_by(Tool::Crane, &layout, &registry, "app", "1")? else {
                bail!("crane pushes what is pulled")
            };
            run(&mut push)?;
            std::fs::remove_dir_all(&layout)?;
            let mut series: Vec<(Tool, Series, usize)> =
                Tool::ALL.into_iter().map(|tool| (tool, Series::default(), 0)).collect();
            for _ in 0..ROUNDS {
                for (tool, series, seen) in &mut series {
                    let target = self.scratch.path().join("pulled");
                    let before = count(&registry).await?;
                    let Some(mut command) = self.pull_by(*tool, &registry, "app", &target)? else { continue };
                    series.push(run(&mut command)?);
                    *seen = count(&registry).await? - before;
                    std::fs::remove_dir_all(&target)?;
                }
            }
            tables.push(table(&format!("Pull to a layout, {what} (C9)"), &series));
        }
        Ok(tables)
    }

    /// A layout of noise, which gzip does not make smaller.
    fn layout(&self, layers: &[(u64, u64)]) -> Result<PathBuf> {
        let layout = self.scratch.path().join("load");
        TestImage::of_layers(layers)?.write_layout(&layout, Some("1"))?;
        Ok(layout)
    }

    /// Which registry this is, is found out once a day, not once a push.
    pub(crate) async fn warm(&self, registry: &Server) -> Result<()> {
        let small = self.scratch.path().join("warm");
        if !small.exists() {
            TestImage::layers(8)?.write_layout(&small, Some("1"))?;
        }
        run(&mut self.push(&small, registry.address(), "warm", &[]))?;
        Ok(())
    }

    /// Content that a round brought must not help the next one.
    fn wipe(&self, registry: &Server) -> Result<()> {
        let store = registry.dir().join("data");
        for name in ["docker/registry/v2/blobs", "docker/registry/v2/repositories"] {
            let path = store.join(name);
            if path.exists() {
                std::fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    /// `None` for a tool that is not here.
    fn push_by(
        &self,
        tool: Tool,
        layout: &Path,
        registry: &Server,
        repository: &str,
        tag: &str,
    ) -> Result<Option<Command>> {
        let reference = format!("{}/{repository}:{tag}", registry.address());
        Ok(Some(match tool {
            Tool::Idp => {
                let mut command = self.idp();
                command.arg("push").arg(format!("oci:{}", layout.display())).arg(reference);
                command
            }
            Tool::Crane => {
                let mut command = self.crane()?;
                command.arg("push").arg(layout).arg(reference);
                command
            }
            Tool::Skopeo => {
                let Ok(skopeo) = peers::tool("skopeo") else { return Ok(None) };
                let mut command = Command::new(skopeo);
                command.args(["copy", "--insecure-policy", "--dest-tls-verify=false"]);
                command.arg(format!("oci:{}:1", layout.display())).arg(format!("docker://{reference}"));
                command
            }
            Tool::Oras => {
                let Ok(oras) = peers::tool("oras") else { return Ok(None) };
                let mut command = Command::new(oras);
                command.env("DOCKER_CONFIG", self.scratch.path());
                command.args(["cp", "--no-tty", "--from-oci-layout", "--to-plain-http"]);
                command.arg(format!("{}:1", layout.display())).arg(reference);
                command
            }
        }))
    }

    fn pull_by(
        &self,
        tool: Tool,
        registry: &Server,
        repository: &str,
        target: &Path,
    ) -> Result<Option<Command>> {
        let reference = format!("{}/{repository}:1", registry.address());
        Ok(Some(match tool {
            Tool::Idp => {
                let mut command = self.idp();
                command.arg("pull").arg(reference).arg(format!("oci:{}", target.display()));
                command
            }
            Tool::Crane => {
                let mut command = self.crane()?;
                command.args(["pull", "--format", "oci"]).arg(reference).arg(target);
                command
            }
            Tool::Skopeo => {
                let Ok(skopeo) = peers::tool("skopeo") else { return Ok(None) };
                let mut command = Command::new(skopeo);
                command.args(["copy", "--insecure-policy", "--src-tls-verify=false"]);
                command.arg(format!("docker://{reference}")).arg(format!("oci:{}:1", target.display()));
                command
            }
            Tool::Oras => {
                let Ok(oras) = peers::tool("oras") else { return Ok(None) };
                let mut command = Command::new(oras);
                command.env("DOCKER_CONFIG", self.scratch.path());
                command.args(["cp", "--no-tty", "--to-oci-layout", "--from-plain-http"]);
                command.arg(reference).arg(format!("{}:1", target.display()));
                command
            }
        }))
    }
}

fn table(title: &str, series: &[(Tool, Series, usize)]) -> Table {
    let mut table = Table::new(title, REQUESTS);
    let crane = series.iter().find(|(tool, ..)| *tool == Tool::Crane).map(|(_, series, _)| series.clone());
    let crane = crane.unwrap_or_default();
    for (tool, series, seen) in series.iter().filter(|(_, series, _)| !series.is_empty()) {
        requests(&mut table, tool.name(), *seen, series, &crane);
    }
    table
}

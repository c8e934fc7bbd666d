//! Packages of many files and of many bytes, to distribution: `idp package push` beside `oras push` and `flux push artifact`.
//!
//! In: the command of `idp`, a directory to work in. Out: a table with time, memory, and whether the same files in another
//! directory, written at another time, gave the same layer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use idp_test_support::peers::{self, Distribution, Options};

use crate::measure::{Series, run};
use crate::table::Table;
use crate::{MIB, mebibytes};

const MANIFEST: &str = "apiVersion: packages.cnoe.io/v1alpha1\nkind: Package\nmetadata: {name: bench, version: 1.0.0}\nspec: {type: manifests, content: {root: content}, images: none}\n";

const MANY_FILES: &str = "10 000 files, 5 MiB";
const MANY_BYTES: &str = "16 files, 1 GiB";

/// Who pushes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Idp,
    Oras,
    Flux,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Idp => "idp package push",
            Self::Oras => "oras push",
            Self::Flux => "flux push artifact",
        }
    }
}

/// Both packages, by everybody who is there.
pub(crate) async fn table(idp: impl Fn() -> Command, scratch: &Path) -> Result<Table> {
    let registry = Distribution::v3(Options::default()).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    let crane = peers::tool("crane").map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut table = Table::new(
        "A package of many files and one of many bytes, pushed to distribution",
        &[
            "package",
            "tool",
            "wall s",
            "CPU s",
            "peak memory MiB",
            "packed MiB",
            "same layer from another directory",
        ],
    );
    for (label, runs) in [(MANY_FILES, 3), (MANY_BYTES, 2)] {
        let make = if label == MANY_FILES { many_files } else { many_bytes };
        let places = [scratch.join("package-a"), scratch.join("elsewhere/package-b")];
        for place in &places {
            fs::create_dir_all(place.join("content"))?;
            fs::write(place.join("idp-package.yaml"), MANIFEST)?;
            make(&place.join("content"))?;
        }
        for tool in [Tool::Idp, Tool::Oras, Tool::Flux] {
            let program = match tool {
                Tool::Idp => None,
                Tool::Oras => Some(peers::tool("oras").map_err(|error| anyhow::anyhow!("{error}"))?),
                // Its module lacks the files that it embeds, so it cannot be built as the other peers are.
                Tool::Flux => match on_path("flux") {
                    Some(program) => Some(program),
                    None => {
                        let mut row = vec![label.to_owned(), tool.name().to_owned(), "not here".to_owned()];
                        row.resize(7, String::new());
                        table.row(row);
                        continue;
                    }
                },
            };
            let mut series = Series::default();
            let mut layers = Vec::new();
            for count in 0..runs.max(2) {
                let place = &places[count % 2];
                // A repository of its own: nothing of it is there.
                let kind = tool.name().split(' ').next().unwrap_or_default();
                let repository = format!("{}/{kind}-{}-{count}/bench", registry.address(), label.len());
                let mut command = command(tool, &idp, program.as_deref(), place, &repository);
                series.push(tokio::task::spawn_blocking(move || run(&mut command)).await??);
                layers.push(layer(&crane, &format!("{repository}:1.0.0"))?);
            }
            table.row(vec![
                label.to_owned(),
                tool.name().to_owned(),
                format!("{:.1}", series.median().as_secs_f64()),
                format!("{:.1}", series.cpu().as_secs_f64()),
                mebibytes(series.peak()),
                mebibytes(layers[0].1),
                if layers[0].0 == layers[1].0 { "yes" } else { "no" }.to_owned(),
            ]);
        }
        for place in &places {
            fs::remove_dir_all(place)?;
        }
    }
    Ok(table)
}

fn command(
    tool: Tool,
    idp: &impl Fn() -> Command,
    program: Option<&Path>,
    place: &Path,
    repository: &str,
) -> Command {
    let mut command = match program {
        None => idp(),
        Some(program) => Command::new(program),
    };
    match tool {
        Tool::Idp => command.args(["package", "push"]).arg(place).arg(repository),
        Tool::Oras => command
            .current_dir(place.join("content"))
            .args(["push", "--plain-http", "--no-tty"])
            .arg(format!("{repository}:1.0.0"))
            .arg("."),
        Tool::Flux => command
            .args([
                "push",
                "artifact",
                &format!("oci://{repository}:1.0.0"),
                "--insecure-registry",
                "--reproducible",
            ])
            .args(["--source=https://git.example/x", "--revision=main@sha1:0", "--path"])
            .arg(place.join("content")),
    };
    command
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|program| program.is_file())
}

/// Digest and size of the first layer.
fn layer(crane: &PathBuf, reference: &str) -> Result<(String, u64)> {
    let output = Command::new(crane).args(["manifest", "--insecure", reference]).output()?;
    ensure!(output.status.success(), "crane: {output:?}");
    let manifest: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let layer = &manifest["layers"][0];
    let digest = layer["digest"].as_str().context("a layer")?;
    Ok((digest.to_owned(), layer["size"].as_u64().context("its size")?))
}

/// As a large platform has them.
fn many_files(directory: &Path) -> Result<()> {
    for number in 0..10_000 {
        let folder = directory.join(format!("part-{:03}", number % 200));
        fs::create_dir_all(&folder)?;
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings-{number}\n  labels:\n    app.kubernetes.io/name: part-{}\ndata:\n  value: \"{}\"\n",
            number % 200,
            "x".repeat(usize::try_from(number % 700)?),
        );
        fs::write(folder.join(format!("settings-{number}.yaml")), text)?;
    }
    Ok(())
}

/// Bytes that do not compress.
fn many_bytes(directory: &Path) -> Result<()> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    for number in 0..16 {
        let mut bytes = Vec::with_capacity(usize::try_from(64 * MIB)?);
        while (bytes.len() as u64) < 64 * MIB {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        fs::write(directory.join(format!("data-{number}.bin")), bytes)?;
    }
    Ok(())
}

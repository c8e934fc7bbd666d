//! Work that was done before: a push that was killed (C8), and a copy of many tags of which none changed (C10).

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use idp_test_support::images::TestImage;
use idp_test_support::peers::{Distribution, Options};

use super::measure::{Series, run};
use super::table::Table;
use super::{Bench, MIB, count, milliseconds};

/// Tags of the repository that is copied.
const TAGS: usize = 500;

impl Bench {
    /// A push that is killed when nine tenths of a large blob are out, and started again in a new process (C8).
    pub(crate) async fn resume(&self) -> Result<Table> {
        const SIZE: u64 = 512 * MIB;
        let layout = self.scratch.path().join("resumed");
        TestImage::of_layers(&[(300, SIZE)])?.write_layout(&layout, Some("1"))?;
        let registry = Distribution::v3(Options::default()).await?;
        self.warm(&registry).await?;
        let push = || {
            let mut command = self.push(&layout, registry.address(), "resumed", &["--output", "json"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            command
        };
        let mut child = push().spawn().context("starting idp")?;
        let stderr = BufReader::new(child.stderr.take().context("piped")?);
        let mut killed_at = 0;
        for line in stderr.lines() {
            let line = line?;
            let Some(position) = number(&line, "\"position\":") else { continue };
            if position >= SIZE / 10 * 9 {
                killed_at = position;
                child.kill()?;
                break;
            }
        }
        child.wait()?;
        if killed_at == 0 {
            bail!("the push was over before it could be killed");
        }
        let output = push().output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            bail!("the second push failed: {said}");
        }
        let from = said.lines().find_map(|line| number(line, "goes on at "));
        let mut table = Table::new(
            "A push of 512 MiB to distribution, killed with kill -9 and started again (C8)",
            &[
                "killed when so many MiB had been given to the connection",
                "went on at MiB",
                "sent again, MiB",
            ],
        );
        let mib = |bytes: u64| format!("{:.1}", to_f64(bytes) / to_f64(MIB));
        let on_at = from.unwrap_or(0);
        table.row(vec![mib(killed_at), mib(on_at), mib(killed_at.saturating_sub(on_at))]);
        std::fs::remove_dir_all(&layout)?;
        Ok(table)
    }

    /// 500 tags that share layers, copied again when nothing changed (C10).
    pub(crate) async fn copies(&self) -> Result<Table> {
        let from = Distribution::v3(Options::default()).await?;
        let to = Distribution::v3(Options::default()).await?;
        self.warm(&from).await?;
        self.warm(&to).await?;
        let layout = self.scratch.path().join("tags");
        TestImage::layers(5)?.write_layout(&layout, Some("1"))?;
        let pushed = format!("{}/many/app", from.address());
        run(&mut self.push(&layout, from.address(), "many/app", &[]))?;
        for tag in 0..TAGS {
            // crane's own way: one write a tag.
            let mut command = self.crane()?;
            run(command.args(["tag", &format!("{pushed}:1"), &format!("t{tag}")]))?;
        }
        let copy = || {
            let mut command = self.idp();
            command.arg("copy").arg(&pushed).arg(format!("{}/many/app", to.address())).arg("--all-tags");
            command
        };
        run(&mut copy())?;
        let (before_from, before_to) = (count(&from).await?, count(&to).await?);
        let mut series = Series::default();
        series.push(run(&mut copy())?);
        let (read, looked) = (count(&from).await? - before_from, count(&to).await? - before_to);
        let header = &["command", "requests at the source", "at the destination", "requests a tag", "ms"];
        let mut table = Table::new(format!("{TAGS} tags copied again, nothing changed (C10)"), header);
        let mut row = |name: &str, read: usize, looked: usize, series: &Series| {
            let each = to_f64((read + looked) as u64) / to_f64(TAGS as u64);
            table.row(vec![
                name.to_owned(),
                read.to_string(),
                looked.to_string(),
                format!("{each:.2}"),
                milliseconds(series.median()),
            ]);
        };
        row("idp copy --all-tags", read, looked, &series);
        let (before_from, before_to) = (count(&from).await?, count(&to).await?);
        let mut theirs = Series::default();
        let mut command = self.crane()?;
        let target = format!("{}/many/app", to.address());
        theirs.push(run(command.args(["copy", "--all-tags", &pushed, &target]))?);
        row(
            "crane copy --all-tags",
            count(&from).await? - before_from,
            count(&to).await? - before_to,
            &theirs,
        );
        Ok(table)
    }
}

/// The number behind a word.
fn number(line: &str, word: &str) -> Option<u64> {
    let rest = line.split_once(word)?.1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn to_f64(number: u64) -> f64 {
    number as f64
}

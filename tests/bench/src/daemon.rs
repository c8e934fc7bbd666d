//! From the Docker daemon: fresh layers of files as systems have them (C6).

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use idp_test_support::peers::{self, Distribution, Dockerd, Options};

use super::measure::{Series, run};
use super::table::Table;
use super::{Bench, MIB, TIMES, times};

/// How much of this machine's own files goes into the image.
const SIZE: u64 = 350 * MIB;

impl Bench {
    /// 350 MiB of real files, pushed by `docker push`, skopeo, `docker save` with crane, and idp.
    pub(crate) async fn daemon_pushes(&self) -> Result<Table> {
        let mut table = Table::new("Push of 350 MiB of real files from the Docker daemon (C6)", TIMES);
        let daemon = match Dockerd::start().await {
            Ok(daemon) => daemon,
            Err(error) => {
                table.row(vec![format!("not measured: {error}")]);
                return Ok(table);
            }
        };
        let docker = |arguments: &[&str]| {
            let mut command = Command::new("docker");
            command.args(["-H", &daemon.host()]).args(arguments);
            command
        };
        // Real files in two layers' worth of one image: a tar of /usr, cut to size and closed.
        let script = format!(
            "set -e; cd /; find usr/lib usr/bin -xdev -type f -size -20M -printf '%s %p\\n' 2>/dev/null | sort -k2 | \
             awk -v most={SIZE} '{{ all += $1; if (all < most) print substr($0, length($1) + 2) }}' | tar --sort=name -cf - -T -"
        );
        let mut tar = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn()?;
        let input = tar.stdout.take().context("piped")?;
        let imported = docker(&["import", "-", "bench:real"]).stdin(input).stdout(Stdio::null()).status()?;
        if !tar.wait()?.success() || !imported.success() {
            bail!("docker import of this machine's files failed");
        }
        let (mut ours, mut theirs, mut skopeos, mut saved) =
            (Series::default(), Series::default(), Series::default(), Series::default());
        for _ in 0..3 {
            // Docker and skopeo remember by registry what they brought there: each push is to one that nobody has met.
            let registry = Distribution::v3(Options::default()).await?;
            let name = format!("{}/bench/docker:1", registry.address());
            run(&mut docker(&["tag", "bench:real", &name]))?;
            theirs.push(run(&mut docker(&["push", "-q", &name]))?);
            run(&mut docker(&["rmi", &name]))?;

            let registry = Distribution::v3(Options::default()).await?;
            let address = registry.address();
            let home = tempfile::tempdir()?;
            let command = || {
                let mut command = self.idp();
                command.env("HOME", home.path()).env("DOCKER_HOST", daemon.host());
                command
            };
            run(command().args(["registry", "detect", address]))?;
            ours.push(run(command().args(["push", "bench:real"]).arg(format!("{address}/bench/idp:1")))?);

            if let Ok(skopeo) = peers::tool("skopeo") {
                let registry = Distribution::v3(Options::default()).await?;
                let mut command = Command::new(skopeo);
                command.env("HOME", home.path()).env("XDG_DATA_HOME", home.path());
                command.args(["copy", "--insecure-policy", "--dest-tls-verify=false", "--src-daemon-host"]);
                command.arg(daemon.host()).arg("docker-daemon:bench:real");
                skopeos.push(run(command.arg(format!("docker://{}/bench/skopeo:1", registry.address())))?);
            }

            let registry = Distribution::v3(Options::default()).await?;
            let crane = peers::tool("crane")?;
            let archive = self.scratch.path().join("saved.tar");
            let script = format!(
                "docker -H {} save -o {archive} bench:real && {} push {archive} {}/bench/crane:1 && rm {archive}",
                daemon.host(),
                crane.display(),
                registry.address(),
                archive = archive.display(),
            );
            saved.push(run(Command::new("sh").args(["-c", &script]))?);
        }
        times(&mut table, "docker push (the daemon's processor time is not in it)", &theirs, &theirs);
        times(&mut table, "skopeo copy", &skopeos, &theirs);
        times(&mut table, "docker save, crane push", &saved, &theirs);
        times(&mut table, "idp push", &ours, &theirs);
        // The same image under a new name: nothing is packed again.
        let registry = Distribution::v3(Options::default()).await?;
        let address = registry.address();
        let mut known = Series::default();
        let home = tempfile::tempdir()?;
        for round in 0..4 {
            let mut command = self.idp();
            command.env("HOME", home.path()).env("DOCKER_HOST", daemon.host());
            let one = run(command.args(["push", "bench:real"]).arg(format!("{address}/idp/known:{round}")))?;
            if round > 0 {
                known.push(one);
            }
        }
        times(&mut table, "idp push, the same layers again", &known, &theirs);
        Ok(table)
    }
}

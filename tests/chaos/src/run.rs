//! One run of the binary, to its end or to ours.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Pid;
use tokio::io::AsyncReadExt as _;

use crate::trace::Trace;
use crate::world::World;

/// Longer than all retries together may take: it hangs.
const PATIENCE: Duration = Duration::from_secs(240);

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; 128 and the signal's number when a signal ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The digest in the one line of stdout.
    pub(crate) fn digest(&self) -> Result<&str> {
        let line = self.stdout.trim();
        line.rsplit_once('@')
            .map(|(_, digest)| digest)
            .with_context(|| format!("no digest on stdout: `{line}`"))
    }
}

/// Runs the binary in a world's home, watched by its front. What must never be seen is noted in the trace.
pub(crate) async fn run(world: &World, arguments: &[String], trace: &Arc<Trace>) -> Result<Ended> {
    let mut command = tokio::process::Command::from(world.sandbox.command(arguments));
    command.env("IDPBUILDER_OCI_CACHE", if trace.cache { "true" } else { "false" });
    command.stdin(Stdio::null()).kill_on_drop(true);
    world.front.traces().add(trace);
    let mut child = command.spawn().context("the binary does not start")?;
    trace.state().pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let reading = async {
        let (mut out, mut err) = (out.context("piped")?, err.context("piped")?);
        tokio::try_join!(out.read_to_end(&mut stdout), err.read_to_end(&mut stderr))?;
        anyhow::Ok(child.wait().await?)
    };
    let status = match tokio::time::timeout(PATIENCE, reading).await {
        Ok(status) => Some(status?),
        Err(_) => {
            trace.violation(format!("it did not end within {} s", PATIENCE.as_secs()));
            let _ = child.kill().await;
            None
        }
    };
    trace.state().pid = None;
    world.front.traces().remove(trace);
    let code = status
        .map_or(-1, |status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let ended = Ended { code, stdout: text(stdout), stderr: text(stderr) };
    judge(world, &ended, trace);
    Ok(ended)
}

/// The exit codes that there may be, no panic, no secret.
fn judge(world: &World, ended: &Ended, trace: &Trace) {
    let (signalled, flipped) = {
        let state = trace.state();
        (state.signalled, state.flipped)
    };
    let signal = trace.killing.map(|killing| killing.signal).filter(|_| signalled);
    let good = match ended.code {
        0 | 4 => true,
        // Bytes that are wrong twice are not asked for a third time.
        1 => flipped >= 2,
        130 => signal == Some(rustix::process::Signal::INT),
        137 => signal == Some(rustix::process::Signal::KILL),
        // Told already.
        -1 => true,
        _ => false,
    };
    if !good {
        let told = ended.stderr.lines().take(6).collect::<Vec<_>>().join(" | ");
        trace.violation(format!("exit code {} ({flipped} bytes flipped): {told}", ended.code));
    }
    if ended.stderr.contains("panicked") || ended.stderr.contains("RUST_BACKTRACE") {
        trace.violation(format!("a panic: {}", ended.stderr));
    }
    if let Some((_, password)) = &world.login
        && (ended.stderr.contains(password) || ended.stdout.contains(password))
    {
        trace.violation("the password is in the output".to_owned());
    }
    if (ended.code == 0) != ended.stdout.contains("@sha256:") {
        trace.violation(format!("exit code {} and this on stdout: `{}`", ended.code, ended.stdout.trim()));
    }
}

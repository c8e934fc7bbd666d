//! WASI for components of toolchains that import it: linked only when imported, and inert. No files, sockets, environment or arguments; clocks and
//! randomness as `ambient` gives them; output goes to the log. What a provider must not have is refused by name.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use tokio::io::AsyncWrite;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, filesystem, random};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi::{Deterministic, HostMonotonicClock, HostWallClock, WasiCtx};

use super::scrub::Scrubber;
use super::state::{LOG_LINE, LogBook, State};
use super::v0_1::idp::registry_provider::log::Level;

const LINKED: [&str; 3] = ["wasi:io/", "wasi:clocks/", "wasi:cli/"];

/// Links what the component imports of WASI; the text of the error says what it must not import.
pub(crate) fn link(linker: &mut Linker<State>, component: &Component) -> Result<(), String> {
    let kind = component.component_type();
    let imports: Vec<String> = kind.imports(component.engine()).map(|(name, _)| name.to_owned()).collect();
    let mut any = false;
    for import in &imports {
        let name = import.split('@').next().unwrap_or_default();
        if name.starts_with("idp:registry-provider/") {
            continue;
        }
        let linked = match name {
            "wasi:random/insecure" => {
                random::insecure::add_to_linker::<State, WasiRandom>(linker, State::random)
            }
            "wasi:random/insecure-seed" => {
                random::insecure_seed::add_to_linker::<State, WasiRandom>(linker, State::random)
            }
            "wasi:filesystem/types" => {
                filesystem::types::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)
            }
            "wasi:filesystem/preopens" => {
                filesystem::preopens::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)
            }
            "wasi:cli/environment" => cli::environment::add_to_linker::<State, WasiCli>(linker, State::cli),
            "wasi:cli/exit" => cli::exit::add_to_linker::<State, WasiCli>(linker, State::cli),
            "wasi:cli/terminal-input" => {
                cli::terminal_input::add_to_linker::<State, WasiCli>(linker, State::cli)
            }
            "wasi:cli/terminal-output" => {
                cli::terminal_output::add_to_linker::<State, WasiCli>(linker, State::cli)
            }
            "wasi:cli/terminal-stdin" => {
                cli::terminal_stdin::add_to_linker::<State, WasiCli>(linker, State::cli)
            }
            "wasi:cli/terminal-stdout" => {
                cli::terminal_stdout::add_to_linker::<State, WasiCli>(linker, State::cli)
            }
            "wasi:cli/terminal-stderr" => {
                cli::terminal_stderr::add_to_linker::<State, WasiCli>(linker, State::cli)
            }
            "wasi:random/random" => Ok(()),
            name if LINKED.iter().any(|prefix| name.starts_with(prefix)) => Ok(()),
            name if name.starts_with("wasi:sockets/") || name.starts_with("wasi:http/") => {
                return Err(format!("it imports {import}; providers use idp:registry-provider/http"));
            }
            _ => return Err(format!("it imports {import}, which providers do not have")),
        };
        linked.map_err(|error| error.to_string())?;
        any = true;
    }
    if any {
        wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// A context that gives nothing away.
pub(crate) fn context(log: &LogBook, scrub: &Scrubber) -> WasiCtx {
    let mut seed = vec![0; 256];
    // Without randomness the guest gets zeroes, which is what it is entitled to.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed);
    WasiCtx::builder()
        .wall_clock(Wall)
        .monotonic_clock(SinceStart(Instant::now()))
        .secure_random(Deterministic::new(seed.clone()))
        .insecure_random(Deterministic::new(seed))
        .insecure_random_seed(0)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .stdout(Output(log.clone(), scrub.clone()))
        .stderr(Output(log.clone(), scrub.clone()))
        .build()
}

struct Wall;

impl HostWallClock for Wall {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

struct SinceStart(Instant);

impl HostMonotonicClock for SinceStart {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Standard output and error: lines of the log, under its caps.
#[derive(Clone)]
struct Output(LogBook, Scrubber);

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let text = self.1.line(&String::from_utf8_lossy(line), LOG_LINE);
            self.0.add(Level::Debug, text).map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

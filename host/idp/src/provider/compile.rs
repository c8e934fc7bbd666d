//! Compiling components. A component of a stranger is compiled in a child process of the same executable, under limits of time, memory and
//! file size: what a compiler does with hostile input costs that child, and nothing else.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::engine::{Backend, compiler};
use super::manifest::{COMPONENT_MAX, Manifest};

/// Hidden command of the binary.
pub const COMMAND: &str = "__compile";

/// Processor seconds.
const CPU_SECONDS: u64 = 60;
/// For a child that waits instead of computing, on a machine that swaps.
const PATIENCE: Duration = Duration::from_secs(180);
/// Bytes of address space.
const ADDRESS_SPACE: u64 = 4 * 1024 * 1024 * 1024;
/// Bytes of the largest file that may be written.
const OUTPUT_MAX: u64 = 256 * 1024 * 1024;

/// Why there is no compiled code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The child could not be started, or its files not be handled.
    #[error("cannot compile the provider: {0}")]
    Io(#[from] std::io::Error),
    /// The compiler said no.
    #[error("the component does not compile: {0}")]
    Refused(String),
    /// A limit ended the child.
    #[error(
        "compiling the component was stopped ({0}): it took more than {CPU_SECONDS} s of processor time, 4 GiB of memory or \
         256 MiB of output"
    )]
    Limits(String),
    /// The caller brought no executable that has the command.
    #[error("this program cannot compile components")]
    NoCompiler,
}

/// Entry of the hidden command: `__compile [--builtin] IN OUT`. Prints one line on failure.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut builtin = false;
    let mut paths: Vec<PathBuf> = Vec::new();
    for argument in arguments {
        if argument == "--builtin" { builtin = true } else { paths.push(argument.into()) }
    }
    let [input, output] = paths.as_slice() else { return ExitCode::from(2) };
    let backend = if builtin { Backend::BUILT_IN } else { Backend::THIRD_PARTY };
    match limit().and_then(|()| compile_file(input, output, backend)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Standard error of the child is a pipe of the parent's.
            let _ = writeln!(std::io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    }
}

/// Limits this process, before anything untrusted is read.
fn limit() -> Result<(), String> {
    let set = |resource, most: u64| {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, limit).map_err(|error| format!("cannot limit the compiler: {error}"))
    };
    set(Resource::Cpu, CPU_SECONDS)?;
    set(Resource::Fsize, OUTPUT_MAX)?;
    set(Resource::Core, 0)?;
    if cfg!(target_os = "linux") { set(Resource::As, ADDRESS_SPACE) } else { Ok(()) }
}

fn compile_file(input: &Path, output: &Path, backend: Backend) -> Result<(), String> {
    let size = std::fs::metadata(input).map_err(|error| error.to_string())?.len();
    if size > COMPONENT_MAX {
        return Err(format!("the component has {size} bytes; the most is {COMPONENT_MAX}"));
    }
    let component = std::fs::read(input).map_err(|error| error.to_string())?;
    Manifest::of_component(&component).map_err(|error| error.to_string())?;
    std::fs::write(output, compile(&component, backend)?).map_err(|error| error.to_string())
}

/// Compiles here. For our own components, and for the child.
fn compile(component: &[u8], backend: Backend) -> Result<Vec<u8>, String> {
    let engine = compiler(backend).map_err(|error| format!("{error:#}"))?;
    engine.precompile_component(component).map_err(|error| format!("{error:#}"))
}

/// Compiles a component in a child process of `executable`.
pub(crate) async fn in_child(
    executable: &Path,
    component: &[u8],
    backend: Backend,
) -> Result<Vec<u8>, CompileError> {
    let directory = tempfile::Builder::new().prefix("idp-compile-").tempdir()?;
    let (input, output) = (directory.path().join("in.wasm"), directory.path().join("out.cwasm"));
    tokio::fs::write(&input, component).await?;
    let mut command = tokio::process::Command::new(executable);
    command.arg(COMMAND);
    if backend == Backend::BUILT_IN {
        command.arg("--builtin");
    }
    let running = command
        .arg(&input)
        .arg(&output)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let child = tokio::time::timeout(PATIENCE, running)
        .await
        .map_err(|_| CompileError::Limits(format!("after {} s", PATIENCE.as_secs())))??;
    if child.status.success() {
        return Ok(tokio::fs::read(&output).await?);
    }
    if child.status.code() == Some(1) {
        let text = String::from_utf8_lossy(&child.stderr);
        return Err(CompileError::Refused(super::scrub::printable(text.trim(), 2000)));
    }
    Err(CompileError::Limits(child.status.to_string()))
}

//! Settings of the WebAssembly engine; the same where code is compiled and where it is loaded, or it would not load.
//! The reasons for the values are in `docs/architecture.md`, "The sandbox".

use std::num::NonZeroUsize;
use std::sync::OnceLock;

use wasmtime::{Config, Engine, ModuleVersionStrategy, OptLevel};

/// What code is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// This machine's instructions.
    Native,
    /// Portable bytecode: one artifact for every 64-bit platform, no executable memory.
    Pulley,
}

impl Backend {
    /// What the built-in providers are precompiled for: the release binary then needs no artifact a platform.
    pub const BUILT_IN: Self = Self::Pulley;
    /// What components of others are compiled for.
    pub const THIRD_PARTY: Self = if cfg!(target_os = "macos") { Self::Pulley } else { Self::Native };

    /// As it stands in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Pulley => "pulley",
        }
    }
}

/// The exact version of wasmtime: code compiled by an older patch release may hold a hole that this one has closed.
pub(crate) const WASMTIME: &str = "48.0.8";
/// Counts up with every change of the settings below.
pub(crate) const ABI: u32 = 1;

/// Bytes of the largest linear memory.
pub(crate) const MEMORY_MAX: usize = 64 * 1024 * 1024;

fn config(backend: Backend, compiler: bool) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .enable_compiler(compiler)
        .consume_fuel(true)
        .wasm_component_model(true)
        .concurrency_support(false)
        .wasm_relaxed_simd(false)
        // Small reservations, so that it works under an address-space limit and in small containers.
        .memory_reservation(MEMORY_MAX as u64)
        .memory_reservation_for_growth(0)
        .memory_guard_size(64 * 1024)
        .memory_may_move(true)
        .max_wasm_stack(512 * 1024)
        .async_stack_size(2 * 1024 * 1024)
        .wasm_backtrace_max_frames(NonZeroUsize::new(20))
        .module_version(ModuleVersionStrategy::Custom(format!("{WASMTIME}+idp{ABI}")))?;
    if compiler {
        config
            .cranelift_nan_canonicalization(true)
            .cranelift_opt_level(OptLevel::Speed)
            .parallel_compilation(true);
    }
    if cfg!(unix) {
        config.native_unwind_info(false);
    }
    if backend == Backend::Pulley {
        config.target("pulley64")?;
    }
    Ok(config)
}

/// The engine that runs code of a backend. Made once a process; compiles nothing.
pub(crate) fn runtime(backend: Backend) -> wasmtime::Result<Engine> {
    static ENGINES: [OnceLock<Engine>; 2] = [OnceLock::new(), OnceLock::new()];
    let cell = &ENGINES[usize::from(backend == Backend::Pulley)];
    if let Some(engine) = cell.get() {
        return Ok(engine.clone());
    }
    let engine = Engine::new(&config(backend, false)?)?;
    Ok(cell.get_or_init(|| engine).clone())
}

/// An engine that compiles for a backend. Used in a process of its own.
pub(crate) fn compiler(backend: Backend) -> wasmtime::Result<Engine> {
    Engine::new(&config(backend, true)?)
}

#[cfg(test)]
mod tests {
    use super::{Backend, WASMTIME, compiler, runtime};

    #[test]
    fn the_version_is_the_one_that_is_linked() {
        let lock = include_str!("../../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"wasmtime\"\nversion = \"{WASMTIME}\"")));
    }

    #[test]
    fn engines_can_be_made() {
        for backend in [Backend::Native, Backend::Pulley] {
            runtime(backend).expect("a runtime");
            compiler(backend).expect("a compiler");
        }
    }
}

//! The `idp` program. Everything is in the library.

fn main() -> std::process::ExitCode {
    idp::cli::main()
}

//! The command line: arguments in, [`crate::ops`] asked, results printed. The only module that prints; nobody may use it.
//!
//! | file | holds |
//! |---|---|
//! | `push`, `pull`, `copy`, `cache`, `list`, `search`, `delete`, `login`, `registry`, `upkeep`, `user`, `doctor`, `package`, `provider`, `completions`, `docs` | a command each: arguments, conversion, what is printed |
//! | [`connect`] | the flags that say which registry and as whom |
//! | [`ui`], [`progress`], [`log`] | the streams |
//! | [`error`] | failures as sentences, hints and exit codes |
//! | [`signals`] | Ctrl-C |
//!
//! To start is to parse: configuration, TLS and the runtime wait until a command asks for them.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory as _, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use self::connect::Connect;
use self::error::{Exit, Report};
use self::log::Level;
use self::progress::Drawn;
use self::ui::{Color, Console, Output, Style};
use crate::config::env::{self, Environment};
use crate::config::known::Known;
use crate::ops::{self, Context};

pub mod cache;
pub mod completions;
pub mod connect;
pub mod copy;
pub mod delete;
pub mod docs;
pub mod doctor;
pub mod error;
pub mod inspect;
pub mod list;
pub mod log;
pub mod login;
mod package;
pub mod progress;
pub mod provider;
pub mod pull;
pub mod push;
pub mod registry;
pub mod search;
pub mod signals;
mod table;
pub mod ui;
mod upkeep;
mod user;

/// OCI registries for Internal Developer Platforms.
#[derive(Debug, Parser)]
#[command(
    name = "idp",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Examples:\n  idp push app:1.0 registry.example/team/app:1.0\n  idp pull registry.example/team/app:1.0 oci:./app\n\n\
                  Exit codes: 0 done, 1 failed, 2 not found, 3 authentication or permission, 4 network or registry \
                  (worth trying again), 64 usage, 70 a bug, 130 and 143 interrupted"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// How results are printed: stdout carries the result and nothing else
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
    /// How much is logged to stderr; debug shows every request [env: IDP_LOG]
    #[arg(long, global = true, value_enum, value_name = "LEVEL")]
    log_level: Option<Level>,
    /// Whether stderr is coloured; NO_COLOR is honoured
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,
    /// No progress and no notes
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Log more: -v is --log-level debug, -vv is trace
    #[arg(long, short, global = true, action = ArgAction::Count)]
    verbose: u8,
}

/// What can be done. One line a command.
#[derive(Debug, Subcommand)]
enum Command {
    Push(push::Args),
    Pull(pull::Args),
    Copy(copy::Args),
    List(list::Args),
    Search(search::Args),
    Inspect(inspect::Args),
    Delete(delete::Args),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    Package(package::Args),
    Registry(registry::Args),
    Cache(cache::Args),
    Provider(provider::Args),
    Completions(completions::Args),
    /// Prints the reference of all commands as Markdown
    #[command(name = "__docs", hide = true)]
    Docs,
    /// Compiles a component: stdin to stdout
    #[command(name = "__compile", hide = true)]
    Compile,
}

/// How a command ends when it does not succeed.
#[derive(Debug)]
enum Stop {
    /// With a report.
    Failed(Report),
    /// With a signal's code and no more words than "interrupted".
    Signal(Exit),
    /// The result says what failed.
    Told(Exit),
    /// Writing to stdout failed.
    Stdout(std::io::Error),
}

impl From<Report> for Stop {
    fn from(report: Report) -> Self {
        Self::Failed(report)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Stdout(error)
    }
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    // The child that compiles components has its own rules, and must start fast.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "__compile") {
        return crate::provider::compile::main(std::env::args_os().skip(2));
    }
    ExitCode::from(run(std::env::args_os(), Environment::process()).code())
}

fn run(arguments: impl Iterator<Item = OsString>, env: Environment) -> Exit {
    let known = Known::new();
    let arguments: Vec<OsString> = arguments.collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, asked_for(&arguments), &env, known),
    };
    let style = Style { output: cli.global.output, color: cli.global.color, quiet: cli.global.quiet };
    let console = Arc::new(Console::new(style, &env, known.clone()));
    let level = match level(&cli.global, &env) {
        Ok(level) => level,
        Err(report) => {
            report.print(&console);
            return report.exit();
        }
    };
    log::start(level, Arc::clone(&console));
    let session = Session { console: Arc::clone(&console), env, known };
    on_panic(&console);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dispatch(cli.command, &session)));
    match outcome {
        Ok(Ok(())) => Exit::Done,
        Ok(Err(Stop::Failed(report))) => {
            report.print(&console);
            report.exit()
        }
        Ok(Err(Stop::Signal(exit))) => {
            let word = if exit == Exit::Terminated { "terminated" } else { "interrupted" };
            match cli.global.output {
                Output::Json => Report::new(exit, word).print(&console),
                Output::Text => console.say(word),
            }
            exit
        }
        Ok(Err(Stop::Told(exit))) => exit,
        // Whoever read the result has read enough.
        Ok(Err(Stop::Stdout(error))) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Done,
        Ok(Err(Stop::Stdout(error))) => {
            Report::new(Exit::Failed, format!("cannot write the result: {error}")).print(&console);
            Exit::Failed
        }
        Err(_) => Exit::Bug,
    }
}

fn dispatch(command: Command, session: &Session) -> Result<(), Stop> {
    match command {
        Command::Push(args) => push::run(args, session),
        Command::Pull(args) => pull::run(args, session),
        Command::Copy(args) => copy::run(args, session),
        Command::List(args) => list::run(args, session),
        Command::Search(args) => search::run(args, session),
        Command::Inspect(args) => inspect::run(args, session),
        Command::Delete(args) => delete::run(args, session),
        Command::Login(args) => login::login(args, session),
        Command::Logout(args) => login::logout(&args, session),
        Command::Package(args) => package::run(args, session),
        Command::Registry(args) => registry::run(args, session),
        Command::Cache(args) => cache::run(&args, session),
        Command::Provider(args) => provider::run(args, session),
        Command::Completions(args) => completions::run(&args, session),
        Command::Docs => docs::run(session),
        Command::Compile => Err(Report::new(Exit::Usage, "`__compile` takes no options").into()),
    }
}

/// What a command has at hand.
#[derive(Debug)]
pub(crate) struct Session {
    console: Arc<Console>,
    env: Environment,
    known: Known,
}

impl Session {
    /// Runs an operation on a runtime, with progress and signals; `doing` completes "Failed to …".
    fn work<T>(
        &self,
        doing: &str,
        options: ops::Options,
        operation: impl AsyncFnOnce(&Context) -> Result<T, ops::Error>,
    ) -> Result<T, Stop> {
        let failed = |error: &ops::Error| Stop::Failed(Report::of(doing, error));
        let drawn = Drawn::new(Arc::clone(&self.console));
        let cancel = CancellationToken::new();
        let progress: Arc<dyn idp_oci::client::Progress> = drawn.clone();
        let context = Context::new(self.env.clone(), self.known.clone(), options, progress, cancel.clone())
            .map_err(|error| failed(&error))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8)))
            .build()
            .map_err(|error| {
                let what = "starting worker threads".to_owned();
                failed(&ops::Error::Io { what, error })
            })?;
        let outcome = runtime.block_on(signals::guard(cancel, operation(&context)));
        drawn.finish();
        // Threads that write remove what they have not finished; one that still reads from a pipe must not keep the process.
        runtime.shutdown_timeout(Duration::from_millis(500));
        outcome.map_err(Stop::Signal)?.map_err(|error| failed(&error))
    }

    /// The options of the connection flags. Reads a password from stdin where that was asked for.
    fn options(&self, connect: &Connect, operation: &'static str) -> Result<ops::Options, Stop> {
        Ok(connect.options(&self.console, &self.known, operation)?)
    }
}

fn level(global: &Global, env: &Environment) -> Result<Level, Report> {
    use clap::ValueEnum as _;
    let named = match (global.log_level, env.get(env::LOG)) {
        (Some(level), _) => Some(level),
        (None, Some(text)) => Some(Level::from_str(&text, true).map_err(|_| {
            Report::new(
                Exit::Usage,
                format!("`IDP_LOG` is `{text}`; write error, warn, info, debug or trace"),
            )
        })?),
        (None, None) => None,
    };
    Ok(match global.verbose {
        0 if global.quiet => named.unwrap_or(Level::Error),
        0 => named.unwrap_or_default(),
        1 => named.unwrap_or_default().max(Level::Debug),
        _ => Level::Trace,
    })
}

/// Help and version are results; everything else is a usage error, in clap's words.
fn usage(error: &clap::Error, output: Output, env: &Environment, known: Known) -> Exit {
    let console = Console::new(Style { output, ..Style::default() }, env, known);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = console.stdout(&error.render().to_string());
            Exit::Done
        }
        _ if output == Output::Json => {
            let text = error.render().to_string();
            let mut parts =
                text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
            let sentence = parts.next().unwrap_or_default();
            let report = Report::new(Exit::Usage, sentence.strip_prefix("error: ").unwrap_or(&sentence));
            parts.fold(report, Report::hint).print(&console);
            Exit::Usage
        }
        _ => {
            console.line(error.render().to_string().trim_end());
            Exit::Usage
        }
    }
}

/// `--output` of a command line that could not be parsed: a script that wants objects gets one for its mistake as well.
fn asked_for(arguments: &[OsString]) -> Output {
    let json = arguments.iter().any(|argument| argument == "--output=json")
        || arguments.windows(2).any(|pair| pair[0] == "--output" && pair[1] == "json");
    if json { Output::Json } else { Output::Text }
}

/// A panic is one line with its place: enough for a report of the bug. The values in the message are ours, not a registry's, and go
/// through the console like everything else.
fn on_panic(console: &Arc<Console>) {
    let console = Arc::clone(console);
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic
            .payload()
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.payload().downcast_ref::<String>().cloned())
            .unwrap_or_default();
        let place = panic.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        Report::new(Exit::Bug, format!("this is a bug in idp{place}: {message}"))
            .hint("please report it, with the command line and the output of `--log-level debug`")
            .print(&console);
    }));
}

/// The tree of commands, for completions and the reference.
fn tree() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_sound_and_every_command_has_an_example() {
        fn check(command: &clap::Command) {
            if command.is_hide_set() {
                return;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.contains("Example") && help.contains("idp"),
                "`{}` has no example",
                command.get_name()
            );
            command.get_subcommands().for_each(check);
        }
        let tree = super::tree();
        tree.clone().debug_assert();
        check(&tree);
    }
}

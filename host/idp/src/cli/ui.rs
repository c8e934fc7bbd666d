//! The two streams of the program. Stdout is the result, stderr is talk; both go through [`Console`], which blanks known
//! credentials and keeps lines and bars apart. Nothing else in `idp` writes to either.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::MultiProgress;
use serde::Serialize;

use crate::config::env::{self, Environment};
use crate::config::known::Known;

/// `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON document on stdout; events as a JSON object a line on stderr.
    Json,
}

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What is drawn while content moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawing {
    /// Bars that move.
    Bars,
    /// A line for each thing that is done.
    Lines,
    /// A JSON object for each event.
    Events,
    /// Nothing.
    Nothing,
}

/// The streams of this process.
#[derive(Debug)]
pub struct Console {
    known: Known,
    output: Output,
    quiet: bool,
    color: bool,
    drawing: Drawing,
    bars: Mutex<Option<MultiProgress>>,
}

/// How the console behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// `--output`.
    pub output: Output,
    /// `--color`.
    pub color: Color,
    /// `--quiet`.
    pub quiet: bool,
}

impl Console {
    /// The console of this process, as flags and environment want it.
    pub fn new(style: Style, env: &Environment, known: Known) -> Self {
        let terminal = io::stderr().is_terminal();
        let dumb = env.get(env::TERM).is_some_and(|term| term == "dumb");
        let color = match style.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !dumb && env.get(env::NO_COLOR).is_none(),
        };
        let drawing = if style.quiet {
            Drawing::Nothing
        } else if style.output == Output::Json {
            Drawing::Events
        } else if terminal && !dumb && env.get(env::CI).is_none() {
            Drawing::Bars
        } else {
            Drawing::Lines
        };
        Self { known, output: style.output, quiet: style.quiet, color, drawing, bars: Mutex::new(None) }
    }

    /// What `--output` asked for.
    pub fn output(&self) -> Output {
        self.output
    }

    /// What is drawn while content moves.
    pub fn drawing(&self) -> Drawing {
        self.drawing
    }

    /// While bars are drawn, lines are written above them.
    pub fn set_bars(&self, bars: Option<MultiProgress>) {
        *self.bars.lock().unwrap_or_else(PoisonError::into_inner) = bars;
    }

    /// The result: `text` as it is, or `value` as one JSON document.
    pub fn result(&self, text: &str, value: &impl Serialize) -> io::Result<()> {
        match self.output {
            Output::Text => self.stdout(text),
            Output::Json => {
                let mut text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
                text.push('\n');
                self.stdout(&text)
            }
        }
    }

    /// Text that is the result whatever `--output` says: help, completions.
    pub fn stdout(&self, text: &str) -> io::Result<()> {
        let text = self.known.blank_text(text);
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
    }

    /// Bytes that are the result, exactly: their digest is what they are known by.
    pub fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush())
    }

    /// A line of talk; not with `--quiet`.
    pub fn say(&self, line: &str) {
        if self.quiet {
            return;
        }
        match self.output {
            Output::Text => self.line(line),
            Output::Json => self.event(&serde_json::json!({ "event": "note", "text": line })),
        }
    }

    /// A warning; also with `--quiet`.
    pub fn warn(&self, line: &str) {
        match self.output {
            Output::Text => {
                let word = self.paint("33;1", "warning:");
                self.line(&format!("{word} {line}"));
            }
            Output::Json => self.event(&serde_json::json!({ "event": "warning", "text": line })),
        }
    }

    /// One JSON object on a line of its own.
    pub fn event(&self, value: &impl Serialize) {
        if let Ok(line) = serde_json::to_string(value) {
            self.line(&line);
        }
    }

    /// A line on stderr. There is nobody to tell when that fails.
    pub fn line(&self, line: &str) {
        let mut text = self.known.blank_text(line);
        text.push('\n');
        let write = || {
            let _ = io::stderr().lock().write_all(text.as_bytes());
        };
        let bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    /// Text in a colour, where colours are wanted (`code` is an SGR parameter).
    pub fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// `1.5 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = bytes;
    let mut rest = 0;
    while scaled >= 1024 && unit + 1 < UNITS.len() {
        rest = scaled % 1024;
        scaled /= 1024;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{scaled}.{} {}", rest * 10 / 1024, UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes() {
        for (bytes, expect) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_600_000, "1.5 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(size(bytes), expect);
        }
    }
}

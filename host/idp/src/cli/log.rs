//! `--log-level`: what the layers below say through `tracing`, as lines or JSON objects on stderr.
//!
//! Only our own targets are shown: what other crates log (headers of HTTP/2, TLS sessions) may hold credentials.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::ui::{Console, Output};

/// `--log-level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, clap::ValueEnum)]
pub enum Level {
    /// Nothing but the error that ends the command.
    Error,
    /// What somebody should look at.
    Warn,
    /// What was decided.
    #[default]
    Info,
    /// Every HTTP exchange: method, URL, status, timing, redacted headers.
    Debug,
    /// Everything.
    Trace,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// Starts logging to the console.
pub fn start(level: Level, console: Arc<Console>) {
    let lines = Lines { console, level: level.into(), start: Instant::now() };
    // Fails only when it has been started already, by a test in the same process.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines));
}

struct Lines {
    console: Arc<Console>,
    level: LevelFilter,
    start: Instant,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let target = metadata.target();
        // Progress tells about waiting already.
        let doubled = target == "idp::retry" && self.level < LevelFilter::DEBUG;
        *metadata.level() <= self.level
            && !doubled
            && (target.starts_with("idp::") || target.starts_with("idp_oci"))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let level = metadata.level().as_str();
        let milliseconds = self.start.elapsed().as_millis();
        match self.console.output() {
            Output::Json => {
                let mut object = Map::new();
                object.insert("event".to_owned(), "log".into());
                object.insert("level".to_owned(), level.to_lowercase().into());
                object.insert("target".to_owned(), metadata.target().into());
                object
                    .insert("elapsed-ms".to_owned(), u64::try_from(milliseconds).unwrap_or(u64::MAX).into());
                object.insert("text".to_owned(), printable(&fields.message).into());
                for (name, value) in fields.others {
                    object.entry(name).or_insert(Value::from(printable(&value)));
                }
                self.console.event(&object);
            }
            Output::Text => {
                let code = match *metadata.level() {
                    tracing::Level::ERROR => "31",
                    tracing::Level::WARN => "33",
                    _ => "2",
                };
                let head = self.console.paint(code, &format!("{milliseconds:>6} ms {level:<5}"));
                let target = metadata.target();
                let target =
                    target.strip_prefix("idp::").or(target.strip_prefix("idp_oci::")).unwrap_or(target);
                let mut line = format!("{head} {target}:");
                if !fields.message.is_empty() {
                    let _ = write!(line, " {}", printable(&fields.message));
                }
                for (name, value) in fields.others {
                    let _ = write!(line, " {name}={}", printable(&value));
                }
                self.console.line(&line);
            }
        }
    }
}

/// One line, and nothing that moves a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(String, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.others.push((field.name().to_owned(), format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.others.push((field.name().to_owned(), value.to_owned()));
        }
    }
}

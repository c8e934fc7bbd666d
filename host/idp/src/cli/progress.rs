//! Progress on stderr: bars on a terminal, a line for each finished blob elsewhere, ndjson with `--output json`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use idp_oci::client::progress::{Event, Outcome, Progress};
use idp_oci::digest::Digest;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::ui::{Console, Drawing, size};

/// More bars than this fill the screen and tell less.
const MOST_BARS: usize = 12;

/// Draws what happens.
#[derive(Debug)]
pub struct Drawn {
    console: Arc<Console>,
    bars: Mutex<Bars>,
}

#[derive(Debug, Default)]
struct Bars {
    all: Option<MultiProgress>,
    open: HashMap<Digest, ProgressBar>,
}

impl Drawn {
    /// Onto this console.
    pub fn new(console: Arc<Console>) -> Arc<Self> {
        Arc::new(Self { console, bars: Mutex::default() })
    }

    /// No more will happen: the bars go.
    pub fn finish(&self) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, bar) in bars.open.drain() {
            bar.finish_and_clear();
        }
        bars.all = None;
        drop(bars);
        self.console.set_bars(None);
    }

    fn bars(&self, event: &Event) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::BlobStarted { digest, size } if bars.open.len() < MOST_BARS => {
                let all = bars.all.get_or_insert_with(|| {
                    let all = MultiProgress::new();
                    self.console.set_bars(Some(all.clone()));
                    all
                });
                let style = ProgressStyle::with_template(
                    "{prefix} [{bar:30}] {bytes:>10} / {total_bytes:<10} {bytes_per_sec}",
                )
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ");
                let bar = all.add(ProgressBar::new(*size));
                bar.set_style(style);
                bar.set_prefix(digest.short().to_owned());
                bars.open.insert(digest.clone(), bar);
            }
            Event::BlobAdvanced { digest, position } => {
                if let Some(bar) = bars.open.get(digest) {
                    bar.set_position(*position);
                }
            }
            Event::BlobFinished { digest, .. } => {
                if let Some(bar) = bars.open.remove(digest) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }

    fn line(&self, event: &Event) {
        match event {
            Event::BlobFinished { digest, size: bytes, outcome } => {
                let word = match outcome {
                    Outcome::Sent => "sent",
                    Outcome::Mounted => "mounted",
                    Outcome::Exists => "exists",
                    Outcome::Skipped => "skipped",
                    Outcome::Received => "received",
                    Outcome::Cached => "cached",
                };
                self.console.say(&format!("{}  {:>10}  {word}", digest.short(), size(*bytes)));
            }
            Event::Retrying { what, after_ms, cause, attempt, attempts } => {
                let when = match after_ms.div_ceil(1000) {
                    0 => "now".to_owned(),
                    seconds => format!("in {seconds} s"),
                };
                let line = format!("{what}: {cause}; trying again {when} (try {attempt} of {attempts})");
                self.console.say(&line);
            }
            Event::Warning { text } => self.console.warn(text),
            Event::Note { text } => self.console.say(text),
            _ => {}
        }
    }
}

impl Progress for Drawn {
    fn event(&self, event: Event) {
        match self.console.drawing() {
            Drawing::Events => self.console.event(&event),
            Drawing::Bars => {
                self.bars(&event);
                self.line(&event);
            }
            Drawing::Lines => self.line(&event),
            Drawing::Nothing => {
                if let Event::Warning { text } = &event {
                    self.console.warn(text);
                }
            }
        }
    }
}

//! When something is tried again, and when. Depends on the clock only.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

/// How often and how patiently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first one included.
    pub attempts: usize,
    /// The wait after the first failure; it doubles.
    pub base: Duration,
    /// No wait of ours is longer.
    pub cap: Duration,
    /// No wait that a server asks for is longer (case 52, "absurd").
    pub server_cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 10,
            base: Duration::from_secs(1),
            cap: Duration::from_secs(30),
            server_cap: Duration::from_secs(120),
        }
    }
}

impl RetryPolicy {
    /// As often as ever, without waiting: for tests.
    pub fn immediate(attempts: usize) -> Self {
        Self { attempts, base: Duration::ZERO, cap: Duration::ZERO, server_cap: Duration::ZERO }
    }

    /// The waits of one thing that is tried.
    pub fn waits(&self) -> Waits {
        let backoff = ExponentialBuilder::default()
            .with_factor(2.0)
            .with_min_delay(self.base)
            .with_max_delay(self.cap)
            .with_max_times(self.attempts.saturating_sub(1))
            .with_jitter()
            .build();
        Waits { backoff, policy: self.clone(), failures: 0 }
    }
}

/// The waits of one thing that is tried, in order.
#[derive(Debug)]
pub struct Waits {
    backoff: backoff::Waits,
    policy: RetryPolicy,
    failures: usize,
}

mod backoff {
    pub(super) type Waits = <backon::ExponentialBuilder as backon::BackoffBuilder>::Backoff;
}

impl Waits {
    /// Counts a failure. How long to wait before the next try; `None` when there is none. What the server asked for counts more
    /// than our own idea.
    pub fn after_failure(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.failures += 1;
        let ours = self.backoff.next()?.min(self.policy.cap);
        Some(asked.map_or(ours, |asked| asked.min(self.policy.server_cap)))
    }

    /// How many failures have been counted.
    pub fn failures(&self) -> usize {
        self.failures
    }

    /// How many tries there are in all.
    pub fn attempts(&self) -> usize {
        self.policy.attempts
    }
}

/// Statuses that pass (registries.md 0.3): the same request may succeed a moment later.
pub fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 499 | 500 | 502 | 503 | 504 | 522)
}

/// `Retry-After` in seconds, whole or not, or as a date; a date in the past is no wait.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return (seconds.is_finite() && seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(1e9)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Those who waited for the same go on one after the other: all at once they would be too much again.
const SPACING: Duration = Duration::from_millis(25);

/// Shared by everything that talks to one registry: when it asks one of us to wait, all do (case 53).
#[derive(Debug, Default)]
pub struct Gate {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    until: Option<Instant>,
    /// How many wait for that.
    waiting: u32,
}

impl Gate {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody passes for so long. True for the first to say so: the others need not tell people again.
    pub fn hold(&self, wait: Duration) -> bool {
        let now = Instant::now();
        let until = now + wait;
        let mut held = self.held();
        let first = held.until.is_none_or(|held| held <= now);
        if held.until.is_none_or(|held| held < until) {
            *held = Held { until: Some(until), waiting: 0 };
        }
        first
    }

    /// Passes when it is open.
    pub async fn pass(&self) {
        loop {
            let turn = {
                let mut held = self.held();
                let Some(until) = held.until.filter(|until| *until > Instant::now()) else { return };
                held.waiting += 1;
                until + SPACING.saturating_mul(held.waiting - 1)
            };
            tokio::time::sleep_until(turn).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::{Gate, RetryPolicy, is_transient, retry_after};

    #[test]
    fn waits_double_up_to_the_cap_and_end() {
        let mut waits = RetryPolicy::default().waits();
        let all: Vec<Duration> = std::iter::from_fn(|| waits.after_failure(None)).collect();
        assert_eq!((all.len(), waits.failures()), (9, 10));
        for (index, wait) in all.iter().enumerate() {
            let least = Duration::from_secs(1 << index).min(Duration::from_secs(30));
            let most = (least * 2).min(Duration::from_secs(30));
            assert!((least..=most).contains(wait), "{index}: {wait:?}");
        }
    }

    /// Case 52.
    #[test]
    fn what_the_server_asks_for_counts() {
        let mut waits = RetryPolicy::default().waits();
        assert_eq!(waits.after_failure(Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(waits.after_failure(Some(Duration::ZERO)), Some(Duration::ZERO));
        assert_eq!(waits.after_failure(Some(Duration::from_secs(86_400))), Some(Duration::from_secs(120)));
        assert_eq!(RetryPolicy::immediate(1).waits().after_failure(None), None);
    }

    /// Case 52.
    #[test]
    fn forms_of_retry_after() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", HeaderValue::from_str(value).expect("a header"));
            retry_after(&headers)
        };
        assert_eq!(read("3"), Some(Duration::from_secs(3)));
        assert_eq!(read("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let soon = read(&httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100)));
        assert!(soon.is_some_and(|wait| wait > Duration::from_secs(90) && wait <= Duration::from_secs(100)));
        for bad in ["-1", "NaN", "inf", "tomorrow", ""] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_passes_and_what_stays() {
        let transient = |code| is_transient(StatusCode::from_u16(code).expect("a status"));
        for code in [408, 429, 499, 500, 502, 503, 504, 522] {
            assert!(transient(code), "{code}");
        }
        for code in [200, 202, 400, 401, 403, 404, 405, 409, 413, 416, 501] {
            assert!(!transient(code), "{code}");
        }
    }

    /// Case 53.
    #[tokio::test(start_paused = true)]
    async fn all_wait_when_one_is_told_to() {
        let gate = Gate::default();
        let start = tokio::time::Instant::now();
        gate.pass().await;
        assert!(gate.hold(Duration::from_secs(5)));
        assert!(!gate.hold(Duration::from_secs(2)));
        let passed = async |gate: &Gate| {
            gate.pass().await;
            start.elapsed()
        };
        let (one, two, three) = tokio::join!(passed(&gate), passed(&gate), passed(&gate));
        let after = |ms| Duration::from_secs(5) + Duration::from_millis(ms);
        assert_eq!([one, two, three], [after(0), after(25), after(50)], "one after the other");
        assert_eq!(passed(&gate).await, three, "whoever comes later finds it open");
    }
}

//! How long a call of a provider has taken: its own time, without what the host took to find a credential for it. Knows no guest.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The pauses of one call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock(Arc<Mutex<Pauses>>);

#[derive(Debug, Default)]
struct Pauses {
    over: Duration,
    since: Option<Instant>,
}

/// While it lives, the clock stands still.
#[derive(Debug)]
pub(crate) struct Pause<'a>(&'a Clock);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        let mut pauses = self.0.pauses();
        if let Some(since) = pauses.since.take() {
            pauses.over += since.elapsed();
        }
    }
}

impl Clock {
    fn pauses(&self) -> MutexGuard<'_, Pauses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pause(&self) -> Pause<'_> {
        self.pauses().since = Some(Instant::now());
        Pause(self)
    }

    fn paused(&self) -> Duration {
        let pauses = self.pauses();
        pauses.over + pauses.since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Runs a future for at most this long, pauses not counted.
    pub(crate) async fn within<T>(&self, time: Duration, future: impl Future<Output = T>) -> Option<T> {
        let started = Instant::now();
        tokio::pin!(future);
        let mut rest = time;
        loop {
            if let Ok(result) = tokio::time::timeout(rest, &mut future).await {
                return Some(result);
            }
            rest = (time + self.paused()).saturating_sub(started.elapsed());
            if rest.is_zero() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use super::Clock;

    #[tokio::test]
    async fn pauses_do_not_count() {
        let (clock, time) = (Clock::default(), Duration::from_millis(20));
        assert_eq!(clock.within(time, pending::<()>()).await, None);
        let slow = async {
            let _pause = clock.pause();
            tokio::time::sleep(3 * time).await;
            1
        };
        assert_eq!(clock.within(time, slow).await, Some(1));
    }
}

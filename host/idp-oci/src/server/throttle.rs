//! How often somebody may ask: a bucket of permits for each user or address, which fills at a rate.
//!
//! Knows time and nothing of HTTP. In: who. Out: yes, or how long until it would be yes. Memory is bounded: whoever has a
//! full bucket is not remembered, and of too many the fullest are forgotten.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many are remembered at once: some megabytes.
const MOST: usize = 20_000;

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Sender {
    /// A user, wherever the requests come from.
    User(String),
    /// An address; of IPv6 the network of a site (/64), as one host has all of it.
    Address(IpAddr),
}

impl Sender {
    /// The one at this address.
    pub fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let bits = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(bits))
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user {name}"),
            Self::Address(address) => write!(f, "address {address}"),
        }
    }
}

/// So many a minute for long, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Permits that come back in a minute.
    pub per_minute: NonZeroU32,
    /// Permits of somebody who did not ask for a while.
    pub burst: NonZeroU32,
}

impl Rate {
    /// `None` where the rate is 0, which means unlimited; a burst of 0 means a minute's worth.
    pub fn new(per_minute: u32, burst: u32) -> Option<Self> {
        let per_minute = NonZeroU32::new(per_minute)?;
        Some(Self { per_minute, burst: NonZeroU32::new(burst).unwrap_or(per_minute) })
    }

    fn per_second(self) -> f64 {
        f64::from(self.per_minute.get()) / 60.0
    }
}

/// The buckets of one kind of request.
#[derive(Debug)]
pub struct Throttle {
    rate: Option<Rate>,
    most: usize,
    buckets: Mutex<HashMap<Sender, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    permits: f64,
    at: Instant,
}

impl Throttle {
    /// Full buckets for everybody; without a rate everything is allowed.
    pub fn new(rate: Option<Rate>) -> Self {
        Self { rate, most: MOST, buckets: Mutex::default() }
    }

    /// Takes a permit; else how long until there is one.
    pub fn take(&self, sender: &Sender) -> Result<(), Duration> {
        self.change(sender, |permits| if permits >= 1.0 { permits - 1.0 } else { permits }).map(drop)
    }

    /// Whether there is a permit, without taking it.
    pub fn peek(&self, sender: &Sender) -> Result<(), Duration> {
        self.change(sender, |permits| permits).map(drop)
    }

    /// Gives one back that was taken for nothing.
    pub fn give_back(&self, sender: &Sender) {
        let _ = self.change(sender, |permits| permits + 1.0);
    }

    fn change(&self, sender: &Sender, change: impl FnOnce(f64) -> f64) -> Result<(), Duration> {
        let Some(rate) = self.rate else { return Ok(()) };
        let (now, burst) = (Instant::now(), f64::from(rate.burst.get()));
        let full = Bucket { permits: burst, at: now };
        // No code under this lock can leave the map half changed.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let old = buckets.get(sender).copied().unwrap_or(full);
        let had = old.filled(rate, now);
        let permits = change(had).min(burst);
        if permits >= burst {
            buckets.remove(sender);
        } else {
            if buckets.len() >= self.most && !buckets.contains_key(sender) {
                make_room(&mut buckets, rate, now);
            }
            buckets.insert(sender.clone(), Bucket { permits, at: now });
        }
        if had >= 1.0 { Ok(()) } else { Err(Duration::from_secs_f64((1.0 - had) / rate.per_second())) }
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Bucket {
    fn filled(self, rate: Rate, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate.per_second();
        (self.permits + gained).min(f64::from(rate.burst.get()))
    }
}

/// Forgets those that are full again, and then the fullest: who asked most is remembered longest.
fn make_room(buckets: &mut HashMap<Sender, Bucket>, rate: Rate, now: Instant) {
    let burst = f64::from(rate.burst.get());
    let before = buckets.len();
    buckets.retain(|_, bucket| bucket.filled(rate, now) < burst);
    if buckets.len() > before - before / 4 {
        let mut levels: Vec<f64> = buckets.values().map(|bucket| bucket.filled(rate, now)).collect();
        levels.sort_by(f64::total_cmp);
        let keep = before - before.div_ceil(4);
        let limit = levels.get(keep).copied().unwrap_or(burst);
        let mut room = keep - levels.partition_point(|level| *level < limit);
        buckets.retain(|_, bucket| {
            let level = bucket.filled(rate, now);
            let fits = level <= limit && room > 0;
            room -= usize::from(fits && level >= limit);
            level < limit || fits
        });
    }
}

/// Seconds for `Retry-After`: whole ones, after which a request is let in.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::{Rate, Sender, Throttle, whole_seconds};

    fn address(text: &str) -> Sender {
        Sender::at(text.parse::<IpAddr>().expect("an address"))
    }

    #[tokio::test(start_paused = true)]
    async fn permits_come_back_and_the_wait_is_right() {
        let throttle = Throttle::new(Rate::new(20, 3));
        let (one, two) = (address("10.0.0.1"), Sender::User("alice".to_owned()));
        for _ in 0..3 {
            assert_eq!(throttle.take(&one), Ok(()));
        }
        let wait = throttle.take(&one).expect_err("none is left");
        assert_eq!(whole_seconds(wait), 3);
        assert_eq!(throttle.take(&two), Ok(()), "others are counted apart");
        // Asking again and again does not make it longer.
        assert!(throttle.take(&one).is_err());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(whole_seconds(throttle.take(&one).expect_err("not yet")), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(throttle.take(&one), Ok(()), "after what was said");
        assert!(throttle.take(&one).is_err());
        tokio::time::advance(Duration::from_secs(60)).await;
        for _ in 0..3 {
            assert_eq!(throttle.take(&one), Ok(()), "never more than the burst");
        }
        assert!(throttle.take(&one).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_back_counts_for_nothing() {
        let throttle = Throttle::new(Rate::new(1, 1));
        let one = address("::1");
        for _ in 0..9 {
            assert_eq!(throttle.take(&one), Ok(()));
            throttle.give_back(&one);
        }
        assert_eq!(throttle.remembered(), 0);
        assert_eq!(throttle.take(&one), Ok(()));
        assert!(throttle.peek(&one).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_the_busiest_are_remembered() {
        let throttle = Throttle { most: 100, ..Throttle::new(Rate::new(60, 2)) };
        let busy = address("192.0.2.1");
        assert_eq!((throttle.take(&busy), throttle.take(&busy)), (Ok(()), Ok(())));
        for index in 0..1000_u32 {
            let _ = throttle.take(&address(&format!("10.1.{}.{}", index / 256, index % 256)));
            assert!(throttle.remembered() <= 100);
        }
        assert!(throttle.take(&busy).is_err());
        tokio::time::advance(Duration::from_secs(9)).await;
        for index in 0..100_u32 {
            let _ = throttle.take(&address(&format!("10.2.0.{index}")));
        }
        assert!(throttle.remembered() <= 100);
    }

    #[test]
    fn a_site_is_one_sender() {
        assert_eq!(address("2001:db8:1:2::1"), address("2001:db8:1:2:ffff::9"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
        assert_ne!(address("10.0.0.1"), address("10.0.0.2"));
    }

    #[test]
    fn no_rate_is_no_limit() {
        let throttle = Throttle::new(Rate::new(0, 5));
        assert!((0..99).all(|_| throttle.take(&address("::1")).is_ok()));
        assert_eq!(throttle.remembered(), 0);
    }
}

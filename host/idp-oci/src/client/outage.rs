//! Hosts that cannot be reached: all who talk to one wait together, and one of them tells. Depends on `retry` and the clock only.
//!
//! A connection that was not made has sent nothing, so every request may be tried again here, uploads included. A host that has
//! never answered is more likely misspelled than down for a moment, and is given up early.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::retry::{Gate, RetryPolicy, Waits};

/// Tries for a host that has not answered once.
pub const UNREACHED_ATTEMPTS: usize = 3;

/// What is known about the hosts that one client talks to.
#[derive(Debug, Default)]
pub struct Outages {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Failures so far, of any host: tells failures that belong together from new ones.
    round: u64,
    hosts: HashMap<String, Host>,
}

#[derive(Debug, Default)]
struct Host {
    reached: bool,
    outage: Option<Outage>,
}

#[derive(Debug)]
struct Outage {
    waits: Waits,
    /// The round of its newest failure.
    round: u64,
    over: bool,
}

/// When a request was sent; failures of requests that were on their way together count once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What follows from a connection that was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Somebody else met the same and has said so.
    Join,
    /// The first to meet it: everybody waits.
    Wait {
        /// For so long.
        wait: Duration,
        /// The number of the try that comes then.
        attempt: usize,
        /// How many there are.
        attempts: usize,
    },
    /// No try is left.
    GiveUp {
        /// How many there were.
        attempts: usize,
    },
}

impl Outages {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current round.
    fn ticket(&self) -> Ticket {
        Ticket(self.state().round)
    }

    /// Before a request is sent: passes when the gate is open and nobody closed it meanwhile.
    pub async fn pass(&self, gate: &Gate) -> Ticket {
        loop {
            let ticket = self.ticket();
            gate.pass().await;
            if self.ticket() == ticket {
                return ticket;
            }
        }
    }

    /// A connection was made, whatever became of it.
    pub fn reached(&self, host: &str) {
        let mut state = self.state();
        match state.hosts.get_mut(host) {
            Some(known) => *known = Host { reached: true, outage: None },
            None => {
                state.hosts.insert(host.to_owned(), Host { reached: true, outage: None });
            }
        }
    }

    /// How often a host was tried that never answered and was given up: nobody need try again.
    pub fn given_up(&self, host: &str) -> Option<usize> {
        let state = self.state();
        let known = state.hosts.get(host).filter(|known| !known.reached)?;
        known.outage.as_ref().filter(|outage| outage.over).map(|outage| outage.waits.failures())
    }

    /// A connection was not made. Where everybody waits, the gate is closed before the next one can pass.
    pub fn unreachable(&self, host: &str, ticket: Ticket, policy: &RetryPolicy, gate: &Gate) -> Next {
        let mut state = self.state();
        let round = state.round + 1;
        let known = state.hosts.entry(host.to_owned()).or_default();
        let limit = if known.reached { policy.attempts } else { policy.attempts.min(UNREACHED_ATTEMPTS) };
        let outage = known.outage.get_or_insert_with(|| Outage {
            waits: RetryPolicy { attempts: limit, ..policy.clone() }.waits(),
            round: 0,
            over: false,
        });
        if ticket.0 < outage.round {
            let attempts = outage.waits.failures();
            return if outage.over { Next::GiveUp { attempts } } else { Next::Join };
        }
        let next = match outage.waits.after_failure(None) {
            Some(wait) => {
                gate.hold(wait);
                Next::Wait { wait, attempt: outage.waits.failures() + 1, attempts: limit }
            }
            None => {
                outage.over = true;
                Next::GiveUp { attempts: outage.waits.failures() }
            }
        };
        outage.round = round;
        state.round = round;
        next
    }
}

#[cfg(test)]
mod tests {
    use super::{Next, Outages};
    use crate::client::retry::{Gate, RetryPolicy};

    const HOST: &str = "r.example";

    fn waits(outages: &Outages, policy: &RetryPolicy) -> usize {
        (0..100)
            .take_while(|_| {
                matches!(
                    outages.unreachable(HOST, outages.ticket(), policy, &Gate::default()),
                    Next::Wait { .. }
                )
            })
            .count()
    }

    /// A host that never answered is given up after three tries, one that did after all of the policy's.
    #[test]
    fn tries() {
        let policy = RetryPolicy::immediate(10);
        let outages = Outages::default();
        assert_eq!((waits(&outages, &policy), outages.given_up(HOST)), (2, Some(3)));
        outages.reached(HOST);
        assert_eq!((outages.given_up(HOST), waits(&outages, &policy)), (None, 9));
        assert_eq!(outages.given_up(HOST), None, "it did answer once");
        outages.reached(HOST);
        assert_eq!(waits(&outages, &policy), 9, "an answer ends the outage");
        assert_eq!(waits(&Outages::default(), &RetryPolicy::immediate(1)), 0);
        assert_eq!(waits(&Outages::default(), &RetryPolicy::immediate(2)), 1);
    }

    /// Eight requests on their way fail as one.
    #[test]
    fn failures_that_belong_together_count_once() {
        let (policy, outages, gate) = (RetryPolicy::immediate(10), Outages::default(), Gate::default());
        for try_ in 1..=3 {
            let tickets: Vec<_> = (0..8).map(|_| outages.ticket()).collect();
            let mut all: Vec<Next> =
                tickets.iter().map(|ticket| outages.unreachable(HOST, *ticket, &policy, &gate)).collect();
            let first = all.remove(0);
            if try_ < 3 {
                assert!(matches!(first, Next::Wait { attempt, attempts: 3, .. } if attempt == try_ + 1));
                assert!(all.iter().all(|next| *next == Next::Join), "{all:?}");
            } else {
                assert!(all.iter().all(|next| *next == Next::GiveUp { attempts: 3 }), "{all:?}");
                assert_eq!(first, Next::GiveUp { attempts: 3 });
            }
        }
        let other = outages.unreachable("other.example", outages.ticket(), &policy, &gate);
        assert!(matches!(other, Next::Wait { attempt: 2, .. }), "each host has its own tries: {other:?}");
    }
}

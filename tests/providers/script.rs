//! A network of the tests that answers from a script: the exchanges of a recorded conversation, asked for in their order, compared as they
//! are natively. Names resolve to an address of the internet. While a request is out the guest waits, and its memory is searched.

use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use idp::provider::{Exchange, RawAnswer, Transport, TransportError};
use idp_provider_sdk::testing::Exchange as Scripted;

use crate::scan::{Needle, holds, linear_memories};

/// One run of a case.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) exchanges: Vec<Scripted>,
    /// Whether headers and bodies are compared too.
    pub(crate) exact: bool,
    /// What must not be in the guest's memory.
    pub(crate) needles: Vec<Needle>,
    pub(crate) sent: usize,
    /// How often the memory was found and searched while a request was out.
    pub(crate) searched: usize,
    pub(crate) failures: Vec<String>,
}

impl Run {
    /// Searches the memories that `mine` says are this guest's; how many they were.
    pub(crate) fn search(&mut self, when: &str, mine: impl Fn(&[u8]) -> bool) -> usize {
        let memories: Vec<_> = linear_memories().into_iter().filter(|memory| mine(memory)).collect();
        for memory in &memories {
            for needle in &self.needles {
                if let Some(how) = needle.found_in(memory) {
                    self.failures.push(format!("{when}: {} is in the guest's memory, {how}", needle.name));
                }
            }
        }
        memories.len()
    }

    fn next(&mut self, request: &Exchange) -> Result<Scripted, TransportError> {
        let line = format!("{} {}", request.method, request.url);
        let Some(expected) = self.exchanges.get(self.sent).cloned() else {
            self.failures.push(format!("`{line}` was not expected"));
            return Err(TransportError::Connect("nothing is scripted".to_owned()));
        };
        self.sent += 1;
        // As the guest wrote it, and as it is on the wire.
        let (method, written) = expected.request.split_once(' ').unwrap_or(("GET", &expected.request));
        let url = url::Url::parse(written).map_or_else(|_| written.to_owned(), |url| url.to_string());
        let wire = Scripted { request: format!("{method} {url}"), ..expected.clone() };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers: Vec<_> =
            request.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let different = if self.exact {
            wire.mismatch(&line, &headers, &text(&request.body))
        } else {
            (wire.request != line).then(|| format!("expected `{}`, and `{line}` was sent", wire.request))
        };
        self.searched += self.search(&format!("`{line}`"), |memory| holds(memory, written));
        match different {
            Some(different) => {
                self.failures.push(different);
                Err(TransportError::Connect("it was not the scripted request".to_owned()))
            }
            None => Ok(expected),
        }
    }
}

/// The stage on which one run after the other is given.
#[derive(Debug, Default)]
pub(crate) struct Stage(Mutex<Run>);

impl Stage {
    /// Puts the next run on, and gives the last one back.
    pub(crate) fn set(&self, run: Run) -> Run {
        std::mem::replace(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), run)
    }

    /// With what is on.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Run) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Transport for Stage {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![IpAddr::from([93, 184, 216, 34])])
    }

    async fn exchange(&self, request: Exchange) -> Result<RawAnswer, TransportError> {
        let answer = self.with(|run| run.next(&request))?;
        if answer.status == 0 {
            return Err(TransportError::Connect("nothing answers".to_owned()));
        }
        let headers = answer.reply_headers.iter();
        Ok(RawAnswer {
            status: answer.status,
            headers: headers
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone().into_bytes()))
                .collect(),
            body: answer.reply.into_bytes().into(),
        })
    }
}

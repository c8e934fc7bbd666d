//! The import `secrets`: handles of the guest to derivations in [`super::secrets`]. Converts and nothing else.

use wasmtime::component::Resource;

use super::error::{Limit, LimitHit};
use super::secrets::{self, Held, Part, SecretError};
use super::state::State;
use super::v0_1::idp::registry_provider::secrets::{Host, HostSecret, Segment};
use super::v0_1::idp::registry_provider::types::{Error, ErrorKind};

/// An error value for the guest.
pub(crate) fn refuse(kind: ErrorKind, code: &str, message: impl Into<String>) -> Error {
    Error {
        kind,
        code: code.to_owned(),
        message: message.into(),
        http_status: None,
        retry_after_s: None,
        sent: false,
        extra: Vec::new(),
    }
}

fn explain(error: SecretError) -> Error {
    match error {
        SecretError::Unsupported => refuse(ErrorKind::Unsupported, "algorithm", error.to_string()),
        SecretError::Assembled => refuse(ErrorKind::Invalid, "assembled", error.to_string()),
        SecretError::Form => refuse(ErrorKind::Invalid, "form", error.to_string()),
        SecretError::TooLarge => refuse(ErrorKind::Invalid, "too-large", error.to_string()),
    }
}

impl State {
    /// Looks the handles of segments up.
    pub(crate) fn parts(&self, segments: Vec<Segment>) -> wasmtime::Result<Vec<Part>> {
        segments
            .into_iter()
            .map(|segment| match segment {
                Segment::Text(text) => Ok(Part::Text(text)),
                Segment::Secret(handle) => Ok(Part::Secret(self.table.get(&handle)?.clone())),
            })
            .collect()
    }

    fn answer(
        &mut self,
        derived: Result<Held, SecretError>,
    ) -> wasmtime::Result<Result<Resource<Held>, Error>> {
        match derived {
            Ok(held) => Ok(Ok(self.lend_derived(held)?)),
            Err(error) => Ok(Err(explain(error))),
        }
    }
}

impl HostSecret for State {
    async fn duplicate(&mut self, this: Resource<Held>) -> wasmtime::Result<Resource<Held>> {
        let held = self.table.get(&this)?.clone();
        self.lend(held)
    }

    async fn json_field(
        &mut self,
        this: Resource<Held>,
        pointer: String,
    ) -> wasmtime::Result<Option<Resource<Held>>> {
        match self.table.get(&this)?.json_field(&pointer) {
            Some(held) => {
                self.scrub.learn(&held)?;
                Ok(Some(self.lend_derived(held)?))
            }
            None => Ok(None),
        }
    }

    async fn drop(&mut self, this: Resource<Held>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl Host for State {
    async fn assemble(&mut self, parts: Vec<Segment>) -> wasmtime::Result<Resource<Held>> {
        let parts = self.parts(parts)?;
        let held = secrets::assemble(&parts).map_err(|_| LimitHit(Limit::Secrets))?;
        self.lend_derived(held)
    }

    async fn encode(
        &mut self,
        value: Resource<Held>,
        encoding: String,
    ) -> wasmtime::Result<Result<Resource<Held>, Error>> {
        let derived = secrets::encode(self.table.get(&value)?, &encoding);
        self.answer(derived)
    }

    async fn decode(
        &mut self,
        value: Resource<Held>,
        encoding: String,
    ) -> wasmtime::Result<Result<Resource<Held>, Error>> {
        let derived = secrets::decode(self.table.get(&value)?, &encoding);
        self.answer(derived)
    }

    async fn digest(
        &mut self,
        algorithm: String,
        data: Vec<Segment>,
    ) -> wasmtime::Result<Result<Resource<Held>, Error>> {
        let derived = secrets::hash(&algorithm, &self.parts(data)?);
        self.answer(derived)
    }

    async fn mac(
        &mut self,
        algorithm: String,
        key: Resource<Held>,
        data: Vec<Segment>,
    ) -> wasmtime::Result<Result<Resource<Held>, Error>> {
        let derived = secrets::mac(&algorithm, self.table.get(&key)?, &self.parts(data)?);
        self.answer(derived)
    }

    async fn sign(
        &mut self,
        algorithm: String,
        key: Resource<Held>,
        data: Vec<Segment>,
    ) -> wasmtime::Result<Result<Resource<Held>, Error>> {
        let derived = secrets::sign(&algorithm, self.table.get(&key)?, &self.parts(data)?);
        self.answer(derived)
    }
}

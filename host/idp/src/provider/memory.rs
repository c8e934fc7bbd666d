//! What `invocation.remember` keeps, for one provider, registry and identity: in memory, and sealed in a file for the next command. Any
//! doubt about the file is a miss, and a file that cannot be written costs the next command a question.

use std::collections::HashMap;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::context::CallContext;
use super::private;
use super::registry::{ProviderInfo, Source};
use super::secrets::{Held, Written, hex};

/// Values kept for a provider at once.
const VALUES_MAX: usize = 64;
/// For so long at most, whatever a provider says.
const LIFETIME_MAX: Duration = Duration::from_secs(86_400);
/// Bytes of the largest file.
const FILE_MAX: u64 = 512 * 1024;
/// Files; the oldest go first.
const FILES_MAX: usize = 128;

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    vault: Option<Vault>,
    kept: Mutex<Option<HashMap<String, Entry>>>,
}

#[derive(Debug, Clone)]
struct Entry {
    held: Held,
    /// Unix seconds.
    at: u64,
    until: u64,
}

impl Entry {
    /// A clock that went back makes nothing younger.
    fn is_fresh(&self, now: u64) -> bool {
        self.at <= now && now < self.until && self.until - self.at <= LIFETIME_MAX.as_secs()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Memory {
    /// Starts with what earlier commands kept.
    pub(crate) fn kept_in(vault: Vault) -> Self {
        Self { vault: Some(vault), kept: Mutex::default() }
    }

    fn read(&self) -> HashMap<String, Entry> {
        let Some(vault) = &self.vault else { return HashMap::new() };
        vault.read().unwrap_or_else(|why| {
            tracing::debug!(target: "idp::provider", "{} is not used: {why}", vault.directory.display());
            HashMap::new()
        })
    }

    /// What is kept under a key, as long as it lasts.
    pub(crate) fn get(&self, key: &str) -> Option<Held> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.get_or_insert_with(|| self.read());
        kept.get(key).filter(|entry| entry.is_fresh(now())).map(|entry| entry.held.clone())
    }

    /// Keeps a value.
    pub(crate) fn put(&self, key: String, held: Held, lifetime: Duration) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.get_or_insert_with(HashMap::new);
        let now = now();
        // Another command may have kept something since this one began.
        for (key, entry) in self.read() {
            kept.entry(key).or_insert(entry);
        }
        kept.retain(|_, entry| entry.is_fresh(now));
        if kept.len() < VALUES_MAX || kept.contains_key(&key) {
            let until = now + lifetime.min(LIFETIME_MAX).as_secs();
            kept.insert(key, Entry { held, at: now, until });
        }
        if let Some(vault) = &self.vault
            && let Err(why) = vault.write(kept)
        {
            tracing::debug!(target: "idp::provider", "nothing is kept in {}: {why}", vault.directory.display());
        }
    }
}

/// Everything that tells one identity at one registry from another, for one provider. Holds secrets; goes into a keyed hash only.
pub(crate) fn identity(provider: &ProviderInfo, context: &CallContext) -> Zeroizing<String> {
    let code = match &provider.source {
        Source::BuiltIn(_) => provider.manifest.label(),
        Source::File(_) => format!("component {}", provider.digest.as_deref().unwrap_or_default()),
    };
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let mut add = |part: &str| {
        // With its length, so that no two lists of parts read the same.
        text.push_str(&format!("{}:", part.len()));
        text.push_str(part);
    };
    add(&code);
    add(&context.scheme);
    add(context.registry.as_str());
    for (name, value) in &context.settings {
        add(name);
        add(value);
    }
    let mut slots: Vec<&String> = context.credentials.keys().chain(context.deferred.keys()).collect();
    slots.sort();
    for slot in slots {
        add("slot");
        add(slot);
        if let Some(set) = context.credentials.get(slot) {
            add(&set.kind);
            for (name, value) in set.public.iter().filter(|(name, _)| name == "username") {
                add(name);
                add(value);
            }
            for (name, value) in &set.secrets {
                add(name);
                add(value.expose());
            }
        }
        if let Some(deferred) = context.deferred.get(slot) {
            add(&deferred.selector());
        }
    }
    text
}

/// A sealed file of one identity.
pub(crate) struct Vault {
    directory: PathBuf,
    key_file: PathBuf,
    identity: Zeroizing<String>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", self.directory.display())
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    at: u64,
    until: u64,
    secret: Written,
}

/// Where the file is, and what opens it.
struct Opened {
    path: PathBuf,
    name: String,
    seal: LessSafeKey,
}

impl Vault {
    /// `directory` holds the files, `key_file` lies outside of it.
    pub(crate) fn new(directory: PathBuf, key_file: PathBuf, identity: Zeroizing<String>) -> Self {
        Self { directory, key_file, identity }
    }

    fn open(&self, make: bool) -> Result<Option<Opened>, String> {
        let Some(key) = private::key(&self.key_file, make)? else { return Ok(None) };
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_slice());
        let mut context = hmac::Context::with_key(&key);
        context.update(b"name\0");
        context.update(self.identity.as_bytes());
        let name = hex(&context.sign().as_ref()[..16]);
        let seal = UnboundKey::new(&AES_256_GCM, hmac::sign(&key, b"seal\0").as_ref())
            .map_err(|_| "the key is none".to_owned())?;
        Ok(Some(Opened { path: self.directory.join(&name), name, seal: LessSafeKey::new(seal) }))
    }

    fn read(&self) -> Result<HashMap<String, Entry>, String> {
        if !private::is_directory(&self.directory)? {
            return Ok(HashMap::new());
        }
        let Some(opened) = self.open(false)? else { return Ok(HashMap::new()) };
        let Some(file) = private::open(&opened.path)? else { return Ok(HashMap::new()) };
        let mut bytes = Vec::new();
        file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() as u64 > FILE_MAX {
            return Err("it is too large".to_owned());
        }
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN).ok_or("it is cut short")?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| "it is cut short")?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let plain = opened
            .seal
            .open_in_place(nonce, Aad::from(opened.name.as_bytes()), &mut sealed)
            .map_err(|_| "it was changed, or sealed under another key")?;
        let lines: Vec<Line> = serde_json::from_slice(plain).map_err(|_| "it is of another version")?;
        let now = now();
        let entries = lines.into_iter().filter_map(|line| {
            let entry = Entry { held: Held::read(&line.secret)?, at: line.at, until: line.until };
            entry.is_fresh(now).then_some((line.key, entry))
        });
        Ok(entries.collect())
    }

    fn write(&self, kept: &HashMap<String, Entry>) -> Result<(), String> {
        let line = |(key, entry): (&String, &Entry)| {
            Some(Line { key: key.clone(), at: entry.at, until: entry.until, secret: entry.held.write()? })
        };
        let lines: Vec<Line> = kept.iter().filter_map(line).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let mut sealed = Zeroizing::new(serde_json::to_vec(&lines).map_err(|error| error.to_string())?);
        if sealed.len() as u64 > FILE_MAX / 2 {
            return Err("that is too much".to_owned());
        }
        private::make_directory(&self.directory)?;
        self.clean();
        let opened = self.open(true)?.ok_or("there is no key")?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| "the system has no randomness")?;
        opened
            .seal
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(opened.name.as_bytes()),
                &mut *sealed,
            )
            .map_err(|_| "it cannot be sealed")?;
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.directory)?;
            file.write_all(&nonce)?;
            file.write_all(&sealed)?;
            file.persist(&opened.path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|error| error.to_string())
    }

    /// Removes files in which nothing can be fresh, and the oldest of too many.
    fn clean(&self) {
        let Ok(files) = std::fs::read_dir(&self.directory) else { return };
        let mut files: Vec<(SystemTime, PathBuf)> = files
            .filter_map(|file| {
                let file = file.ok()?;
                Some((file.metadata().ok()?.modified().ok()?, file.path()))
            })
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(FILES_MAX);
        for (place, (changed, path)) in files.iter().enumerate() {
            let is_old = changed.elapsed().is_ok_and(|age| age > LIFETIME_MAX);
            if is_old || place < surplus {
                remove(path);
            }
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::debug!(target: "idp::provider", "{} stays: {error}", path.display());
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;

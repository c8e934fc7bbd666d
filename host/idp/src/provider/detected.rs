//! What earlier commands found out about hosts, so that the next one need not ask. A file that cannot be read is as good as none.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// For so long a detection is believed.
pub(crate) const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Hosts that are kept; the oldest go first.
const HOSTS_MAX: usize = 256;
const FILE_MAX: u64 = 1024 * 1024;

/// What was found out about a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detected {
    /// Name of the provider.
    pub provider: String,
    /// 0 to 100.
    pub certainty: u8,
    /// Product and version, for people.
    #[serde(default)]
    pub product: String,
    /// Settings that `identify` derived.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Unix seconds.
    pub at: u64,
}

/// The file of detections.
#[derive(Debug, Clone)]
pub struct Detections {
    path: PathBuf,
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Detections {
    /// `detected.json`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn read(&self) -> BTreeMap<String, Detected> {
        let small = std::fs::metadata(&self.path).is_ok_and(|found| found.len() <= FILE_MAX);
        let text = small.then(|| std::fs::read(&self.path).ok()).flatten().unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// What is known of `scheme://host`, and how many seconds ago it was found out.
    pub fn get(&self, host: &str) -> Option<(Detected, u64)> {
        let found = self.read().remove(host)?;
        // A clock that went back makes nothing younger.
        let age = now().checked_sub(found.at)?;
        (age < LIFETIME.as_secs()).then_some((found, age))
    }

    /// Keeps a detection. A failure costs the next command a question, and is logged.
    pub fn put(&self, host: &str, mut detected: Detected) {
        detected.at = now();
        let mut all = self.read();
        all.insert(host.to_owned(), detected);
        while all.len() > HOSTS_MAX {
            let oldest = all.iter().min_by_key(|(_, detected)| detected.at).map(|(host, _)| host.clone());
            all.remove(&oldest.unwrap_or_default());
        }
        self.write(&all);
    }

    /// Forgets a host.
    pub fn forget(&self, host: &str) {
        let mut all = self.read();
        if all.remove(host).is_some() {
            self.write(&all);
        }
    }

    fn write(&self, all: &BTreeMap<String, Detected>) {
        let write = || -> std::io::Result<()> {
            let parent = self.path.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(parent)?;
            let mut file = tempfile::Builder::new().prefix(".detected-").tempfile_in(parent)?;
            file.write_all(&serde_json::to_vec_pretty(all)?)?;
            file.persist(&self.path).map_err(|error| error.error)?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::debug!(target: "idp::provider", "{} is not written: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Detected, Detections, LIFETIME, now};

    fn detected(at: u64) -> Detected {
        Detected {
            provider: "gitea".to_owned(),
            certainty: 90,
            product: "Gitea 1.22".to_owned(),
            settings: [("a".to_owned(), "b".to_owned())].into(),
            at,
        }
    }

    #[test]
    fn kept_for_a_day_and_forgotten() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("providers/detected.json");
        let detections = Detections::new(&path);
        assert_eq!(detections.get("https://r.example"), None);
        detections.put("https://r.example", detected(0));
        let (found, age) = detections.get("https://r.example").expect("kept");
        assert_eq!((found.provider.as_str(), found.settings["a"].as_str(), age < 60), ("gitea", "b", true));
        assert_eq!(detections.get("http://r.example"), None);
        for at in [now() - LIFETIME.as_secs() - 1, now() + 3600] {
            let text = serde_json::json!({"https://r.example": detected(at)}).to_string();
            std::fs::write(&path, text).expect("written");
            assert_eq!(detections.get("https://r.example"), None, "{at}");
        }
        detections.put("https://r.example", detected(0));
        detections.forget("https://r.example");
        assert_eq!(detections.get("https://r.example"), None);
    }

    #[test]
    fn a_corrupt_file_is_a_miss_and_is_replaced() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("detected.json");
        for text in ["", "{", "[]", "{\"https://r.example\": 1}", "\u{0}"] {
            std::fs::write(&path, text).expect("written");
            let detections = Detections::new(&path);
            assert_eq!(detections.get("https://r.example"), None, "{text:?}");
            detections.put("https://r.example", detected(0));
            assert!(detections.get("https://r.example").is_some(), "{text:?}");
        }
    }
}

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use idp_oci::secret::Secret;
use zeroize::Zeroizing;

use super::super::manifest::Manifest;
use super::super::pattern::{Origin, OriginPattern, Symbols};
use super::super::secrets::{Audience, Held};
use super::{CallContext, Memory, ProviderInfo, Source, Vault, identity};
use crate::provider::context::CredentialSet;

const HOUR: Duration = Duration::from_secs(3600);
const TOKEN: &str = "a-token-that-is-kept";

fn memory(home: &Path, identity: &str) -> Memory {
    let identity = Zeroizing::new(identity.to_owned());
    Memory::kept_in(Vault::new(home.join("remembered"), home.join("remembered.key"), identity))
}

fn captured(value: &str) -> Held {
    Held::captured(value.as_bytes(), Audience::only(vec![OriginPattern::Registry]), &[])
}

fn value(found: Option<Held>) -> Option<String> {
    found.map(|held| String::from_utf8(held.expose().to_vec()).expect("text"))
}

fn files(home: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(home.join("remembered")).expect("a directory");
    files.map(|file| file.expect("a file").path()).collect()
}

#[test]
fn the_next_command_has_it_and_nobody_else() {
    let home = tempfile::tempdir().expect("a directory");
    memory(home.path(), "me").put("token".to_owned(), captured(TOKEN), HOUR);
    let next = memory(home.path(), "me");
    assert_eq!(value(next.get("token")).as_deref(), Some(TOKEN));
    assert_eq!(value(next.get("other")), None);
    assert_eq!(value(memory(home.path(), "somebody else").get("token")), None);
    let elsewhere = tempfile::tempdir().expect("a directory");
    assert_eq!(value(memory(elsewhere.path(), "me").get("token")), None);
}

#[test]
fn two_commands_at_once_lose_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let (one, other) = (memory(home.path(), "me"), memory(home.path(), "me"));
    assert!(one.get("a").is_none() && other.get("b").is_none());
    one.put("a".to_owned(), captured("value of a"), HOUR);
    other.put("b".to_owned(), captured("value of b"), HOUR);
    let next = memory(home.path(), "me");
    assert!(next.get("a").is_some() && next.get("b").is_some());
}

#[test]
fn it_goes_where_it_went_before() {
    let home = tempfile::tempdir().expect("a directory");
    memory(home.path(), "me").put("token".to_owned(), captured(TOKEN), HOUR);
    let held = memory(home.path(), "me").get("token").expect("kept");
    let origin = |host: &str| Origin::registry("https", host).expect("an origin");
    let symbols = Symbols { registry: origin("r.example"), realms: Vec::new() };
    assert!(held.admits(&origin("r.example"), &symbols));
    assert!(!held.admits(&origin("evil.example"), &symbols));
    assert!(!held.long_lived());
}

#[test]
fn nothing_is_in_the_clear_and_nothing_long_lived_at_all() {
    let home = tempfile::tempdir().expect("a directory");
    let memory_of_me = memory(home.path(), "hunter22-identity");
    memory_of_me.put("token".to_owned(), captured(TOKEN), HOUR);
    let long_lived = Held::credential(&Secret::new("hunter22"), Audience::default());
    memory_of_me.put("password".to_owned(), long_lived, HOUR);
    assert!(memory_of_me.get("password").is_some(), "for this command");
    assert!(memory(home.path(), "hunter22-identity").get("password").is_none());
    for file in files(home.path()) {
        let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = String::from_utf8_lossy(&std::fs::read(&file).expect("read")).into_owned();
        for word in [TOKEN, "token", "hunter22", "registry"] {
            assert!(!text.contains(word) && !file.to_string_lossy().contains("hunter22"), "{word}");
        }
    }
    let key = std::fs::metadata(home.path().join("remembered.key")).expect("a key");
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_over_is_gone() {
    let home = tempfile::tempdir().expect("a directory");
    let kept = memory(home.path(), "me");
    kept.put("token".to_owned(), captured(TOKEN), Duration::ZERO);
    assert!(kept.get("token").is_none());
    kept.put("long".to_owned(), captured(TOKEN), Duration::MAX);
    let entries = kept.kept.lock().expect("kept").clone().expect("read");
    assert_eq!(entries["long"].until - entries["long"].at, 86_400);
    let mut entry = entries["long"].clone();
    assert!(!entry.is_fresh(entry.at - 1), "from the future");
    entry.until = entry.at + 90_000;
    assert!(!entry.is_fresh(entry.at), "longer than anything is kept");
}

#[test]
fn any_doubt_is_a_miss() {
    let home = tempfile::tempdir().expect("a directory");
    let put = || memory(home.path(), "me").put("token".to_owned(), captured(TOKEN), HOUR);
    let get = || value(memory(home.path(), "me").get("token"));
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
    };
    put();
    let file = files(home.path()).remove(0);
    let good = std::fs::read(&file).expect("read");
    for at in [0, 5, 12, 20, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&file, &bad).expect("written");
        assert_eq!(get(), None, "byte {at}");
    }
    for length in [0, 5, 12, 20, good.len() - 1] {
        std::fs::write(&file, &good[..length]).expect("written");
        assert_eq!(get(), None, "{length} bytes");
    }
    std::fs::write(&file, &good).expect("written");
    assert!(get().is_some());
    for path in [file.clone(), home.path().join("remembered.key")] {
        mode(&path, 0o644);
        assert_eq!(get(), None, "readable by others");
        mode(&path, 0o600);
    }
    mode(&home.path().join("remembered"), 0o777);
    assert_eq!(get(), None, "a directory that others can write to");
    mode(&home.path().join("remembered"), 0o700);
    // A file of one identity does not pass for that of another.
    memory(home.path(), "other").put("token".to_owned(), captured("of another"), HOUR);
    let other = files(home.path()).into_iter().find(|path| *path != file).expect("another file");
    std::fs::copy(&other, &file).expect("copied");
    assert_eq!(get(), None);
    std::fs::remove_file(home.path().join("remembered.key")).expect("removed");
    assert_eq!(get(), None, "another key");
    put();
    assert!(get().is_some(), "and then it is kept again");
}

#[test]
fn where_nothing_can_be_written_it_lasts_for_the_command() {
    let kept = memory(Path::new("/dev/null/nowhere"), "me");
    kept.put("token".to_owned(), captured(TOKEN), HOUR);
    assert_eq!(value(kept.get("token")).as_deref(), Some(TOKEN));
}

#[test]
fn identities() {
    let manifest = Manifest::parse("schema = 1\ncontract = \"0.1\"\nname = \"x\"\nversion = \"1\"\n");
    let provider = |source, digest: Option<&str>| ProviderInfo {
        source,
        manifest: Arc::new(manifest.clone().expect("a manifest")),
        digest: digest.map(str::to_owned),
    };
    let built_in = provider(Source::BuiltIn("x"), None);
    let context = |registry: &str, password: Option<&str>| {
        let mut context = CallContext::new(registry.parse().expect("a registry"), "https", "pull");
        if let Some(password) = password {
            let set = CredentialSet {
                kind: "basic".to_owned(),
                public: vec![("username".to_owned(), "ci".to_owned())],
                secrets: vec![("password".to_owned(), Secret::new(password))],
                audience: Vec::new(),
            };
            context.credentials.insert("registry".to_owned(), set);
        }
        context
    };
    let mut other_setting = context("r.example", None);
    other_setting.settings.insert("api".to_owned(), "https://elsewhere.example".to_owned());
    let all = [
        identity(&built_in, &context("r.example", None)),
        identity(&built_in, &context("r.example", Some("one"))),
        identity(&built_in, &context("r.example", Some("two"))),
        identity(&built_in, &context("r.example:5000", None)),
        identity(&built_in, &other_setting),
        identity(&provider(Source::File("x.wasm".into()), Some("1")), &context("r.example", None)),
        identity(&provider(Source::File("x.wasm".into()), Some("2")), &context("r.example", None)),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(all[at + 1..].iter().all(|other| other != one), "{at}");
    }
    assert_eq!(all[1], identity(&built_in, &context("r.example", Some("one"))));
}

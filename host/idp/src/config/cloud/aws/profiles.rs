//! `~/.aws/config` and `~/.aws/credentials`: text in, profiles out. Follows no reference from one profile to another.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::{CloudError, Tools, below_home};

/// The keys of one profile.
#[derive(Debug, Clone, Default)]
pub(super) struct Profile(BTreeMap<String, String>);

impl Profile {
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Both files.
#[derive(Default)]
pub(super) struct Profiles {
    profiles: BTreeMap<String, Profile>,
    sessions: BTreeMap<String, Profile>,
}

/// The configuration, then the credentials.
pub(super) fn files(tools: &Tools) -> [Option<PathBuf>; 2] {
    let file = |variable, usual: &str| {
        below_home(tools, &tools.env.named(variable).unwrap_or_else(|| usual.to_owned()))
    };
    [file("AWS_CONFIG_FILE", "~/.aws/config"), file("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")]
}

impl Profiles {
    /// Reads both. One that is not there is an empty one.
    pub(super) fn load(tools: &Tools) -> Result<Self, CloudError> {
        let mut all = Self::default();
        for (file, is_config) in files(tools).into_iter().zip([true, false]) {
            let Some(file) = file else { continue };
            if file.exists() {
                all.add(&tools.read(&file, "AWS's own configuration")?, is_config);
            }
        }
        for profile in all.profiles.values() {
            for key in ["aws_secret_access_key", "aws_session_token"] {
                profile.get(key).iter().for_each(|value| drop(tools.secret(value)));
            }
        }
        Ok(all)
    }

    /// What stands in the credentials file wins. Lines that say nothing are passed over, as AWS's own tools do.
    fn add(&mut self, text: &str, is_config: bool) {
        let mut section: Option<&mut Profile> = None;
        let mut nested = false;
        for line in text.lines() {
            let content = line.trim();
            if content.is_empty() || content.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = content.strip_prefix('[') {
                let name = name.split(']').next().unwrap_or_default().trim();
                section = self.section(name, is_config);
                continue;
            }
            let Some((key, value)) = content.split_once('=') else { continue };
            let (key, value) = (key.trim().to_ascii_lowercase(), without_comment(value.trim()));
            // `s3 =`, and its own settings below it, indented.
            if line.starts_with([' ', '\t']) && nested {
                continue;
            }
            nested = value.is_empty();
            if let Some(profile) = &mut section {
                profile.0.insert(key, value.to_owned());
            }
        }
    }

    fn section(&mut self, name: &str, is_config: bool) -> Option<&mut Profile> {
        let words: Vec<&str> = name.splitn(2, [' ', '\t']).map(str::trim).collect();
        let unquoted = |name: &str| name.trim_matches('"').to_owned();
        match words.as_slice() {
            ["profile", name] if is_config => Some(self.profiles.entry(unquoted(name)).or_default()),
            ["sso-session", name] if is_config => Some(self.sessions.entry(unquoted(name)).or_default()),
            ["default"] => Some(self.profiles.entry("default".to_owned()).or_default()),
            [name] if !is_config => Some(self.profiles.entry((*name).to_owned()).or_default()),
            _ => None,
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Profile> {
        self.profiles.get(name)
    }

    /// `[sso-session NAME]`
    pub(super) fn session(&self, name: &str) -> Option<&Profile> {
        self.sessions.get(name)
    }
}

/// ` #` and ` ;` start a comment.
fn without_comment(value: &str) -> &str {
    let at = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
    value[..at.unwrap_or(value.len())].trim_end()
}

#[cfg(test)]
mod tests {
    use super::Profiles;

    #[test]
    fn what_the_files_say() {
        let mut all = Profiles::default();
        all.add(
            "# a comment\n[default]\nregion = eu-central-1 ; here\ns3 =\n  addressing_style = path\noutput=json\n\
             [profile a]\naws_access_key_id = CONFIG\nrole_arn=arn:aws:iam::1:role/x#y\n\
             [profile \"with space\"]\nRegion = x\n[sso-session corp]\nsso_region = us-east-1\n[b]\nregion = no\n",
            true,
        );
        all.add("[a]\naws_access_key_id = CREDENTIALS\n[profile c]\nregion = no\n", false);
        let value = |profile: &str, key: &str| {
            all.get(profile).and_then(|profile| profile.get(key)).map(str::to_owned)
        };
        for (profile, key, expect) in [
            ("default", "region", Some("eu-central-1")),
            ("default", "addressing_style", None),
            ("default", "s3", None),
            ("default", "output", Some("json")),
            ("a", "aws_access_key_id", Some("CREDENTIALS")),
            ("a", "role_arn", Some("arn:aws:iam::1:role/x#y")),
            ("with space", "region", Some("x")),
            ("b", "region", None),
            ("c", "region", None),
        ] {
            assert_eq!(value(profile, key).as_deref(), expect, "{profile} {key}");
        }
        assert!(all.session("corp").is_some_and(|session| session.get("sso_region") == Some("us-east-1")));
    }
}

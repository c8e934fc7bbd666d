//! Which repositories need how many signatures by which keys. In: a policy and what was found. Out: whether that is enough.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TrustError;
use super::key::{KeyError, PublicKey};
use super::verify::{NamedKey, Verification};

/// Longer patterns are not meant.
const LONGEST_PATTERN: usize = 512;

/// Rules; the first whose pattern matches holds. A repository that none matches needs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerificationPolicy {
    /// The rules, in order.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// What the repositories that a pattern matches need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// `registry/repository`, with `*` within a component, `**` across components, and `{a,b}`.
    pub match_repository: String,
    /// What happens where the signatures are not enough.
    pub mode: Mode,
    /// Files of public keys, from the directory of the policy's file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<PathBuf>,
    /// How many of the keys must have signed; 1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_signatures: Option<usize>,
}

/// What happens where the signatures are not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The package is refused.
    Require,
    /// The package is taken, and it is said.
    Warn,
    /// Nobody looks.
    Off,
}

/// What a policy makes of what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "decision")]
pub enum Decision {
    /// Enough of the keys signed.
    Verified {
        /// How many.
        signatures: usize,
    },
    /// Nothing was asked for.
    NotAsked,
    /// Too few did; it is taken nevertheless.
    Warned {
        /// What is missing.
        reason: String,
    },
    /// Too few did.
    Refused {
        /// What is missing.
        reason: String,
    },
}

impl Decision {
    /// Whether the package may be used.
    pub fn allows(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}

impl VerificationPolicy {
    /// Checks every rule for what cannot be meant. A policy that was not checked must not decide.
    ///
    /// # Errors
    /// The first rule that asks for the impossible, or for nothing.
    pub fn check(&self) -> Result<(), TrustError> {
        for (index, rule) in self.rules.iter().enumerate() {
            rule.check().map_err(|problem| TrustError::Policy { rule: index + 1, problem })?;
        }
        Ok(())
    }

    /// The rule that holds for `registry/repository`.
    pub fn rule_for(&self, repository: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| fast_glob::glob_match(&rule.match_repository, repository))
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let pattern = &self.match_repository;
        if pattern.is_empty() || pattern.len() > LONGEST_PATTERN {
            return Err(format!(
                "`matchRepository` is a pattern of 1 to {LONGEST_PATTERN} bytes, as registry.example/team/**"
            ));
        }
        if pattern.contains("://") {
            return Err(format!("`matchRepository: {pattern}` is to be written without a scheme"));
        }
        // A pattern that means nothing matches nothing, and then nothing is asked for: it must not get so far.
        if !is_pattern(pattern) {
            return Err(format!(
                "`matchRepository: {pattern}` is no pattern: names, `*` (within a component), `**` (a whole one: any number of \
                 components) and `{{a,b}}` are"
            ));
        }
        if self.mode == Mode::Off {
            return Ok(());
        }
        if self.keys.is_empty() {
            return Err(
                "it asks for signatures and names no keys; give `keys`, or say `mode: off`".to_owned()
            );
        }
        match self.min_signatures {
            Some(0) => Err("`minSignatures: 0` asks for nothing; say `mode: off`".to_owned()),
            Some(least) if least > self.keys.len() => Err(format!(
                "`minSignatures: {least}` cannot be reached with {} keys: each counts once",
                self.keys.len()
            )),
            _ => Ok(()),
        }
    }

    /// Reads its keys.
    ///
    /// # Errors
    /// When one cannot be read: a rule never holds with fewer keys than it names.
    pub fn read_keys(&self, directory: &Path) -> Result<Vec<NamedKey>, TrustError> {
        let read = |path: &PathBuf| -> Result<NamedKey, KeyError> {
            let key = PublicKey::read(&directory.join(path)).map_err(|error| match error {
                KeyError::Unreadable(why) => KeyError::Unreadable(format!("{}: {why}", path.display())),
                KeyError::Unsupported(why) => KeyError::Unsupported(format!("{}: {why}", path.display())),
                error => error,
            })?;
            Ok(NamedKey { name: path.display().to_string(), key })
        };
        let keys: Vec<NamedKey> = self.keys.iter().map(read).collect::<Result<_, _>>()?;
        for (index, key) in keys.iter().enumerate() {
            if let Some(same) = keys[..index].iter().find(|other| other.key == key.key) {
                let (one, other) = (&same.name, &key.name);
                return Err(KeyError::Unreadable(format!(
                    "{one} and {other} hold the same key, which counts once"
                ))
                .into());
            }
        }
        Ok(keys)
    }

    /// What it makes of what was found, with its keys.
    pub fn evaluate(&self, found: &Verification) -> Decision {
        if self.mode == Mode::Off {
            return Decision::NotAsked;
        }
        let (signatures, least) = (found.signers().len(), self.min_signatures.unwrap_or(1).max(1));
        if signatures >= least {
            return Decision::Verified { signatures };
        }
        let reason = self.missing(found, signatures, least);
        if self.mode == Mode::Warn { Decision::Warned { reason } } else { Decision::Refused { reason } }
    }

    fn missing(&self, found: &Verification, signatures: usize, least: usize) -> String {
        let keys = self.keys.len();
        let mut reason = format!(
            "{} is signed by {signatures} of the {keys} keys for `{}`, and {least} are needed",
            found.subject, self.match_repository
        );
        let others: Vec<String> = found
            .findings
            .iter()
            .filter(|finding| !matches!(finding.verdict, super::verify::Verdict::Valid(_)))
            .take(5)
            .map(|finding| format!("; {}: {}", finding.manifest.short(), finding.verdict))
            .collect();
        reason.extend(others);
        reason.extend(found.incomplete.iter().map(|why| format!("; {why}")));
        reason
    }
}

/// Whether a pattern is made of what a name can have, stars, and braces that are closed. A leading `!` would turn its meaning around.
fn is_pattern(pattern: &str) -> bool {
    let mut open = false;
    for character in pattern.chars() {
        match character {
            '{' if !open => open = true,
            '}' if open => open = false,
            '{' | '}' => return false,
            ',' if open => {}
            '*' | '/' | '.' | '_' | '-' | ':' => {}
            other if other.is_ascii_alphanumeric() => {}
            _ => return false,
        }
    }
    let glued = |component: &str| component.contains("**") && component != "**";
    !open && !pattern.split('/').any(glued)
}

/// What a policy makes of what was found in `registry/repository`.
pub fn evaluate(policy: &VerificationPolicy, repository: &str, found: &Verification) -> Decision {
    policy.rule_for(repository).map_or(Decision::NotAsked, |rule| rule.evaluate(found))
}

#[cfg(test)]
mod tests {
    use idp_oci::digest::Digest;

    use super::super::key::{GeneratedKey, generate};
    use super::super::verify::{Finding, Form, Kind, Signer, Verdict, Verification};
    use super::{Decision, Mode, Rule, VerificationPolicy, evaluate};

    fn policy(text: &str) -> Result<VerificationPolicy, String> {
        let policy: VerificationPolicy = serde_json::from_str(text).map_err(|error| error.to_string())?;
        policy.check().map_err(|error| error.to_string()).map(|()| policy)
    }

    fn rule(pattern: &str, rest: &str) -> String {
        format!(r#"{{"rules":[{{"matchRepository":"{pattern}",{rest}}}]}}"#)
    }

    #[test]
    fn the_first_match_holds() {
        let policy = policy(
            r#"{"rules":[
                {"matchRepository":"registry.example/team/dev/**","mode":"off"},
                {"matchRepository":"registry.example/{team,shop}/**","mode":"require","keys":["a.pub","b.pub"],"minSignatures":2},
                {"matchRepository":"localhost:5000/*","mode":"warn","keys":["a.pub"]}
            ]}"#,
        )
        .expect("a policy");
        let mode = |repository: &str| policy.rule_for(repository).map(|rule| rule.mode);
        for (repository, expect) in [
            ("registry.example/team/dev/a", Some(Mode::Off)),
            ("registry.example/team/app", Some(Mode::Require)),
            ("registry.example/team/a/b/c", Some(Mode::Require)),
            ("registry.example/shop/app", Some(Mode::Require)),
            ("registry.example/teams/app", None),
            ("registry.example.evil/team/app", None),
            ("xregistry.example/team/app", None),
            ("localhost:5000/app", Some(Mode::Warn)),
            ("localhost:5000/team/app", None),
        ] {
            assert_eq!(mode(repository), expect, "{repository}");
        }
    }

    #[test]
    fn what_cannot_be_meant() {
        let keys = r#""mode":"require","keys":["a.pub"]"#;
        for (text, expect) in [
            (rule("r/**", r#""mode":"require""#), "names no keys"),
            (rule("r/**", r#""mode":"warn","keys":[]"#), "names no keys"),
            (rule("r/**", r#""mode":"require","keys":["a.pub"],"minSignatures":0"#), "asks for nothing"),
            (rule("r/**", r#""mode":"require","keys":["a.pub"],"minSignatures":2"#), "cannot be reached"),
            (rule("r/**", r#""mode":"required","keys":["a.pub"]"#), "unknown variant"),
            (rule("r/**", r#""mode":"off","key":"a.pub""#), "unknown field"),
            (rule("", keys), "1 to 512 bytes"),
            (rule(&"a".repeat(513), keys), "1 to 512 bytes"),
            (rule("oci://r/**", keys), "without a scheme"),
            (rule("!r/**", keys), "no pattern"),
            (rule("r/{team", keys), "no pattern"),
            (rule("r/team}", keys), "no pattern"),
            (rule("r/{a,{b,c}}", keys), "no pattern"),
            (rule("r/[a", keys), "no pattern"),
            (rule("r/a,b", keys), "no pattern"),
            (rule("r/team**", keys), "no pattern"),
        ] {
            let error = policy(&text).expect_err(&text);
            assert!(error.contains(expect), "{text}: {error}");
        }
        policy(&rule("r/**", keys)).expect("a policy");
        policy(r#"{"rules":[]}"#).expect("a policy");
    }

    fn found(by: &[(&GeneratedKey, Kind)]) -> Verification {
        let subject = Digest::of(b"subject");
        let finding = |(key, kind): &(&GeneratedKey, Kind)| Finding {
            manifest: Digest::of(b"referrer"),
            form: Form::Bundle,
            kind: *kind,
            predicate_type: None,
            verdict: Verdict::Valid(Signer::Key { key: "a.pub".to_owned(), key_id: key.public.id().clone() }),
        };
        let findings = by.iter().map(finding).collect();
        Verification { subject, source: "referrers-api".to_owned(), findings, incomplete: Vec::new() }
    }

    /// A key counts once, and attestations do not count.
    #[test]
    fn enough_signatures() {
        let (one, other) = (generate(None).expect("a key"), generate(None).expect("a key"));
        let rule = |mode, least| Rule {
            match_repository: "r/**".to_owned(),
            mode,
            keys: vec!["a.pub".into(), "b.pub".into()],
            min_signatures: least,
        };
        let signature = Kind::Signature;
        let two = rule(Mode::Require, Some(2));
        assert!(!two.evaluate(&found(&[(&one, signature), (&one, signature)])).allows());
        assert!(!two.evaluate(&found(&[(&one, signature), (&other, Kind::Attestation)])).allows());
        let enough = two.evaluate(&found(&[(&one, signature), (&other, signature)]));
        assert_eq!(enough, Decision::Verified { signatures: 2 });
        assert!(rule(Mode::Require, None).evaluate(&found(&[(&one, signature)])).allows());
        let Decision::Refused { reason } = rule(Mode::Require, None).evaluate(&found(&[])) else {
            panic!("let through")
        };
        assert!(reason.contains("signed by 0 of the 2 keys"), "{reason}");
        assert!(matches!(rule(Mode::Warn, None).evaluate(&found(&[])), Decision::Warned { .. }));
        assert_eq!(rule(Mode::Off, None).evaluate(&found(&[])), Decision::NotAsked);
        let policy = VerificationPolicy { rules: vec![rule(Mode::Require, None)] };
        assert!(!evaluate(&policy, "r/a", &found(&[])).allows());
        assert_eq!(evaluate(&policy, "s/a", &found(&[])), Decision::NotAsked);
    }

    #[test]
    fn keys_of_a_rule() {
        let directory = tempfile::tempdir().expect("a directory");
        let key = generate(None).expect("a key");
        for name in ["a.pub", "b.pub"] {
            std::fs::write(directory.path().join(name), key.public.to_pem()).expect("written");
        }
        std::fs::write(directory.path().join("c.pub"), "no key").expect("written");
        let read = |keys: &[&str]| {
            let keys = keys.iter().map(Into::into).collect();
            let rule =
                Rule { match_repository: "r".to_owned(), mode: Mode::Require, keys, min_signatures: None };
            rule.read_keys(directory.path()).map_err(|error| error.to_string())
        };
        assert_eq!(read(&["a.pub"]).expect("read").len(), 1);
        assert!(read(&["a.pub", "b.pub"]).expect_err("twice").contains("the same key"));
        assert!(read(&["a.pub", "c.pub"]).expect_err("no key").contains("c.pub: no PEM"));
        assert!(read(&["d.pub"]).expect_err("not there").contains("d.pub"));
    }
}

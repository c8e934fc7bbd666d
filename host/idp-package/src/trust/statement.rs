//! In-toto statements, version 1 (in-toto/attestation, `spec/v1/statement.md`): what is said of a thing with this digest.

use std::collections::BTreeMap;

use idp_oci::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `_type` of what is written.
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// What came before it, and is still read.
const STATEMENT_0_1: &str = "https://in-toto.io/Statement/v0.1";
/// The media type of a statement.
pub const MEDIA_TYPE: &str = "application/vnd.in-toto+json";
/// The predicate type of a signature: nothing is said but that the key's owner stands by the subject.
pub const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// Subjects of one statement.
const MOST_SUBJECTS: usize = 1000;

/// A statement. Whoever only wants to know what it is about reads one of nothing ([`serde::de::IgnoredAny`]): a predicate may be large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "P: Deserialize<'de> + Default"))]
pub struct Statement<P = Value> {
    /// Its version.
    #[serde(rename = "_type")]
    pub r#type: String,
    /// What it is about.
    pub subject: Vec<Subject>,
    /// What kind of thing it says.
    pub predicate_type: String,
    /// What it says.
    #[serde(default)]
    pub predicate: P,
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// What it is called; of no consequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its digests, in hex by algorithm.
    #[serde(default)]
    pub digest: BTreeMap<String, String>,
}

impl Statement {
    /// About one thing.
    pub fn new(subject: &Digest, predicate_type: impl Into<String>, predicate: Value) -> Self {
        let digest = [(subject.algorithm().as_str().to_owned(), subject.hex().to_owned())];
        Self {
            r#type: STATEMENT.to_owned(),
            subject: vec![Subject { name: None, digest: digest.into() }],
            predicate_type: predicate_type.into(),
            predicate,
        }
    }

    /// A signature.
    pub fn signature(subject: &Digest) -> Self {
        Self::new(subject, COSIGN_SIGN, Value::Object(serde_json::Map::new()))
    }
}

impl<P> Statement<P> {
    /// Why it says nothing of this; `None` when it does.
    pub fn objection(&self, subject: &Digest) -> Option<String> {
        if self.r#type != STATEMENT && self.r#type != STATEMENT_0_1 {
            return Some(format!("`{}` is no statement of in-toto", super::clip(&self.r#type)));
        }
        if self.subject.len() > MOST_SUBJECTS {
            return Some(format!("it is about more than {MOST_SUBJECTS} things"));
        }
        let algorithm = subject.algorithm().as_str();
        let about = |stated: &Subject| stated.digest.get(algorithm).is_some_and(|hex| hex == subject.hex());
        if self.subject.iter().any(about) {
            return None;
        }
        let other = self.subject.iter().find_map(|stated| stated.digest.get(algorithm));
        Some(match other {
            Some(hex) => format!("it is about {algorithm}:{}, and not about this", super::clip(hex)),
            None => format!("it names no {algorithm} digest of anything"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Digest, Statement};

    #[test]
    fn a_signature_as_cosign_writes_it() {
        let digest = Digest::of(b"");
        let text = serde_json::to_string(&Statement::signature(&digest)).expect("JSON");
        let expect = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{}"}}}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{{}}}}"#,
            digest.hex()
        );
        assert_eq!(text, expect);
    }

    #[test]
    fn about_something_else() {
        let (ours, other) = (Digest::of(b"ours"), Digest::of(b"other"));
        let mut statement = Statement::signature(&ours);
        assert_eq!(statement.objection(&ours), None);
        assert!(statement.objection(&other).is_some_and(|why| why.contains(ours.as_str())));
        statement.subject[0].digest = [("sha512".to_owned(), ours.hex().to_owned())].into();
        assert!(statement.objection(&ours).is_some_and(|why| why.contains("no sha256")));
        statement.subject.clear();
        assert!(statement.objection(&ours).is_some());
        let mut statement = Statement::signature(&ours);
        statement.r#type = "https://in-toto.io/Link/v1".to_owned();
        assert!(statement.objection(&ours).is_some_and(|why| why.contains("no statement")));
    }
}

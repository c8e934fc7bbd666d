//! What is told, in the shape that Harbor 2 gives it (its "Default" format): Argo CD, Kargo and others read it.
//!
//! In: what happened. Out: JSON. Pure. Argo CD takes the first resource that has a tag, the host out of `resource_url` and
//! the repository out of `repo_full_name`: so every tag is an event of its own.

use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::name::Repository;

/// What targets can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookEvent {
    /// A manifest was pushed, or a tag pointed at one.
    Push,
    /// A manifest was pulled.
    Pull,
    /// A manifest or a tag was deleted.
    Delete,
}

impl WebhookEvent {
    const fn name(self) -> &'static str {
        match self {
            Self::Push => "PUSH_ARTIFACT",
            Self::Pull => "PULL_ARTIFACT",
            Self::Delete => "DELETE_ARTIFACT",
        }
    }
}

/// What happened to one manifest or tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) event: WebhookEvent,
    pub(crate) repository: Repository,
    /// Not known of a tag that was deleted.
    pub(crate) digest: Option<String>,
    pub(crate) tag: Option<String>,
    /// Who did it.
    pub(crate) user: Option<String>,
    pub(crate) at: SystemTime,
    /// What the registry was called by who did it: `host[:port]`.
    pub(crate) host: String,
}

#[derive(Serialize)]
struct Payload<'a> {
    r#type: &'static str,
    occur_at: u64,
    operator: &'a str,
    event_data: EventData<'a>,
}

#[derive(Serialize)]
struct EventData<'a> {
    resources: [Resource<'a>; 1],
    repository: Repo<'a>,
}

#[derive(Serialize)]
struct Resource<'a> {
    digest: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    resource_url: String,
}

#[derive(Serialize)]
struct Repo<'a> {
    name: &'a str,
    namespace: &'a str,
    repo_full_name: &'a str,
    repo_type: &'static str,
}

impl Happened {
    /// The JSON for a target that knows the registry by this host, or by the one that the request used.
    pub(crate) fn json(&self, host: Option<&str>) -> Bytes {
        let (host, full) = (host.unwrap_or(&self.host), self.repository.as_str());
        let (namespace, name) = full.rsplit_once('/').unwrap_or(("", full));
        let digest = self.digest.as_deref().unwrap_or_default();
        let tag = self.tag.as_deref();
        let resource_url = match tag {
            Some(tag) => format!("{host}/{full}:{tag}"),
            None => format!("{host}/{full}@{digest}"),
        };
        let payload = Payload {
            r#type: self.event.name(),
            occur_at: self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
            operator: self.user.as_deref().unwrap_or("anonymous"),
            event_data: EventData {
                resources: [Resource { digest, tag, resource_url }],
                repository: Repo { name, namespace, repo_full_name: full, repo_type: "private" },
            },
        };
        serde_json::to_vec(&payload).expect("texts can be written as JSON").into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{Happened, WebhookEvent};

    #[test]
    fn as_harbor_has_it() {
        let mut happened = Happened {
            event: WebhookEvent::Push,
            repository: "team/web/app".parse().expect("a name"),
            digest: Some("sha256:ab".to_owned()),
            tag: Some("v1".to_owned()),
            user: Some("ci".to_owned()),
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_680_501_893_500),
            host: "localhost:5000".to_owned(),
        };
        let expect = r#"{"type":"PUSH_ARTIFACT","occur_at":1680501893,"operator":"ci","event_data":{"resources":[{"digest":"sha256:ab","tag":"v1","resource_url":"registry.test/team/web/app:v1"}],"repository":{"name":"app","namespace":"team/web","repo_full_name":"team/web/app","repo_type":"private"}}}"#;
        assert_eq!(happened.json(Some("registry.test")), expect);
        (happened.tag, happened.user, happened.event) = (None, None, WebhookEvent::Delete);
        happened.repository = "app".parse().expect("a name");
        let expect = r#"{"type":"DELETE_ARTIFACT","occur_at":1680501893,"operator":"anonymous","event_data":{"resources":[{"digest":"sha256:ab","resource_url":"localhost:5000/app@sha256:ab"}],"repository":{"name":"app","namespace":"","repo_full_name":"app","repo_type":"private"}}}"#;
        assert_eq!(happened.json(None), expect);
    }
}

//! Access logs of peers: how often and what a client really asked, in the server's own words.
//!
//! In: the lines a server wrote. Out: [`Access`] entries, without the requests of this crate itself.

/// The `User-Agent` of requests that this crate makes to start and prepare a peer; they are not counted.
pub(super) const OWN_USER_AGENT: &str = "idp-peers-setup";

/// One request in a server's access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The HTTP method.
    pub method: String,
    /// Path and query as the server logged them.
    pub target: String,
    /// The status answered.
    pub status: u16,
}

/// How a server writes its access log.
#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    /// Apache's combined format: distribution, Gitea.
    Combined,
    /// One JSON object a line with `method`, `path`, `statusCode`: zot.
    ZotJson,
}

impl Format {
    /// The requests in `log`; lines that are none are passed over.
    pub(super) fn parse(self, log: &str) -> Vec<Access> {
        log.lines()
            .filter(|line| !line.contains(OWN_USER_AGENT))
            .filter_map(|line| match self {
                Self::Combined => combined(line),
                Self::ZotJson => zot_json(line),
            })
            .collect()
    }
}

/// `127.0.0.1 - - [21/Nov/2026:11:57:05 +0000] "GET /v2/ HTTP/1.1" 401 50 "" "agent"`
fn combined(line: &str) -> Option<Access> {
    let (request, rest) = line.split_once("] \"")?.1.split_once("\" ")?;
    let mut words = request.split(' ');
    let (method, target, protocol) = (words.next()?, words.next()?, words.next()?);
    if !protocol.starts_with("HTTP/") {
        return None;
    }
    let status = rest.split(' ').next()?.parse().ok()?;
    Some(Access { method: method.to_owned(), target: target.to_owned(), status })
}

fn zot_json(line: &str) -> Option<Access> {
    let entry: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(Access {
        method: entry.get("method")?.as_str()?.to_owned(),
        target: entry.get("path")?.as_str()?.to_owned(),
        status: entry.get("statusCode")?.as_u64()?.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combined_lines_are_read_and_others_passed_over() {
        let log = "time=\"2026-11-21T11:46:49Z\" level=info msg=\"listening\"\n\
            127.0.0.1 - - [21/Nov/2026:11:57:05 +0000] \"HEAD /v2/a/b/blobs/sha256:00?x=1 HTTP/1.1\" 404 0 \"\" \"idp/0.1\"\n\
            127.0.0.1 - - [21/Nov/2026:11:57:05 +0000] \"GET /v2/ HTTP/1.1\" 401 50 \"\" \"idp-peers-setup\"\n";
        let entries = Format::Combined.parse(log);
        let expected =
            Access { method: "HEAD".into(), target: "/v2/a/b/blobs/sha256:00?x=1".into(), status: 404 };
        assert_eq!(entries, [expected]);
    }

    #[test]
    fn json_lines_are_read_and_others_passed_over() {
        let log = "{\"level\":\"info\",\"message\":\"HTTP API\",\"method\":\"GET\",\"path\":\"/v2/\",\"statusCode\":200}\n\
            {\"level\":\"info\",\"message\":\"starting\"}\nnot json\n";
        let expected = Access { method: "GET".into(), target: "/v2/".into(), status: 200 };
        assert_eq!(Format::ZotJson.parse(log), [expected]);
    }
}

//! Versity S3 Gateway: a real S3 service over a directory, with conditional writes, parts and checked signatures.
//!
//! In: names of buckets. Out: a [`Server`], and the variables with which it lets a client in.

use std::fs;
use std::process::Command;

use super::server::{LOG, Plan, Server};
use super::{Unavailable, built};

const KEY: &str = "test";
const SECRET: &str = "a secret of the tests";

/// An S3 service that is running.
#[derive(Debug)]
pub struct VersityGw {
    server: Server,
}

impl VersityGw {
    /// A service with these buckets, all empty.
    pub async fn start(buckets: &[&str]) -> Result<Self, Unavailable> {
        let program = built("versitygw")?;
        let server = Plan {
            peer: "versitygw",
            prepare: &|dir, port| {
                let (data, meta) = (dir.join("data"), dir.join("meta"));
                fs::create_dir(&data)?;
                fs::create_dir(&meta)?;
                for bucket in buckets {
                    fs::create_dir(data.join(bucket))?;
                }
                let mut command = Command::new(&program);
                command.args(["--access", KEY, "--secret", SECRET, "--keep-alive"]);
                // Extended attributes are not on every file system that tests run on.
                command.arg("--port").arg(format!("127.0.0.1:{port}")).args(["posix", "--sidecar"]);
                command.arg(meta).arg(data);
                Ok(command)
            },
            ready: "/",
            access_log: None,
        };
        Ok(Self { server: server.start().await? })
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// The variables that AWS' tools read.
    pub fn variables(&self) -> Vec<(String, String)> {
        [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_REGION", "us-east-1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    /// The server itself.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The requests so far, as `METHOD path?query` of each line that it printed.
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.server.dir().join(LOG)).unwrap_or_default();
        log.lines().filter_map(request).collect()
    }
}

/// `time | vgw | status | took | client | METHOD | path | error | query`
fn request(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let [_, _, _, _, _, method, path, rest @ ..] = &fields[..] else { return None };
    let query = rest.last().copied().unwrap_or_default();
    method.bytes().all(|byte| byte.is_ascii_uppercase()).then(|| format!("{method} {path}?{query}"))
}

//! A site that is a real server on loopback: every request of the net goes there as it came, under the name that it was sent to.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::faults::Reply;
use crate::net::{Request, Site};

/// Answers by asking `127.0.0.1:PORT` over plain HTTP.
#[derive(Debug, Clone)]
pub struct Forward(String);

impl Forward {
    /// To this address.
    pub fn to(address: &str) -> Self {
        Self(address.to_owned())
    }

    /// The answer to a bare GET; `None` when there is none.
    pub fn get(&self, target: &str) -> Option<serde_json::Value> {
        let request = Request {
            host: self.0.clone(),
            method: "GET".to_owned(),
            target: target.to_owned(),
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
        };
        let (_, _, body) = self.ask(&request).ok()?.into_parts();
        serde_json::from_slice(&body).ok()
    }

    fn ask(&self, request: &Request) -> std::io::Result<Reply> {
        let mut stream = TcpStream::connect(&self.0)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut head = format!(
            "{} {} HTTP/1.0\r\nhost: {}\r\nx-forwarded-proto: https\r\ncontent-length: {}\r\n",
            request.method,
            request.target,
            request.host,
            request.body.len()
        );
        let own = ["host", "content-length", "transfer-encoding", "connection"];
        for (name, value) in request.headers.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
            head.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(&request.body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        read(&answer).ok_or_else(|| std::io::Error::other("not HTTP"))
    }
}

/// Status, headers and body of an answer that ends with its connection (HTTP/1.0: no chunks).
fn read(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut reply = Reply::status(status);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if !["connection", "content-length", "date"].contains(&name.to_ascii_lowercase().as_str()) {
            reply = reply.and_header(name, value.trim());
        }
    }
    Some(reply.body(answer[end + 4..].to_vec()))
}

impl Site for Forward {
    fn answer(&mut self, request: &Request) -> Reply {
        self.ask(request).unwrap_or_else(|error| Reply::status(502).body(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn answers_are_read() {
        let reply =
            read(b"HTTP/1.0 201 Created\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nab").expect("an answer");
        let (status, headers, body) = reply.into_parts();
        assert_eq!(
            (status, &headers["location"], &body[..]),
            (201, &"/x".parse().expect("a value"), &b"ab"[..])
        );
        assert!(read(b"HTTP/1.0 200").is_none());
    }
}

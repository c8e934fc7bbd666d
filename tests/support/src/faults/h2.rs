//! HTTP/2 by the frame (RFC 9113): a server that says what a test wants it to say, over TLS by ALPN. Reads no header: what is asked for
//! is known to the test.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::raw::Raw;

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub const DATA: u8 = 0;
/// A request's or an answer's headers.
pub const HEADERS: u8 = 1;
/// The end of one stream.
pub const RST_STREAM: u8 = 3;
/// What a side wants.
pub const SETTINGS: u8 = 4;
/// The end of a connection.
pub const GOAWAY: u8 = 7;
/// More may be sent.
pub const WINDOW_UPDATE: u8 = 8;

/// No error.
pub const NO_ERROR: u32 = 0;
/// Something broke inside.
pub const INTERNAL_ERROR: u32 = 2;
/// Nothing was done with the stream.
pub const REFUSED_STREAM: u32 = 7;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it holds.
    pub payload: Vec<u8>,
}

impl Frame {
    /// It is the last of its stream.
    pub fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & 1 != 0
    }

    /// The pairs of a SETTINGS frame.
    pub fn settings(&self) -> Vec<(u16, u32)> {
        let pair = |pair: &[u8]| {
            (u16::from_be_bytes([pair[0], pair[1]]), u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]))
        };
        self.payload.chunks_exact(6).map(pair).collect()
    }

    /// The number of a WINDOW_UPDATE or RST_STREAM frame.
    pub fn number(&self) -> u32 {
        u32::from_be_bytes([self.payload[0], self.payload[1], self.payload[2], self.payload[3]])
    }
}

/// One connection of a client.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
}

impl Connection {
    /// The next frame; `None` when the client went away.
    pub async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The stream of the next request, after all of it; `None` when the client went away.
    pub async fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.read().await?;
            if frame.ends() {
                return Some(frame.stream);
            }
        }
    }

    /// Sends a frame; a client that went away does not matter.
    pub async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        let _ = self.stream.write_all(&frame).await;
        let _ = self.stream.flush().await;
    }

    /// An answer's status (200, 204, 206, 304, 400, 404 or 500, which HPACK has numbers for) and length, where it has one.
    pub async fn head(&mut self, stream: u32, status: u16, length: Option<usize>) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            _ => 14,
        };
        let mut block = vec![0x80 | index];
        if let Some(length) = length.map(|length| length.to_string()) {
            // `content-length` is name 28; its value is not to be remembered, and not compressed.
            block.extend([0x0f, 28 - 15, u8::try_from(length.len()).expect("a few digits")]);
            block.extend(length.as_bytes());
        }
        self.write(HEADERS, 4, stream, &block).await;
    }

    /// An answer that is nothing but a status.
    pub async fn status(&mut self, stream: u32, status: u16) {
        self.head(stream, status, None).await;
        self.data(stream, &[], true).await;
    }

    /// Bytes of a body.
    pub async fn data(&mut self, stream: u32, bytes: &[u8], ends: bool) {
        self.write(DATA, u8::from(ends), stream, bytes).await;
    }

    /// The stream ends.
    pub async fn reset(&mut self, stream: u32, reason: u32) {
        self.write(RST_STREAM, 0, stream, &reason.to_be_bytes()).await;
    }

    /// The connection will end; nothing after the stream `last` was looked at.
    pub async fn go_away(&mut self, last: u32, reason: u32) {
        let payload = [last.to_be_bytes(), reason.to_be_bytes()].concat();
        self.write(GOAWAY, 0, 0, &payload).await;
    }

    /// Until the client closes it.
    pub async fn rest(mut self) {
        while self.read().await.is_some() {}
    }
}

/// A server that speaks HTTP/2 and nothing else: gives every connection, with its number from 1 on, to `act` once its preface was
/// read and the server's settings were sent.
pub async fn start<F, D>(config: Arc<ServerConfig>, act: F) -> Raw
where
    F: Fn(usize, Connection) -> D + Send + Sync + 'static,
    D: Future<Output = ()> + Send + 'static,
{
    let act = Arc::new(act);
    Raw::start_tls(config, move |number, mut stream| {
        let act = Arc::clone(&act);
        async move {
            let mut preface = [0; PREFACE.len()];
            if stream.read_exact(&mut preface).await.is_err() || preface != PREFACE {
                return;
            }
            let mut connection = Connection { stream };
            connection.write(SETTINGS, 0, 0, &[]).await;
            act(number, connection).await;
        }
    })
    .await
}

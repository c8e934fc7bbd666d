//! A connection becomes an encrypted one, or is told that it should have been.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Tls;

/// The first byte of every handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// How much of a plain request is read, and for how long, so that its sender reads our answer and not a reset.
const PLAIN_HEAD: usize = 16 * 1024;
const PLAIN_PATIENCE: Duration = Duration::from_secs(2);

const PLAIN_ANSWER: &str =
    "this registry speaks HTTPS: use https://, and have its authority's certificate trusted\n";

/// Shakes hands, in the time that there is for it.
pub(crate) async fn accept(tls: &Tls, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let shaken = async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the handshake"));
        }
        // Methods begin with a letter; anything else is answered as broken TLS is.
        if first[0] != HANDSHAKE && first[0].is_ascii_uppercase() {
            refuse(stream).await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP where TLS is spoken"));
        }
        TlsAcceptor::from(tls.config.clone()).accept(stream).await
    };
    tokio::time::timeout(tls.handshake, shaken).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "the client did not shake hands in time"))
    })
}

async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    let head = async {
        let mut read = Vec::new();
        while read.len() < PLAIN_HEAD && !read.windows(4).any(|part| part == b"\r\n\r\n") {
            if stream.read_buf(&mut read).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(PLAIN_PATIENCE, head).await;
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{PLAIN_ANSWER}",
        PLAIN_ANSWER.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

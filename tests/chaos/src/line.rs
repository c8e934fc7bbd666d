//! A TCP connection that breaks after so many bytes in one direction, stalls, and lets little through at once.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::dice::Dice;

/// The client's end of a connection.
#[derive(Debug)]
pub(crate) struct Line {
    stream: TcpStream,
    /// Bytes until it breaks: what the client sends, what it gets.
    cut: [Option<u64>; 2],
    /// So many bytes until it stalls, once, for so long.
    stall: Option<(u64, Duration)>,
    stalling: Option<Pin<Box<Sleep>>>,
    /// Bytes that go through at once.
    width: usize,
}

impl Line {
    pub(crate) fn whole(stream: TcpStream) -> Self {
        Self { stream, cut: [None; 2], stall: None, stalling: None, width: usize::MAX }
    }

    /// With what the dice say. A line in words comes back.
    pub(crate) fn new(stream: TcpStream, dice: &mut Dice, permille: u64) -> (Self, Option<String>) {
        let mut line = Self::whole(stream);
        if !dice.permille(permille) {
            return (line, None);
        }
        // From the middle of a head to megabytes of a body, all sizes alike.
        let magnitude = dice.below(22);
        let bytes = (1 << magnitude) + dice.below(1 << magnitude);
        let told = match dice.below(5) {
            0 | 1 => {
                line.cut[0] = Some(bytes);
                format!("cut after {bytes} bytes up")
            }
            2 | 3 => {
                line.cut[1] = Some(bytes);
                format!("cut after {bytes} bytes down")
            }
            _ => {
                let wait = dice.within(100..=2000);
                line.stall = Some((bytes, Duration::from_millis(wait)));
                line.width = 1 << dice.within(4..=16);
                format!("{} bytes at once, and {wait} ms of nothing after {bytes}", line.width)
            }
        };
        // The other side sees a reset as often as an end.
        if dice.permille(500) {
            let _ = line.stream.set_zero_linger();
        }
        (line, Some(told))
    }

    fn poll_stall(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(stalling) = &mut self.stalling {
            ready!(stalling.as_mut().poll(context));
            self.stalling = None;
        }
        Poll::Ready(())
    }

    fn passed(&mut self, bytes: usize) {
        if let Some((left, wait)) = &mut self.stall {
            *left = left.saturating_sub(bytes as u64);
            if *left == 0 {
                self.stalling = Some(Box::pin(tokio::time::sleep(*wait)));
                self.stall = None;
            }
        }
    }

    /// How many of `wanted` bytes may pass; an error when the connection is cut here.
    fn room(&self, direction: usize, wanted: usize) -> io::Result<usize> {
        let room = wanted.min(self.width);
        match self.cut[direction] {
            None => Ok(room),
            Some(0) => Err(io::ErrorKind::ConnectionReset.into()),
            Some(left) => Ok(room.min(usize::try_from(left).unwrap_or(usize::MAX))),
        }
    }

    fn spend(&mut self, direction: usize, bytes: usize) {
        if let Some(left) = &mut self.cut[direction] {
            *left -= bytes as u64;
        }
        self.passed(bytes);
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_stall(context));
        let room = self.room(0, buffer.remaining())?;
        let mut part = [0; 16 * 1024];
        let length = room.min(part.len());
        let mut part = ReadBuf::new(&mut part[..length]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        let count = part.filled().len();
        buffer.put_slice(part.filled());
        self.spend(0, count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_stall(context));
        let room = self.room(1, bytes.len())?;
        let count = ready!(Pin::new(&mut self.stream).poll_write(context, &bytes[..room]))?;
        self.spend(1, count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

//! gzip on all cores, with the same bytes whatever their number: fixed blocks, each compressed by itself with the end of the one before
//! as its dictionary, joined to one gzip member (RFC 1952; as pigz does it). In: a reader. Out: chunks in order, and what went in.
//!
//! A block in work is all that is in memory: one for each core and two more.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use crate::digest::{Algorithm, Digest, Hasher};

/// What is compressed by itself. Part of what the bytes are: another size is another digest.
const BLOCK: usize = 1024 * 1024;
/// How far back deflate can point (RFC 1951).
const WINDOW: usize = 32 * 1024;
/// For layers of images. Measured on a system image: level 6 takes 2.3 times as long and saves 6 %, level 1 is half as fast again
/// and costs 20 %.
pub(crate) const FAST: u32 = 2;
/// For what is small and stays for long: packages, directories.
pub(crate) const TIGHT: u32 = 6;
/// No name, no time, no operating system: nothing but the content decides.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// What went in.
#[derive(Debug)]
pub(crate) struct Input {
    /// The digest of it: a layer's diffID.
    pub(crate) digest: Digest,
    /// How many bytes.
    pub(crate) size: u64,
}

/// A block on its way through a worker.
struct Job {
    block: Arc<Vec<u8>>,
    before: Option<Arc<Vec<u8>>>,
    last: bool,
    done: SyncSender<io::Result<Bytes>>,
}

/// Compresses all of `input` at a level of zlib's. `given_up` is asked between blocks; a yes is [`io::ErrorKind::Interrupted`].
pub(crate) fn gzip(
    level: u32,
    input: &mut dyn Read,
    given_up: &dyn Fn() -> bool,
    emit: &mut dyn FnMut(Bytes) -> io::Result<()>,
) -> io::Result<Input> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut crc = Crc::new();
    let mut take = |block: &[u8]| {
        hasher.update(block);
        crc.update(block);
    };
    emit(Bytes::from_static(&HEADER))?;
    let first = read_block(input, given_up)?;
    take(&first);
    if first.len() < BLOCK {
        // Most layers of a build are small: no thread is started for them.
        emit(deflate(level, &first, None, true)?)?;
    } else {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (jobs, work) = sync_channel::<Job>(cores + 2);
        let work = Mutex::new(work);
        std::thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(|| run(level, &work));
            }
            // Dropped at the end of this closure, whatever happens: the workers end with it.
            let jobs = jobs;
            let mut pending: VecDeque<Receiver<io::Result<Bytes>>> = VecDeque::new();
            let mut drain = |pending: &mut VecDeque<Receiver<io::Result<Bytes>>>| -> io::Result<()> {
                match pending.pop_front() {
                    Some(next) => emit(next.recv().map_err(io::Error::other)??),
                    None => Ok(()),
                }
            };
            let (mut block, mut before) = (Arc::new(first), None);
            loop {
                let full = block.len() == BLOCK;
                let next = if full { read_block(input, given_up)? } else { Vec::new() };
                take(&next);
                let last = next.is_empty();
                let (done, result) = sync_channel(1);
                let job = Job { block: Arc::clone(&block), before: before.take(), last, done };
                jobs.send(job).map_err(io::Error::other)?;
                pending.push_back(result);
                while pending.len() > cores + 1 || (last && !pending.is_empty()) {
                    drain(&mut pending)?;
                }
                if last {
                    return Ok::<(), io::Error>(());
                }
                before = Some(std::mem::replace(&mut block, Arc::new(next)));
            }
        })?;
    }
    let size = hasher.count();
    let mut trailer = crc.sum().to_le_bytes().to_vec();
    trailer.extend_from_slice(&crc.amount().to_le_bytes());
    emit(trailer.into())?;
    Ok(Input { digest: hasher.finish(), size })
}

fn run(level: u32, work: &Mutex<Receiver<Job>>) {
    loop {
        let job = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { block, before, last, done }) = job else { return };
        // Nobody waits any more when the reading ended early.
        let _ = done.send(deflate(level, &block, before.as_deref().map(Vec::as_slice), last));
    }
}

/// Every block but the last is full, however the input trickles: what is made of content depends on how it is cut.
fn read_block(input: &mut dyn Read, given_up: &dyn Fn() -> bool) -> io::Result<Vec<u8>> {
    let mut block = vec![0; BLOCK];
    let mut filled = 0;
    while filled < BLOCK {
        if given_up() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match input.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            // A signal; `given_up` decides whether it meant us.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    block.truncate(filled);
    Ok(block)
}

/// One block as raw deflate that ends at a byte (RFC 1951, "sync flush"), or ends the stream.
fn deflate(level: u32, block: &[u8], before: Option<&[u8]>, last: bool) -> io::Result<Bytes> {
    let mut compress = Compress::new(Compression::new(level), false);
    if let Some(before) = before {
        let window = &before[before.len().saturating_sub(WINDOW)..];
        compress.set_dictionary(window).map_err(io::Error::other)?;
    }
    let mut output = Vec::with_capacity(block.len() / 2 + 1024);
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    loop {
        let at = usize::try_from(compress.total_in()).map_err(io::Error::other)?;
        let status = compress.compress_vec(&block[at..], &mut output, flush).map_err(io::Error::other)?;
        let all_in = compress.total_in() == block.len() as u64;
        // What did not fit is still inside; what left room is all.
        let room = output.len() < output.capacity();
        if status == Status::StreamEnd || (!last && all_in && room) {
            return Ok(output.into());
        }
        output.reserve(64 * 1024);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::{BLOCK, FAST, TIGHT, gzip};
    use crate::digest::Digest;

    fn content(length: usize) -> Vec<u8> {
        let mut state = 1u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 28) as u8
        });
        noise.take(length).collect()
    }

    fn compress(input: &mut dyn std::io::Read) -> Vec<u8> {
        let mut all = Vec::new();
        gzip(FAST, input, &|| false, &mut |chunk| {
            all.extend_from_slice(&chunk);
            Ok(())
        })
        .expect("compressed");
        all
    }

    #[test]
    fn one_member_that_everybody_reads() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 77] {
            let content = content(length);
            let mut all = Vec::new();
            let input = gzip(TIGHT, &mut &content[..], &|| false, &mut |chunk| {
                all.extend_from_slice(&chunk);
                Ok(())
            })
            .expect("compressed");
            assert_eq!((input.size, input.digest), (length as u64, Digest::of(&content)));
            let mut back = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(&all[..]);
            decoder.read_to_end(&mut back).expect("inflated");
            assert!(back == content, "{length}");
            assert_eq!(decoder.into_inner().len(), 0, "one member, and nothing after it");
        }
    }

    /// A socket hands out what it has. The digest must not depend on that: a second push would upload everything again.
    #[test]
    fn how_the_input_trickles_does_not_matter() {
        struct Trickle<'a>(&'a [u8], usize);
        impl std::io::Read for Trickle<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                self.1 = (self.1 * 31 + 7) % 5000;
                let count = self.0.len().min(self.1).min(buffer.len());
                buffer[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        let content = content(BLOCK + 700_000);
        let whole = compress(&mut &content[..]);
        for seed in [1, 4999] {
            assert!(compress(&mut Trickle(&content, seed)) == whole, "{seed}");
        }
    }

    /// Fails when the compressor's output changes: then every layer pushed before is pushed again under a new digest,
    /// which a release should say.
    #[test]
    fn the_compressor_is_pinned() {
        let content: Vec<u8> = (0..1_000_000u32).flat_map(|number| (number % 1009).to_le_bytes()).collect();
        insta::assert_snapshot!(Digest::of(&compress(&mut &content[..])), @"sha256:98fe1252b083bcd571073483ab2ffd669332e63f13ed5a457397c6576ecbf14e");
    }

    #[test]
    fn giving_up_ends_it_and_so_does_an_end_that_takes_no_more() {
        let error = gzip(FAST, &mut std::io::repeat(0), &|| true, &mut |_| Ok(())).expect_err("given up");
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
        let mut left = 3;
        let error = gzip(FAST, &mut std::io::repeat(0), &|| false, &mut |_| {
            left -= 1;
            if left > 0 { Ok(()) } else { Err(std::io::ErrorKind::BrokenPipe.into()) }
        });
        assert_eq!(error.expect_err("broken").kind(), std::io::ErrorKind::BrokenPipe);
    }
}

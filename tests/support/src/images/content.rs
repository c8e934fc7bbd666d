//! Content that is made while it is read, so that a layer of a gigabyte costs no memory.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// Bytes, or a rule to make them. Always the same ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// At hand.
    Bytes(Vec<u8>),
    /// A tar with one file of `size` bytes, which do not compress.
    Tar {
        /// Other seeds give other bytes.
        seed: u64,
        /// Size of the file in it.
        size: u64,
    },
    /// The same, but a sixteenth of the file is noise and the rest zeros: as large as need be, at the cost of little.
    Sparse {
        /// Other seeds give other bytes.
        seed: u64,
        /// Size of the file in it.
        size: u64,
    },
}

impl Content {
    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Tar { size, .. } | Self::Sparse { size, .. } => 512 + size.next_multiple_of(512) + 1024,
        }
    }

    /// The bytes, from the start.
    pub fn reader(&self) -> Box<dyn Read + Send + '_> {
        match self {
            Self::Bytes(bytes) => Box::new(&bytes[..]),
            Self::Tar { seed, size } => in_tar(*seed, *size, Noise::new(*seed)),
            Self::Sparse { seed, size } => in_tar(*seed, *size, Sparse::new(*seed)),
        }
    }

    /// All of it.
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// `sha256:<hex>`.
    pub fn digest(&self) -> io::Result<String> {
        let mut hasher = Sha256::new();
        let mut reader = self.reader();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match reader.read(&mut buffer)? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            }
        }
        let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("sha256:{hex}"))
    }
}

/// A tar with one file, `size` bytes of `body`.
fn in_tar(seed: u64, size: u64, body: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    let header = header(&format!("data/{seed}"), size, tar::EntryType::Regular);
    let end = size.next_multiple_of(512) - size + 1024;
    Box::new(
        io::Cursor::new(header.as_bytes().to_vec()).chain(body.take(size)).chain(io::repeat(0).take(end)),
    )
}

/// A header whose fields depend on nothing of the machine.
pub(super) fn header(path: &str, size: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    if let Some(ustar) = header.as_ustar_mut() {
        let length = path.len().min(ustar.name.len());
        ustar.name[..length].copy_from_slice(&path.as_bytes()[..length]);
    }
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header
}

/// xorshift: noise enough that no compressor finds anything in it.
struct Noise {
    state: u64,
}

impl Noise {
    fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A byte at a time, so that the bytes do not depend on the sizes of the reads.
        for byte in &mut *buffer {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            *byte = self.state.to_le_bytes()[3];
        }
        Ok(buffer.len())
    }
}

/// Blocks of some noise and many zeros, each with its number.
struct Sparse {
    block: Vec<u8>,
    number: u64,
    at: usize,
}

impl Sparse {
    fn new(seed: u64) -> Self {
        let mut block = vec![0; 64 * 1024];
        let _ = Noise::new(seed).read(&mut block[..4096]);
        Self { block, number: 0, at: 0 }
    }
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == 0 {
            self.block[..8].copy_from_slice(&self.number.to_le_bytes());
            self.number += 1;
        }
        let count = buffer.len().min(self.block.len() - self.at);
        buffer[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at = (self.at + count) % self.block.len();
        Ok(count)
    }
}

//! What a guest can see is what is in its linear memory: that memory, as it lies in this process, and a search of it for secrets. Linux only:
//! wasmtime hands out no memory of a component's instances, so `/proc/self/maps` says where they are. Knows no provider.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;

/// Bytes of a linear memory's reservation: how the engine is set up.
const RESERVED: u64 = 64 * 1024 * 1024;

/// The linear memories of this process: bytes that can be written, and after them, up to the end of the reservation and its guard, what
/// cannot. The arenas of the C library's allocator look alike, but start at a multiple of their size and have no guard. What other
/// tests run at the same time is among them.
pub(crate) fn linear_memories() -> Vec<Vec<u8>> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the maps");
    let mut memory = File::open("/proc/self/mem").expect("the memory");
    let regions = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some((number(start)?, number(end)?, rest.get(..4)?.to_owned()))
    });
    let mut found = Vec::new();
    let mut run: Option<(u64, u64)> = None;
    for (start, end, kind) in regions {
        let adjacent = run.filter(|(_, until)| *until == start);
        match (kind.as_str(), adjacent) {
            ("rw-p", Some((from, _))) if start % RESERVED != 0 => run = Some((from, end)),
            ("rw-p", _) => run = Some((start, end)),
            ("---p", Some((from, until))) => {
                run = None;
                let arena = from % RESERVED == 0 && end - from <= RESERVED;
                if end - from >= RESERVED && !arena {
                    let mut bytes = vec![0; usize::try_from(until - from).expect("a size")];
                    // Other tests map and unmap meanwhile; what is gone is not this guest's, which waits.
                    for (index, page) in bytes.chunks_mut(4096).enumerate() {
                        memory.seek(SeekFrom::Start(from + 4096 * index as u64)).expect("a place");
                        let _ = memory.read(page);
                    }
                    found.push(bytes);
                }
            }
            _ => run = None,
        }
    }
    found
}

/// Whether bytes stand somewhere in a memory.
pub(crate) fn holds(memory: &[u8], needle: &str) -> bool {
    memmem::find(memory, needle.as_bytes()).is_some()
}

/// A secret that is searched for, in every form in which it could lie there.
#[derive(Debug, Clone)]
pub(crate) struct Needle {
    /// What it is called in messages.
    pub(crate) name: String,
    forms: Vec<(&'static str, String)>,
}

impl Needle {
    pub(crate) fn new(name: &str, secret: &str) -> Self {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let percent = percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC);
        let mut forms = vec![
            ("as it is", secret.to_owned()),
            ("in hex", hex.clone()),
            ("in hex", hex.to_uppercase()),
            ("percent-encoded", percent.to_string()),
        ];
        // In base64 what stands before it (a user name) shifts it; the characters that its neighbours share are left out.
        for shift in 0..3_usize {
            let shifted = [&b"\0\0"[..shift], secret.as_bytes()].concat();
            let whole = shifted.len() / 3 * 3;
            let first = (shift * 8).div_ceil(6);
            for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                forms.push(("in base64", engine.encode(&shifted[..whole])[first..].to_owned()));
            }
        }
        forms.retain(|(_, form)| form.len() >= 8);
        Self { name: name.to_owned(), forms }
    }

    /// The form in which it lies in a memory.
    pub(crate) fn found_in(&self, memory: &[u8]) -> Option<&'static str> {
        self.forms.iter().find(|(_, form)| holds(memory, form)).map(|(how, _)| *how)
    }
}

#[test]
fn every_form_is_found() {
    let needle = Needle::new("password", "correct/horse+battery");
    for memory in [
        "xx correct/horse+battery xx",
        "correct%2Fhorse%2Bbattery",
        "636f72726563742f686f7273652b62617474657279",
        // robot:…, a:…, ab:… in base64
        "cm9ib3Q6Y29ycmVjdC9ob3JzZStiYXR0ZXJ5",
        "YTpjb3JyZWN0L2hvcnNlK2JhdHRlcnk=",
        "YWI6Y29ycmVjdC9ob3JzZStiYXR0ZXJ5",
    ] {
        assert!(needle.found_in(memory.as_bytes()).is_some(), "{memory}");
    }
    assert_eq!(needle.found_in(b"correct/horse, but no battery"), None);
}

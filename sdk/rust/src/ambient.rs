//! Time and entropy, which come from the host so that a recorded exchange can replay them.

use crate::sys;

/// Milliseconds since 1970-01-01 UTC.
pub fn unix_time_ms() -> u64 {
    sys::unix_time_ms()
}

/// Random bytes, at most 4096 a call.
pub fn random(len: u32) -> Vec<u8> {
    sys::random(len)
}

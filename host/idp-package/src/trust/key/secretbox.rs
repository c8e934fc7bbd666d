//! NaCl's `crypto_secretbox`: XSalsa20 and Poly1305, as cosign's key files use it. Depends on the two primitives alone: the crates that
//! join them are deprecated or not released yet.

use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit as _;
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit as _, StreamCipher as _};
use zeroize::Zeroizing;

/// Bytes of a nonce.
pub(super) const NONCE: usize = 24;
/// Bytes of a key.
pub(super) const KEY: usize = 32;
/// Bytes before the text that say that it is genuine.
const TAG: usize = 16;

/// The cipher behind its first block, which is the key of the tag.
fn start(key: &[u8; KEY], nonce: &[u8; NONCE]) -> (XSalsa20, Poly1305) {
    let mut cipher = XSalsa20::new(key.into(), nonce.into());
    let mut first = Zeroizing::new([0; KEY]);
    cipher.apply_keystream(first.as_mut_slice());
    (cipher, Poly1305::new((&*first).into()))
}

/// The tag, and the text behind it.
pub(super) fn seal(key: &[u8; KEY], nonce: &[u8; NONCE], plain: &[u8]) -> Vec<u8> {
    let (mut cipher, tag) = start(key, nonce);
    let mut boxed = vec![0; TAG + plain.len()];
    boxed[TAG..].copy_from_slice(plain);
    cipher.apply_keystream(&mut boxed[TAG..]);
    let tag = tag.compute_unpadded(&boxed[TAG..]);
    boxed[..TAG].copy_from_slice(&tag);
    boxed
}

/// What was sealed; `None` when the key is another one or the text was changed.
pub(super) fn open(key: &[u8; KEY], nonce: &[u8; NONCE], boxed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (claimed, text) = boxed.split_at_checked(TAG)?;
    let (mut cipher, tag) = start(key, nonce);
    let tag = tag.compute_unpadded(text);
    let differs = tag.iter().zip(claimed).fold(0, |differs, (ours, theirs)| differs | (ours ^ theirs));
    if differs != 0 {
        return None;
    }
    let mut plain = Zeroizing::new(text.to_vec());
    cipher.apply_keystream(&mut plain);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::{open, seal};

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    }

    /// The example of NaCl's own documentation (`tests/secretbox.c`).
    #[test]
    fn as_nacl_does() {
        let key = bytes("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let nonce = bytes("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
        let plain = bytes(
            "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705",
        );
        let boxed = bytes(
            "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5",
        );
        let key: [u8; 32] = key.try_into().expect("32");
        let nonce: [u8; 24] = nonce.try_into().expect("24");
        assert_eq!(seal(&key, &nonce, &plain), boxed);
        assert_eq!(open(&key, &nonce, &boxed).expect("opened").as_slice(), plain);
        for at in [0, 15, 16, boxed.len() - 1] {
            let mut changed = boxed.clone();
            changed[at] ^= 1;
            assert_eq!(open(&key, &nonce, &changed), None, "byte {at}");
        }
        assert_eq!(open(&key, &nonce, &boxed[..15]), None);
        assert_eq!(open(&key, &nonce, &[]), None);
    }
}

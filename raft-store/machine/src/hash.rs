//! Keyed hashes of outside texts, and claim ids.
//!
//! Texts from outside (user ids, principals, idempotency keys) become 128 bits under the cluster's
//! secret before they enter the log, so nobody outside can choose hashes that collide, and a log or
//! a snapshot does not name people. SipHash-2-4 throughout. Fields are length-prefixed, so no two
//! different tuples share their bytes.
//!
//! A claim id says where the claim is and carries a keyed tag: it is found without a table, and it
//! cannot be guessed. The tag has 48 bits: a guesser gets one attempt in 2^48 right, and every
//! attempt costs him a request.

use core::hash::Hasher;

use siphasher::{
    sip::SipHasher24 as Sip64,
    sip128::{Hasher128, SipHasher24 as Sip128},
};

use crate::command::{ClaimId, Namespace, Operation};

/// The raft group that claim ids name. One exists today.
pub const GROUP_DEFAULT: u16 = 1;

/// Characters of a claim id's base32, without its prefix: 192 bits in 39 × 5.
const CLAIM_ID_CHARS: usize = 39;

/// What a claim id's text begins with, so that it is recognised in logs and mails.
const CLAIM_ID_PREFIX: &str = "c_";

/// Bytes of a claim id's text form.
pub const CLAIM_ID_BYTES: usize = CLAIM_ID_PREFIX.len() + CLAIM_ID_CHARS;

/// RFC 4648 base32, lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Keyed 128-bit hash of a user id or principal. Never zero.
pub fn user_hash(secret: u128, namespace: Namespace, user: &[u8]) -> u128 {
    let mut hasher = keyed(secret, b'u');
    hasher.write(&namespace.to_le_bytes());
    write_field(&mut hasher, user);
    finish(&hasher)
}

/// Keyed 128-bit hash of an idempotency key within its scope. Never zero.
pub fn key_hash(
    secret: u128,
    namespace: Namespace,
    sale_id: &[u8],
    principal: u128,
    operation: Operation,
    key: &[u8],
) -> u128 {
    let mut hasher = keyed(secret, b'k');
    hasher.write(&namespace.to_le_bytes());
    hasher.write(&principal.to_le_bytes());
    hasher.write(&[operation as u8]);
    write_field(&mut hasher, sale_id);
    write_field(&mut hasher, key);
    finish(&hasher)
}

/// Keyed 128-bit hash of a document's key.
pub(crate) fn document_hash(secret: u128, key: &[u8]) -> u128 {
    let mut hasher = keyed(secret, b'd');
    hasher.write(key);
    hasher.finish128().as_u128()
}

/// A hasher under the secret; `kind` keeps users' and keys' hashes apart.
fn keyed(secret: u128, kind: u8) -> Sip128 {
    let mut hasher = Sip128::new_with_keys(secret as u64, (secret >> 64) as u64);
    hasher.write(&[kind]);
    hasher
}

fn write_field(hasher: &mut Sip128, field: &[u8]) {
    hasher.write(&(field.len() as u64).to_le_bytes());
    hasher.write(field);
}

/// Zero means "none" in records, so it is mapped away.
fn finish(hasher: &Sip128) -> u128 {
    hasher.finish128().as_u128().max(1)
}

/// Low 48 bits: as many as a claim id has for its log index and its tag.
const MASK_48: u64 = (1 << 48) - 1;

impl ClaimId {
    /// The id of the claim in `slot` of a sale, granted at `log_index` (48 bits).
    pub(crate) fn new(
        secret: u128,
        namespace: Namespace,
        sale_number: u32,
        slot: u32,
        log_index: u64,
    ) -> Self {
        let mut bytes = [0; 24];
        bytes[..2].copy_from_slice(&GROUP_DEFAULT.to_be_bytes());
        bytes[2..4].copy_from_slice(&namespace.to_be_bytes());
        bytes[4..8].copy_from_slice(&sale_number.to_be_bytes());
        bytes[8..12].copy_from_slice(&slot.to_be_bytes());
        bytes[12..18].copy_from_slice(&log_index.to_be_bytes()[2..]);
        let hasher = Sip64::new_with_keys(secret as u64, (secret >> 64) as u64);
        let tag = hasher.hash(&bytes[..18]) & MASK_48;
        bytes[18..].copy_from_slice(&tag.to_be_bytes()[2..]);
        ClaimId(bytes)
    }

    /// Number of the sale it names; whether such a sale or claim exists is another question.
    pub fn sale_number(&self) -> u32 {
        u32::from_be_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    /// Slot in the sale that it names: its rank, less one.
    pub(crate) fn slot(&self) -> u32 {
        u32::from_be_bytes([self.0[8], self.0[9], self.0[10], self.0[11]])
    }

    /// Reads the text form; `None` when it is not one.
    pub fn parse(text: &str) -> Option<ClaimId> {
        let digits = text.strip_prefix(CLAIM_ID_PREFIX)?.as_bytes();
        if digits.len() != CLAIM_ID_CHARS {
            return None;
        }
        let mut bytes = [0; 24];
        let (mut pending, mut pending_bits, mut at) = (0u32, 0u32, 0);
        for &digit in digits {
            let value = match digit {
                b'a'..=b'z' => digit - b'a',
                b'2'..=b'7' => digit - b'2' + 26,
                _ => return None,
            };
            pending = pending << 5 | u32::from(value);
            pending_bits += 5;
            if pending_bits >= 8 {
                pending_bits -= 8;
                bytes[at] = (pending >> pending_bits) as u8;
                at += 1;
                pending &= (1 << pending_bits) - 1;
            }
        }
        // The last character has three bits too many; were they free, one claim would have eight names.
        (pending == 0).then_some(ClaimId(bytes))
    }
}

impl ClaimId {
    /// The text form: ASCII, for those who write many.
    pub fn text(&self) -> [u8; CLAIM_ID_BYTES] {
        let mut text = [0; CLAIM_ID_BYTES];
        let (prefix, digits) = text.split_at_mut(CLAIM_ID_PREFIX.len());
        prefix.copy_from_slice(CLAIM_ID_PREFIX.as_bytes());
        // Five bytes are eight characters; the last five are padded with a zero byte, of which one bit shows.
        for (place, digits) in digits.chunks_mut(8).enumerate() {
            let mut bytes = [0; 8];
            let end = self.0.len().min(place * 5 + 5);
            bytes[3..3 + end - place * 5].copy_from_slice(&self.0[place * 5..end]);
            let bits = u64::from_be_bytes(bytes);
            for (place, digit) in digits.iter_mut().enumerate() {
                *digit = BASE32[(bits >> (35 - place * 5)) as usize & 31];
            }
        }
        text
    }
}

impl core::fmt::Display for ClaimId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(core::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl core::fmt::Debug for ClaimId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn claim_ids_survive_their_text() {
        for seed in 0..200u64 {
            let id = ClaimId::new(7, 3, seed as u32 * 77, seed as u32, seed * 991);
            let text = id.to_string();
            assert_eq!(text.len(), 41);
            assert_eq!(ClaimId::parse(&text), Some(id));
            assert_eq!(id.sale_number(), seed as u32 * 77);
            assert_eq!(id.slot(), seed as u32);
        }
        assert_eq!(
            ClaimId([0xff; 24]).to_string(),
            "c_77777777777777777777777777777777777777y"
        );
    }

    #[test]
    fn one_claim_has_one_text() {
        let text = ClaimId::new(7, 0, 1, 0, 5).to_string();
        assert_eq!(ClaimId::parse(&text.to_uppercase()), None);
        assert_eq!(ClaimId::parse(&text[2..]), None);
        assert_eq!(ClaimId::parse(&text[..40]), None);
        let (head, last) = text.split_at(40);
        let others = BASE32
            .iter()
            .map(|&c| char::from(c))
            .filter(|c| !last.starts_with(*c));
        let names = others
            .filter(|c| ClaimId::parse(&alloc::format!("{head}{c}")).is_some())
            .count();
        assert_eq!(names, 3, "two of the last character's five bits carry meaning");
    }

    #[test]
    fn tags_depend_on_the_secret_and_on_every_field() {
        let id = ClaimId::new(1, 0, 1, 1, 1);
        for other in [
            ClaimId::new(2, 0, 1, 1, 1),
            ClaimId::new(1, 1, 1, 1, 1),
            ClaimId::new(1, 0, 2, 1, 1),
            ClaimId::new(1, 0, 1, 2, 1),
            ClaimId::new(1, 0, 1, 1, 2),
        ] {
            assert_ne!(id.0[18..], other.0[18..]);
        }
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let key = |sale: &[u8], key: &[u8]| key_hash(9, 0, sale, 4, Operation::Claim, key);
        assert_ne!(key(b"ab", b"c"), key(b"a", b"bc"));
        assert_ne!(
            key_hash(9, 0, b"s", 4, Operation::Claim, b"k"),
            key_hash(9, 0, b"s", 4, Operation::Confirm, b"k")
        );
        assert_ne!(user_hash(9, 0, b"u"), user_hash(8, 0, b"u"));
        assert_ne!(user_hash(9, 0, b"u"), user_hash(9, 1, b"u"));
    }
}

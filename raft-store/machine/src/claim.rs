//! Claim records: 86 bytes each, in an append-only arena of copy-on-write blocks.
//!
//! A record is made by a grant and never moves or goes; only its status, deadline and token change.
//! Its slot in the arena is its rank less one. It lies in memory as it lies in a row: packed, so that a
//! claim takes little memory, and a block is written out and summed up as it is. Blocks of 47 are shared with
//! frozen states and copied on the first write after a freeze, so freezing one million claims clones 21,277
//! pointers.
//!
//! The arena keeps the wrapping sum of its records' digests and the set of blocks that changed since
//! they were last written out. What a claim means for its sale is in [`crate::sale`].

use alloc::{sync::Arc, vec, vec::Vec};
use core::hint::black_box;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::{command::LogMs, reply::ClaimStatus};

/// Records in a block: with its counters a block of 47 fills 4 KiB, a size that allocators serve without
/// waste. Small enough to copy on a write, large enough that pointers are few.
pub(crate) const BLOCK_RECORDS: usize = 47;

/// Bytes of a record, in memory and in a row.
pub(crate) const RECORD_BYTES: usize = 86;

/// A record's bytes. Little-endian; times and log indexes have 48 bits (as in claim ids and batches), and the
/// deadline is told by the length of the hold, zero for none:
///
/// ```text
/// key 16 | user 16 | settling key 16 | log index 6 | log time 6 | hold ms 4 | fencing token 6 | term 4
/// previous 4 | position 2 | quantity 2 | user's units 2 | status 1 | flags 1
/// ```
pub(crate) type Packed = [u8; RECORD_BYTES];

/// No slot.
pub(crate) const SLOT_NONE: u32 = u32::MAX;

/// Set on claims that were confirmed as they were granted.
pub(crate) const FLAG_DECREMENT: u8 = 1;

/// Set once a checkout has extended the hold.
pub(crate) const FLAG_EXTENDED: u8 = 2;

/// Set when the user has made a later claim in the sale; the latest one counts his units.
pub(crate) const FLAG_SUPERSEDED: u8 = 4;

/// Every flag there is.
const FLAGS: u8 = FLAG_DECREMENT | FLAG_EXTENDED | FLAG_SUPERSEDED;

/// Keeps the digests of records apart from those of other rows.
const RECORD_SEED: u64 = u64::from_be_bytes(*b"hf.claim");

/// One claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Key that made it.
    pub key: u128,
    /// Who made it.
    pub user: u128,
    /// Key that confirmed or released it; zero while none has.
    pub settle_key: u128,
    /// Entry that granted it.
    pub log_index: u64,
    /// Log time of that entry.
    pub log_time_ms: LogMs,
    /// End of the hold, in log time; zero when there was none.
    pub deadline_ms: LogMs,
    /// What the next step must present.
    pub fencing_token: u64,
    /// Term of the granting entry.
    pub term: u32,
    /// The same user's claim before this one, or [`SLOT_NONE`].
    pub previous: u32,
    /// Place of the granting command in its entry.
    pub position: u16,
    /// Units.
    pub quantity: u16,
    /// Units in all live claims of the user, in his latest record; zero in superseded ones.
    pub user_units: u16,
    /// Where it is in its life.
    pub status: ClaimStatus,
    /// `FLAG_…`.
    pub flags: u8,
}

impl Record {
    /// Whether a flag is set.
    pub fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether its units count towards the user's limit.
    pub fn is_live(&self) -> bool {
        matches!(self.status, ClaimStatus::Held | ClaimStatus::Confirmed)
    }

    /// How long after the grant the hold ends, in ms; zero when there was none.
    ///
    /// # Panics
    /// When that does not fit 32 bits: no hold that the machine makes does not.
    pub fn hold_ms(&self) -> u32 {
        let hold_ms = match self.deadline_ms {
            0 => 0,
            deadline_ms => deadline_ms - self.log_time_ms,
        };
        u32::try_from(hold_ms).expect("a hold, extended or not, is shorter than 49 days")
    }

    /// Its bytes.
    ///
    /// # Panics
    /// When a number does not fit: none that the machine accepts does not.
    pub fn pack(&self) -> Packed {
        assert!(
            (self.log_index | self.log_time_ms | self.fencing_token) >> 48 == 0,
            "a record's times and indexes have 48 bits: {self:?}"
        );
        let mut bytes = [0; RECORD_BYTES];
        bytes[0..16].copy_from_slice(&self.key.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.user.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.settle_key.to_le_bytes());
        bytes[48..54].copy_from_slice(&self.log_index.to_le_bytes()[..6]);
        bytes[54..60].copy_from_slice(&self.log_time_ms.to_le_bytes()[..6]);
        bytes[60..64].copy_from_slice(&self.hold_ms().to_le_bytes());
        bytes[64..70].copy_from_slice(&self.fencing_token.to_le_bytes()[..6]);
        bytes[70..74].copy_from_slice(&self.term.to_le_bytes());
        bytes[74..78].copy_from_slice(&self.previous.to_le_bytes());
        bytes[78..80].copy_from_slice(&self.position.to_le_bytes());
        bytes[80..82].copy_from_slice(&self.quantity.to_le_bytes());
        bytes[82..84].copy_from_slice(&self.user_units.to_le_bytes());
        bytes[84] = self.status as u8;
        bytes[85] = self.flags;
        bytes
    }

    /// Reads a record; `None` when the bytes are none.
    pub fn unpack(bytes: &Packed) -> Option<Record> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u48_at = |at: usize| u64::from(u32_at(at)) | u64::from(u16_at(at + 4)) << 32;
        let log_time_ms = u48_at(54);
        let record = Record {
            key: u128_at(bytes, 0),
            user: u128_at(bytes, 16),
            settle_key: u128_at(bytes, 32),
            log_index: u48_at(48),
            log_time_ms,
            deadline_ms: match u32_at(60) {
                0 => 0,
                hold_ms => log_time_ms + u64::from(hold_ms),
            },
            fencing_token: u48_at(64),
            term: u32_at(70),
            previous: u32_at(74),
            position: u16_at(78),
            quantity: u16_at(80),
            user_units: u16_at(82),
            status: status_of(bytes[84])?,
            flags: bytes[85],
        };
        let sound = record.key != 0 && record.user != 0 && record.quantity != 0 && record.flags & !FLAGS == 0;
        sound.then_some(record)
    }
}

fn u128_at(bytes: &Packed, at: usize) -> u128 {
    let mut number = [0; 16];
    number.copy_from_slice(&bytes[at..at + 16]);
    u128::from_le_bytes(number)
}

/// A record's part of the state's digest.
pub(crate) fn digest(packed: &Packed, sale_number: u32, slot: u32) -> u128 {
    let mut bytes = [0; RECORD_BYTES + 8];
    bytes[..RECORD_BYTES].copy_from_slice(packed);
    bytes[RECORD_BYTES..RECORD_BYTES + 4].copy_from_slice(&sale_number.to_le_bytes());
    bytes[RECORD_BYTES + 4..].copy_from_slice(&slot.to_le_bytes());
    xxh3_128_with_seed(&bytes, RECORD_SEED)
}

fn status_of(byte: u8) -> Option<ClaimStatus> {
    Some(match byte {
        1 => ClaimStatus::Held,
        2 => ClaimStatus::Confirmed,
        3 => ClaimStatus::Released,
        4 => ClaimStatus::Expired,
        5 => ClaimStatus::Cancelled,
        _ => return None,
    })
}

/// Records of neighbouring slots.
#[derive(Clone)]
pub(crate) struct Block {
    records: [Packed; BLOCK_RECORDS],
}

// With the two counters of an `Arc`.
const _: () = assert!(size_of::<Block>() + 16 <= 4096);

impl Block {
    /// A block that begins with these records, at most [`BLOCK_RECORDS`].
    pub fn of(records: &[Packed]) -> Block {
        let mut block = Block {
            records: [[0; RECORD_BYTES]; BLOCK_RECORDS],
        };
        block.records[..records.len()].copy_from_slice(records);
        block
    }

    /// Its first `count` records.
    pub fn first(&self, count: usize) -> &[Packed] {
        &self.records[..count]
    }
}

/// All records of one sale.
pub(crate) struct Arena {
    sale_number: u32,
    blocks: Vec<Arc<Block>>,
    len: u32,
    digest: u128,
    /// A bit for each block that changed since it was last asked for.
    dirty: Vec<u64>,
}

impl Arena {
    /// No records.
    pub fn new(sale_number: u32) -> Arena {
        Arena {
            sale_number,
            blocks: Vec::new(),
            len: 0,
            digest: 0,
            dirty: Vec::new(),
        }
    }

    /// Records from blocks that were loaded; `None` unless they hold exactly `len`.
    pub fn load(sale_number: u32, blocks: Vec<Arc<Block>>, len: u32) -> Option<Arena> {
        if blocks.len() != blocks_of(len) {
            return None;
        }
        let dirty = vec![0; blocks.len().div_ceil(64)];
        let mut arena = Arena {
            sale_number,
            blocks,
            len,
            digest: 0,
            dirty,
        };
        arena.digest = (0..len).fold(0, |sum: u128, slot| {
            sum.wrapping_add(digest(arena.packed(slot), sale_number, slot))
        });
        Some(arena)
    }

    /// How many records there are.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Sum of the records' digests.
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// The blocks, the last one perhaps not full.
    pub fn blocks(&self) -> &[Arc<Block>] {
        &self.blocks
    }

    /// The record in a slot.
    ///
    /// # Panics
    /// When there is none.
    pub fn get(&self, slot: u32) -> Record {
        Record::unpack(self.packed(slot))
            .expect("what is in the arena was packed or checked before it came in")
    }

    /// The key that made a claim.
    pub fn key(&self, slot: u32) -> u128 {
        u128_at(self.packed(slot), 0)
    }

    /// The user of a claim.
    pub fn user(&self, slot: u32) -> u128 {
        u128_at(self.packed(slot), 16)
    }

    /// The key that settled a claim; zero while none has.
    pub fn settle_key(&self, slot: u32) -> u128 {
        u128_at(self.packed(slot), 32)
    }

    fn packed(&self, slot: u32) -> &Packed {
        assert!(slot < self.len, "no record in slot {slot}");
        &self.blocks[slot as usize / BLOCK_RECORDS].records[slot as usize % BLOCK_RECORDS]
    }

    /// Fetches the record in a slot, if there is one.
    pub fn prefetch(&self, slot: u32) {
        if slot < self.len {
            let _ = black_box(self.packed(slot)[0]);
        }
    }

    /// Appends a record and gives its slot.
    pub fn push(&mut self, record: &Record) -> u32 {
        let slot = self.len;
        let (block, place) = (slot as usize / BLOCK_RECORDS, slot as usize % BLOCK_RECORDS);
        let packed = record.pack();
        if place == 0 {
            self.blocks.push(Arc::new(Block::of(&[packed])));
        } else {
            Arc::make_mut(&mut self.blocks[block]).records[place] = packed;
        }
        self.len += 1;
        self.digest = self.digest.wrapping_add(digest(&packed, self.sale_number, slot));
        self.mark(block);
        slot
    }

    /// Changes the record in a slot.
    ///
    /// # Panics
    /// When there is none.
    pub fn edit(&mut self, slot: u32, change: impl FnOnce(&mut Record)) {
        let mut record = self.get(slot);
        change(&mut record);
        let (block, place) = (slot as usize / BLOCK_RECORDS, slot as usize % BLOCK_RECORDS);
        let packed = &mut Arc::make_mut(&mut self.blocks[block]).records[place];
        let before = digest(packed, self.sale_number, slot);
        *packed = record.pack();
        let after = digest(packed, self.sale_number, slot);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        self.mark(block);
    }

    /// Changes a record as failing memory would: nothing else knows.
    #[cfg(test)]
    pub fn rot(&mut self, slot: u32, change: impl FnOnce(&mut Record)) {
        let mut record = self.get(slot);
        change(&mut record);
        let (block, place) = (slot as usize / BLOCK_RECORDS, slot as usize % BLOCK_RECORDS);
        Arc::make_mut(&mut self.blocks[block]).records[place] = record.pack();
    }

    fn mark(&mut self, block: usize) {
        let word = block / 64;
        if word >= self.dirty.len() {
            self.dirty.resize(word + 1, 0);
        }
        self.dirty[word] |= 1 << (block % 64);
    }

    /// Blocks changed since the last call, in order.
    pub fn take_dirty(&mut self, mut visit: impl FnMut(u32)) {
        for (place, word) in self.dirty.iter_mut().enumerate() {
            let mut left = core::mem::take(word);
            while left != 0 {
                visit(place as u32 * 64 + left.trailing_zeros());
                left &= left - 1;
            }
        }
    }
}

/// Blocks that so many records fill or begin.
pub(crate) fn blocks_of(records: u32) -> usize {
    (records as usize).div_ceil(BLOCK_RECORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seed: u64) -> Record {
        let part = |factor: u64| seed.wrapping_mul(factor);
        Record {
            key: u128::from(seed) << 70 | 1,
            user: u128::from(seed) << 3 | 1,
            settle_key: u128::from(seed),
            log_index: seed,
            log_time_ms: part(3) >> 16,
            deadline_ms: (part(3) >> 16) + (part(5) >> 32),
            fencing_token: part(7) >> 16,
            term: part(11) as u32,
            previous: part(13) as u32,
            position: part(17) as u16,
            quantity: part(19) as u16 | 1,
            user_units: part(23) as u16,
            status: ClaimStatus::Confirmed,
            flags: FLAG_EXTENDED,
        }
    }

    #[test]
    fn records_survive_their_bytes() {
        for seed in 1..500 {
            let record = record(seed * 0x12_3456_789a);
            assert_eq!(Record::unpack(&record.pack()), Some(record));
            let unheld = Record {
                deadline_ms: 0,
                ..record
            };
            assert_eq!(Record::unpack(&unheld.pack()), Some(unheld));
        }
        let mut bytes = record(1).pack();
        bytes[84] = 6;
        assert_eq!(Record::unpack(&bytes), None);
        assert_eq!(Record::unpack(&[0; RECORD_BYTES]), None);
    }

    #[test]
    fn digest_follows_every_edit() {
        let mut arena = Arena::new(3);
        for seed in 1..100 {
            arena.push(&record(seed));
        }
        let shared = arena.blocks().to_vec();
        let untouched = arena.digest();
        arena.edit(40, |r| r.status = ClaimStatus::Cancelled);
        assert_ne!(arena.digest(), untouched);
        assert_eq!(
            Arena::load(3, arena.blocks().to_vec(), 99).map(|a| a.digest()),
            Some(arena.digest())
        );
        assert_eq!(
            Arena::load(3, shared, 99).map(|a| a.digest()),
            Some(untouched),
            "the old block is as it was"
        );
        arena.edit(40, |r| r.status = ClaimStatus::Confirmed);
        assert_eq!(arena.digest(), untouched);
        let mut dirty = Vec::new();
        arena.take_dirty(|block| dirty.push(block));
        assert_eq!(dirty, [0, 1, 2]);
        arena.edit(BLOCK_RECORDS as u32, |r| r.flags = 0);
        dirty.clear();
        arena.take_dirty(|block| dirty.push(block));
        assert_eq!(dirty, [1]);
    }
}

//! Frames: what a segment consists of, byte by byte.
//!
//! A frame is a header of 64 bytes and a payload, padded with zeros to 8 bytes. Little-endian throughout.
//! Header: magic 4 | kind 1, format 1, zero 2 | salt 8 | sequence 8 | payload bytes 4 | entries 4 |
//! first index 8 | synced upto 8 | committed 8 | payload CRC 4 | header CRC 4. The header CRC covers every
//! other header field.
//!
//! - The salt is the segment's own random number: callers choose payload bytes but do not know the salt,
//!   so no payload can look like a header.
//! - The sequence grows by one a frame across segments.
//! - `synced upto` is the offset in this segment up to which everything was durable before this frame was
//!   written. It is what tells rot from a torn tail.
//! - `committed` is the committed index plus one, 0 for none; never above the log's end at this frame.
//!
//! Left out: compression, and any knowledge of files.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::{BasicNode, EntryPayload, Membership, entry::RaftEntry};

use crate::types::{BatchBytes, Entry, LogId};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 64;
/// Frames start at multiples of this, in bytes.
pub const ALIGN_BYTES: usize = 8;
/// The newest format known here.
pub const FORMAT: u8 = 1;

const MAGIC: [u8; 4] = *b"HFLG";
/// Bytes of one entry besides its body: length 4, kind 1, term 8, node id 8, index 8.
pub const ENTRY_OVERHEAD_BYTES: usize = 29;

const ENTRY_BLANK: u8 = 0;
const ENTRY_BATCH: u8 = 1;
const ENTRY_MEMBERSHIP: u8 = 2;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// First in a segment: where the log stood when the segment began.
    Head = 1,
    /// Entries, contiguous.
    Entries = 2,
    /// Entries after the log id in the payload are no more.
    Truncate = 3,
    /// Entries up to the log id in the payload are no longer needed.
    Purge = 4,
    /// Everything before this was durable. Nothing else.
    Mark = 5,
    /// Last in a full segment: the log goes on in the next one.
    Next = 6,
}

/// A frame's header, but for magic and format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the payload is.
    pub kind: Kind,
    /// The segment's random number.
    pub salt: u64,
    /// Number of the frame in the log.
    pub sequence: u64,
    /// Bytes of the payload, without padding.
    pub payload_bytes: u32,
    /// Entries in the payload.
    pub entries: u32,
    /// Index of the first of them.
    pub first_index: u64,
    /// Offset in this segment before which everything was durable when this was written.
    pub synced_upto: u64,
    /// Committed index plus one; 0 for none.
    pub committed: u64,
    /// CRC of the payload.
    pub payload_crc: u32,
}

/// What 64 bytes turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Not a header.
    Invalid,
    /// A header of a newer format.
    Newer(u8),
    /// A header.
    Header(Header),
}

/// Bytes that a frame with such a payload takes.
pub fn frame_bytes(payload_bytes: usize) -> usize {
    HEADER_BYTES + payload_bytes.next_multiple_of(ALIGN_BYTES)
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.kind as u8;
        bytes[5] = FORMAT;
        bytes[8..16].copy_from_slice(&self.salt.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.entries.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first_index.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.synced_upto.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.committed.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header from the first 64 bytes.
    pub fn decode(bytes: &[u8]) -> Decoded {
        if bytes.len() < HEADER_BYTES || bytes[..4] != MAGIC {
            return Decoded::Invalid;
        }
        let mut fields = Cursor(&bytes[8..HEADER_BYTES]);
        let mut next = || -> Option<Header> {
            Some(Header {
                kind: Kind::Mark,
                salt: fields.u64()?,
                sequence: fields.u64()?,
                payload_bytes: fields.u32()?,
                entries: fields.u32()?,
                first_index: fields.u64()?,
                synced_upto: fields.u64()?,
                committed: fields.u64()?,
                payload_crc: fields.u32()?,
            })
        };
        let Some(mut header) = next() else {
            return Decoded::Invalid;
        };
        if fields.u32() != Some(crc32fast::hash(&bytes[..60])) {
            return Decoded::Invalid;
        }
        if bytes[5] > FORMAT {
            return Decoded::Newer(bytes[5]);
        }
        header.kind = match bytes[4] {
            1 => Kind::Head,
            2 => Kind::Entries,
            3 => Kind::Truncate,
            4 => Kind::Purge,
            5 => Kind::Mark,
            6 => Kind::Next,
            _ => return Decoded::Invalid,
        };
        Decoded::Header(header)
    }
}

/// Where the log stood when a segment began: payload of [`Kind::Head`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of the segment.
    pub segment: u64,
    /// Length of the segment's file, in bytes.
    pub segment_bytes: u64,
    /// Where the frames of the segment before this one end, in bytes.
    pub previous_end: u64,
    /// The log's last id.
    pub last: Option<LogId>,
    /// The last purged id.
    pub purged: Option<LogId>,
}

impl Head {
    /// The payload's bytes.
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.segment.to_le_bytes());
        into.extend_from_slice(&self.segment_bytes.to_le_bytes());
        into.extend_from_slice(&self.previous_end.to_le_bytes());
        encode_log_id(self.last, into);
        encode_log_id(self.purged, into);
    }

    /// Reads the payload; `None` when it is not one.
    pub fn decode(payload: &[u8]) -> Option<Head> {
        let mut cursor = Cursor(payload);
        let head = Head {
            segment: cursor.u64()?,
            segment_bytes: cursor.u64()?,
            previous_end: cursor.u64()?,
            last: cursor.log_id()?,
            purged: cursor.log_id()?,
        };
        cursor.0.is_empty().then_some(head)
    }
}

/// Appends an optional log id: payload of [`Kind::Truncate`] and [`Kind::Purge`].
pub fn encode_log_id(log_id: Option<LogId>, into: &mut Vec<u8>) {
    into.push(u8::from(log_id.is_some()));
    let (term, node_id, index) = log_id.map_or((0, 0, 0), |id| {
        (id.leader_id.term, id.leader_id.node_id, id.index)
    });
    for field in [term, node_id, index] {
        into.extend_from_slice(&field.to_le_bytes());
    }
}

/// Reads what [`encode_log_id`] wrote; the outer `None` when it is not that.
pub fn decode_log_id(payload: &[u8]) -> Option<Option<LogId>> {
    let mut cursor = Cursor(payload);
    let log_id = cursor.log_id()?;
    cursor.0.is_empty().then_some(log_id)
}

/// Bytes that an entry takes in a payload; for memberships an estimate.
pub fn entry_bytes(entry: &Entry) -> usize {
    let body = match &entry.payload {
        EntryPayload::Blank => 0,
        EntryPayload::Normal(batch) => batch.0.len(),
        EntryPayload::Membership(membership) => membership.nodes().count() * 64,
    };
    ENTRY_OVERHEAD_BYTES + body
}

/// Appends an entry.
pub fn encode_entry(entry: &Entry, into: &mut Vec<u8>) {
    let start = into.len();
    into.extend_from_slice(&[0; 4]);
    into.push(match &entry.payload {
        EntryPayload::Blank => ENTRY_BLANK,
        EntryPayload::Normal(_) => ENTRY_BATCH,
        EntryPayload::Membership(_) => ENTRY_MEMBERSHIP,
    });
    let id = entry.log_id;
    for field in [id.leader_id.term, id.leader_id.node_id, id.index] {
        into.extend_from_slice(&field.to_le_bytes());
    }
    match &entry.payload {
        EntryPayload::Blank => {}
        EntryPayload::Normal(batch) => into.extend_from_slice(&batch.0),
        EntryPayload::Membership(membership) => encode_membership(membership, into),
    }
    let bytes = u32::try_from(into.len() - start - 4).expect("an entry is far below 4 GiB");
    into[start..start + 4].copy_from_slice(&bytes.to_le_bytes());
}

/// Reads the entries of a payload; batches share its bytes. `None` when it is not well formed.
pub fn decode_entries(payload: &Bytes, entries: u32, first_index: u64) -> Option<Vec<Entry>> {
    // Every entry takes its overhead at least: a count that cannot be true reserves nothing.
    if payload.len() / ENTRY_OVERHEAD_BYTES < entries as usize {
        return None;
    }
    let mut decoded = Vec::with_capacity(entries as usize);
    let mut rest = payload.clone();
    for place in 0..u64::from(entries) {
        let bytes = Cursor(&rest).u32()? as usize;
        if rest.len() - 4 < bytes {
            return None;
        }
        let record = rest.split_to(4 + bytes).slice(4..);
        let mut cursor = Cursor(&record);
        let kind = cursor.u8()?;
        let log_id = log_id(cursor.u64()?, cursor.u64()?, cursor.u64()?);
        if log_id.index != first_index.checked_add(place)? {
            return None;
        }
        let body = record.slice(record.len() - cursor.0.len()..);
        let payload = match kind {
            ENTRY_BLANK if body.is_empty() => EntryPayload::Blank,
            ENTRY_BATCH => EntryPayload::Normal(BatchBytes(body)),
            ENTRY_MEMBERSHIP => EntryPayload::Membership(decode_membership(&body)?),
            _ => return None,
        };
        decoded.push(Entry::new(log_id, payload));
    }
    rest.is_empty().then_some(decoded)
}

fn encode_membership(membership: &Membership<u64, BasicNode>, into: &mut Vec<u8>) {
    let count = |count: usize| {
        u32::try_from(count)
            .expect("members number far below 2^32")
            .to_le_bytes()
    };
    let configs = membership.get_joint_config();
    into.extend_from_slice(&count(configs.len()));
    for config in configs {
        into.extend_from_slice(&count(config.len()));
        config
            .iter()
            .for_each(|id| into.extend_from_slice(&id.to_le_bytes()));
    }
    into.extend_from_slice(&count(membership.nodes().count()));
    for (id, node) in membership.nodes() {
        into.extend_from_slice(&id.to_le_bytes());
        into.extend_from_slice(&count(node.addr.len()));
        into.extend_from_slice(node.addr.as_bytes());
    }
}

fn decode_membership(body: &[u8]) -> Option<Membership<u64, BasicNode>> {
    let mut cursor = Cursor(body);
    let mut configs = Vec::new();
    for _ in 0..cursor.u32()? {
        let mut config = BTreeSet::new();
        for _ in 0..cursor.u32()? {
            config.insert(cursor.u64()?);
        }
        configs.push(config);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..cursor.u32()? {
        let id = cursor.u64()?;
        let bytes = cursor.u32()? as usize;
        let address = std::str::from_utf8(cursor.take(bytes)?).ok()?;
        nodes.insert(id, BasicNode::new(address));
    }
    if !cursor.0.is_empty() {
        return None;
    }
    Membership::new(configs, nodes).ok()
}

fn log_id(term: u64, node_id: u64, index: u64) -> LogId {
    use openraft::vote::RaftLeaderIdExt;
    LogId::new(
        openraft::impls::leader_id_adv::LeaderId::new_committed(term, node_id),
        index,
    )
}

/// Reads fields from the front; `None` at the end, never a panic.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn log_id(&mut self) -> Option<Option<LogId>> {
        let present = self.u8()?;
        let id = log_id(self.u64()?, self.u64()?, self.u64()?);
        match present {
            0 => Some(None),
            1 => Some(Some(id)),
            _ => None,
        }
    }
}

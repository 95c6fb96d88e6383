//! The vote: what this node promised, in a file of its own.
//!
//! Two checksummed slots in different pages. A vote is written to slot A and synced, then to slot B and
//! synced, and only then answered, so that at every instant one slot is whole and at least as new as the
//! last vote that was answered (Raft, section 5.2: currentTerm and votedFor are durable before the reply).
//! Reading takes the valid slot with the higher number. When neither is valid the node must not vote, and
//! an older vote is never fallen back to. The file exists from the directory's first day, with "no vote"
//! in it, so that its absence is damage.
//!
//! Left out: whether a vote may follow another. openraft decides that.

use std::path::{Path, PathBuf};

use fault_points::{crash_point, planted};

use super::{
    disk::{Disk, DiskFile, OpenMode},
    error::{Newer, StorageError},
    node_file::replace_file,
};
use crate::types::Vote;

/// Name of the file within the log's directory.
pub const VOTE_FILE_NAME: &str = "VOTE";
/// Format of the slots.
const FORMAT: u32 = 1;
const MAGIC: u32 = u32::from_le_bytes(*b"VOTE");
/// A page: no write of one slot touches what the disk or the page cache holds of the other.
const SLOT_BYTES: usize = 4096;
/// magic 4, format 4, number 8, term 8, node id 8, kind 4, checksum 4.
const RECORD_BYTES: usize = 40;
const CHECKED_BYTES: usize = RECORD_BYTES - 4;

const KIND_NONE: u32 = 0;
const KIND_PENDING: u32 = 1;
const KIND_COMMITTED: u32 = 2;

/// The vote's file, open.
pub struct VoteFile {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    number: u64,
    vote: Option<Vote>,
}

#[derive(Clone, Copy, PartialEq)]
struct Record {
    number: u64,
    vote: Option<Vote>,
}

impl VoteFile {
    /// Whether `dir` has a vote file.
    pub fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool, StorageError> {
        let path = dir.join(VOTE_FILE_NAME);
        disk.exists(&path)
            .map_err(StorageError::io("looking for vote file", &path))
    }

    /// Makes the file of a new directory, with no vote in it.
    pub fn create(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
        let record = Record {
            number: 0,
            vote: None,
        }
        .encode();
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        bytes[..RECORD_BYTES].copy_from_slice(&record);
        bytes[SLOT_BYTES..SLOT_BYTES + RECORD_BYTES].copy_from_slice(&record);
        replace_file(disk, dir, VOTE_FILE_NAME, &bytes)
    }

    /// Opens the file and reads the vote; mends the slot that a crash left behind the other.
    ///
    /// # Errors
    /// [`StorageError::Missing`] without a file; [`StorageError::Damaged`] when no slot is valid.
    pub fn open(disk: &dyn Disk, dir: &Path) -> Result<VoteFile, StorageError> {
        let path = dir.join(VOTE_FILE_NAME);
        if !VoteFile::exists(disk, dir)? {
            return Err(StorageError::Missing {
                path,
                why: "every node keeps its vote there",
            });
        }
        let file = disk
            .open(&path, OpenMode::Write)
            .map_err(StorageError::io("opening vote file", &path))?;
        let len = file.len().map_err(StorageError::io("reading vote file", &path))?;
        let mut slots = [None, None];
        for (place, slot) in slots.iter_mut().enumerate() {
            let offset = (place * SLOT_BYTES) as u64;
            if offset + RECORD_BYTES as u64 <= len {
                let mut bytes = [0; RECORD_BYTES];
                file.read_at(offset, &mut bytes)
                    .map_err(StorageError::io("reading vote file", &path))?;
                *slot = Record::decode(&bytes, &path)?;
            }
        }
        let newest = match slots {
            [Some(a), Some(b)] if a.number == b.number && a != b => {
                let what = "its two slots bear the same number and disagree";
                return Err(StorageError::damaged(&path, 0, what));
            }
            [Some(a), Some(b)] => {
                if a.number >= b.number {
                    a
                } else {
                    b
                }
            }
            [Some(slot), None] | [None, Some(slot)] => slot,
            [None, None] => {
                return Err(StorageError::damaged(
                    &path,
                    0,
                    "neither of its two slots is valid",
                ));
            }
        };
        let vote = VoteFile {
            path,
            file,
            number: newest.number,
            vote: newest.vote,
        };
        // After a kill, what was read may be in the page cache only. It must not be lost again; nor may
        // mending the other slot leave both of them unsynced.
        vote.sync()?;
        for (place, slot) in slots.iter().enumerate() {
            if *slot != Some(newest) {
                vote.write_slot(place, newest)?;
            }
        }
        Ok(vote)
    }

    /// The vote last saved.
    pub fn vote(&self) -> Option<Vote> {
        self.vote
    }

    /// Saves a vote. On return it is durable, twice.
    ///
    /// # Errors
    /// The disk's; the vote must then not be answered, and the file not be used again.
    pub fn save(&mut self, vote: Vote) -> Result<(), StorageError> {
        let record = Record {
            number: self.number + 1,
            vote: Some(vote),
        };
        self.write_slot(0, record)?;
        crash_point!("vote-in-one-slot");
        self.write_slot(1, record)?;
        self.number = record.number;
        self.vote = record.vote;
        Ok(())
    }

    fn write_slot(&self, place: usize, record: Record) -> Result<(), StorageError> {
        self.file
            .write_at((place * SLOT_BYTES) as u64, &record.encode())
            .map_err(StorageError::io("writing vote to", &self.path))?;
        crash_point!("vote-slot-written");
        if planted!("vote-not-synced") {
            return Ok(());
        }
        self.sync()
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.file
            .sync()
            .map_err(StorageError::io("syncing vote file", &self.path))
    }
}

impl Record {
    fn encode(&self) -> [u8; RECORD_BYTES] {
        let (kind, term, node_id) = match &self.vote {
            None => (KIND_NONE, 0, 0),
            Some(vote) => {
                let kind = if vote.committed {
                    KIND_COMMITTED
                } else {
                    KIND_PENDING
                };
                (kind, vote.leader_id.term, vote.leader_id.node_id)
            }
        };
        let mut bytes = [0; RECORD_BYTES];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&term.to_le_bytes());
        bytes[24..32].copy_from_slice(&node_id.to_le_bytes());
        bytes[32..36].copy_from_slice(&kind.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` when the bytes are not a whole record.
    fn decode(bytes: &[u8; RECORD_BYTES], path: &Path) -> Result<Option<Record>, StorageError> {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if u32_at(0) != MAGIC || u32_at(CHECKED_BYTES) != crc32fast::hash(&bytes[..CHECKED_BYTES]) {
            return Ok(None);
        }
        if u32_at(4) > FORMAT {
            return Err(StorageError::Newer {
                path: path.to_path_buf(),
                newer: Newer::format(u32_at(4), FORMAT),
            });
        }
        let vote = match u32_at(32) {
            KIND_NONE => None,
            KIND_PENDING => Some(Vote::new(u64_at(16), u64_at(24))),
            KIND_COMMITTED => Some(Vote::new_committed(u64_at(16), u64_at(24))),
            // No program wrote this, checksum or not.
            _ => return Ok(None),
        };
        Ok(Some(Record {
            number: u64_at(8),
            vote,
        }))
    }
}

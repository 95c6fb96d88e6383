//! Backups: the state at one log index, in one file that says what it is.
//!
//! ```text
//! HOLDFAST BACKUP 1
//! {the manifest: JSON on one line}
//! xxh3-128 of the two lines before, 32 hex digits
//! a snapshot file, as nodes keep them
//! ```
//!
//! So `head -n 2` shows a person what a file is, and every byte is under a checksum: the lines under the
//! third, the rest under the snapshot's own, row by row and as a whole. A node writes a backup from its
//! applied state beside its snapshots, which stay what they were; serving and applying go on meanwhile.
//!
//! Invariants: what [`load`] gives was checked down to the state hash, and is what the manifest says. Nothing
//! is believed of a file that is damaged anywhere.
//!
//! Left out: carrying the bytes ([`crate::service::archive`]), choosing the node, naming the file.

mod manifest;
mod restore;
mod section;

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use inventory_machine::Machine;
use xxhash_rust::xxh3::xxh3_128;

use self::{manifest::Facts, section::Section};
pub use self::{
    manifest::{BackupMember, Manifest},
    restore::{INDEX_GAP, Restored, restore},
};
use super::{
    disk::{Disk, DiskFile, OpenMode},
    disk_real::RealDisk,
    error::{Newer, StorageError},
    rows::Standing,
    snapshot::{SnapshotData, SnapshotError, SnapshotStore, format},
    state::SharedState,
};
use crate::types::NodeId;

/// Format of the file. Grows when an older program could no longer read it rightly.
pub const BACKUP_FORMAT: u32 = 1;

/// What every backup begins with; its format follows.
const MAGIC: &str = "HOLDFAST BACKUP ";

/// Longest head, in bytes: a thousand members at their longest names fit twice.
const HEAD_BYTES_MAX: usize = 1 << 20;

/// Why a backup cannot be used, or not there.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The system refused.
    #[error("{doing} {}: {source}", path.display())]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// These are not the bytes that were written.
    #[error("backup {} is damaged in its {part}: {why}; use another copy", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which part of it.
        part: &'static str,
        /// What is wrong there.
        why: String,
    },
    /// Written by a newer Holdfast.
    #[error(
        "the {part} of backup {} has {newer}: use a Holdfast at least as new as the one that wrote it",
        path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Which part of it.
        part: &'static str,
        /// What of it is newer.
        newer: Newer,
    },
    /// Something is there already.
    #[error("{} {what}; restore into a directory that is empty or not there", path.display())]
    NotEmpty {
        /// Where.
        path: PathBuf,
        /// What.
        what: String,
    },
    /// These members cannot be.
    #[error("{0}")]
    Members(String),
    /// The new directories could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The state could not be written.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

fn disk_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_path_buf();
    move |source| BackupError::Disk { doing, path, source }
}

/// A backup that a node has made and is about to give away. Its file goes with it.
pub struct Taken {
    /// What it is.
    pub manifest: Manifest,
    head: Bytes,
    snapshot: SnapshotData,
}

impl Taken {
    /// Length of the whole file.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.head.len() as u64 + self.snapshot.len()
    }

    /// The next at most `bytes_max` bytes from `offset` on; empty at the end.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn chunk(&self, offset: u64, bytes_max: usize) -> Result<Bytes, SnapshotError> {
        let head_bytes = self.head.len() as u64;
        if offset < head_bytes {
            let end = (offset + bytes_max as u64).min(head_bytes);
            return Ok(self.head.slice(offset as usize..end as usize));
        }
        self.snapshot.chunk(offset - head_bytes, bytes_max).await
    }
}

/// Makes a backup of the state as it is applied now.
///
/// # Errors
/// There is no room, or the disk failed.
pub async fn take(
    shared: &SharedState,
    snapshots: &SnapshotStore,
    node_id: NodeId,
) -> Result<Taken, SnapshotError> {
    let (frozen, standing, facts) = shared.freeze_with(Facts::of);
    let snapshot = snapshots.build_apart(frozen, standing).await?;
    let manifest = Manifest::new(node_id, &snapshot, facts);
    Ok(Taken {
        head: manifest.head().into(),
        manifest,
        snapshot,
    })
}

/// A backup, read and checked as a whole.
pub struct Backup {
    /// What it is.
    pub manifest: Manifest,
    machine: Machine,
    standing: Standing,
}

impl Backup {
    /// Ids of sales whose recount differs from their counters: none, unless there is a bug.
    pub fn sales_wrong(&self) -> Vec<String> {
        let books = self.machine.recount();
        books.unbalanced().map(|sale| sale.sale_id.clone()).collect()
    }
}

/// Reads a backup and checks everything in it. Blocks.
///
/// # Errors
/// The file cannot be read, is no backup, is damaged (says where), or is newer than this program.
pub fn load(path: &Path) -> Result<Backup, BackupError> {
    load_from(&RealDisk, path)
}

fn load_from(disk: &dyn Disk, path: &Path) -> Result<Backup, BackupError> {
    let file = disk
        .open(path, OpenMode::Read)
        .map_err(disk_error("opening backup", path))?;
    let (manifest, head_bytes) = read_head(&*file, path)?;
    let damaged = |why: String| BackupError::Damaged {
        path: path.to_path_buf(),
        part: "snapshot",
        why,
    };
    let bytes = file.len().map_err(disk_error("reading backup", path))? - head_bytes;
    if bytes != manifest.snapshot_bytes {
        let wanted = manifest.snapshot_bytes;
        return Err(damaged(match bytes < wanted {
            true => format!("it is cut off: {bytes} of its {wanted} bytes are there"),
            false => format!("{} bytes follow its end", bytes - wanted),
        }));
    }
    let section = Section::new(file, head_bytes, bytes);
    let (contents, machine) = format::load(&section).map_err(|error| match error {
        format::ReadError::Disk(source) => disk_error("reading backup", path)(source),
        format::ReadError::Damaged(why) => damaged(why),
        format::ReadError::Newer(newer) => BackupError::Newer {
            path: path.to_path_buf(),
            part: "snapshot",
            newer,
        },
    })?;
    let facts = Facts::of(&machine);
    let found = Manifest::of_parts(
        manifest.node_id,
        &contents.standing,
        contents.bytes,
        contents.checksum,
        facts,
    );
    if let Some(other) = manifest.differs_in(&found) {
        return Err(damaged(format!(
            "its {other} is not the one that the manifest names"
        )));
    }
    Ok(Backup {
        manifest,
        machine,
        standing: contents.standing,
    })
}

/// Reads the lines before the snapshot, and how long they are.
fn read_head(file: &dyn DiskFile, path: &Path) -> Result<(Manifest, u64), BackupError> {
    let damaged = |why: &str| BackupError::Damaged {
        path: path.to_path_buf(),
        part: "manifest",
        why: why.to_owned(),
    };
    let reading = || disk_error("reading backup", path);
    let bytes = file.len().map_err(reading())?.min(HEAD_BYTES_MAX as u64);
    let mut bytes = vec![0; bytes as usize];
    file.read_at(0, &mut bytes).map_err(reading())?;
    let mut ends = (0..).zip(&bytes).filter(|(_, byte)| **byte == b'\n');
    let mut line_end = || ends.next().map(|(at, _): (usize, _)| at);
    let (Some(first), Some(second), Some(third)) = (line_end(), line_end(), line_end()) else {
        return Err(damaged(
            "its three lines are not there: it is cut off, or no backup",
        ));
    };
    let text = |from: usize, to: usize| std::str::from_utf8(&bytes[from..to]).ok();
    let format = text(0, first).and_then(|line| line.strip_prefix(MAGIC)?.parse::<u32>().ok());
    let Some(format) = format else {
        return Err(damaged("it does not begin like a backup"));
    };
    // The magic, the format and the checksum's place stay; so damage is told from a newer format.
    let sum = manifest::hex(xxh3_128(&bytes[..=second]));
    if text(second + 1, third) != Some(&sum) {
        return Err(damaged("its checksum does not match"));
    }
    if format > BACKUP_FORMAT {
        return Err(BackupError::Newer {
            path: path.to_path_buf(),
            part: "manifest",
            newer: Newer::format(format, BACKUP_FORMAT),
        });
    }
    let manifest = serde_json::from_slice(&bytes[first + 1..second])
        .map_err(|error| damaged(&format!("its checksum matches, but it makes no sense: {error}")))?;
    Ok((manifest, third as u64 + 1))
}

#[cfg(test)]
mod fuzz_tests;

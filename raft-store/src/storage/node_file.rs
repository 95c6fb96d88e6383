//! The NODE file: whose directory this is.
//!
//! It is written once everything else in a new directory is durable, and so tells a new directory from
//! one that lost its data: with NODE there, an absent log, vote or image is damage and never a fresh
//! start. It holds the format of the whole directory, the node id, and the cluster id once known; the
//! cluster id is set once and never changes. The file is replaced whole: written beside, synced, renamed.
//!
//! Left out: addresses and settings. They may change; what is in here may not.

use std::{
    io,
    path::{Path, PathBuf},
};

use fault_points::crash_point;

use super::{
    disk::{Disk, OpenMode},
    error::{Newer, StorageError},
};
use crate::types::NodeId;

/// Name of the file within a data directory.
pub const NODE_FILE_NAME: &str = "NODE";
/// Format of the data directory. Grows when an older program could no longer read it rightly.
pub const DIRECTORY_FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"HOLDFAST";
/// What stands before the cluster id: zero without one.
const FOUNDED: u32 = 1;
const ENLISTED: u32 = 2;
/// magic 8, format 4, standing 4, node id 8, cluster id 16, checksum 4.
const FILE_BYTES: usize = 44;
const CHECKED_BYTES: usize = FILE_BYTES - 4;

/// What the NODE file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFile {
    /// The node this directory belongs to.
    pub node_id: NodeId,
    /// The cluster it belongs to; `None` until it is enlisted.
    pub cluster_id: Option<[u8; 16]>,
    /// Whether log or snapshots have held the cluster's founding: from then on they cannot be empty.
    pub founded: bool,
}

impl NodeFile {
    /// Reads the NODE file of `dir`; `None` when there is none, so that the directory is new (or not a
    /// node's at all).
    ///
    /// # Errors
    /// Damaged, of a newer format, or unreadable.
    pub fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<NodeFile>, StorageError> {
        let path = dir.join(NODE_FILE_NAME);
        if !disk
            .exists(&path)
            .map_err(StorageError::io("looking for", &path))?
        {
            return Ok(None);
        }
        // After a kill the name may be in memory only, and what it says must not be taken back.
        disk.sync_dir(dir)
            .map_err(StorageError::io("syncing directory", dir))?;
        let file = disk
            .open(&path, OpenMode::Read)
            .map_err(StorageError::io("opening", &path))?;
        let len = file.len().map_err(StorageError::io("reading", &path))?;
        if len < FILE_BYTES as u64 {
            return Err(StorageError::damaged(
                &path,
                len,
                format!("it ends before byte {FILE_BYTES}"),
            ));
        }
        let mut bytes = [0; FILE_BYTES];
        file.read_at(0, &mut bytes)
            .map_err(StorageError::io("reading", &path))?;
        // A newer format may be longer and sum up more, but it keeps magic, format and this checksum.
        if bytes[..8] != MAGIC || crc32fast::hash(&bytes[..CHECKED_BYTES]) != u32_at(&bytes, CHECKED_BYTES) {
            return Err(StorageError::damaged(
                &path,
                0,
                "its checksum does not fit its content",
            ));
        }
        let format = u32_at(&bytes, 8);
        if format > DIRECTORY_FORMAT {
            let newer = Newer::format(format, DIRECTORY_FORMAT);
            return Err(StorageError::Newer { path, newer });
        }
        let mut cluster_id = [0; 16];
        cluster_id.copy_from_slice(&bytes[24..40]);
        let standing = u32_at(&bytes, 12);
        Ok(Some(NodeFile {
            node_id: u64::from(u32_at(&bytes, 16)) | u64::from(u32_at(&bytes, 20)) << 32,
            cluster_id: [FOUNDED, ENLISTED].contains(&standing).then_some(cluster_id),
            founded: standing == FOUNDED,
        }))
    }

    /// Writes the NODE file of `dir`, durably, in place of the one that is there.
    ///
    /// # Errors
    /// The disk's. The old file, or none, is then still in place, or the new one: never a mixture.
    pub fn store(&self, disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
        let mut bytes = Vec::with_capacity(FILE_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&DIRECTORY_FORMAT.to_le_bytes());
        let standing = match self.cluster_id {
            None => 0,
            Some(_) if self.founded => FOUNDED,
            Some(_) => ENLISTED,
        };
        bytes.extend_from_slice(&standing.to_le_bytes());
        bytes.extend_from_slice(&self.node_id.to_le_bytes());
        bytes.extend_from_slice(&self.cluster_id.unwrap_or_default());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        replace_file(disk, dir, NODE_FILE_NAME, &bytes)
    }

    /// Checks that `dir` belongs to this node and, where both are known, to this cluster.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] names both values.
    pub fn check(
        &self,
        dir: &Path,
        node_id: NodeId,
        cluster_id: Option<[u8; 16]>,
    ) -> Result<(), StorageError> {
        let foreign = |what, found, wanted| {
            Err(StorageError::Foreign {
                path: dir.join(NODE_FILE_NAME),
                what,
                found,
                wanted,
            })
        };
        if self.node_id != node_id {
            return foreign("node id", self.node_id.to_string(), node_id.to_string());
        }
        match (self.cluster_id, cluster_id) {
            (Some(found), Some(wanted)) if found != wanted => foreign("cluster id", hex(found), hex(wanted)),
            _ => Ok(()),
        }
    }

    /// Sets the cluster id, durably, once; does nothing when it is set to the same already.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] when another one is set; the disk's.
    pub fn join_cluster(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        cluster_id: [u8; 16],
        founded: bool,
    ) -> Result<(), StorageError> {
        self.check(dir, self.node_id, Some(cluster_id))?;
        if self.cluster_id.is_none() || (founded && !self.founded) {
            let joined = NodeFile {
                cluster_id: Some(cluster_id),
                founded,
                ..self.clone()
            };
            joined.store(disk, dir)?;
            *self = joined;
        }
        Ok(())
    }
}

/// Puts a small file in place whole and durably: written beside, synced, renamed, directory synced.
/// A crash leaves the old file or the new one, and perhaps `NAME.tmp`, which the next call replaces.
pub(crate) fn replace_file(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<(), StorageError> {
    let path = dir.join(name);
    let beside: PathBuf = dir.join(format!("{name}.tmp"));
    match disk.remove(&beside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(StorageError::io("removing", &beside)(error)),
    }
    let file = disk
        .open(&beside, OpenMode::Create)
        .map_err(StorageError::io("creating", &beside))?;
    file.write_at(0, bytes)
        .map_err(StorageError::io("writing", &beside))?;
    crash_point!("small-file-written");
    file.sync().map_err(StorageError::io("syncing", &beside))?;
    crash_point!("small-file-synced");
    disk.rename(&beside, &path)
        .map_err(StorageError::io("renaming into place", &path))?;
    crash_point!("small-file-renamed");
    disk.sync_dir(dir)
        .map_err(StorageError::io("syncing directory", dir))?;
    crash_point!("small-file-stored");
    Ok(())
}

fn hex(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

fn u32_at(bytes: &[u8; FILE_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

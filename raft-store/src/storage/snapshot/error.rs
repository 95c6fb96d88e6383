//! What can go wrong with snapshots.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::format::ReadError;
use crate::storage::error::Newer;

/// Why a snapshot could not be written, read or accepted.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Our disk failed: fatal for the node.
    #[error("{doing} {}: {source}", path.display())]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// These bytes are not the snapshot they should be: not fatal when a peer sent them.
    #[error("snapshot {} is not usable: {why}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file is whole, and of a newer Holdfast.
    #[error("snapshot {} has {newer}: start a newer Holdfast on this node", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// What of it is newer.
        newer: Newer,
    },
    /// As many snapshots as may be are being received already.
    #[error("already receiving {receiving} snapshots")]
    Busy {
        /// How many.
        receiving: usize,
    },
    /// There is no room for it on the disk.
    #[error("a snapshot of {bytes} bytes does not fit: {bytes_free} bytes are free")]
    NoSpace {
        /// How large it is.
        bytes: u64,
        /// How much is free.
        bytes_free: u64,
    },
}

impl From<SnapshotError> for io::Error {
    fn from(error: SnapshotError) -> Self {
        let kind = match &error {
            SnapshotError::Disk { source, .. } => source.kind(),
            SnapshotError::Damaged { .. } | SnapshotError::Newer { .. } => io::ErrorKind::InvalidData,
            SnapshotError::Busy { .. } => io::ErrorKind::ResourceBusy,
            SnapshotError::NoSpace { .. } => io::ErrorKind::StorageFull,
        };
        io::Error::new(kind, error)
    }
}

pub(super) fn disk_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_path_buf();
    move |source| SnapshotError::Disk { doing, path, source }
}

pub(super) fn read_error(path: &Path) -> impl FnOnce(ReadError) -> SnapshotError {
    let path = path.to_path_buf();
    move |error| match error {
        ReadError::Disk(source) => SnapshotError::Disk {
            doing: "reading",
            path,
            source,
        },
        ReadError::Damaged(why) => SnapshotError::Damaged { path, why },
        ReadError::Newer(newer) => SnapshotError::Newer { path, newer },
    }
}

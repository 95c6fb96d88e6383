//! What can go wrong with files, said so that an operator can act on it.
//!
//! Every variant names the path, what was being done to it or what is wrong with it, and what to do.
//! A storage error is fatal to the node: nothing here is retried, because after a failed write or sync
//! nobody knows what the disk holds. What a caller may do is stop, and say so.

use std::{
    io,
    path::{Path, PathBuf},
};

use inventory_machine::codec::MACHINE_VERSION;

/// A storage error: fatal to the node that meets it.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused.
    #[error("{doing} {}: {source}; the node stops: free or repair the disk, then start it again", path.display())]
    Io {
        /// What was being done, as in "writing to log segment".
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes that were once durable have changed.
    #[error(
        "{} is damaged at byte {offset}: {what}. A node must not take part from damaged storage. \
         Remove it with `holdfast member remove`, then add it again with `holdfast member add`, an \
         empty directory and a new node id",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, in bytes from its start.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A file that was once durable is gone.
    #[error(
        "{} is missing: {why}. Put it back if it was moved; if it is lost, remove the node with \
         `holdfast member remove`, then add it again with `holdfast member add`, an empty directory \
         and a new node id",
        path.display()
    )]
    Missing {
        /// The file or directory.
        path: PathBuf,
        /// How it is known that it was there.
        why: &'static str,
    },
    /// A directory that should be new holds a node's data, but not the file that says whose.
    #[error(
        "{} holds data of a node, but the directory has no NODE file: it was lost, or never this \
         node's. Put NODE back, or move the directory away and join as a new node with a new node id",
        path.display()
    )]
    NotNew {
        /// What was found there.
        path: PathBuf,
    },
    /// Written by a newer Holdfast.
    #[error(
        "{} has {newer}: start a Holdfast at least as new as the one that wrote it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// What of it is newer.
        newer: Newer,
    },
    /// The directory belongs to another node or another cluster.
    #[error(
        "{} belongs to {what} {found}, but this node is configured with {what} {wanted}: correct the \
         configuration or the directory; to start afresh use an empty directory, and `holdfast member \
         remove` and `holdfast member add` with a new node id",
        path.display()
    )]
    Foreign {
        /// The NODE file.
        path: PathBuf,
        /// "node id" or "cluster id".
        what: &'static str,
        /// What the file says.
        found: String,
        /// What was configured.
        wanted: String,
    },
    /// Another process has the directory open.
    #[error("{} is locked by another process ({source}): stop that one, or choose another directory", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Entries that do not follow the log's last.
    #[error(
        "{}: entry {found} does not follow the log, which goes on at {wanted}; nothing was written",
        path.display()
    )]
    Gap {
        /// The log's directory.
        path: PathBuf,
        /// Index of the entry.
        found: u64,
        /// Index that comes next.
        wanted: u64,
    },
    /// Used after it was closed.
    #[error("{} is closed: the node is stopping", path.display())]
    Closed {
        /// The log's directory.
        path: PathBuf,
    },
}

/// What a newer Holdfast wrote and this program does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {found}, this program knows up to {known}")]
pub struct Newer {
    /// What has versions.
    pub what: &'static str,
    /// The version found.
    pub found: u32,
    /// The newest known here.
    pub known: u32,
}

impl Newer {
    /// A format of bytes.
    pub fn format(found: impl Into<u32>, known: impl Into<u32>) -> Newer {
        Newer {
            what: "format",
            found: found.into(),
            known: known.into(),
        }
    }

    /// Commands, or a state that they made.
    pub fn machine(found: u16) -> Newer {
        Newer {
            what: "machine version",
            found: found.into(),
            known: MACHINE_VERSION.into(),
        }
    }
}

impl StorageError {
    /// For `map_err`: what was being done, to what path.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
        let path = path.to_path_buf();
        move |source| StorageError::Io { doing, path, source }
    }

    /// Bytes that were once durable have changed.
    pub fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> StorageError {
        StorageError::Damaged {
            path: path.to_path_buf(),
            offset,
            what: what.into(),
        }
    }
}

impl From<StorageError> for io::Error {
    fn from(error: StorageError) -> io::Error {
        let kind = match &error {
            StorageError::Io { source, .. } => source.kind(),
            StorageError::Damaged { .. } => io::ErrorKind::InvalidData,
            StorageError::Missing { .. } => io::ErrorKind::NotFound,
            StorageError::Gap { .. } => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

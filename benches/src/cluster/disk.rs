//! What a cluster's nodes have on disk: the space that files take, which for a log made ahead is more than is in them.

use std::{
    fs::Metadata,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::Path,
};

use client::Snapshot;
use futures::future::try_join_all;
use raft_store::storage::{log::LOG_DIR_NAME, open::SNAPSHOTS_DIR_NAME, snapshot::SNAPSHOTS_KEPT};

use super::{Cluster, LOOK_EVERY, node_name};
use crate::{
    children::node::IMAGE_DIR_NAME,
    failure::{Doing, Failure},
};

/// Length of a block in what Linux says of a file, whatever the file system's are.
const BLOCK_BYTES: u64 = 512;

/// Bytes on disk of a node, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskBytes {
    pub log: u64,
    pub image: u64,
    pub snapshots: u64,
}

impl DiskBytes {
    /// Of all of it.
    pub fn sum(&self) -> u64 {
        self.log + self.image + self.snapshots
    }
}

impl Cluster {
    /// What each node has on disk.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn disk_bytes(&self) -> Result<Vec<DiskBytes>, Failure> {
        let node = |id: u64| {
            let dir = self.dir.path().join(node_name(id));
            let bytes = |name: &str| {
                let dir = dir.join(name);
                bytes_in(&dir).doing(&format!("measuring {}", dir.display()))
            };
            Ok(DiskBytes {
                log: bytes(LOG_DIR_NAME)?,
                image: bytes(IMAGE_DIR_NAME)?,
                snapshots: bytes(SNAPSHOTS_DIR_NAME)?,
            })
        };
        (1..=self.nodes.len() as u64).map(node).collect()
    }

    /// Has every node write a snapshot of what is applied now; gives those that each has, the oldest first.
    ///
    /// # Errors
    /// A node does not, or has none that is new enough.
    pub async fn take_snapshots(&self) -> Result<Vec<Vec<Snapshot>>, Failure> {
        const DOING: &str = "taking snapshots";
        let index = self.applied_index().await?;
        self.wait_for("waiting for the replicas", LOOK_EVERY, |status| {
            status.applied_index >= index
        })
        .await?;
        let operators = self.client.cluster();
        let take = |endpoint| operators.take_snapshot(endpoint);
        let taken = try_join_all(self.endpoints().map(take)).await.doing(DOING)?;
        let kept: Vec<_> = taken.into_iter().map(|node| node.snapshots).collect();
        for (node, snapshots) in (1..).zip(&kept) {
            if snapshots.last().is_none_or(|last| last.log_index < index) {
                let why = format!("node {node} has none of log index {index}: {snapshots:?}");
                return Err(Failure::new(DOING, why));
            }
        }
        Ok(kept)
    }

    /// Waits until every node has purged its log as far as its snapshots let it.
    ///
    /// # Errors
    /// One does not, or keeps fewer snapshots than it needs for that.
    pub async fn purged(&self) -> Result<(), Failure> {
        const DOING: &str = "waiting for the log to be purged";
        let operators = self.client.cluster();
        for endpoint in self.endpoints() {
            let kept = operators.snapshots(endpoint, false).await.doing(DOING)?.snapshots;
            let older = kept.first().filter(|_| kept.len() == SNAPSHOTS_KEPT);
            let older = older.ok_or_else(|| Failure::new(DOING, format!("{endpoint} has {kept:?}")))?;
            self.wait_for(DOING, LOOK_EVERY, |status| {
                status.endpoint != endpoint || status.purged_index >= older.log_index
            })
            .await?;
        }
        Ok(())
    }
}

/// Bytes that the files below a directory take. What goes away meanwhile takes none.
fn bytes_in(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let Some(entries) = unless_gone(std::fs::read_dir(dir))? else {
        return Ok(0);
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            bytes += bytes_in(&entry.path())?;
        } else {
            let blocks = unless_gone(entry.metadata())?
                .as_ref()
                .map_or(0, Metadata::blocks);
            bytes += blocks * BLOCK_BYTES;
        }
    }
    Ok(bytes)
}

fn unless_gone<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_at_any_depth_take_what_they_hold_and_a_directory_that_is_gone_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("deep");
        std::fs::create_dir(&deep).unwrap();
        for path in [dir.path().join("file"), deep.join("file")] {
            let file = std::fs::File::create(&path).unwrap();
            std::io::Write::write_all(&mut &file, &[1; 100_000]).unwrap();
            // Only then it is certain that the file system has given it its blocks.
            file.sync_all().unwrap();
        }
        let bytes = bytes_in(dir.path()).unwrap();
        assert!((200_000..400_000).contains(&bytes), "{bytes}");
        assert_eq!(bytes_in(&dir.path().join("gone")).unwrap(), 0);
    }
}

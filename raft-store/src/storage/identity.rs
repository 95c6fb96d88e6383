//! What this directory belongs to, as it is learned: the NODE file, kept up with the applied state.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;

use super::{
    disk::Disk,
    error::StorageError,
    node_file::{NODE_FILE_NAME, NodeFile},
    offload::blocking,
    snapshot::SnapshotStore,
};
use crate::{
    network::{ClusterId, ClusterKeeper},
    seams::Workers,
};

/// The NODE file and those who must know the cluster id. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    workers: Workers,
    dir: PathBuf,
    snapshots: SnapshotStore,
    node_file: Mutex<NodeFile>,
    /// Keeps other processes out for as long as anybody here may write.
    _lock: Box<dyn Send + Sync>,
}

impl Identity {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        workers: Workers,
        dir: PathBuf,
        lock: Box<dyn Send + Sync>,
        snapshots: SnapshotStore,
        node_file: NodeFile,
    ) -> Identity {
        if let Some(cluster_id) = node_file.cluster_id {
            snapshots.set_cluster_id(u128::from_be_bytes(cluster_id));
        }
        let node_file = Mutex::new(node_file);
        Identity {
            inner: Arc::new(Inner {
                disk,
                workers,
                dir,
                snapshots,
                node_file,
                _lock: lock,
            }),
        }
    }

    /// What the NODE file says now.
    pub fn node_file(&self) -> NodeFile {
        self.inner
            .node_file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The cluster id, once known.
    pub fn cluster_id(&self) -> Option<u128> {
        self.node_file().cluster_id.map(u128::from_be_bytes)
    }

    /// Log or snapshots hold the cluster's founding: writes that down when it is new. Blocks then.
    ///
    /// # Errors
    /// Another one is known already; the disk failed.
    pub(crate) fn learn_now(&self, cluster_id: u128) -> Result<(), StorageError> {
        self.write_down(cluster_id, true)
    }

    fn write_down(&self, cluster_id: u128, founded: bool) -> Result<(), StorageError> {
        let inner = &self.inner;
        let mut node_file = inner.node_file.lock().unwrap_or_else(PoisonError::into_inner);
        node_file.join_cluster(&*inner.disk, &inner.dir, cluster_id.to_be_bytes(), founded)?;
        inner.snapshots.set_cluster_id(cluster_id);
        Ok(())
    }

    /// [`Identity::learn_now`], beside the runtime.
    pub(crate) async fn learn(&self, cluster_id: u128) -> io::Result<()> {
        let known = self.node_file();
        if known.founded && known.cluster_id == Some(cluster_id.to_be_bytes()) {
            return Ok(());
        }
        let identity = self.clone();
        Ok(blocking(self.inner.workers, move || identity.learn_now(cluster_id)).await??)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", NODE_FILE_NAME, self.inner.dir.display())
    }
}

impl ClusterKeeper for Identity {
    fn keep(&self, cluster_id: ClusterId) -> BoxFuture<'_, io::Result<()>> {
        let identity = self.clone();
        Box::pin(async move {
            let workers = identity.inner.workers;
            Ok(blocking(workers, move || identity.write_down(cluster_id, false)).await??)
        })
    }
}

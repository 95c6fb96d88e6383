//! Snapshots and backups of a node, for operators.
//!
//! Each call speaks to one named endpoint: the node answers about itself.

use std::time::Duration;

use bytes::Bytes;
use proto::v1::{
    BackupPart, BackupRequest, ListSnapshotsRequest, TakeSnapshotRequest, backup_part::Part,
    cluster_client::ClusterClient,
};
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Streaming};

use crate::{
    Error,
    cluster::{Cluster, late},
    leader::{read_error, timed},
    model::NodeSnapshots,
};

/// How long writing or verifying snapshots may take: ten million claims take seconds.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a node may take to begin a backup, which it writes first, and between two parts of it.
const PART_TIMEOUT: Duration = Duration::from_secs(300);

impl Cluster {
    /// Has the node at `endpoint` write a snapshot of its state; gives all of its snapshots.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it does not answer. [`Error::Rejected`]: it could not.
    pub async fn take_snapshot(&self, endpoint: &str) -> Result<NodeSnapshots, Error> {
        self.ask(endpoint, SNAPSHOT_TIMEOUT, |channel, left| async move {
            let request = timed(TakeSnapshotRequest {}, left);
            ClusterClient::new(channel).take_snapshot(request).await
        })
        .await
    }

    /// The snapshots of the node at `endpoint`; with `verify` it reads every byte of them again.
    ///
    /// # Errors
    /// As [`Cluster::take_snapshot`].
    pub async fn snapshots(&self, endpoint: &str, verify: bool) -> Result<NodeSnapshots, Error> {
        self.ask(endpoint, SNAPSHOT_TIMEOUT, |channel, left| async move {
            let request = timed(ListSnapshotsRequest { verify }, left);
            ClusterClient::new(channel).list_snapshots(request).await
        })
        .await
    }

    /// Begins a backup of the state of the node at `endpoint`, once that contains entry `log_index_min`.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it does not answer. [`Error::Rejected`]: it makes one already, has no room, or
    /// has not got that far.
    pub async fn backup(&self, endpoint: &str, log_index_min: u64) -> Result<BackupDownload, Error> {
        let channel = self.channel(endpoint)?;
        let deadline = Instant::now() + PART_TIMEOUT;
        // No deadline goes along: it would end the stream, however well it flows.
        let request = Request::new(BackupRequest { log_index_min });
        let mut client = ClusterClient::new(channel);
        let response = timeout_at(deadline, client.backup(request)).await;
        let mut download = BackupDownload {
            endpoint: endpoint.to_owned(),
            parts: response
                .unwrap_or_else(|_| Err(late(endpoint, PART_TIMEOUT)))
                .map_err(|status| read_error(&status, endpoint))?
                .into_inner(),
            log_index: 0,
            bytes_total: 0,
        };
        match download.part().await? {
            Some(Part::Header(header)) => {
                download.log_index = header.log_index;
                download.bytes_total = header.bytes_total;
                Ok(download)
            }
            _ => Err(Error::unavailable(format!(
                "{endpoint} began a backup without a header"
            ))),
        }
    }
}

/// A backup on its way.
#[derive(Debug)]
pub struct BackupDownload {
    endpoint: String,
    parts: Streaming<BackupPart>,
    /// The last log entry in it.
    pub log_index: u64,
    /// Length of the whole file.
    pub bytes_total: u64,
}

impl BackupDownload {
    /// The next bytes of the file; `None` at its end.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the node went away or failed; begin anew.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self.part().await? {
            None => Ok(None),
            Some(Part::Data(data)) => Ok(Some(data)),
            Some(Part::Header(_)) => Err(Error::unavailable(format!(
                "{} sent a second header within a backup",
                self.endpoint
            ))),
        }
    }

    async fn part(&mut self) -> Result<Option<Part>, Error> {
        let message = timeout_at(Instant::now() + PART_TIMEOUT, self.parts.message()).await;
        let message = message.unwrap_or_else(|_| Err(late(&self.endpoint, PART_TIMEOUT)));
        let part = message.map_err(|status| read_error(&status, &self.endpoint))?;
        Ok(part.and_then(|part| part.part))
    }
}

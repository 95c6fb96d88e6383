//! Snapshots to one peer: a header, then the file in chunks, on a connection of its own.
//!
//! The sender reads a chunk only when the stream has room for it, so HTTP/2's own flow control sets
//! the pace and the memory used is a few chunks. The receiver answers when the snapshot is verified and
//! installed. The checksum over the whole travels in the header; what arrives is believed only when
//! it matches ([`SnapshotIntake::finish`]).
//!
//! [`SnapshotSource`] and [`SnapshotSink`] are what the network needs of a snapshot; the files are the
//! storage's business.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, future::BoxFuture, stream};
use openraft::{
    RPCTypes, RaftTypeConfig, StorageError,
    errors::{ErrorSource, RPCError, ReplicationClosed, StreamingError},
    raft::SnapshotResponse,
    type_config::alias::SnapshotOf,
};
use proto::internal as wire;

use super::peer::{CallError, Peer, within};
use crate::{
    convert,
    storage::snapshot::{SnapshotData, SnapshotError, SnapshotReceiver, SnapshotStore},
    types::{SnapshotMeta, TypeConfig, Vote},
};

/// Bytes of a snapshot in one message: large against the cost of a message, small against a
/// connection's window and against what a reader may hold in memory.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 << 10;

/// A snapshot that can be sent.
pub trait SnapshotSource: Send + Sync + 'static {
    /// Its length in bytes.
    fn bytes_total(&self) -> u64;
    /// xxh3-128 over all its bytes.
    fn checksum(&self) -> u128;
    /// The next at most `bytes_max` bytes from `offset` on; empty at the end.
    fn chunk(&self, offset: u64, bytes_max: usize) -> BoxFuture<'_, Result<Bytes, SnapshotError>>;
}

/// Where snapshots can be received.
pub trait SnapshotSink: Send + Sync + 'static {
    /// What a received snapshot becomes.
    type Snapshot: Send + 'static;
    /// One that is being received.
    type Intake: SnapshotIntake<Snapshot = Self::Snapshot>;
    /// Begins to receive `bytes_total` bytes with this checksum over all of them.
    ///
    /// # Errors
    /// The disk failed, or as many as may be are being received already.
    fn receive(
        &self,
        meta: &SnapshotMeta,
        bytes_total: u64,
        checksum: u128,
    ) -> Result<Self::Intake, SnapshotError>;
}

/// A snapshot being received. Dropped, it leaves nothing behind.
pub trait SnapshotIntake: Send + 'static {
    /// What it becomes.
    type Snapshot;
    /// Takes the next bytes.
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<(), SnapshotError>>;
    /// Verifies the whole and makes it durable.
    fn finish(self) -> BoxFuture<'static, Result<Self::Snapshot, SnapshotError>>;
}

impl SnapshotSource for SnapshotData {
    fn bytes_total(&self) -> u64 {
        self.len()
    }
    fn checksum(&self) -> u128 {
        SnapshotData::checksum(self)
    }
    fn chunk(&self, offset: u64, bytes_max: usize) -> BoxFuture<'_, Result<Bytes, SnapshotError>> {
        Box::pin(SnapshotData::chunk(self, offset, bytes_max))
    }
}

impl SnapshotSink for SnapshotStore {
    type Snapshot = SnapshotData;
    type Intake = SnapshotReceiver;
    fn receive(
        &self,
        meta: &SnapshotMeta,
        bytes_total: u64,
        checksum: u128,
    ) -> Result<SnapshotReceiver, SnapshotError> {
        SnapshotReceiver::new(self, meta, bytes_total, checksum)
    }
}

impl SnapshotIntake for SnapshotReceiver {
    type Snapshot = SnapshotData;
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<(), SnapshotError>> {
        Box::pin(SnapshotReceiver::write(self, chunk))
    }
    fn finish(self) -> BoxFuture<'static, Result<SnapshotData, SnapshotError>> {
        Box::pin(SnapshotReceiver::finish(self))
    }
}

/// Sends a snapshot and waits until it is installed.
pub(super) async fn send<S: SnapshotSource>(
    peer: &Peer,
    vote: Vote,
    snapshot: SnapshotOf<TypeConfig, S>,
    cancel: impl Future<Output = ReplicationClosed>,
    deadline: Duration,
) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
    let source = snapshot.snapshot;
    let header = convert::snapshot_header_out(&vote, &snapshot.meta, source.bytes_total(), source.checksum());
    let failure = Arc::new(Mutex::new(None));
    let message = peer.request(messages(header, source, failure.clone()));
    let mut client = peer.raft_for_snapshots();
    let answer = tokio::select! {
        answer = within(deadline, client.install_snapshot(message)) => answer,
        closed = cancel => return Err(StreamingError::Closed(closed)),
    };
    // Our own disk explains the peer's complaint about a snapshot that is too short.
    if let Some(error) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let source = <TypeConfig as RaftTypeConfig>::ErrorSource::from_error(&error);
        let signature = snapshot.meta.signature();
        return Err(StorageError::read_snapshot(Some(signature), source).into());
    }
    let answer = answer.and_then(|answer| {
        let vote = answer.vote.ok_or_else(|| convert::Malformed {
            message: "snapshot response",
            why: "vote is missing".to_owned(),
        })?;
        Ok(SnapshotResponse::new(convert::vote_in(vote)))
    });
    answer.map_err(
        |error: CallError| match peer.rpc_error(RPCTypes::InstallSnapshot, error) {
            RPCError::Timeout(error) => error.into(),
            RPCError::Unreachable(error) => error.into(),
            RPCError::Network(error) => error.into(),
            RPCError::RemoteError(never) => match never.source {},
        },
    )
}

/// The messages of one transfer. A read error ends the stream early and is left in `failure`.
fn messages<S: SnapshotSource>(
    header: wire::SnapshotHeader,
    source: S,
    failure: Arc<Mutex<Option<SnapshotError>>>,
) -> impl Stream<Item = wire::SnapshotChunk> + Send + 'static {
    let bytes_total = header.bytes_total;
    let part = |part| wire::SnapshotChunk { part: Some(part) };
    let head = stream::iter([part(wire::snapshot_chunk::Part::Header(header))]);
    let body = stream::unfold(
        (source, 0_u64, failure),
        move |(source, offset, failure)| async move {
            if offset >= bytes_total {
                return None;
            }
            match source.chunk(offset, SNAPSHOT_CHUNK_BYTES).await {
                Ok(chunk) if chunk.is_empty() => None,
                Ok(chunk) => {
                    let next = offset + chunk.len() as u64;
                    Some((
                        part(wire::snapshot_chunk::Part::Data(chunk)),
                        (source, next, failure),
                    ))
                }
                Err(error) => {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    None
                }
            }
        },
    );
    futures::StreamExt::chain(head, body)
}

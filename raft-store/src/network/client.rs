//! openraft's client of one peer: each of its messages as one call.

use std::{future::Future, marker::PhantomData, sync::Arc};

use futures::{Stream, future::BoxFuture, stream::BoxStream};
use openraft::{
    OptionalSend, RPCTypes,
    errors::{RPCError, ReplicationClosed, StreamingError},
    network::{Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption},
    raft::{
        AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
    type_config::alias::SnapshotOf,
};

use super::{
    answered::Answered,
    append_stream::{self, Wire},
    peer::{CallError, Peer, within},
    snapshot::{self, SnapshotSource},
};
use crate::{
    convert,
    types::{TypeConfig, Vote},
};

type RpcError = RPCError<TypeConfig>;

/// Speaks to one peer for openraft.
pub struct PeerClient<S> {
    pub(super) peer: Arc<Peer>,
    pub(super) answered: Answered,
    /// The append stream of the last session, when it ended with every request answered.
    pub(super) wire: Option<Wire>,
    snapshots: PhantomData<fn() -> S>,
}

impl<S> PeerClient<S> {
    pub(super) fn new(peer: Arc<Peer>, answered: Answered) -> Self {
        PeerClient {
            peer,
            answered,
            wire: None,
            snapshots: PhantomData,
        }
    }
}

impl<S: SnapshotSource> NetBackoff<TypeConfig> for PeerClient<S> {
    /// `None`: the pauses of [`crate::raft_config`].
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl<S: SnapshotSource> NetStreamAppend<TypeConfig> for PeerClient<S> {
    fn stream_append<'s, I>(
        &'s mut self,
        input: I,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>>
    where
        I: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(append_stream::session(self, input, option))
    }
}

impl<S: SnapshotSource> NetVote<TypeConfig> for PeerClient<S> {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let message = self.peer.request(convert::vote_request_out(&request));
        let mut client = self.peer.raft();
        let answer = within(option.soft_ttl(), client.vote(message)).await;
        answer
            .and_then(|answer| Ok(convert::vote_response_in(answer)?))
            .map_err(|error| self.peer.rpc_error(RPCTypes::Vote, error))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let message = self.peer.request(convert::vote_request_out(&request));
        let mut client = self.peer.raft();
        let answer = within(option.soft_ttl(), client.pre_vote(message)).await;
        answer
            .and_then(|answer| Ok(convert::vote_response_in(answer)?))
            .map_err(|error| self.peer.rpc_error(RPCTypes::Vote, error))
    }
}

impl<S: SnapshotSource> NetSnapshot<TypeConfig> for PeerClient<S> {
    type SnapshotData = S;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, S>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        snapshot::send(&self.peer, vote, snapshot, cancel, option.soft_ttl()).await
    }
}

impl<S: SnapshotSource> NetTransferLeader<TypeConfig> for PeerClient<S> {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let message = self.peer.request(convert::transfer_out(&request));
        let mut client = self.peer.raft();
        let answer = within(option.soft_ttl(), client.transfer_leader(message)).await;
        answer
            .and_then(|answer| Ok(convert::transferred_in(&request, answer)?))
            .map_err(|error: CallError| self.peer.rpc_error(RPCTypes::TransferLeader, error))
    }
}

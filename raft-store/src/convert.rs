//! Between the wire and openraft: every message in both directions.
//!
//! Invariants: converting out never fails; converting in is total: a message that no node of ours
//! sends (a field missing, entries that do not follow one another, a log id beyond the leadership it
//! came with) becomes [`Malformed`], never a panic, here or later inside openraft, whose own
//! assertions assume peers that keep the protocol. The bytes of a batch are handed over, not copied.
//!
//! Left out: whether a batch decodes (the machine's question, on every replica alike) and whether the
//! sender may call at all (the service's question).

use std::collections::{BTreeMap, BTreeSet};

use openraft::{
    BasicNode, EntryPayload,
    impls::leader_id_adv::LeaderId,
    raft::{
        AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use proto::internal as wire;

use crate::types::{BatchBytes, Entry, LogId, NodeId, SnapshotMeta, StoredMembership, TypeConfig, Vote};

/// Membership as openraft holds it.
pub type Membership = openraft::Membership<NodeId, BasicNode>;

/// A message that no node of ours sends, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {message}: {why}")]
pub struct Malformed {
    /// Which message.
    pub message: &'static str,
    /// What is wrong with it.
    pub why: String,
}

fn malformed(message: &'static str, why: impl Into<String>) -> Malformed {
    Malformed {
        message,
        why: why.into(),
    }
}

fn required<T>(field: Option<T>, message: &'static str, name: &str) -> Result<T, Malformed> {
    field.ok_or_else(|| malformed(message, format!("{name} is missing")))
}

/// A vote, out.
pub fn vote_out(vote: &Vote) -> wire::Vote {
    wire::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

/// A vote, in.
pub fn vote_in(vote: wire::Vote) -> Vote {
    Vote {
        leader_id: LeaderId {
            term: vote.term,
            node_id: vote.node_id,
        },
        committed: vote.committed,
    }
}

/// A vote of an established leader: only such a one may append, install or hand over.
fn leader_vote_in(vote: Option<wire::Vote>, message: &'static str) -> Result<Vote, Malformed> {
    let vote = vote_in(required(vote, message, "vote")?);
    if !vote.committed {
        return Err(malformed(
            message,
            format!("vote {vote} is not that of an elected leader"),
        ));
    }
    Ok(vote)
}

/// A log id, out.
pub fn log_id_out(log_id: &LogId) -> wire::LogId {
    wire::LogId {
        term: log_id.leader_id.term,
        node_id: log_id.leader_id.node_id,
        index: log_id.index,
    }
}

/// A log id, in.
pub fn log_id_in(log_id: wire::LogId) -> LogId {
    LogId {
        leader_id: LeaderId {
            term: log_id.term,
            node_id: log_id.node_id,
        },
        index: log_id.index,
    }
}

/// Membership, out.
pub fn membership_out(membership: &Membership) -> wire::Membership {
    wire::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|voters| wire::NodeSet {
                node_ids: voters.iter().copied().collect(),
            })
            .collect(),
        nodes: membership
            .nodes()
            .map(|(node_id, node)| wire::Node {
                node_id: *node_id,
                endpoint: node.addr.clone(),
            })
            .collect(),
    }
}

/// Membership, in: every voter must have its endpoint, and no configuration may be empty. The empty
/// membership, that of a node before its first, is one.
pub fn membership_in(membership: wire::Membership) -> Result<Membership, Malformed> {
    let configs: Vec<BTreeSet<NodeId>> = membership
        .configs
        .into_iter()
        .map(|set| set.node_ids.into_iter().collect())
        .collect();
    let nodes: BTreeMap<NodeId, BasicNode> = membership
        .nodes
        .into_iter()
        .map(|node| (node.node_id, BasicNode::new(node.endpoint)))
        .collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    if configs.is_empty() || configs.iter().any(BTreeSet::is_empty) {
        return Err(malformed("membership", "a set of voters is empty"));
    }
    Membership::new(configs, nodes).map_err(|error| malformed("membership", error.to_string()))
}

/// An entry, out.
pub fn entry_out(entry: Entry) -> wire::Entry {
    let payload = match entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(BatchBytes(bytes)) => Some(wire::entry::Payload::Batch(bytes)),
        EntryPayload::Membership(membership) => {
            Some(wire::entry::Payload::Membership(membership_out(&membership)))
        }
    };
    wire::Entry {
        log_id: Some(log_id_out(&entry.log_id)),
        payload,
    }
}

/// An entry, in.
pub fn entry_in(entry: wire::Entry) -> Result<Entry, Malformed> {
    let log_id = log_id_in(required(entry.log_id, "entry", "log_id")?);
    let payload = match entry.payload {
        None => EntryPayload::Blank,
        Some(wire::entry::Payload::Batch(bytes)) => EntryPayload::Normal(BatchBytes(bytes)),
        Some(wire::entry::Payload::Membership(membership)) => {
            EntryPayload::Membership(membership_in(membership)?)
        }
    };
    Ok(Entry { log_id, payload })
}

/// Append entries, out.
pub fn append_out(request: AppendEntriesRequest<TypeConfig>) -> wire::AppendRequest {
    wire::AppendRequest {
        vote: Some(vote_out(&request.vote)),
        prev_log_id: request.prev_log_id.as_ref().map(log_id_out),
        leader_commit: request.leader_commit.as_ref().map(log_id_out),
        entries: request.entries.into_iter().map(entry_out).collect(),
    }
}

/// Append entries, in: the entries must follow the previous log id and one another, with leaders that
/// never go back and none beyond the leader that sends them.
pub fn append_in(request: wire::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    const MESSAGE: &str = "append request";
    let vote = leader_vote_in(request.vote, MESSAGE)?;
    let prev_log_id = request.prev_log_id.map(log_id_in);
    let mut last = prev_log_id;
    let mut entries = Vec::with_capacity(request.entries.len());
    for entry in request.entries {
        let entry = entry_in(entry)?;
        let expected = match last {
            None => Some(0),
            Some(last) => last.index.checked_add(1),
        };
        let goes_back = last.is_some_and(|last| entry.log_id.leader_id < last.leader_id);
        if Some(entry.log_id.index) != expected || goes_back {
            let last = last.map_or("nothing".to_owned(), |last| last.to_string());
            return Err(malformed(
                MESSAGE,
                format!("entry {} does not follow {last}", entry.log_id),
            ));
        }
        last = Some(entry.log_id);
        entries.push(entry);
    }
    if let Some(last) = last
        && last.leader_id > vote.leader_id
    {
        return Err(malformed(
            MESSAGE,
            format!("log id {last} is beyond its leader {vote}"),
        ));
    }
    Ok(AppendEntriesRequest {
        vote,
        prev_log_id,
        entries,
        leader_commit: request.leader_commit.map(log_id_in),
    })
}

/// The answer to one append, out.
pub fn appended_out(result: StreamAppendResult<TypeConfig>) -> wire::AppendResponse {
    use wire::append_response::Result as Answer;
    let (result, conflict_log_id) = match result {
        Ok(log_id) => (
            Answer::Matched(wire::Matched {
                log_id: log_id.as_ref().map(log_id_out),
            }),
            None,
        ),
        Err(StreamAppendError::Conflict(log_id)) => (Answer::Conflict(true), Some(log_id_out(&log_id))),
        Err(StreamAppendError::HigherVote(vote)) => (Answer::HigherVote(vote_out(&vote)), None),
    };
    wire::AppendResponse {
        result: Some(result),
        conflict_log_id,
    }
}

/// The answer to the append that covered `(prev, last]`, in: a peer can only have matched or refused
/// what it was sent.
pub fn appended_in(
    response: wire::AppendResponse,
    prev: Option<LogId>,
    last: Option<LogId>,
) -> Result<StreamAppendResult<TypeConfig>, Malformed> {
    use wire::append_response::Result as Answer;
    const MESSAGE: &str = "append response";
    match required(response.result, MESSAGE, "result")? {
        Answer::Matched(matched) => {
            let log_id = matched.log_id.map(log_id_in);
            if log_id != last {
                return Err(malformed(
                    MESSAGE,
                    format!("matched {log_id:?} when sent up to {last:?}"),
                ));
            }
            Ok(Ok(log_id))
        }
        Answer::Conflict(_) => {
            let log_id = log_id_in(required(response.conflict_log_id, MESSAGE, "conflict_log_id")?);
            if Some(log_id) != prev {
                return Err(malformed(
                    MESSAGE,
                    format!("conflict at {log_id} when sent after {prev:?}"),
                ));
            }
            Ok(Err(StreamAppendError::Conflict(log_id)))
        }
        Answer::HigherVote(vote) => Ok(Err(StreamAppendError::HigherVote(vote_in(vote)))),
    }
}

/// A vote request, out.
pub fn vote_request_out(request: &VoteRequest<TypeConfig>) -> wire::VoteRequest {
    wire::VoteRequest {
        vote: Some(vote_out(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id_out),
        leadership_transfer: request.leadership_transfer,
    }
}

/// A vote request, in: a candidate is not a leader yet.
pub fn vote_request_in(request: wire::VoteRequest) -> Result<VoteRequest<TypeConfig>, Malformed> {
    const MESSAGE: &str = "vote request";
    let vote = vote_in(required(request.vote, MESSAGE, "vote")?);
    if vote.committed {
        return Err(malformed(
            MESSAGE,
            format!("vote {vote} is that of an elected leader"),
        ));
    }
    let mut converted = VoteRequest::new(vote, request.last_log_id.map(log_id_in));
    converted.leadership_transfer = request.leadership_transfer;
    Ok(converted)
}

/// A vote response, out.
pub fn vote_response_out(response: &VoteResponse<TypeConfig>) -> wire::VoteResponse {
    wire::VoteResponse {
        vote: Some(vote_out(&response.vote)),
        last_log_id: response.last_log_id.as_ref().map(log_id_out),
        granted: response.vote_granted,
    }
}

/// A vote response, in.
pub fn vote_response_in(response: wire::VoteResponse) -> Result<VoteResponse<TypeConfig>, Malformed> {
    let vote = vote_in(required(response.vote, "vote response", "vote")?);
    Ok(VoteResponse::new(
        vote,
        response.last_log_id.map(log_id_in),
        response.granted,
    ))
}

/// The head of a snapshot stream, out.
pub fn snapshot_header_out(
    vote: &Vote,
    meta: &SnapshotMeta,
    bytes_total: u64,
    checksum: u128,
) -> wire::SnapshotHeader {
    wire::SnapshotHeader {
        vote: Some(vote_out(vote)),
        last_log_id: meta.last_log_id.as_ref().map(log_id_out),
        membership_log_id: meta.last_membership.log_id().as_ref().map(log_id_out),
        membership: Some(membership_out(meta.last_membership.membership())),
        snapshot_id: meta.last_log_id.map_or_else(String::new, |last| last.to_string()),
        bytes_total,
        checksum: checksum.to_be_bytes().to_vec().into(),
    }
}

/// What the head of a snapshot stream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The leader that sends it.
    pub vote: Vote,
    /// What it covers.
    pub meta: SnapshotMeta,
    /// Bytes that follow.
    pub bytes_total: u64,
    /// xxh3-128 over them.
    pub checksum: u128,
}

/// The head of a snapshot stream, in: it covers something, with a membership that it covers too, and
/// nothing beyond the leadership of its sender.
pub fn snapshot_header_in(header: wire::SnapshotHeader) -> Result<SnapshotHeader, Malformed> {
    const MESSAGE: &str = "snapshot header";
    let vote = leader_vote_in(header.vote, MESSAGE)?;
    let last_log_id = log_id_in(required(header.last_log_id, MESSAGE, "last_log_id")?);
    if last_log_id.leader_id > vote.leader_id {
        return Err(malformed(
            MESSAGE,
            format!("log id {last_log_id} is beyond its leader {vote}"),
        ));
    }
    let membership_log_id = header.membership_log_id.map(log_id_in);
    if membership_log_id.is_some_and(|log_id| log_id > last_log_id || log_id.index > last_log_id.index) {
        return Err(malformed(
            MESSAGE,
            format!("membership is newer than the snapshot at {last_log_id}"),
        ));
    }
    let membership = membership_in(required(header.membership, MESSAGE, "membership")?)?;
    let checksum: [u8; 16] = header.checksum.as_ref().try_into().map_err(|_| {
        malformed(
            MESSAGE,
            format!("checksum of {} bytes, not 16", header.checksum.len()),
        )
    })?;
    Ok(SnapshotHeader {
        vote,
        meta: SnapshotMeta {
            last_log_id: Some(last_log_id),
            last_membership: StoredMembership::new(membership_log_id, membership),
        },
        bytes_total: header.bytes_total,
        checksum: u128::from_be_bytes(checksum),
    })
}

/// A request to take leadership over, out.
pub fn transfer_out(request: &TransferLeaderRequest<TypeConfig>) -> wire::TransferLeaderRequest {
    wire::TransferLeaderRequest {
        from_leader: Some(vote_out(request.from_leader())),
        to_node_id: *request.to_node_id(),
        last_log_id: request.last_log_id().map(log_id_out),
    }
}

/// A request to take leadership over, in.
pub fn transfer_in(
    request: wire::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Malformed> {
    let vote = leader_vote_in(request.from_leader, "transfer request")?;
    Ok(TransferLeaderRequest::new(
        vote,
        request.to_node_id,
        request.last_log_id.map(log_id_in),
    ))
}

/// The answer to a request to take leadership over, out.
pub fn transferred_out(
    request: &TransferLeaderRequest<TypeConfig>,
    response: TransferLeaderResponse<TypeConfig>,
) -> wire::TransferLeaderResponse {
    let asked = vote_out(request.from_leader());
    match response {
        Ok(()) => wire::TransferLeaderResponse {
            vote: Some(asked),
            accepted: true,
            last_log_id: None,
        },
        Err(TransferLeaderError::VoteChanged { actual, .. }) => wire::TransferLeaderResponse {
            vote: Some(vote_out(&actual)),
            accepted: false,
            last_log_id: None,
        },
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => wire::TransferLeaderResponse {
            vote: Some(asked),
            accepted: false,
            last_log_id: actual.as_ref().map(log_id_out),
        },
    }
}

/// The answer to a request to take leadership over, in.
pub fn transferred_in(
    request: &TransferLeaderRequest<TypeConfig>,
    response: wire::TransferLeaderResponse,
) -> Result<TransferLeaderResponse<TypeConfig>, Malformed> {
    if response.accepted {
        return Ok(Ok(()));
    }
    let expected = *request.from_leader();
    let actual = vote_in(required(response.vote, "transfer response", "vote")?);
    if actual != expected {
        return Ok(Err(TransferLeaderError::VoteChanged { expected, actual }));
    }
    Ok(Err(TransferLeaderError::LogNotFlushed {
        expected: request.last_log_id().copied(),
        actual: response.last_log_id.map(log_id_in),
    }))
}

#[cfg(test)]
mod tests;

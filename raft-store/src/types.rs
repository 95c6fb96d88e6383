//! The raft types of this store, and the runtime openraft runs on.

use std::{
    fmt,
    time::{Duration, Instant},
};

use bytes::Bytes;
use inventory_machine::reply::Reply;

/// Node id: chosen by the operator, never reused.
pub type NodeId = u64;

/// One log entry's batch, as the bytes that `inventory_machine::codec` wrote: the log, the wire and
/// apply share them without another encode.
#[derive(Clone, PartialEq, Eq)]
pub struct BatchBytes(pub Bytes);

impl fmt::Debug for BatchBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch of {} bytes", self.0.len())
    }
}

impl fmt::Display for BatchBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying one entry answers: a reply for each command, in order. Empty for other entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryReply {
    /// Log index of the entry.
    pub log_index: u64,
    /// One a command.
    pub replies: Vec<Reply>,
    /// When it was applied here; only where somebody listens to spans.
    pub applying: Option<Applying>,
}

/// When an entry was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applying {
    /// When that began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
}

/// openraft's types for this store.
#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = BatchBytes;
    type R = EntryReply;
    type NodeId = NodeId;
    type Node = openraft::BasicNode;
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, NodeId>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Self::D, NodeId, Self::Node>;
    type Entry =
        openraft::impls::Entry<<Self::LeaderId as openraft::vote::RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = crate::runtime::Runtime;
    type Responder<T>
        = openraft::impls::OneshotResponder<Self, T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// A log id of this store.
pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
/// A vote of this store.
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
/// An entry of this store.
pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
/// Membership and the log id it took effect at.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
/// Snapshot's last log id, membership and id.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;

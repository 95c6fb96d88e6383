//! Who belongs to the cluster, and how that changes without endangering it.
//!
//! Every operation is repeatable: asking again for what already is answers as if it had just been done.
//! A change is checked first (does the other side answer, is it who it should be, has it caught up, would
//! a quorum be left), then proposed on the condition that membership is still what was checked. Once
//! proposed, it runs to its end even when the caller goes away: a joint configuration abandoned half-way
//! needs two quorums for everything that follows.
//!
//! A node id is never used again: ids only grow. Which one is the highest that any member ever had is part of
//! the replicated state ([`Admission`]), so it outlives members, leaders and snapshots.
//!
//! Invariants: one change at a time on a leader; a configuration left joint by an earlier leader is
//! finished before anything new; a node is counted on only if it was heard within
//! [`MembershipOptions::alive_ms_max`].
//!
//! Left out: the protocol of joint consensus (openraft), and gRPC ([`crate::service::cluster`]).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use fault_points::crash_point;
use openraft::{
    BasicNode, ChangeMembers, Instant as _, Precondition, Raft, RaftMetrics,
    async_runtime::watch::WatchReceiver,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
    storage::RaftStateMachine,
};
use proto::v1;
use tokio::{sync::OwnedMutexGuard, time::Instant};

use crate::{
    machine_versions::MachineVersions,
    network::{ClusterId, Peers},
    raft_config::RaftOptions,
    types::{LogId, NodeId, StoredMembership, TypeConfig},
};

mod change;
mod init;
mod removal;
mod transfer;

pub use removal::Removal;

/// Most members, learners included: each costs the leader a stream and every entry a copy; quorums
/// beyond seven voters only slow a cluster down.
pub const MEMBERS_MAX: usize = 15;

/// A learner or successor at most this many entries behind counts as caught up: at the store's own speed
/// that is a few milliseconds of work, so neither a new quorum nor a new leader is held up by it.
pub const LAG_ENTRIES_MAX: u64 = 1_000;

/// Longest one question to a node may take, in ms, before it counts as not answering.
const PROBE_MS_MAX: u64 = 1_000;

/// Longest endpoint, in bytes: a DNS name and a port.
const ENDPOINT_BYTES_MAX: usize = 260;

/// What membership takes from the node's options. Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembershipOptions {
    /// A node heard within this time is alive. Two leases: one lost heartbeat proves nothing.
    pub alive_ms_max: u64,
    /// After this long without a leader a node asks the others whether it is still a member.
    pub silence_ms: u64,
}

impl MembershipOptions {
    /// Fitting these raft options.
    pub fn new(options: &RaftOptions) -> Self {
        MembershipOptions {
            alive_ms_max: 2 * options.election_ms_max,
            silence_ms: 3 * options.election_ms_max,
        }
    }
}

/// Why a membership operation was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Only the leader can.
    #[error("node {node_id} is not the leader; {}", match leader {
        Some((leader_id, endpoint)) => format!("node {leader_id} at {endpoint} is"),
        None => "no leader is known".to_owned(),
    })]
    NotLeader {
        /// Who was asked.
        node_id: NodeId,
        /// Who leads and where it is, if known.
        leader: Option<(NodeId, String)>,
    },
    /// This cluster exists already.
    #[error("this node is initialized already{}", match cluster_id.as_str() {
        "" => String::new(),
        cluster_id => format!(", in cluster {cluster_id}"),
    })]
    Initialized {
        /// Its cluster, in hex; empty when not yet founded.
        cluster_id: String,
    },
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A node that must answer does not.
    #[error("node {node_id} at {endpoint} does not answer: {why}")]
    Unreachable {
        /// Which node.
        node_id: NodeId,
        /// Where it should be.
        endpoint: String,
        /// What happened.
        why: String,
    },
    /// A safety check says no; nothing was changed.
    #[error("{message}")]
    Refused {
        /// For programs, such as `QUORUM_AT_RISK`.
        reason: &'static str,
        /// For people: what is wrong and what to do.
        message: String,
    },
    /// Another change is under way; nothing was changed by this one.
    #[error("another membership change is under way; try again")]
    Busy,
    /// This leader has not been confirmed by a quorum lately, so it may propose nothing.
    #[error("no quorum has confirmed this leader lately; bring voters back, or try again")]
    NoQuorum,
    /// Proposed, and not known to have happened: ask for the status, or repeat.
    #[error("outcome unknown: {0}; repeat the call or look at the status")]
    Unknown(String),
    /// The node has stopped.
    #[error("this node has stopped: {0}")]
    Stopped(String),
}

fn refused<T>(reason: &'static str, message: impl Into<String>) -> Result<T, MembershipError> {
    Err(MembershipError::Refused {
        reason,
        message: message.into(),
    })
}

/// What the applied state asks of a node that is to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The highest id that any member ever had: its own is above.
    pub node_id_highest: NodeId,
    /// The newest version of the machine that any command has needed: it knows that.
    pub machine_version_needed: u16,
}

/// [`Admission`] as far as this node has applied the log.
pub type AdmissionNow = Arc<dyn Fn() -> Admission + Send + Sync>;

/// Membership as operators see and change it. Cheap to clone.
pub struct Membership<SM: RaftStateMachine<TypeConfig>> {
    raft: Raft<TypeConfig, SM>,
    peers: Peers,
    options: MembershipOptions,
    admission: AdmissionNow,
    versions: MachineVersions,
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl<SM: RaftStateMachine<TypeConfig>> Clone for Membership<SM> {
    fn clone(&self) -> Self {
        Membership {
            raft: self.raft.clone(),
            peers: self.peers.clone(),
            options: self.options,
            admission: self.admission.clone(),
            versions: self.versions.clone(),
            changing: self.changing.clone(),
        }
    }
}

impl<SM: RaftStateMachine<TypeConfig>> Membership<SM> {
    /// Over a running raft.
    pub fn new(
        raft: Raft<TypeConfig, SM>,
        peers: Peers,
        options: MembershipOptions,
        admission: AdmissionNow,
        versions: MachineVersions,
    ) -> Self {
        Membership {
            raft,
            peers,
            options,
            admission,
            versions,
            changing: Arc::default(),
        }
    }

    /// The connections it asks other nodes through.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    fn node_id(&self) -> NodeId {
        self.peers.identity().node_id()
    }

    /// The metrics of now, cloned at once: a held reference would block raft.
    fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// The metrics of now, if this node leads.
    fn leading(&self) -> Result<RaftMetrics<TypeConfig>, MembershipError> {
        let metrics = self.metrics();
        if let Err(fatal) = &metrics.running_state {
            return Err(MembershipError::Stopped(fatal.to_string()));
        }
        if metrics.state.is_leader() {
            return Ok(metrics);
        }
        let leader = metrics.current_leader.filter(|leader| *leader != self.node_id());
        let leader = leader.and_then(|leader| {
            let node = metrics.membership_config.get_node(&leader)?;
            Some((leader, node.addr.clone()))
        });
        Err(MembershipError::NotLeader {
            node_id: self.node_id(),
            leader,
        })
    }

    /// Waits until the metrics show what is looked for; `None` when that takes too long.
    async fn wait_for<T>(
        &self,
        until: Instant,
        mut look: impl FnMut(&RaftMetrics<TypeConfig>) -> Option<T>,
    ) -> Option<T> {
        let mut receiver = self.raft.metrics();
        let waiting = async {
            loop {
                let metrics = receiver.borrow_watched().clone();
                if let Some(found) = look(&metrics) {
                    return Some(found);
                }
                receiver.changed().await.ok()?;
            }
        };
        tokio::time::timeout_at(until, waiting).await.ok().flatten()
    }

    /// Whether the leader heard this member lately; it always hears itself.
    fn is_alive(&self, metrics: &RaftMetrics<TypeConfig>, node_id: NodeId) -> bool {
        node_id == self.node_id()
            || heard_ms_ago(metrics, node_id).is_some_and(|ms| ms <= self.options.alive_ms_max)
    }

    /// Makes a node one of the cluster, before it is a member.
    async fn enlist(
        &self,
        node_id: NodeId,
        endpoint: &str,
        cluster_id: ClusterId,
        until: Instant,
    ) -> Result<(), MembershipError> {
        let deadline = until.saturating_duration_since(Instant::now());
        let enlisting = self.peers.stranger(node_id, endpoint);
        let enlisted = enlisting.enlist(cluster_id, deadline).await;
        enlisted.map_err(|error| MembershipError::Unreachable {
            node_id,
            endpoint: endpoint.to_owned(),
            why: format!("it was not enlisted: {error}; repeat the call"),
        })
    }

    /// Asks a node for its own view, for at most one probe's time.
    async fn probe(
        &self,
        node_id: NodeId,
        endpoint: &str,
        until: Instant,
    ) -> Result<v1::StatusResponse, MembershipError> {
        let deadline = until
            .saturating_duration_since(Instant::now())
            .min(Duration::from_millis(PROBE_MS_MAX));
        let unreachable = |why| MembershipError::Unreachable {
            node_id,
            endpoint: endpoint.to_owned(),
            why,
        };
        let peer = self.peers.stranger(node_id, endpoint);
        let status = peer
            .status(deadline)
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        if status.node_id != node_id {
            return refused(
                "WRONG_NODE",
                format!(
                    "the node at {endpoint} is node {}, not node {node_id}",
                    status.node_id
                ),
            );
        }
        Ok(status)
    }

    /// The right to change membership, and membership as it is: committed, and not joint.
    async fn settled(
        &self,
        until: Instant,
    ) -> Result<(OwnedMutexGuard<()>, RaftMetrics<TypeConfig>), MembershipError> {
        loop {
            let changing = self.changing.clone().lock_owned();
            let Ok(changing) = tokio::time::timeout_at(until, changing).await else {
                return Err(MembershipError::Busy);
            };
            self.leading()?;
            // A leader that was just elected is confirmed, and commits what it found, within a round trip.
            let confirmed = |metrics: &RaftMetrics<TypeConfig>| {
                let lease = Duration::from_millis(self.options.alive_ms_max / 2);
                let alone = metrics
                    .membership_config
                    .voter_ids()
                    .all(|voter| voter == metrics.id);
                alone
                    || metrics
                        .last_quorum_acked
                        .is_some_and(|acked| acked.elapsed() < lease)
            };
            let committed = |metrics: &RaftMetrics<TypeConfig>| {
                metrics.membership_config == metrics.committed_membership_config
            };
            let ready = self.wait_for(until, |metrics| {
                let ready = confirmed(metrics) && committed(metrics);
                (ready || !metrics.state.is_leader()).then_some(())
            });
            let ready = ready.await;
            let metrics = self.leading()?;
            match ready {
                Some(()) => {}
                None if confirmed(&metrics) => return Err(MembershipError::Busy),
                None => return Err(MembershipError::NoQuorum),
            }
            if !is_joint(&metrics.membership_config) {
                return Ok((changing, metrics));
            }
            // Left half-way by an earlier leader: an empty change completes it. What it was removing is
            // removed, as all our removals are.
            let nothing = ChangeMembers::AddVoterIds(BTreeSet::new());
            self.change(changing, &metrics, nothing, false, until).await?;
        }
    }

    /// Proposes a change on the condition that membership is what `seen` says, and waits until it is
    /// committed. Gives its log index.
    async fn change(
        &self,
        changing: OwnedMutexGuard<()>,
        seen: &RaftMetrics<TypeConfig>,
        change: ChangeMembers<NodeId, BasicNode>,
        retain: bool,
        until: Instant,
    ) -> Result<u64, MembershipError> {
        tracing::info!(%change, "changing membership");
        let condition: Precondition<TypeConfig> = Precondition::LastMembershipLogId {
            last_membership_log_id: *seen.membership_config.log_id(),
        };
        let raft = self.raft.clone();
        // A task of its own: the change must not stop at its joint half when the caller hangs up.
        let changed = tokio::spawn(async move {
            crash_point!("membership-change-begins");
            let changed = raft.change_membership_if(change, retain, [condition]).await;
            crash_point!("membership-changed");
            drop(changing);
            changed
        });
        match tokio::time::timeout_at(until, changed).await {
            Err(_) => Err(MembershipError::Unknown("not committed in time".to_owned())),
            Ok(Err(join)) => Err(MembershipError::Stopped(join.to_string())),
            Ok(Ok(Ok(written))) => Ok(written.log_id.index),
            Ok(Ok(Err(RaftError::Fatal(fatal)))) => Err(MembershipError::Stopped(fatal.to_string())),
            Ok(Ok(Err(RaftError::APIError(error)))) => Err(match error {
                ClientWriteError::ForwardToLeader(_) => match self.leading() {
                    Err(error) => error,
                    Ok(_) => MembershipError::NoQuorum,
                },
                // Nothing was written by this proposal; an earlier step may have been, so look again.
                ClientWriteError::PreconditionFailed(_)
                | ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => {
                    MembershipError::Busy
                }
                ClientWriteError::LogEntryDiscarded(error) => MembershipError::Unknown(error.to_string()),
                ClientWriteError::ChangeMembershipError(error) => MembershipError::Refused {
                    reason: "CHANGE_REFUSED",
                    message: error.to_string(),
                },
            }),
        }
    }

    /// The answer to a change: membership at this index or later.
    async fn answer(&self, log_index: u64, until: Instant) -> v1::MembershipResponse {
        let at = |metrics: &RaftMetrics<TypeConfig>| index_of(metrics.membership_config.log_id());
        // Committed already: the metrics follow at once, and if not, the answer is merely older.
        self.wait_for(until, |metrics| (at(metrics) >= log_index).then_some(()))
            .await;
        let metrics = self.metrics();
        v1::MembershipResponse {
            log_index: at(&metrics),
            members: self.members(&metrics, &metrics.membership_config),
        }
    }

    /// The members, with what this node knows of them.
    pub fn members(
        &self,
        metrics: &RaftMetrics<TypeConfig>,
        membership: &StoredMembership,
    ) -> Vec<v1::Member> {
        let of = |member: v1::Member| v1::Member {
            machine_version: self.versions.of(member.node_id).map(u32::from),
            ..member
        };
        members(metrics, membership).into_iter().map(of).collect()
    }
}

/// The members, with what the leader knows of them.
fn members(metrics: &RaftMetrics<TypeConfig>, membership: &StoredMembership) -> Vec<v1::Member> {
    let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
    let own_index = metrics
        .state
        .is_leader()
        .then_some(metrics.last_log_index)
        .flatten();
    let member = |(node_id, node): (&NodeId, &BasicNode)| v1::Member {
        node_id: *node_id,
        endpoint: node.addr.clone(),
        voter: voters.contains(node_id),
        matched_index: match *node_id == metrics.id {
            true => own_index,
            false => matched(metrics, *node_id).map(|log_id| log_id.index),
        },
        heard_ms_ago: match *node_id == metrics.id {
            true => own_index.map(|_| 0),
            false => heard_ms_ago(metrics, *node_id),
        },
        ..v1::Member::default()
    };
    membership.nodes().map(member).collect()
}

/// Whether two sets of voters must agree.
pub fn is_joint(membership: &StoredMembership) -> bool {
    membership.get_joint_config().len() > 1
}

fn index_of(log_id: &Option<LogId>) -> u64 {
    log_id.map_or(0, |log_id| log_id.index)
}

/// Up to where this member's log is known to match the leader's.
fn matched(metrics: &RaftMetrics<TypeConfig>, node_id: NodeId) -> Option<LogId> {
    metrics.replication.as_ref()?.get(&node_id).copied().flatten()
}

/// How long ago the leader heard this member.
fn heard_ms_ago(metrics: &RaftMetrics<TypeConfig>, node_id: NodeId) -> Option<u64> {
    let heard = metrics.heartbeat.as_ref()?.get(&node_id)?.as_ref()?;
    Some(heard.elapsed().as_millis() as u64)
}

/// How many entries this member is behind.
fn lag(metrics: &RaftMetrics<TypeConfig>, node_id: NodeId) -> Option<u64> {
    let matched = matched(metrics, node_id)?;
    Some(metrics.last_log_index.unwrap_or(0).saturating_sub(matched.index))
}

/// Refuses what cannot be an endpoint.
pub(crate) fn check_endpoint(node_id: NodeId, endpoint: &str) -> Result<(), MembershipError> {
    let invalid = |why: &str| {
        Err(MembershipError::Invalid(format!(
            "endpoint {endpoint:?} of node {node_id} {why}; write host:port"
        )))
    };
    if node_id == 0 {
        return Err(MembershipError::Invalid("node id 0 is no node".to_owned()));
    }
    if endpoint.len() > ENDPOINT_BYTES_MAX {
        return invalid("is too long");
    }
    let Some((host, port)) = endpoint.rsplit_once(':') else {
        return invalid("has no port");
    };
    if !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return invalid("has no port from 1 to 65535");
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(plain),
    };
    if !good {
        return invalid("has no host");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_host_and_port() {
        for good in ["127.0.0.1:7001", "node-1.example:1", "[::1]:65535", "n1:80"] {
            assert_eq!(check_endpoint(1, good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "n1",
            "n1:",
            ":80",
            "n1:0",
            "n1:65536",
            "http://n1:80",
            "n 1:80",
            "::1:80",
            "[x]:1",
        ] {
            assert!(
                matches!(check_endpoint(1, bad), Err(MembershipError::Invalid(_))),
                "{bad}"
            );
        }
        assert!(check_endpoint(0, "n1:80").is_err());
        assert!(check_endpoint(1, &format!("{}:80", "n".repeat(300))).is_err());
    }
}

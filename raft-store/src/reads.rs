//! Reads of applied state, as fresh as the caller asks.
//!
//! - linearizable: ReadIndex (Raft, section 6.4). openraft confirms the lead once for all reads that wait; that a quorum
//!   has really accepted what was sent after the read began is seen from its answers ([`Answered`]).
//! - bounded: any node, if its state is known to be at most this old: so long ago, at most, it reflected whatever
//!   anybody had been answered. A leader that has applied an entry of its own term has applied what earlier leaders
//!   answered, and nobody else answers before a quorum has turned away from it: its state is as old as its last quorum
//!   answer. A follower's is as old as that was when the leader reported it, with the committed index that the follower
//!   has applied since. A leader that is cut off does not know it, and goes on reporting; what it reports grows older.
//! - local: whatever is applied here.
//!
//! Lease reads are left out: a slow clock breaks them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use fault_points::planted;
use openraft::{ReadPolicy, async_runtime::watch::WatchReceiver};
use tokio::time::{Instant, timeout};

use crate::{
    HoldfastRaft,
    network::{Answered, Moment},
    storage::state::SharedState,
    types::{NodeId, TypeConfig},
};

/// Longest a read waits for the answers that its lead rests on, beyond what openraft waits: some heartbeats.
const CONFIRM_MAX: Duration = Duration::from_secs(1);

/// As whom a node leads, once elected: term and node.
type LeaderId = openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>;

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Reflects everything committed before the read began.
    Linearizable,
    /// At most this old.
    Bounded(Duration),
    /// As it is.
    Local,
}

/// Why a read cannot be answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// This node does not lead, or cannot prove it.
    #[error("this node does not lead, or could not confirm it with a quorum")]
    NotLeader,
    /// The state here is older than asked for.
    #[error("the state of this node is {}; ask another node or allow more", told(*.age))]
    TooOld {
        /// How old at most, if anything is known of it.
        age: Option<Duration>,
    },
}

fn told(age: Option<Duration>) -> String {
    age.map_or("of unknown age".to_owned(), |age| {
        format!("{} ms old", age.as_millis())
    })
}

/// What a follower knows about its own age.
#[derive(Debug, Default)]
struct Reports {
    /// Newest report whose committed index is applied.
    fresh_at: Option<Instant>,
    /// Newest report: when nobody had been answered beyond its committed index, and that index.
    newest: Option<(Instant, u64)>,
}

/// Reads of one node. Cheap to clone.
#[derive(Clone)]
pub struct Reads {
    node_id: NodeId,
    raft: HoldfastRaft,
    shared: SharedState,
    answered: Answered,
    reports: Arc<Mutex<Reports>>,
}

impl Reads {
    /// Reads through this raft of this state, whose lead rests on these answers.
    pub fn new(node_id: NodeId, raft: HoldfastRaft, shared: SharedState, answered: Answered) -> Self {
        Reads {
            node_id,
            raft,
            shared,
            answered,
            reports: Arc::default(),
        }
    }

    /// The applied state.
    pub fn shared(&self) -> &SharedState {
        &self.shared
    }

    /// The leader said that nobody had been answered beyond `committed_index` at `known_at`.
    pub fn heard_leader(&self, known_at: Instant, committed_index: u64) {
        let mut reports = self.reports.lock().expect("no code panics while holding it");
        self.settle(&mut reports);
        if reports.newest.is_none_or(|(newest, _)| newest < known_at) {
            reports.newest = Some((known_at, committed_index));
        }
    }

    /// Returns when the applied state is as fresh as asked for.
    ///
    /// # Errors
    /// Nothing can be said from this node; another may.
    pub async fn ready(&self, freshness: Freshness) -> Result<(), ReadError> {
        match freshness {
            Freshness::Linearizable if planted!("follower-read") && self.raft.as_leader().is_err() => Ok(()),
            Freshness::Linearizable if planted!("deposed-leader-reads") && self.raft.as_leader().is_ok() => {
                Ok(())
            }
            Freshness::Linearizable
                if planted!("lease-read") && self.age().is_some_and(|age| age < Duration::from_secs(3)) =>
            {
                Ok(())
            }
            Freshness::Linearizable => self.linearized().await,
            Freshness::Bounded(age_max) => match self.age() {
                Some(age) if age <= age_max => Ok(()),
                age => Err(ReadError::TooOld { age }),
            },
            Freshness::Local => Ok(()),
        }
    }

    /// Returns when the applied state reflects everything that was committed before the call.
    ///
    /// # Errors
    /// [`ReadError::NotLeader`].
    pub async fn linearized(&self) -> Result<(), ReadError> {
        let begun = self.answered.moment();
        let leader = self.leader().ok_or(ReadError::NotLeader)?;
        let read = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
        let linearizer = read.map_err(|_| ReadError::NotLeader)?;
        // Nearly always they are here, as openraft waits for the same.
        let confirmed = self.answered.quorum_after(begun, |_| self.quorum(&leader));
        let confirmed = timeout(CONFIRM_MAX, confirmed).await;
        confirmed.map_err(|_| ReadError::NotLeader)?;
        if !planted!("read-before-applied") {
            self.shared.wait_applied(linearizer.read_log_id().index()).await;
        }
        Ok(())
    }

    /// As whom this node leads.
    fn leader(&self) -> Option<LeaderId> {
        let leader = self.raft.as_leader().ok()?;
        Some(leader.to_committed_leader_id())
    }

    /// Since when no quorum can have turned away from this leader.
    fn quorum(&self, leader: &LeaderId) -> Option<Moment> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters = metrics.membership_config.membership().get_joint_config();
        self.answered.quorum(self.node_id, leader.term, voters)
    }

    /// How old the applied state is at most; `None` when that is not known.
    pub fn age(&self) -> Option<Duration> {
        if let Some(age) = self.leading_age() {
            return Some(age);
        }
        let mut reports = self.reports.lock().expect("no code panics while holding it");
        self.settle(&mut reports);
        reports.fresh_at.map(|at| at.elapsed())
    }

    /// How old it is at most by what this node knows as the leader; `None` where it does not lead, or has not applied
    /// an entry of its own term, without which it may lack what an earlier leader has answered.
    pub fn leading_age(&self) -> Option<Duration> {
        let leader = self.leader()?;
        let confirmed = self.quorum(&leader)?;
        let applied = self.shared.applied_log_id()?;
        (*applied.committed_leader_id() == leader).then(|| confirmed.at.elapsed())
    }

    fn settle(&self, reports: &mut Reports) {
        if let Some((known_at, committed_index)) = reports.newest
            && *self.shared.applied().borrow() >= committed_index
        {
            reports.fresh_at = Some(known_at);
        }
    }
}

//! Reads of applied state, as fresh as the caller asks.
//!
//! - linearizable: ReadIndex (Raft, section 6.4). openraft confirms the lead once for all reads that wait.
//! - bounded: any node, if its state is known to be at most this old. A leader's state is as old as its last
//!   quorum answer; a follower's as old as the newest leader report whose committed index it has applied.
//! - local: whatever is applied here.
//!
//! Lease reads are left out: a slow clock breaks them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use fault_points::planted;
use openraft::ReadPolicy;
use tokio::time::Instant;

use crate::{HoldfastRaft, clock::quorum_acked_ago, storage::state::SharedState};

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
    #[error("the state of this node is {age_ms} ms old; ask another node or allow more")]
    TooOld {
        /// How old; `u64::MAX` when nothing is known.
        age_ms: u64,
    },
}

/// What a follower knows about its own age.
#[derive(Debug, Default)]
struct Reports {
    /// Newest report whose committed index is applied.
    fresh_at: Option<Instant>,
    /// Newest report: when it was made, at the earliest, and the committed index it named.
    newest: Option<(Instant, u64)>,
}

/// Reads of one node. Cheap to clone.
#[derive(Clone)]
pub struct Reads {
    raft: HoldfastRaft,
    shared: SharedState,
    reports: Arc<Mutex<Reports>>,
}

impl Reads {
    /// Reads through this raft of this state.
    pub fn new(raft: HoldfastRaft, shared: SharedState) -> Self {
        Reads {
            raft,
            shared,
            reports: Arc::default(),
        }
    }

    /// The applied state.
    pub fn shared(&self) -> &SharedState {
        &self.shared
    }

    /// The leader said what is committed. `asked_at` is when it was asked: its answer is not older.
    pub fn heard_leader(&self, asked_at: Instant, committed_index: u64) {
        let mut reports = self.reports.lock().expect("no code panics while holding it");
        self.settle(&mut reports);
        reports.newest = Some((asked_at, committed_index));
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
            Freshness::Linearizable => {
                let read = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
                let linearizer = read.map_err(|_| ReadError::NotLeader)?;
                if !planted!("read-before-applied") {
                    self.shared.wait_applied(linearizer.read_log_id().index()).await;
                }
                Ok(())
            }
            Freshness::Bounded(age_max) => match self.age() {
                Some(age) if age <= age_max => Ok(()),
                age => Err(ReadError::TooOld {
                    age_ms: age.map_or(u64::MAX, |age| age.as_millis() as u64),
                }),
            },
            Freshness::Local => Ok(()),
        }
    }

    /// How old the applied state is at most; `None` when that is not known.
    pub fn age(&self) -> Option<Duration> {
        if self.raft.as_leader().is_ok() {
            return quorum_acked_ago(&self.raft);
        }
        let mut reports = self.reports.lock().expect("no code panics while holding it");
        self.settle(&mut reports);
        reports.fresh_at.map(|at| at.elapsed())
    }

    fn settle(&self, reports: &mut Reports) {
        if let Some((asked_at, committed_index)) = reports.newest
            && *self.shared.applied().borrow() >= committed_index
        {
            reports.fresh_at = Some(asked_at);
        }
    }
}

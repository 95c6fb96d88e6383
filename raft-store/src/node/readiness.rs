//! Whether a node takes part, as orchestrators ask: one answer, from memory, without asking another node.

use openraft::async_runtime::watch::WatchReceiver;

use crate::{HoldfastRaft, batcher::Door};

/// A node this many entries behind what it knows to be in the log answers reads too old to be useful. Four
/// seconds of the fullest load measured (2.7M claims/s in entries of 512), so that a busy follower is not
/// taken for a lagging one.
pub const READY_BEHIND_ENTRIES_MAX: u64 = 20_000;

/// Why a node should not be sent work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It has been asked to stop, or consensus has ended.
    #[error("stopping")]
    Stopping,
    /// Never part of a cluster: it waits to be initialized or added.
    #[error("not a member of a cluster yet: `holdfast cluster init` or `holdfast member add`")]
    NoCluster,
    /// An election is under way, or no majority is there.
    #[error("knows no leader")]
    NoLeader,
    /// It is catching up.
    #[error("{entries} entries behind")]
    Behind {
        /// Entries known to be in the log and not applied here.
        entries: u64,
    },
}

/// Asks a running node. Cheap to clone; outlives the node, and then says [`NotReady::Stopping`].
#[derive(Clone)]
pub struct Readiness {
    pub(super) raft: HoldfastRaft,
    pub(super) door: Door,
}

impl Readiness {
    /// Whether it should be sent work now.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), NotReady> {
        // Cloned at once: a reference that is held blocks consensus.
        let metrics = self.raft.metrics().borrow_watched().clone();
        if self.door.is_stopping() || metrics.running_state.is_err() {
            return Err(NotReady::Stopping);
        }
        judge(
            metrics.membership_config.nodes().next().is_some(),
            metrics.current_leader.is_some(),
            metrics.last_log_index.unwrap_or(0),
            metrics.last_applied.map_or(0, |applied| applied.index),
        )
    }
}

fn judge(member: bool, leader_known: bool, last: u64, applied: u64) -> Result<(), NotReady> {
    if !member {
        return Err(NotReady::NoCluster);
    }
    if !leader_known {
        return Err(NotReady::NoLeader);
    }
    let entries = last.saturating_sub(applied);
    if entries > READY_BEHIND_ENTRIES_MAX {
        return Err(NotReady::Behind { entries });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_a_member_that_knows_a_leader_and_has_caught_up() {
        assert_eq!(judge(false, false, 0, 0), Err(NotReady::NoCluster));
        assert_eq!(judge(true, false, 7, 7), Err(NotReady::NoLeader));
        assert_eq!(judge(true, true, READY_BEHIND_ENTRIES_MAX, 0), Ok(()));
        let entries = READY_BEHIND_ENTRIES_MAX + 1;
        assert_eq!(judge(true, true, entries, 0), Err(NotReady::Behind { entries }));
        // Apply may run ahead of the local log's sync.
        assert_eq!(judge(true, true, 5, 7), Ok(()));
    }
}

//! The node's log clock: the arithmetic of [`crate::log_clock`] on this machine's clocks, shared by the
//! batcher (which stamps), the state (which applies) and the exchange with peers.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use openraft::Instant as _;
use tokio::time::Instant;

use crate::{
    HoldfastRaft,
    log_clock::{LocalNow, LogClock, QUORUM_GRACE, Stamp},
    seams::WallClock,
};

/// How long ago a quorum last confirmed that this node leads, as openraft counts it: too short, once in a while, where an
/// answer was late. `None` where it does not, or none has yet.
pub fn quorum_acked_ago(raft: &HoldfastRaft) -> Option<Duration> {
    let leader = raft.as_leader().ok()?;
    let ago = leader.last_quorum_acked().map(|acked| acked.elapsed());
    match ago {
        Some(ago) if ago < QUORUM_GRACE => Some(ago),
        // A sole voter is its own quorum, of which openraft hears nothing after its election. Time must go on.
        _ if raft.voter_ids().count() == 1 => Some(Duration::ZERO),
        ago => ago,
    }
}

/// A shared log clock. Cheap to clone.
#[derive(Clone)]
pub struct NodeClock {
    clock: Arc<Mutex<LogClock>>,
    wall_clock: Arc<dyn WallClock>,
    origin: Instant,
}

impl NodeClock {
    /// Puts a log clock on this machine's clocks.
    pub fn new(clock: LogClock, wall_clock: Arc<dyn WallClock>) -> Self {
        NodeClock {
            clock: Arc::new(Mutex::new(clock)),
            wall_clock,
            origin: Instant::now(),
        }
    }

    /// What this machine's clocks show.
    pub fn now(&self) -> LocalNow {
        LocalNow {
            monotonic: self.origin.elapsed(),
            wall_ms: self.wall_clock.now_ms(),
        }
    }

    /// The log clock itself, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, LogClock> {
        // Its methods do not panic half-way; a poisoned lock would mean one of them did.
        self.clock.lock().expect("log clock arithmetic does not panic")
    }

    /// The times for a batch, if this node leads.
    pub fn stamp(&self, raft: &HoldfastRaft) -> Option<Stamp> {
        let acked_ago = quorum_acked_ago(raft)?;
        let now = self.now();
        self.lock().stamp(now, now.monotonic.saturating_sub(acked_ago))
    }

    /// The newest times known.
    pub fn newest(&self) -> Stamp {
        self.lock().newest()
    }
}

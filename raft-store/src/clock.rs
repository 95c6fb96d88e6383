//! The node's log clock: the arithmetic of [`crate::log_clock`] on this machine's clocks, shared by the
//! batcher (which stamps), the state (which applies) and the exchange with peers.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    log_clock::{LocalNow, LogClock, Stamp},
    seams::WallClock,
};

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

    /// The times for a batch, if this node leads. `quorum_acked_ago`: since when no quorum has answered;
    /// `None` where a quorum needs nobody else.
    pub fn stamp(&self, quorum_acked_ago: Option<Duration>) -> Option<Stamp> {
        let now = self.now();
        let acked = now.monotonic.saturating_sub(quorum_acked_ago.unwrap_or_default());
        self.lock().stamp(now, acked)
    }

    /// The newest times known.
    pub fn newest(&self) -> Stamp {
        self.lock().newest()
    }
}

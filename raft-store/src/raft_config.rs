//! openraft's settings, each with its reason.

use openraft::{Config, ConfigError, SnapshotPolicy, StepDownPolicy};

/// What an operator may change about raft. Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftOptions {
    /// A leader shows itself this often.
    pub heartbeat_ms: u64,
    /// Shortest time without a leader before a node asks for an election.
    pub election_ms_min: u64,
    /// Longest such time; also the leader's lease. A failover takes about this and one election.
    pub election_ms_max: u64,
    /// Entries between two snapshots.
    pub snapshot_entries: u64,
}

impl Default for RaftOptions {
    /// A dead leader is replaced within a second, and five heartbeats in a row must be late for an election that nobody
    /// needs. Measured with all nodes on two full cores: none in 20 s at 300–600 ms, nor at 150–300. Zones far apart want more.
    fn default() -> Self {
        RaftOptions {
            heartbeat_ms: 50,
            election_ms_min: 250,
            election_ms_max: 500,
            snapshot_entries: 50_000,
        }
    }
}

/// Most entries in one append: with entries of some KB about 1 MiB, which is also what the log's reader
/// cuts at.
const PAYLOAD_ENTRIES_MAX: u64 = 300;

/// Longest one snapshot transfer may take, in ms, verification and installation included. Ten minutes
/// carry 60 GB at 100 MB/s; a connection that dies is noticed in seconds, not by this.
const SNAPSHOT_MS_MAX: u64 = 600_000;

/// openraft's own purge keeps this many entries behind a snapshot: so many that it never acts. The log is
/// purged by the node, and only up to the older of two verified snapshots.
const ENTRIES_KEPT: u64 = u64::MAX / 2;

/// A follower further behind than this counts as lagging. It only decides when a blocking add of a
/// learner returns, which we do not use.
const LAG_ENTRIES_MAX: u64 = 1_000;

/// Pauses before an unreachable peer is tried again; the network spaces its own dialling likewise.
const BACKOFF: &str = "50ms 100ms 200ms ..500ms";

/// The settings.
///
/// # Errors
/// The options contradict one another: a heartbeat not well below the election timeout, a minimum not
/// below its maximum.
pub fn raft_config(options: &RaftOptions) -> Result<Config, ConfigError> {
    Config {
        cluster_name: "holdfast".to_owned(),
        heartbeat_interval: options.heartbeat_ms,
        election_timeout_min: options.election_ms_min,
        election_timeout_max: options.election_ms_max,
        // A node that comes back from a partition must not depose a healthy leader.
        enable_pre_vote: Some(true),
        // A leader that restarts must be elected again: only then does it know what is committed.
        enable_leader_restore: Some(false),
        // A leader that lost its quorum goes quiet for a while, so that the others' leases end and they
        // can elect; else a leader heard by some and hearing none keeps five nodes without a leader.
        // At least a lease and one election; a margin for the slowest tick.
        quorum_loss_probe_interval: Some(options.election_ms_max * 5 / 2),
        max_payload_entries: PAYLOAD_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_entries),
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        replication_lag_threshold: LAG_ENTRIES_MAX.max(options.snapshot_entries),
        install_snapshot_timeout: SNAPSHOT_MS_MAX,
        // Long enough for the news of its own removal to reach the others, short against an election.
        removed_leader_step_down: StepDownPolicy::After(options.heartbeat_ms * 3 / 2),
        backoff: BACKOFF.to_owned(),
        // A log that went back is a disk that lied: stop, never paper over.
        allow_log_reversion: Some(false),
        ..Config::default()
    }
    .validate()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_contradictions_are_errors() {
        let config = raft_config(&RaftOptions::default()).unwrap();
        assert_eq!(config.enable_pre_vote, Some(true));
        assert!(config.quorum_loss_probe_interval.unwrap() >= 2 * config.election_timeout_max);
        let backwards = RaftOptions {
            election_ms_min: 900,
            election_ms_max: 800,
            ..RaftOptions::default()
        };
        assert!(raft_config(&backwards).is_err());
        let breathless = RaftOptions {
            heartbeat_ms: 600,
            ..RaftOptions::default()
        };
        assert!(raft_config(&breathless).is_err());
    }
}

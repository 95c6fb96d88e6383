//! A node's settings, as a file or flags give them: every one with its unit and reason.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::raft_config::RaftOptions;

/// Smallest disk reserve: less, and raft itself would run out in the middle of a segment.
pub const DISK_RESERVE_BYTES_MIN: u64 = 64 << 20;

/// Shortest log segment, in bytes: shorter ones are mostly rolled over.
pub const LOG_SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// The settings of one node. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// This node's id, from 1: chosen by the operator, never reused, also not after its disk was lost.
    pub node_id: u64,
    /// `host:port` to listen on; port 0 takes a free one.
    pub listen: String,
    /// `host:port` at which peers and clients reach this node; empty: where it listens.
    pub advertise: String,
    /// `host:port` at which whoever runs the node shows its metrics; empty: nowhere. The node itself only
    /// records them.
    pub metrics_listen: String,
    /// Where log, image and snapshots live; nothing else may write there.
    pub data_dir: PathBuf,
    /// Below this much free disk space, in bytes, new claims are refused: better that than all nodes dying
    /// together on a full disk while shoppers pay.
    pub disk_reserve_bytes: u64,
    /// A leader shows itself this often, in ms.
    pub heartbeat_ms: u64,
    /// Shortest silence before an election, in ms.
    pub election_ms_min: u64,
    /// Longest silence before an election, in ms; also the leader's lease.
    pub election_ms_max: u64,
    /// Threads that serve and replicate; zero: [`worker_threads_default`]. Disk writers have their own.
    pub worker_threads: usize,
    /// Log entries between two snapshots.
    pub snapshot_entries: u64,
    /// Length of a log segment, in bytes: what is zeroed ahead and purged at once.
    pub log_segment_bytes: u64,
    /// How often the image follows the state, in ms: rarer writes merge more, and replay takes longer.
    pub image_flush_ms: u64,
    /// How often the records are counted again and compared with counters and hash, in ms: what an alert on
    /// oversold units learns at the latest.
    pub recount_ms: u64,
    /// How long a stopping node waits for what it has proposed, in ms.
    pub stop_drain_ms: u64,
}

impl Default for NodeConfig {
    fn default() -> Self {
        let raft = RaftOptions::default();
        NodeConfig {
            node_id: 1,
            listen: "127.0.0.1:7401".to_owned(),
            advertise: String::new(),
            metrics_listen: String::new(),
            data_dir: PathBuf::from(".holdfast"),
            disk_reserve_bytes: 512 << 20,
            heartbeat_ms: raft.heartbeat_ms,
            election_ms_min: raft.election_ms_min,
            election_ms_max: raft.election_ms_max,
            worker_threads: 0,
            snapshot_entries: raft.snapshot_entries,
            log_segment_bytes: 64 << 20,
            image_flush_ms: 500,
            recount_ms: 30_000,
            stop_drain_ms: 3_000,
        }
    }
}

/// Half the cores, at least one: a second thread on two cores mostly wakes the first. Measured there with
/// three nodes and the load beside them: one thread each gave 1.36 times the bulk claims of two, and 1.41
/// times the claims of 64 single callers. The other half is for the disk writers.
pub fn worker_threads_default() -> usize {
    std::thread::available_parallelism()
        .map_or(1, |cores| cores.get() / 2)
        .max(1)
}

/// Most threads that serve: more than any machine this was thought for has cores.
pub const WORKER_THREADS_MAX: usize = 256;

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} = {value}: {why}")]
pub struct ConfigError {
    /// Which.
    pub setting: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong, and what would do.
    pub why: &'static str,
}

impl NodeConfig {
    /// Raft's share of the settings.
    pub fn raft(&self) -> RaftOptions {
        RaftOptions {
            heartbeat_ms: self.heartbeat_ms,
            election_ms_min: self.election_ms_min,
            election_ms_max: self.election_ms_max,
            snapshot_entries: self.snapshot_entries,
        }
    }

    /// Threads that serve and replicate.
    pub fn worker_threads(&self) -> usize {
        match self.worker_threads {
            0 => worker_threads_default(),
            threads => threads,
        }
    }

    /// Checks what can be checked without the machine.
    ///
    /// # Errors
    /// The first setting that cannot be.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |setting, value: &dyn ToString, why| {
            Err(ConfigError {
                setting,
                value: value.to_string(),
                why,
            })
        };
        if self.node_id == 0 {
            return wrong("node_id", &self.node_id, "ids begin at 1");
        }
        for (setting, address) in [
            ("listen", &self.listen),
            ("advertise", &self.advertise),
            ("metrics_listen", &self.metrics_listen),
        ] {
            let optional = setting != "listen" && address.is_empty();
            if !optional && !is_address(address) {
                return wrong(setting, address, "must be host:port");
            }
        }
        if self.disk_reserve_bytes < DISK_RESERVE_BYTES_MIN {
            return wrong(
                "disk_reserve_bytes",
                &self.disk_reserve_bytes,
                "at least 67,108,864 (64 MiB)",
            );
        }
        if self.election_ms_min >= self.election_ms_max {
            return wrong(
                "election_ms_min",
                &self.election_ms_min,
                "must be below election_ms_max",
            );
        }
        if self.heartbeat_ms == 0 || self.heartbeat_ms * 3 > self.election_ms_min {
            return wrong(
                "heartbeat_ms",
                &self.heartbeat_ms,
                "1 to a third of election_ms_min",
            );
        }
        if self.worker_threads > WORKER_THREADS_MAX {
            return wrong("worker_threads", &self.worker_threads, "at most 256");
        }
        if self.snapshot_entries == 0 {
            return wrong("snapshot_entries", &self.snapshot_entries, "at least 1");
        }
        if !(LOG_SEGMENT_BYTES_MIN..=1 << 30).contains(&self.log_segment_bytes) {
            return wrong(
                "log_segment_bytes",
                &self.log_segment_bytes,
                "65,536 (64 KiB) to 1 GiB",
            );
        }
        if !(10..=60_000).contains(&self.image_flush_ms) {
            return wrong("image_flush_ms", &self.image_flush_ms, "10 to 60,000");
        }
        if !(100..=3_600_000).contains(&self.recount_ms) {
            return wrong("recount_ms", &self.recount_ms, "100 to 3,600,000 (an hour)");
        }
        Ok(())
    }
}

fn is_address(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_and_nonsense_is_named() {
        assert_eq!(NodeConfig::default().check(), Ok(()));
        let named = |config: NodeConfig| config.check().expect_err("nonsense").setting;
        let default = NodeConfig::default;
        assert_eq!(
            named(NodeConfig {
                node_id: 0,
                ..default()
            }),
            "node_id"
        );
        assert_eq!(
            named(NodeConfig {
                listen: "7401".into(),
                ..default()
            }),
            "listen"
        );
        assert_eq!(
            named(NodeConfig {
                advertise: "host:port".into(),
                ..default()
            }),
            "advertise"
        );
        assert_eq!(
            named(NodeConfig {
                disk_reserve_bytes: 0,
                ..default()
            }),
            "disk_reserve_bytes"
        );
        assert_eq!(
            named(NodeConfig {
                heartbeat_ms: 400,
                ..default()
            }),
            "heartbeat_ms"
        );
        assert_eq!(
            named(NodeConfig {
                election_ms_min: 2_000,
                ..default()
            }),
            "election_ms_min"
        );
    }
}

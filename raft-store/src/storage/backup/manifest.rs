//! What a backup says about itself.

use inventory_machine::{Machine, command::NAMESPACE_DEFAULT};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::{BACKUP_FORMAT, MAGIC};
use crate::{
    network::cluster_id_text,
    storage::{
        rows::Standing,
        snapshot::{SNAPSHOT_VERSION, SnapshotData},
    },
    types::NodeId,
};

/// The manifest. Fields are only ever added; hashes and ids are hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Holdfast that wrote it.
    pub version: String,
    /// Format of the snapshot in it.
    pub snapshot_format: u32,
    /// The cluster it is of.
    pub cluster_id: String,
    /// How often that cluster's state had been restored before, counted from one.
    pub incarnation: u32,
    /// The node that made it.
    pub node_id: NodeId,
    /// The last log entry in it.
    pub log_index: u64,
    /// That entry's term.
    pub term: u64,
    /// Log time at that entry.
    pub log_time_ms: u64,
    /// Agreed wall time at that entry.
    pub wall_time_ms: u64,
    /// The state hash at that index, equal on every replica.
    pub state_hash: String,
    /// The state hash without identity, index and time: equal in what is restored.
    pub contents_hash: String,
    /// Rows of the state.
    pub rows: u64,
    /// Sales.
    pub sales: u64,
    /// Claim records.
    pub claims: u64,
    /// The highest node id ever used.
    pub node_id_highest: NodeId,
    /// The members at that index.
    pub members: Vec<BackupMember>,
    /// Length of the snapshot, in bytes.
    pub snapshot_bytes: u64,
    /// The snapshot's own checksum.
    pub snapshot_checksum: String,
}

/// A member of the backed-up cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupMember {
    /// Node id.
    pub node_id: NodeId,
    /// Where it was.
    pub endpoint: String,
    /// Whether it voted.
    pub voter: bool,
}

/// What only the machine knows.
pub(super) struct Facts {
    incarnation: u32,
    log_time_ms: u64,
    wall_time_ms: u64,
    contents_digest: u128,
    sales: u64,
    claims: u64,
}

impl Facts {
    pub(super) fn of(machine: &Machine) -> Facts {
        let sales = machine.sales(NAMESPACE_DEFAULT, None, usize::MAX);
        Facts {
            incarnation: machine.founding().map_or(0, |founding| founding.incarnation),
            log_time_ms: machine.log_time_ms(),
            wall_time_ms: machine.wall_time_ms(),
            contents_digest: machine.contents_digest(),
            sales: sales.len() as u64,
            claims: sales.iter().map(|sale| u64::from(sale.claims_made)).sum(),
        }
    }
}

impl Manifest {
    /// Of a snapshot that was just written.
    pub(super) fn new(node_id: NodeId, snapshot: &SnapshotData, facts: Facts) -> Manifest {
        Manifest::of_parts(
            node_id,
            snapshot.standing(),
            snapshot.len(),
            snapshot.checksum(),
            facts,
        )
    }

    pub(super) fn of_parts(
        node_id: NodeId,
        standing: &Standing,
        bytes: u64,
        checksum: u128,
        facts: Facts,
    ) -> Manifest {
        let voters: Vec<NodeId> = standing.membership.voter_ids().collect();
        let members = standing.membership.nodes().map(|(node_id, node)| BackupMember {
            node_id: *node_id,
            endpoint: node.addr.clone(),
            voter: voters.contains(node_id),
        });
        let last = standing.last_log_id.as_ref();
        Manifest {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            snapshot_format: SNAPSHOT_VERSION,
            cluster_id: cluster_id_text(Some(standing.cluster_id)),
            incarnation: facts.incarnation,
            node_id,
            log_index: last.map_or(0, |last| last.index()),
            term: last.map_or(0, |last| last.committed_leader_id().term),
            log_time_ms: facts.log_time_ms,
            wall_time_ms: facts.wall_time_ms,
            state_hash: hex(standing.digest),
            contents_hash: hex(facts.contents_digest),
            rows: standing.row_count,
            sales: facts.sales,
            claims: facts.claims,
            node_id_highest: standing.node_id_highest,
            members: members.collect(),
            snapshot_bytes: bytes,
            snapshot_checksum: hex(checksum),
        }
    }

    /// The lines that a backup begins with.
    pub(super) fn head(&self) -> Vec<u8> {
        let json = serde_json::to_string(self).expect("plain fields become JSON");
        let mut head = format!("{MAGIC}{BACKUP_FORMAT}\n{json}\n");
        let sum = hex(xxh3_128(head.as_bytes()));
        head.push_str(&sum);
        head.push('\n');
        head.into_bytes()
    }

    /// The first thing in which the state that was found is not the one this speaks of.
    pub(super) fn differs_in(&self, found: &Manifest) -> Option<&'static str> {
        let equal = [
            ("checksum", self.snapshot_checksum == found.snapshot_checksum),
            ("cluster id", self.cluster_id == found.cluster_id),
            ("incarnation", self.incarnation == found.incarnation),
            ("log index", self.log_index == found.log_index),
            ("term", self.term == found.term),
            ("log time", self.log_time_ms == found.log_time_ms),
            ("state hash", self.state_hash == found.state_hash),
            ("contents hash", self.contents_hash == found.contents_hash),
            ("number of rows", self.rows == found.rows),
            ("number of sales", self.sales == found.sales),
            ("number of claims", self.claims == found.claims),
            ("membership", self.members == found.members),
        ];
        let differs = equal.into_iter().find(|(_, equal)| !equal);
        differs.map(|(what, _)| what)
    }
}

/// As hashes and ids are written.
pub(super) fn hex(value: u128) -> String {
    format!("{value:032x}")
}

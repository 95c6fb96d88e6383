//! Data directories of a new cluster, from a backup.
//!
//! Every member's directory is made as a node's own that has just installed a snapshot: the state in a
//! snapshot file, an empty log, a vote beyond the state's term, and NODE, last. All of them together appear
//! at once, by one rename: a restore that was interrupted leaves nothing that could be started.
//!
//! What makes it another cluster, so that no node, client or cursor of the old one can be mistaken:
//! - a new cluster id, which every message between nodes carries, and the next incarnation, which receipts
//!   and cursors carry;
//! - node ids that no member of the old one ever had;
//! - log indices that begin [`INDEX_GAP`] later: whatever the old cluster acknowledged after the backup has
//!   claim ids, fencing tokens and receipts that are never given out again.
//!
//! What stays: the secret that keys and users are known by, so repeated requests find what they did; and log
//! time, which stood still while nobody led, so every hold has the time left that it had.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use inventory_machine::{LOG_INDEX_END, command::Found};
use openraft::{BasicNode, Membership, storage::RaftLogStorage};

use super::{Backup, BackupError, disk_error, manifest::hex};
use crate::{
    membership::{MEMBERS_MAX, check_endpoint},
    net_tcp::TcpNet,
    runtime::random_u64,
    seams::{Seams, SystemWallClock, Workers},
    storage::{
        disk_real::RealDisk,
        error::StorageError,
        log::{LogOptions, LogStore, Origin},
        node_file::NodeFile,
        open::SNAPSHOTS_DIR_NAME,
        rows::{Standing, log_id},
        snapshot::{SnapshotError, SnapshotStore},
    },
    types::{NodeId, StoredMembership, Vote},
};

/// Log indices that a restored cluster leaves out. At ten thousand entries a second the old cluster fills
/// them in 79 days; a claim id has room for four thousand such gaps.
pub const INDEX_GAP: u64 = 1 << 36;

/// Length of the new logs' first segment, in bytes: it is filled with zeros now and copied along.
const SEGMENT_BYTES: u64 = 4 << 20;

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Id of the new cluster, in hex.
    pub cluster_id: String,
    /// Its incarnation.
    pub incarnation: u32,
    /// The index it begins behind.
    pub log_index: u64,
    /// The state hash at that index, in hex: what every restored replica must have there.
    pub state_hash: String,
    /// Each member: id, endpoint, data directory.
    pub nodes: Vec<(NodeId, String, PathBuf)>,
}

/// Makes the directory `dir` with a data directory `node-ID` for each of the members of a new cluster, all
/// voters. Blocks, and must be called within a runtime.
///
/// # Errors
/// [`BackupError::NotEmpty`]; [`BackupError::Members`]; the disk failed. Then `dir` is as it was.
pub async fn restore(
    backup: Backup,
    dir: &Path,
    members: &[(NodeId, String)],
) -> Result<Restored, BackupError> {
    check_members(members, backup.manifest.node_id_highest)?;
    check_empty(dir)?;
    let Backup {
        mut machine,
        standing,
        manifest,
    } = backup;
    let founding = machine
        .founding()
        .ok_or_else(|| BackupError::Members("this backup is of a cluster that was never founded".into()))?;
    let founding = Found {
        cluster_id: (u128::from(random_u64()) << 64 | u128::from(random_u64())) | 1,
        incarnation: founding.incarnation + 1,
        ..founding
    };
    let log_index = manifest.log_index + INDEX_GAP;
    if log_index >= LOG_INDEX_END {
        return Err(BackupError::Members(
            "this state was restored as often as can be: its log indices are used up".into(),
        ));
    }
    machine.found_anew(founding, log_index);
    let frozen = machine.freeze();
    let last = standing.last_log_id.as_ref().map(|last| {
        let leader = last.committed_leader_id();
        (leader.term, leader.node_id)
    });
    let (term, leader_id) = last.unwrap_or_default();
    let at = log_id(term, leader_id, log_index);
    let nodes: BTreeMap<NodeId, BasicNode> = members
        .iter()
        .map(|(node_id, endpoint)| (*node_id, BasicNode::new(endpoint)))
        .collect();
    let voters: BTreeSet<NodeId> = nodes.keys().copied().collect();
    let node_id_highest = voters.last().copied().unwrap_or_default();
    let membership =
        Membership::new(vec![voters], nodes).map_err(|error| BackupError::Members(error.to_string()))?;
    let standing = Standing {
        last_log_id: Some(at),
        membership: StoredMembership::new(Some(at), membership),
        node_id_highest,
        cluster_id: founding.cluster_id,
        row_count: frozen.row_count(),
        digest: frozen.digest(),
    };

    let staging = beside(dir);
    if staging.exists() {
        // A restore of ours that was interrupted.
        fs::remove_dir_all(&staging).map_err(disk_error("removing", &staging))?;
    }
    let name = |node_id: NodeId| format!("node-{node_id}");
    for (node_id, _) in members {
        let node_dir = staging.join(name(*node_id));
        fs::create_dir_all(&node_dir).map_err(disk_error("making", &node_dir))?;
        let seams = Seams {
            disk: Arc::new(RealDisk),
            net: Arc::new(TcpNet),
            wall_clock: Arc::new(SystemWallClock),
            workers: Workers::Threads,
            image_dir: None,
        };
        let snapshots = SnapshotStore::open(&node_dir.join(SNAPSHOTS_DIR_NAME), &seams)?;
        let written = snapshots.build_now(&frozen, &standing)?;
        if written.load_again()?.contents_digest() != machine.contents_digest() {
            return Err(BackupError::Snapshot(SnapshotError::Damaged {
                path: written.path(),
                why: "its contents are not the backup's".into(),
            }));
        }
        // Beyond whatever the old cluster's nodes promised in the term the state ends in.
        let vote = Vote::new(term + 1, *node_id);
        begin_log(&node_dir, &seams, vote).await?;
        let node_file = NodeFile {
            node_id: *node_id,
            cluster_id: Some(founding.cluster_id.to_be_bytes()),
            founded: true,
        };
        node_file.store(&RealDisk, &node_dir)?;
    }
    fs::rename(&staging, dir).map_err(disk_error("renaming into place", dir))?;
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(disk_error("syncing", parent))?;
    let nodes = members
        .iter()
        .map(|(node_id, endpoint)| (*node_id, endpoint.clone(), dir.join(name(*node_id))));
    Ok(Restored {
        cluster_id: hex(founding.cluster_id),
        incarnation: founding.incarnation,
        log_index,
        state_hash: hex(standing.digest),
        nodes: nodes.collect(),
    })
}

/// An empty log with this vote.
async fn begin_log(node_dir: &Path, seams: &Seams, vote: Vote) -> Result<(), BackupError> {
    let options = LogOptions {
        segment_bytes: SEGMENT_BYTES,
        ..LogOptions::new(Origin::New)
    };
    let mut log = LogStore::open(node_dir, seams, options)?;
    log.save_vote(&vote)
        .await
        .map_err(disk_error("saving the vote in", node_dir))?;
    log.close().await.map_err(|error| {
        BackupError::Storage(StorageError::Io {
            doing: "closing the log in",
            path: node_dir.to_path_buf(),
            source: std::io::Error::other(error),
        })
    })
}

/// Where the directories are made before they get their name.
fn beside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".restoring");
    dir.with_file_name(name)
}

/// Refuses a directory with anything in it; says whose it is.
fn check_empty(dir: &Path) -> Result<(), BackupError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(disk_error("looking into", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(disk_error("looking into", dir))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let Some(first) = names.first() else {
        return Ok(());
    };
    let what = match NodeFile::load(&RealDisk, dir) {
        Ok(Some(node)) => format!("holds the data of node {}", node.node_id),
        _ => format!("is not empty: there is `{first}`"),
    };
    Err(BackupError::NotEmpty {
        path: dir.to_path_buf(),
        what,
    })
}

fn check_members(members: &[(NodeId, String)], node_id_highest: NodeId) -> Result<(), BackupError> {
    let wrong = |why: String| Err(BackupError::Members(why));
    if members.is_empty() || members.len() > MEMBERS_MAX {
        let count = members.len();
        return wrong(format!("{count} members; a cluster has 1 to {MEMBERS_MAX}"));
    }
    let (mut ids, mut endpoints) = (BTreeSet::new(), BTreeSet::new());
    for (node_id, endpoint) in members {
        check_endpoint(*node_id, endpoint).map_err(|error| BackupError::Members(error.to_string()))?;
        if *node_id <= node_id_highest {
            return wrong(format!(
                "node id {node_id} may be that of a member of the backed-up cluster: ids are never reused, give the \
                 new nodes ids above {node_id_highest}"
            ));
        }
        if !ids.insert(node_id) || !endpoints.insert(endpoint) {
            return wrong(format!(
                "node {node_id} at {endpoint}: each member needs its own id and address"
            ));
        }
    }
    Ok(())
}

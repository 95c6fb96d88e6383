//! Snapshots: what they hold, what damage does, and taking them in from a peer.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use inventory_machine::reply::Event;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use raft_store::storage::{
    disk_sim::SimDisk,
    error::StorageError,
    open::Base,
    snapshot::{RECEIVING_MAX, SnapshotData, SnapshotError, SnapshotReceiver},
};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    node::{Node, options, run, sim_seams},
    workload::{CLUSTER_ID, Workload},
};

const DIR: &str = "/node";

async fn start(disk: &SimDisk) -> Node {
    Node::start(Path::new(DIR), &sim_seams(disk), &options())
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

async fn bytes_of(snapshot: &SnapshotData) -> Vec<u8> {
    snapshot.chunk(0, usize::MAX).await.expect("reading").to_vec()
}

fn snapshot_files(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.files();
    files
        .into_iter()
        .filter(|path| path.starts_with(Path::new(DIR).join("snapshots")))
        .collect()
}

async fn receive(node: &Node, from: &SnapshotData, bytes: &[u8]) -> Result<SnapshotData, SnapshotError> {
    let store = &node.opened.snapshots;
    let mut receiver = SnapshotReceiver::new(store, from.meta(), from.len(), from.checksum())?;
    for chunk in bytes.chunks(7_000) {
        receiver.write(Bytes::copy_from_slice(chunk)).await?;
    }
    receiver.finish().await
}

#[test]
fn a_snapshot_holds_the_state_it_was_begun_at() {
    run(async {
        let workload = Workload::new(31, 120);
        let mut node = start(&SimDisk::new()).await;
        node.advance(&workload, 50).await.expect("advancing");
        let mut builder = node.opened.state_machine.get_snapshot_builder().await;
        // Apply goes on before the snapshot is written.
        node.advance(&workload, 119).await.expect("advancing");
        let snapshot = builder.build_snapshot().await.expect("building").snapshot;
        assert_eq!(snapshot.meta().last_log_id.map(|last| last.index()), Some(50));
        assert_eq!(snapshot.standing().digest, workload.digests[50]);
        node.check(&workload).await;

        let mut other = start(&SimDisk::new()).await;
        let bytes = bytes_of(&snapshot).await;
        let received = receive(&other, &snapshot, &bytes).await.expect("receiving");
        other
            .opened
            .state_machine
            .install_snapshot(snapshot.meta(), received)
            .await
            .expect("installing");
        assert_eq!(other.opened.shared.digest_at(50), Some(workload.digests[50]));
        assert_eq!(other.opened.shared.membership(), snapshot.meta().last_membership);
        // And goes on from there like the one it was made from.
        other.apply(&workload.entries[51..]).await.expect("applying");
        assert_eq!(other.opened.shared.digest_at(119), Some(workload.digests[119]));
    });
}

#[test]
fn an_installed_snapshot_replaces_state_and_feed_and_survives() {
    run(async {
        let workload = Workload::new(32, 120);
        let mut leader = start(&SimDisk::new()).await;
        leader.advance(&workload, 100).await.expect("advancing");
        let snapshot = leader.snapshot().await.expect("snapshot");
        let bytes = bytes_of(&snapshot).await;

        let disk = SimDisk::new();
        let mut node = start(&disk).await;
        node.advance(&workload, 30).await.expect("advancing");
        let mut behind = node.opened.feed.subscribe(20, 0).expect("history");
        let received = receive(&node, &snapshot, &bytes).await.expect("receiving");
        let mut applied = node.opened.shared.applied();
        node.opened
            .state_machine
            .install_snapshot(snapshot.meta(), received)
            .await
            .expect("installing");
        assert_eq!(*applied.borrow_and_update(), 100);
        node.opened.shared.wait_applied(100).await;
        assert_eq!(
            node.opened.shared.digest_at(30),
            None,
            "digests before the jump are of another history"
        );
        assert_eq!(node.opened.shared.digest_range(), (100, 100));
        assert_eq!(behind.pull().unwrap_err().first_index, 101);
        let (meta, _) = node
            .opened
            .snapshots
            .current()
            .expect("the installed snapshot is the current one");
        assert_eq!(&meta, snapshot.meta());

        // It is durable without anything else having been written.
        drop(node);
        disk.crash();
        let node = start(&disk.reboot(1)).await;
        assert_eq!(node.opened.base, Base::Snapshot(100));
        assert_eq!(node.opened.shared.digest_at(100), Some(workload.digests[100]));
        assert_eq!(node.opened.identity.cluster_id(), Some(CLUSTER_ID));
    });
}

#[test]
fn what_a_peer_sends_is_believed_only_when_all_of_it_fits() {
    run(async {
        let workload = Workload::new(33, 60);
        let mut leader = start(&SimDisk::new()).await;
        leader.advance(&workload, 40).await.expect("advancing");
        let snapshot = leader.snapshot().await.expect("snapshot");
        let whole = bytes_of(&snapshot).await;
        let disk = SimDisk::new();
        let mut node = start(&disk).await;
        node.advance(&workload, 10).await.expect("advancing");

        for at in (0..whole.len()).step_by(97) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            let refused = receive(&node, &snapshot, &damaged).await.err();
            assert!(
                matches!(refused, Some(SnapshotError::Damaged { .. })),
                "byte {at}: {refused:?}"
            );
        }
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            let refused = receive(&node, &snapshot, &whole[..length]).await.err();
            assert!(
                matches!(refused, Some(SnapshotError::Damaged { .. })),
                "{length} bytes: {refused:?}"
            );
        }
        let mut longer = whole.clone();
        longer.push(0);
        let refused = receive(&node, &snapshot, &longer).await.err();
        assert!(
            matches!(refused, Some(SnapshotError::Damaged { .. })),
            "{refused:?}"
        );

        // A checksum that fits does not make a state of it, whatever the reader has to get through.
        for at in (0..whole.len() - 16).step_by(41) {
            let mut resealed = whole.clone();
            resealed[at] ^= 0x81;
            let (body, _) = whole.split_at(whole.len() - 16);
            let checksum = xxh3_128(&resealed[..body.len()]);
            resealed[body.len()..].copy_from_slice(&checksum.to_be_bytes());
            let store = &node.opened.snapshots;
            let mut receiver =
                SnapshotReceiver::new(store, snapshot.meta(), snapshot.len(), checksum).expect("begin");
            receiver.write(resealed.into()).await.expect("write");
            let refused = receiver.finish().await.err();
            let told = matches!(
                refused,
                Some(SnapshotError::Damaged { .. } | SnapshotError::Newer { .. })
            );
            assert!(told, "byte {at}: {refused:?}");
        }

        // Announced as something else than it is.
        let mut meta = snapshot.meta().clone();
        meta.last_log_id = Some(workload.entries[41].log_id);
        let store = &node.opened.snapshots;
        let mut receiver =
            SnapshotReceiver::new(store, &meta, snapshot.len(), snapshot.checksum()).expect("begin");
        receiver.write(whole.clone().into()).await.expect("write");
        assert!(matches!(
            receiver.finish().await.err(),
            Some(SnapshotError::Damaged { .. })
        ));
        assert!(matches!(
            SnapshotReceiver::new(store, &meta, 3, 0).err(),
            Some(SnapshotError::Damaged { .. })
        ));
        assert!(matches!(
            SnapshotReceiver::new(store, &meta, u64::MAX, 0).err(),
            Some(SnapshotError::NoSpace { .. })
        ));

        let theirs = Workload::of_cluster(0xc2, 33, 60);
        let mut stranger = start(&SimDisk::new()).await;
        stranger.advance(&theirs, 40).await.expect("advancing");
        let foreign = stranger.snapshot().await.expect("snapshot");
        let refused = receive(&node, &foreign, &bytes_of(&foreign).await).await.err();
        assert!(matches!(&refused, Some(SnapshotError::Damaged { why, .. }) if why.contains("cluster")));

        let receivers: Vec<_> = (0..RECEIVING_MAX)
            .map(|_| SnapshotReceiver::new(store, snapshot.meta(), snapshot.len(), 0).expect("begin"))
            .collect();
        let refused = SnapshotReceiver::new(store, snapshot.meta(), snapshot.len(), 0).err();
        assert!(matches!(refused, Some(SnapshotError::Busy { .. })));
        drop(receivers);

        // A received snapshot that raft then does not want.
        drop(receive(&node, &snapshot, &whole).await.expect("receiving"));
        assert!(snapshot_files(&disk).is_empty(), "nothing is left behind");
        node.check(&workload).await;
    });
}

#[test]
fn two_snapshots_are_kept_and_the_log_is_purged_to_the_older() {
    run(async {
        let workload = Workload::new(34, 120);
        let disk = SimDisk::new();
        let mut node = start(&disk).await;
        assert_eq!(node.opened.snapshots.purge_upto(), None);
        let mut taken = Vec::new();
        for upto in [20, 40, 60, 80] {
            node.advance(&workload, upto).await.expect("advancing");
            let snapshot = node.snapshot().await.expect("snapshot");
            taken.push(snapshot.meta().last_log_id);
            let older = taken.len().checked_sub(2).and_then(|place| taken[place]);
            assert_eq!(node.opened.snapshots.purge_upto(), older);
            node.purge().await.expect("purge");
            // Taking it again at the same place changes nothing.
            node.snapshot().await.expect("snapshot");
            assert_eq!(node.opened.snapshots.purge_upto(), older);
        }
        assert_eq!(snapshot_files(&disk).len(), 2);
        // One that is still being sent stays readable when it is no longer kept.
        let (_, old) = node.opened.snapshots.current().expect("current");
        let before = bytes_of(&old).await;
        for upto in [100, 119] {
            node.advance(&workload, upto).await.expect("advancing");
            node.snapshot().await.expect("snapshot");
        }
        assert_eq!(bytes_of(&old).await, before);
    });
}

/// A node with snapshots at 40 and 80, a log purged to 40, and its end at 99.
async fn with_two_snapshots(workload: &Workload) -> SimDisk {
    let disk = SimDisk::new();
    let mut node = start(&disk).await;
    for upto in [40, 80] {
        node.advance(workload, upto).await.expect("advancing");
        node.snapshot().await.expect("snapshot");
        node.purge().await.expect("purge");
    }
    node.advance(workload, 99).await.expect("advancing");
    node.stop().await;
    disk
}

#[test]
fn a_damaged_snapshot_gives_way_to_the_older_one_and_the_log() {
    run(async {
        let workload = Workload::new(35, 100);
        let disk = with_two_snapshots(&workload).await;
        let files = snapshot_files(&disk);
        let newest = files
            .iter()
            .find(|path| path.to_string_lossy().contains("-80-"))
            .expect("newest")
            .clone();
        let oldest = files
            .iter()
            .find(|path| path.to_string_lossy().contains("-40-"))
            .expect("older")
            .clone();
        let length = disk.bytes(&newest).expect("bytes").len();
        for at in (0..length).step_by(61).chain(length - 20..length) {
            let disk = disk.copy();
            disk.flip(&newest, at, 0x04);
            let mut node = start(&disk).await;
            assert_eq!(node.opened.base, Base::Snapshot(40), "byte {at}");
            assert_eq!(
                node.opened.snapshots.purge_upto(),
                None,
                "one verified snapshot is not two"
            );
            node.catch_up().await.expect("catching up");
            node.check(&workload).await;
            assert_eq!(node.applied(), Some(99));
        }
        // Both: the log alone does not reach back.
        disk.flip(&newest, length / 2, 0x04);
        disk.flip(&oldest, 30, 0x80);
        let refusal = Node::start(Path::new(DIR), &sim_seams(&disk), &options())
            .await
            .err();
        let refusal = refusal.expect("must be refused").to_string();
        assert!(refusal.contains("the log begins behind entry 40"), "{refusal}");
        assert!(
            refusal.contains("holdfast member"),
            "it says what to do: {refusal}"
        );
    });
}

#[test]
fn a_lost_log_is_not_a_new_node() {
    run(async {
        let workload = Workload::new(36, 100);
        let disk = with_two_snapshots(&workload).await;
        let empty = SimDisk::new();
        start(&empty).await.stop().await;
        // NODE of a founded cluster over an empty log, without snapshots.
        let node = Path::new(DIR).join("NODE");
        copy_file(&disk, &empty, &node);
        let refusal = Node::start(Path::new(DIR), &sim_seams(&empty), &options())
            .await
            .err();
        assert!(
            matches!(refusal, Some(StorageError::Missing { .. })),
            "{:?}",
            refusal.map(|e| e.to_string())
        );
        // Snapshots without NODE.
        let orphan = disk.copy();
        remove_file(&orphan, &node);
        let refusal = Node::start(Path::new(DIR), &sim_seams(&orphan), &options())
            .await
            .err();
        assert!(
            matches!(refusal, Some(StorageError::NotNew { .. })),
            "{:?}",
            refusal.map(|e| e.to_string())
        );
    });
}

fn copy_file(from: &SimDisk, to: &SimDisk, path: &Path) {
    use raft_store::storage::disk::{Disk, OpenMode};
    let bytes = from.bytes(path).expect("bytes");
    to.remove(path).expect("removing");
    let file = to.open(path, OpenMode::Create).expect("creating");
    file.write_at(0, &bytes).expect("writing");
    file.sync().expect("syncing");
    to.sync_dir(path.parent().expect("in a directory"))
        .expect("syncing");
}

fn remove_file(disk: &SimDisk, path: &Path) {
    use raft_store::storage::disk::Disk;
    disk.remove(path).expect("removing");
    disk.sync_dir(path.parent().expect("in a directory"))
        .expect("syncing");
}

#[test]
fn after_a_restart_the_feed_begins_behind_the_state_and_replays_the_rest() {
    run(async {
        let workload = Workload::new(37, 100);
        let disk = SimDisk::new();
        let mut node = start(&disk).await;
        let mut cursor = node.opened.feed.subscribe(0, 0).expect("history from the start");
        node.advance(&workload, 99).await.expect("advancing");
        let mut seen = Vec::new();
        while seen.len() < workload.events_from(0).len() {
            for chunk in cursor.pull().expect("history") {
                let events: Vec<Event> = node.opened.shared.read(|machine| chunk.events(machine).collect());
                seen.extend(events);
            }
        }
        assert_eq!(seen, workload.events_from(0));
        node.stop().await;
        drop(node_with_snapshot_at(&disk, &workload).await);

        let mut node = start(&disk).await;
        assert_eq!(node.opened.base, Base::Snapshot(99));
        assert_eq!(
            node.opened
                .feed
                .subscribe(99, 0)
                .err()
                .map(|gone| gone.first_index),
            Some(100)
        );
        node.catch_up().await.expect("catching up");
        assert_eq!(node.opened.feed.next_index(), 100);
    });
}

async fn node_with_snapshot_at(disk: &SimDisk, workload: &Workload) -> SnapshotData {
    let mut node = start(disk).await;
    node.catch_up().await.expect("catching up");
    // Replayed from the log: the whole history is there again.
    let mut cursor = node.opened.feed.subscribe(1, 0).expect("history from the start");
    let mut seen = 0;
    while seen < workload.events_from(0).len() {
        seen += cursor
            .pull()
            .expect("history")
            .iter()
            .map(|chunk| chunk.places().len())
            .sum::<usize>();
    }
    let snapshot = node.snapshot().await.expect("snapshot");
    node.stop().await;
    snapshot
}

#[test]
fn entries_that_cannot_be_applied_stop_the_node() {
    run(async {
        let workload = Workload::new(38, 20);
        let mut node = start(&SimDisk::new()).await;
        node.advance(&workload, 10).await.expect("advancing");
        let mut entry = workload.entries[11].clone();
        entry.payload =
            openraft::EntryPayload::Normal(raft_store::types::BatchBytes(Bytes::from_static(b"?")));
        let refused = node.apply(&[entry]).await.expect_err("not a batch").to_string();
        assert!(refused.contains("log entry 11 cannot be applied"), "{refused}");
        assert!(node.apply(&workload.entries[11..12]).await.is_err());
        let shared = node.opened.shared.clone();
        assert!(
            tokio::spawn(async move { shared.read(|machine| machine.digest()) })
                .await
                .is_err()
        );
        // A hole is our own mistake; after it, nothing is applied or read any more.
        let mut node = start(&SimDisk::new()).await;
        node.advance(&workload, 10).await.expect("advancing");
        let refused = node
            .apply(&workload.entries[12..13])
            .await
            .expect_err("a hole")
            .to_string();
        assert!(
            refused.contains("entry 12 was handed to apply where 11 comes next"),
            "{refused}"
        );
        assert!(node.apply(&workload.entries[11..12]).await.is_err());
    });
}

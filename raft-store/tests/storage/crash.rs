//! Crashes at every operation of the disk, with everything lost that may be lost.

use std::{io, path::Path, time::Duration};

use openraft::storage::RaftStateMachine;
use raft_store::storage::{
    disk_sim::SimDisk,
    snapshot::{SnapshotData, SnapshotReceiver},
};

use crate::{
    node::{Node, options, run, run_paused, sim_seams},
    workload::Workload,
};

const DIR: &str = "/node";
const SURVIVAL_SEEDS: u64 = 3;

/// What a node has been told is durable.
#[derive(Default)]
struct Progress {
    acknowledged: Option<u64>,
    done: bool,
}

/// Entries, snapshots and purges, until the disk says no more.
async fn build_and_purge(disk: &SimDisk, workload: &Workload, progress: &mut Progress) -> io::Result<()> {
    let mut node = Node::start(Path::new(DIR), &sim_seams(disk), &options()).await?;
    for chunk in workload.entries.chunks(4) {
        let last = chunk[chunk.len() - 1].log_id.index();
        node.append(chunk).await?;
        progress.acknowledged = Some(last);
        node.apply(chunk).await?;
        if last % 16 == 15 {
            node.snapshot().await?;
            node.purge().await?;
        }
    }
    node.opened
        .log
        .close()
        .await
        .map_err(|error| io::Error::other(error.to_string()))?;
    progress.done = true;
    Ok(())
}

/// Entries are applied, and a snapshot is taken, before the log has synced them: as on a node whose
/// disk is slower than those of the others.
async fn apply_ahead(disk: &SimDisk, workload: &Workload, progress: &mut Progress) -> io::Result<()> {
    let mut slow = options();
    slow.log.simulated_sync_latency = Duration::from_millis(5);
    let mut node = Node::start(Path::new(DIR), &sim_seams(disk), &slow).await?;
    for chunk in workload.entries.chunks(4) {
        let last = chunk[chunk.len() - 1].log_id;
        let durable = node.submit(chunk).await?;
        node.apply(chunk).await?;
        if last.index() % 16 == 15 {
            node.snapshot().await?;
            assert!(
                *node.opened.log.synced().borrow() < Some(last),
                "the snapshot is ahead of the log"
            );
        }
        durable.await?;
        progress.acknowledged = Some(last.index());
        node.purge().await?;
    }
    node.opened
        .log
        .close()
        .await
        .map_err(|error| io::Error::other(error.to_string()))?;
    progress.done = true;
    Ok(())
}

/// A lagging node installs a peer's snapshot and goes on behind it.
async fn install(
    disk: &SimDisk,
    workload: &Workload,
    snapshot: &SnapshotData,
    progress: &mut Progress,
) -> io::Result<()> {
    let mut node = Node::start(Path::new(DIR), &sim_seams(disk), &options()).await?;
    let (behind, installed) = (10, snapshot.meta().last_log_id.expect("not empty"));
    node.append(&workload.entries[..behind]).await?;
    node.apply(&workload.entries[..behind]).await?;
    node.snapshot().await?;
    progress.acknowledged = Some(behind as u64 - 1);
    let received = receive(&node, snapshot).await?;
    node.opened
        .state_machine
        .install_snapshot(snapshot.meta(), received)
        .await?;
    openraft::storage::RaftLogStorage::purge(&mut node.opened.log, installed).await?;
    progress.acknowledged = Some(installed.index());
    let rest = &workload.entries[installed.index() as usize + 1..];
    node.append(rest).await?;
    progress.acknowledged = Some(workload.last());
    node.apply(rest).await?;
    node.opened
        .log
        .close()
        .await
        .map_err(|error| io::Error::other(error.to_string()))?;
    progress.done = true;
    Ok(())
}

/// Streams a snapshot from one node's store into another's.
async fn receive(node: &Node, snapshot: &SnapshotData) -> io::Result<SnapshotData> {
    let store = &node.opened.snapshots;
    let mut receiver = SnapshotReceiver::new(store, snapshot.meta(), snapshot.len(), snapshot.checksum())?;
    while receiver.received() < snapshot.len() {
        receiver
            .write(snapshot.chunk(receiver.received(), 5_000).await?)
            .await?;
    }
    Ok(receiver.finish().await?)
}

/// Reopens what survived: nothing acknowledged is missing, and the node goes on to the same end.
async fn recover(disk: &SimDisk, workload: &Workload, progress: &Progress, what: &str) {
    let mut node = Node::start(Path::new(DIR), &sim_seams(disk), &options())
        .await
        .unwrap_or_else(|error| panic!("{what}: a crash alone must not lead to a refusal: {error}"));
    let last = node.opened.log.state().last_log_id.map(|last| last.index());
    assert!(
        last >= progress.acknowledged,
        "{what}: {last:?} < {:?}",
        progress.acknowledged
    );
    node.check(workload).await;
    node.catch_up()
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(node.applied(), last, "{what}");
    node.check(workload).await;
    node.advance(workload, workload.last())
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    node.check(workload).await;
    assert_eq!(node.applied(), Some(workload.last()), "{what}");
}

#[test]
fn a_crash_at_any_operation_loses_nothing_acknowledged() {
    let workload = Workload::new(1, 72);
    let disk = SimDisk::new();
    let mut progress = Progress::default();
    run(build_and_purge(&disk, &workload, &mut progress)).expect("no fault yet");
    assert!(progress.done);
    for operation in 1..=disk.operations() {
        let disk = SimDisk::new();
        disk.crash_at(operation);
        let mut progress = Progress::default();
        let ended = run(build_and_purge(&disk, &workload, &mut progress));
        assert!(
            ended.is_err() && disk.crashed(),
            "operation {operation} was never reached"
        );
        for seed in 0..SURVIVAL_SEEDS {
            let what = format!("crash at operation {operation}, survival seed {seed}");
            run(recover(&disk.reboot(seed), &workload, &progress, &what));
        }
    }
}

#[test]
fn a_state_ahead_of_its_log_survives_a_crash() {
    let workload = Workload::new(4, 48);
    let disk = SimDisk::new();
    let mut progress = Progress::default();
    run_paused(apply_ahead(&disk, &workload, &mut progress)).expect("no fault yet");
    assert!(progress.done);
    for operation in 1..=disk.operations() {
        let disk = SimDisk::new();
        disk.crash_at(operation);
        let mut progress = Progress::default();
        let ended = run_paused(apply_ahead(&disk, &workload, &mut progress));
        assert!(
            ended.is_err() && disk.crashed(),
            "operation {operation} was never reached"
        );
        for seed in 0..SURVIVAL_SEEDS {
            let what = format!("crash at operation {operation}, survival seed {seed}");
            run(recover(&disk.reboot(seed), &workload, &progress, &what));
        }
    }
}

#[test]
fn a_crash_while_installing_leaves_the_old_state_or_the_new() {
    let workload = Workload::new(2, 60);
    let leader_disk = SimDisk::new();
    run(async {
        let mut leader = Node::start(Path::new(DIR), &sim_seams(&leader_disk), &options())
            .await
            .expect("leader");
        leader.advance(&workload, 45).await.expect("leader");
        let snapshot = leader.snapshot().await.expect("snapshot");

        let disk = SimDisk::new();
        let mut progress = Progress::default();
        install(&disk, &workload, &snapshot, &mut progress)
            .await
            .expect("no fault yet");
        assert!(progress.done);
        for operation in 1..=disk.operations() {
            let disk = SimDisk::new();
            disk.crash_at(operation);
            let mut progress = Progress::default();
            let ended = install(&disk, &workload, &snapshot, &mut progress).await;
            assert!(
                ended.is_err() && disk.crashed(),
                "operation {operation} was never reached"
            );
            for seed in 0..SURVIVAL_SEEDS {
                let what = format!("crash at operation {operation}, survival seed {seed}");
                recover(&disk.reboot(seed), &workload, &progress, &what).await;
            }
        }
    });
}

#[test]
fn a_failed_sync_is_reported_and_ends_the_node() {
    let workload = Workload::new(3, 72);
    let disk = SimDisk::new();
    let mut progress = Progress::default();
    run(build_and_purge(&disk, &workload, &mut progress)).expect("no fault yet");
    for sync in 1..=disk.syncs() {
        let disk = SimDisk::new();
        disk.fail_sync_at(sync);
        let mut progress = Progress::default();
        let ended = run(build_and_purge(&disk, &workload, &mut progress));
        assert!(ended.is_err(), "sync {sync} failed, and nobody was told");
        disk.crash();
        run(recover(
            &disk.reboot(sync),
            &workload,
            &progress,
            &format!("failed sync {sync}"),
        ));
    }
}

//! A scripted workload, cut at every operation on the disk, under several seeds of what survives.
//!
//! The promise under test: after reopening, the log and the vote are exactly what they were after some
//! step of the script, no earlier than the last one answered and no later than the last one asked for.
//! That is: nothing acknowledged is lost, no vote is older, nothing truncated comes back, no hole.

use std::{future::Future, path::Path};

use openraft::storage::RaftLogStorage;
use raft_store::{
    storage::{
        disk::Disk,
        disk_sim::SimDisk,
        log::{
            LogStore, Origin,
            frame::{self, Decoded, Header},
        },
        node_file::NodeFile,
    },
    types::{Entry, LogId, Vote},
};

use crate::support::{self, Answer, Content, entry, log_id};

#[derive(Clone, Debug)]
enum Step {
    /// Appends in a row, not waiting in between: they may share a sync.
    Append(Vec<Vec<Entry>>),
    Vote(Vote),
    Truncate(Option<LogId>),
    Purge(LogId),
    Committed(LogId),
    Reopen,
}

/// Rolls over several segments of 2 KiB, and has every kind of step, also next to each other.
fn script() -> Vec<Step> {
    let one = |term, index, bytes| vec![entry(term, index, bytes)];
    vec![
        Step::Vote(Vote::new(1, 1)),
        Step::Append(vec![one(1, 0, 10)]),
        Step::Vote(Vote::new_committed(1, 1)),
        Step::Append(vec![
            one(1, 1, 700),
            one(1, 2, 30),
            vec![entry(1, 3, 300), entry(1, 4, 1)],
        ]),
        Step::Committed(log_id(1, 3)),
        Step::Append(vec![one(1, 5, 600), one(1, 6, 600)]),
        Step::Truncate(Some(log_id(1, 4))),
        Step::Vote(Vote::new_committed(2, 1)),
        Step::Append(vec![one(2, 5, 900), one(2, 6, 20), one(2, 7, 900)]),
        Step::Purge(log_id(1, 3)),
        Step::Reopen,
        Step::Append(vec![one(2, 8, 1500)]),
        Step::Truncate(Some(log_id(2, 6))),
        Step::Truncate(Some(log_id(2, 5))),
        Step::Append(vec![one(3, 6, 100), one(3, 7, 3000), one(3, 8, 100)]),
        Step::Committed(log_id(3, 7)),
        Step::Purge(log_id(3, 7)),
        Step::Vote(Vote::new(4, 1)),
        Step::Append(vec![one(3, 9, 1000), one(3, 10, 1000)]),
        Step::Purge(log_id(5, 20)),
        Step::Append(vec![one(6, 21, 64)]),
        Step::Reopen,
        Step::Append(vec![
            one(6, 22, 500),
            one(6, 23, 500),
            one(6, 24, 500),
            one(6, 25, 500),
        ]),
        Step::Truncate(Some(log_id(6, 21))),
        Step::Append(vec![one(7, 22, 5)]),
    ]
}

/// What the log must say after each thing that happened to it: the model that the log is held against.
struct History {
    states: Vec<Content>,
    /// How many of them were answered.
    acknowledged: usize,
    committed: Option<LogId>,
}

impl History {
    fn new() -> History {
        let empty = Content {
            vote: None,
            purged: None,
            last: None,
            entries: Vec::new(),
        };
        History {
            states: vec![empty],
            acknowledged: 0,
            committed: None,
        }
    }

    fn ask(&mut self, change: impl FnOnce(&mut Content)) {
        let mut next = self.states.last().expect("a first state").clone();
        change(&mut next);
        self.states.push(next);
    }

    fn acknowledge_all(&mut self) {
        self.acknowledged = self.states.len() - 1;
    }
}

/// Runs the script until it ends or the disk crashes.
async fn run_script(disk: &SimDisk, script: &[Step], history: &mut History) {
    let Ok(mut log) = support::open(disk, Origin::New) else {
        return;
    };
    for step in script {
        match step {
            Step::Append(appends) => {
                let mut answers: Vec<(Answer, usize)> = Vec::new();
                let mut failed = false;
                for entries in appends {
                    let last = entries.last().map(|entry| entry.log_id);
                    history.ask(|content| {
                        content.entries.extend(entries.iter().cloned());
                        content.last = last;
                    });
                    match support::submit(&mut log, entries.clone()).await {
                        Ok(answer) => answers.push((answer, history.states.len() - 1)),
                        Err(_) => failed = true,
                    }
                }
                for (answer, state) in answers {
                    match answer.await.expect("an answer to every append") {
                        Ok(()) => history.acknowledged = state,
                        Err(_) => failed = true,
                    }
                }
                if failed {
                    return;
                }
            }
            Step::Vote(vote) => {
                history.ask(|content| content.vote = Some(*vote));
                if log.save_vote(vote).await.is_err() {
                    return;
                }
            }
            Step::Truncate(after) => {
                history.ask(|content| {
                    content.entries.retain(|entry| Some(entry.log_id) <= *after);
                    content.last = *after;
                });
                if log.truncate_after(*after).await.is_err() {
                    return;
                }
            }
            Step::Purge(upto) => {
                history.ask(|content| {
                    content.entries.retain(|entry| entry.log_id.index > upto.index);
                    content.purged = Some(*upto);
                    content.last = content.last.max(Some(*upto));
                });
                if log.purge(*upto).await.is_err() {
                    return;
                }
            }
            Step::Committed(committed) => {
                history.committed = Some(*committed);
                if log.save_committed(Some(*committed)).await.is_err() {
                    return;
                }
            }
            Step::Reopen => {
                let closed = log.close().await;
                drop(log);
                match support::open(disk, Origin::Existing) {
                    Ok(reopened) => log = reopened,
                    Err(error) => {
                        assert!(
                            disk.crashed(),
                            "reopening a log that was closed ({closed:?}): {error}"
                        );
                        return;
                    }
                }
            }
        }
        history.acknowledge_all();
        // The mark behind the step's sync may have met the crash after the step was answered.
        if disk.crashed() {
            return;
        }
        let content = support::content(&log).await;
        assert_eq!(
            history.states.last(),
            Some(&content),
            "after {step:?}, without a crash"
        );
    }
    log.close().await.ok();
}

/// Opens what survived, checks it, goes on, and checks again.
async fn check_survivor(disk: &SimDisk, history: &History, context: &str) {
    // NODE is written once the first open is done: before, a crash may have left no log at all.
    let founded = disk.exists(Path::new(support::DIR)).unwrap_or(false) && history.acknowledged > 0;
    let origin = if founded { Origin::Existing } else { Origin::New };
    let mut log = match support::open(disk, origin) {
        Ok(log) => log,
        // The first step was not answered, but had reached the disk: not a new directory any more.
        Err(raft_store::storage::error::StorageError::NotNew { .. }) if history.states.len() > 1 => return,
        Err(error) => panic!("{context}: refused to open: {error}"),
    };
    let found = support::content(&log).await;
    assert_nothing_behind_the_end(disk, context);
    let allowed = &history.states[history.acknowledged..];
    assert!(
        allowed.contains(&found),
        "{context}: found {found:#?}, which is none of the {} states allowed, from {:#?}",
        allowed.len(),
        allowed.first()
    );
    assert!(
        log.committed() <= history.committed.max(found.purged),
        "{context}: committed what never was"
    );
    assert!(
        log.committed() <= found.last,
        "{context}: committed beyond the log"
    );

    let index = found.last.map_or(0, |last| last.index + 1);
    let added = vec![entry(9, index, 400), entry(9, index + 1, 400)];
    support::append(&mut log, added.clone())
        .await
        .expect("a recovered log takes entries");
    let mut expected = found;
    expected.last = added.last().map(|entry| entry.log_id);
    expected.entries.extend(added);
    log.close().await.expect("a recovered log closes");
    drop(log);
    let log = support::open(disk, Origin::Existing).expect("it opens once more");
    assert_eq!(
        support::content(&log).await,
        expected,
        "{context}: after going on and reopening"
    );
}

/// Of what a crash left unfinished nothing may stay behind the log's end, where it could be misread later.
fn assert_nothing_behind_the_end(disk: &SimDisk, context: &str) {
    let segments = disk
        .files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ext| ext == "log"));
    let last = segments.max().expect("a segment");
    let bytes = disk.bytes(&last).expect("a listed file");
    let mut end = 0;
    while let Decoded::Header(header) = Header::decode(&bytes[end..]) {
        end += frame::frame_bytes(header.payload_bytes as usize);
    }
    assert!(
        bytes[end..].iter().all(|byte| *byte == 0),
        "{context}: something behind byte {end}"
    );
}

/// Operations of the whole script without a crash.
fn operations(script: &[Step]) -> u64 {
    let disk = SimDisk::new();
    let mut history = History::new();
    support::run(run_script(&disk, script, &mut history));
    assert_eq!(
        history.acknowledged,
        history.states.len() - 1,
        "without a crash everything is answered"
    );
    disk.operations()
}

fn on_one_runtime(future: impl Future<Output = ()>) {
    support::run(future);
}

#[test]
fn a_crash_at_any_operation_loses_nothing_acknowledged() {
    const SEEDS: u64 = 8;
    let script = script();
    let operations = operations(&script);
    assert!(
        operations > 100,
        "the script has become too short to mean much: {operations} operations"
    );
    for operation in 1..=operations {
        on_one_runtime(async {
            let disk = SimDisk::new();
            disk.crash_at(operation);
            let mut history = History::new();
            run_script(&disk, &script, &mut history).await;
            for seed in 0..SEEDS {
                let context = format!("crash at operation {operation}, survivor {seed}");
                check_survivor(&disk.reboot(seed), &history, &context).await;
            }
        });
    }
}

#[test]
fn a_crash_while_recovering_loses_nothing_either() {
    let script = script();
    let operations = operations(&script);
    // Every third crash, then a second one at each operation of the reopening.
    for operation in (1..=operations).step_by(3) {
        on_one_runtime(async {
            let disk = SimDisk::new();
            disk.crash_at(operation);
            let mut history = History::new();
            run_script(&disk, &script, &mut history).await;
            if history.acknowledged == 0 {
                return;
            }
            for second in 1.. {
                // After a power cut that leaves torn tails to cut, and after a kill that leaves everything.
                let mut crashed = false;
                for disk in [disk.reboot(second * 4 + 3), disk.copy()] {
                    disk.crash_at(second);
                    let opened = support::open(&disk, Origin::Existing);
                    crashed |= disk.crashed();
                    drop(opened);
                    let context =
                        format!("crash at operation {operation}, then at {second} of the reopening");
                    for seed in [2, 3, 7] {
                        check_survivor(&disk.reboot(second * 8 + seed), &history, &context).await;
                    }
                }
                if !crashed {
                    break;
                }
            }
        });
    }
}

#[test]
fn a_new_directory_can_be_founded_after_a_crash_at_any_operation() {
    let whole = SimDisk::new();
    on_one_runtime(async {
        drop(support::open(&whole, Origin::New).expect("a new log"));
    });
    for operation in 1..=whole.operations() {
        for seed in 0..8 {
            on_one_runtime(async {
                let disk = SimDisk::new();
                disk.crash_at(operation);
                let opened: Result<LogStore, _> = support::open(&disk, Origin::New);
                drop(opened);
                let disk = disk.reboot(seed);
                let mut log = support::open(&disk, Origin::New)
                    .unwrap_or_else(|error| panic!("crash at {operation}, survivor {seed}: {error}"));
                support::append(&mut log, vec![entry(1, 0, 8)])
                    .await
                    .expect("it takes entries");
            });
        }
    }
}

#[test]
fn a_lost_mark_is_not_taken_for_rot_nor_for_a_torn_tail() {
    // Every length up to a sector, so that somewhere a mark ends one sector and a frame begins the next.
    for bytes in (0..512).step_by(8) {
        on_one_runtime(async {
            let disk = SimDisk::new();
            let mut log = support::open(&disk, Origin::New).expect("a new log");
            support::append(&mut log, vec![entry(1, 0, bytes)])
                .await
                .expect("durable");
            // The mark behind the first entry has been written; it is synced with the second entry only.
            disk.crash_at(disk.operations() + 2);
            assert!(
                support::append(&mut log, vec![entry(1, 1, 700)]).await.is_err(),
                "its sync crashes"
            );
            for seed in 0..32 {
                let log = support::open(&disk.reboot(seed), Origin::Existing)
                    .unwrap_or_else(|error| panic!("{bytes} bytes, survivor {seed}: {error}"));
                let entries = support::content(&log).await.entries;
                assert_eq!(
                    entries.first(),
                    Some(&entry(1, 0, bytes)),
                    "{bytes} bytes, survivor {seed}"
                );
            }
        });
    }
}

#[test]
fn what_is_reported_after_a_kill_survives_a_power_cut() {
    let script = script();
    for operation in 1..=operations(&script) {
        on_one_runtime(async {
            let disk = SimDisk::new();
            disk.crash_at(operation);
            let mut history = History::new();
            run_script(&disk, &script, &mut history).await;
            if history.acknowledged == 0 {
                return;
            }
            // A kill leaves the page cache, unsynced parts included: they can be read, and be lost later.
            let killed = disk.copy();
            let log = support::open(&killed, Origin::Existing)
                .unwrap_or_else(|error| panic!("killed at operation {operation}: {error}"));
            let reported = support::content(&log).await;
            for seed in [0, 3, 7] {
                let log = support::open(&killed.reboot(seed), Origin::Existing)
                    .unwrap_or_else(|error| panic!("killed at {operation}, power cut {seed}: {error}"));
                let found = support::content(&log).await;
                assert_eq!(
                    found, reported,
                    "killed at operation {operation}, power cut {seed}"
                );
            }
        });
    }
}

#[test]
fn a_crash_while_saving_a_vote_leaves_the_old_one_or_the_new_one() {
    let (old, new) = (
        Vote::new(0x0101_0101_0101_0101, 7),
        Vote::new_committed(0x0202_0202_0202_0202, 9),
    );
    // Two writes and two syncs.
    for operation in 1..=4 {
        on_one_runtime(async {
            let disk = SimDisk::new();
            let mut log = support::open(&disk, Origin::New).expect("a new log");
            log.save_vote(&old).await.expect("saved");
            disk.crash_at(disk.operations() + operation);
            assert!(log.save_vote(&new).await.is_err(), "it crashed");
            for seed in 0..400 {
                let log = support::open(&disk.reboot(seed), Origin::Existing)
                    .unwrap_or_else(|error| panic!("operation {operation}, survivor {seed}: {error}"));
                assert!(
                    [Some(old), Some(new)].contains(&log.vote()),
                    "{operation}, {seed}: {:?}",
                    log.vote()
                );
            }
        });
    }
}

#[test]
fn a_crash_while_replacing_the_node_file_leaves_the_old_one_or_the_new_one() {
    let dir = Path::new(support::DIR);
    let old = NodeFile {
        node_id: 7,
        cluster_id: None,
        founded: false,
    };
    let new = NodeFile {
        node_id: 7,
        cluster_id: Some([5; 16]),
        founded: true,
    };
    // Create, write, sync, rename, directory sync.
    for operation in 1..=5 {
        let disk = SimDisk::new();
        disk.create_dir_all(dir).expect("a directory");
        old.store(&disk, dir).expect("stored");
        disk.crash_at(disk.operations() + operation);
        assert!(new.store(&disk, dir).is_err(), "it crashed");
        for seed in 0..40 {
            let found = NodeFile::load(&disk.reboot(seed), dir)
                .expect("readable")
                .expect("there");
            assert!(
                found == old || found == new,
                "operation {operation}, survivor {seed}: {found:?}"
            );
        }
        // What was read after a kill stays through a power cut.
        let killed = disk.copy();
        let reported = NodeFile::load(&killed, dir).expect("readable");
        assert_eq!(
            NodeFile::load(&killed.reboot(0), dir).expect("readable"),
            reported
        );
    }
}

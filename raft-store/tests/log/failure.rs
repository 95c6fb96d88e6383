//! Errors of the disk end the store; locks, missing and foreign files are refused.

use std::{io, path::Path};

use openraft::{RaftLogReader, storage::RaftLogStorage};
use raft_store::{
    seams::Workers,
    storage::{
        disk::Disk,
        disk_real::RealDisk,
        disk_sim::SimDisk,
        error::StorageError,
        log::{GROUP_BYTES_MAX, LogOptions, LogStore, Origin, READ_BYTES_MAX, READ_ENTRIES_MAX},
        node_file::NodeFile,
    },
    types::Vote,
};

use crate::support::{self, DIR, entry, log_id};

/// Every call must fail from now on, and the watch must say why.
async fn assert_ended(log: &mut LogStore) {
    assert!(log.failure().borrow().is_some(), "the failure is published");
    let next = log.state().last_log_id.map_or(0, |last| last.index + 1);
    assert!(
        support::append(log, vec![entry(9, next, 1)]).await.is_err(),
        "append"
    );
    assert!(log.save_vote(&Vote::new(9, 9)).await.is_err(), "vote");
    assert!(log.truncate_after(None).await.is_err(), "truncate");
    assert!(log.purge(log_id(1, 0)).await.is_err(), "purge");
    assert!(log.try_get_log_entries(..).await.is_err(), "read");
    assert!(log.read_vote().await.is_err(), "read vote");
    assert!(log.get_log_state().await.is_err(), "state");
}

#[test]
fn a_failed_sync_is_terminal_even_when_later_ones_would_succeed() {
    support::run(async {
        let disk = SimDisk::new();
        let mut log = support::open(&disk, Origin::New).expect("a new log");
        support::append(&mut log, vec![entry(1, 0, 50)])
            .await
            .expect("a first entry");
        disk.fail_sync_at(disk.syncs() + 1);
        let error = support::append(&mut log, vec![entry(1, 1, 50)])
            .await
            .expect_err("its sync failed");
        assert!(error.to_string().contains("syncing log segment"), "{error}");
        assert_ended(&mut log).await;
        let synced = *log.synced().borrow();
        assert_eq!(
            synced,
            Some(log_id(1, 0)),
            "what was not synced is not reported as such"
        );
    });
}

#[test]
fn a_failed_sync_of_the_vote_is_terminal() {
    // The vote is synced twice: either may fail.
    for which in 1..=2 {
        support::run(async {
            let disk = SimDisk::new();
            let mut log = support::open(&disk, Origin::New).expect("a new log");
            disk.fail_sync_at(disk.syncs() + which);
            let error = log
                .save_vote(&Vote::new(1, 1))
                .await
                .expect_err("its sync failed");
            assert!(error.to_string().contains("syncing vote file"), "{error}");
            assert_ended(&mut log).await;
        });
    }
}

#[test]
fn a_full_disk_is_terminal_and_nothing_acknowledged_is_lost() {
    support::run(async {
        let disk = SimDisk::new();
        let mut log = support::open(&disk, Origin::New).expect("a new log");
        disk.set_capacity(16 << 10);
        let mut acknowledged = Vec::new();
        loop {
            let entry = entry(1, acknowledged.len() as u64, 700);
            match support::append(&mut log, vec![entry.clone()]).await {
                Ok(()) => acknowledged.push(entry),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
                    break;
                }
            }
        }
        assert!(acknowledged.len() > 3, "some fitted");
        assert_ended(&mut log).await;
        let log = support::open(&disk.reboot(0), Origin::Existing).expect("it reopens with more room");
        assert_eq!(support::content(&log).await.entries, acknowledged);
    });
}

#[test]
fn a_second_opener_is_refused_until_the_first_closes() {
    support::run(async {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let seams = support::seams(RealDisk, Workers::Threads);
        let mut log = LogStore::open(dir.path(), &seams, support::options(Origin::New)).expect("a new log");
        support::append(&mut log, vec![entry(1, 0, 50)])
            .await
            .expect("an entry");
        let second = LogStore::open(dir.path(), &seams, support::options(Origin::Existing));
        assert!(
            matches!(second, Err(StorageError::Locked { .. })),
            "{:?}",
            second.err()
        );
        log.close().await.expect("it closes");
        let third = LogStore::open(dir.path(), &seams, support::options(Origin::Existing));
        assert_eq!(third.expect("free again").state().last_log_id, Some(log_id(1, 0)));
        assert!(
            support::append(&mut log, vec![entry(1, 1, 50)]).await.is_err(),
            "a closed log takes nothing"
        );
        log.close().await.expect("closing again does nothing");
    });
}

#[test]
fn real_files_survive_reopening_with_segments_made_ahead() {
    support::run(async {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let seams = support::seams(RealDisk, Workers::Threads);
        let mut expected = Vec::new();
        for round in 0..4 {
            let origin = if round == 0 { Origin::New } else { Origin::Existing };
            let mut log = LogStore::open(dir.path(), &seams, support::options(origin)).expect("it opens");
            assert_eq!(support::content(&log).await.entries, expected, "round {round}");
            let mut answers = Vec::new();
            for _ in 0..20 {
                let entry = entry(1 + round, expected.len() as u64, 300);
                answers.push(
                    support::submit(&mut log, vec![entry.clone()])
                        .await
                        .expect("submitted"),
                );
                expected.push(entry);
                let last = log
                    .try_get_log_entries(expected.len() as u64 - 1..)
                    .await
                    .expect("readable");
                assert_eq!(
                    last.first(),
                    expected.last(),
                    "readable as soon as append returns"
                );
            }
            for answer in answers {
                answer.await.expect("an answer").expect("durable");
            }
            log.close().await.expect("it closes");
        }
    });
}

#[test]
fn appends_that_wait_share_one_sync_and_a_vote_stays_in_its_place() {
    support::run(async {
        let disk = SimDisk::new();
        let mut log = support::open(&disk, Origin::New).expect("a new log");
        let before = disk.syncs();
        let mut answers = Vec::new();
        for index in 0..10 {
            answers.push(
                support::submit(&mut log, vec![entry(1, index, 20)])
                    .await
                    .expect("submitted"),
            );
        }
        assert_eq!(
            *log.synced().borrow(),
            None,
            "nothing is reported before its sync"
        );
        log.save_vote(&Vote::new(2, 1)).await.expect("a vote");
        assert_eq!(
            *log.synced().borrow(),
            Some(log_id(1, 9)),
            "what was asked before the vote is durable"
        );
        for answer in answers {
            answer.await.expect("an answer").expect("durable");
        }
        assert_eq!(
            disk.syncs() - before,
            1 + 2,
            "one sync for ten appends, two for the vote"
        );
    });
}

#[test]
fn committed_is_kept_with_the_next_frame_and_never_beyond_the_log() {
    support::run(async {
        let disk = SimDisk::new();
        let mut log = support::open(&disk, Origin::New).expect("a new log");
        support::append(&mut log, vec![entry(1, 0, 20), entry(1, 1, 20)])
            .await
            .expect("two entries");
        log.save_committed(Some(log_id(1, 1))).await.expect("saved");
        assert_eq!(log.read_committed().await.expect("readable"), Some(log_id(1, 1)));
        support::append(&mut log, vec![entry(1, 2, 20)])
            .await
            .expect("a third");
        let lost_the_rest = support::open(&disk.reboot(0), Origin::Existing).expect("it opens");
        assert_eq!(
            lost_the_rest.committed(),
            Some(log_id(1, 1)),
            "it went with the third entry"
        );
    });
}

#[test]
fn a_gap_is_refused_and_changes_nothing() {
    support::run(async {
        let mut log = support::open(&SimDisk::new(), Origin::New).expect("a new log");
        support::append(&mut log, vec![entry(1, 0, 5), entry(1, 1, 5)])
            .await
            .expect("two entries");
        let before = support::content(&log).await;
        for wrong in [
            vec![entry(1, 3, 5)],
            vec![entry(1, 1, 5)],
            vec![entry(1, 2, 5), entry(1, 4, 5)],
        ] {
            let error = support::append(&mut log, wrong).await.expect_err("a gap");
            assert!(error.to_string().contains("goes on at"), "{error}");
        }
        assert_eq!(support::content(&log).await, before);
        assert!(
            log.limited_get_log_entries(7, 9).await.is_err(),
            "what is not there is no empty answer"
        );
    });
}

#[test]
fn messages_to_followers_are_limited_by_count_and_bytes_from_memory_and_from_files() {
    support::run(async {
        for cache_bytes in [0, 64 << 20] {
            let seams = support::seams(SimDisk::new(), Workers::Tasks);
            let options = LogOptions {
                cache_bytes,
                segment_bytes: 8 << 20,
                ..support::options(Origin::New)
            };
            let mut log = LogStore::open(Path::new(DIR), &seams, options).expect("a new log");
            let small: Vec<_> = (0..400).map(|index| entry(1, index, 10)).collect();
            let large: Vec<_> = (400..410).map(|index| entry(1, index, GROUP_BYTES_MAX)).collect();
            let huge = entry(1, 410, READ_BYTES_MAX + 1);
            for entries in [small, large, vec![huge]] {
                support::append(&mut log, entries).await.expect("appended");
            }
            let read = log.limited_get_log_entries(0, 411).await.expect("readable");
            assert_eq!(read.len(), READ_ENTRIES_MAX);
            let read = log.limited_get_log_entries(400, 411).await.expect("readable");
            assert_eq!(
                read.len(),
                READ_BYTES_MAX / GROUP_BYTES_MAX - 1,
                "each has some bytes of its own"
            );
            let read = log.limited_get_log_entries(410, 411).await.expect("readable");
            assert_eq!(read.len(), 1, "the first entry always goes");
            let all = log.try_get_log_entries(..).await.expect("readable");
            assert_eq!(all.len(), 411);
        }
    });
}

#[test]
fn what_was_there_and_is_missing_is_damage_not_a_new_node() {
    support::run(async {
        let disk = SimDisk::new();
        let log = support::open(&disk, Origin::Existing);
        assert!(
            matches!(log, Err(StorageError::Missing { .. })),
            "no log at all: {:?}",
            log.err()
        );

        let mut log = support::open(&disk, Origin::New).expect("a new log");
        for index in 0..9 {
            support::append(&mut log, vec![entry(1, index, 700)])
                .await
                .expect("an entry");
            if index == 4 {
                log.purge(log_id(1, 2)).await.expect("purged");
            }
        }
        log.close().await.expect("it closes");
        drop(log);
        let mut missing = 0;
        for path in disk.files() {
            let disk = disk.copy();
            disk.remove(&path).expect("removed");
            let opened = support::open(&disk, Origin::Existing);
            let Err(error) = opened else {
                panic!("opened without {}", path.display())
            };
            assert!(
                matches!(error, StorageError::Missing { .. }),
                "without {}: {error}",
                path.display()
            );
            assert!(
                error.to_string().contains("member remove"),
                "says what to do: {error}"
            );
            missing += 1;
        }
        assert!(
            missing >= 4,
            "the vote and several segments were tried, not {missing} files"
        );
        let opened = support::open(&disk.copy(), Origin::New);
        assert!(
            matches!(opened, Err(StorageError::NotNew { .. })),
            "NODE lost: {:?}",
            opened.err()
        );
    });
}

#[test]
fn the_node_file_refuses_another_node_and_another_cluster() {
    let disk = SimDisk::new();
    let dir = Path::new(DIR);
    disk.create_dir_all(dir).expect("a directory");
    assert_eq!(
        NodeFile::load(&disk, dir).expect("readable"),
        None,
        "a new directory"
    );
    let mut node = NodeFile {
        node_id: 7,
        cluster_id: None,
        founded: false,
    };
    node.store(&disk, dir).expect("stored");
    node.check(dir, 7, Some([1; 16]))
        .expect("no cluster yet: any will do");
    node.join_cluster(&disk, dir, [1; 16], false).expect("enlisted");
    let enlisted = NodeFile::load(&disk, dir).expect("whole").expect("there");
    assert_eq!((enlisted.cluster_id, enlisted.founded), (Some([1; 16]), false));
    node.join_cluster(&disk, dir, [1; 16], true).expect("founded");
    node.join_cluster(&disk, dir, [1; 16], true)
        .expect("founded already");
    node.join_cluster(&disk, dir, [1; 16], false)
        .expect("enlisted again");
    let error = node
        .join_cluster(&disk, dir, [2; 16], true)
        .expect_err("another cluster");
    assert!(
        error.to_string().contains("02020202020202020202020202020202"),
        "{error}"
    );
    let found = NodeFile::load(&disk, dir).expect("readable").expect("there");
    assert_eq!(
        found,
        NodeFile {
            node_id: 7,
            cluster_id: Some([1; 16]),
            founded: true,
        }
    );
    let error = found.check(dir, 8, None).expect_err("another node");
    let text = error.to_string();
    assert!(
        text.contains("node id 7") && text.contains("node id 8") && text.contains("member add"),
        "{text}"
    );
}

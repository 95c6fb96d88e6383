//! Bits that flip in every byte of every file: the right state, or a refusal that says what to do.

use std::path::{Path, PathBuf};

use openraft::storage::RaftLogStorage;
use raft_store::{
    storage::{
        disk::Disk,
        disk_sim::SimDisk,
        error::StorageError,
        log::Origin,
        node_file::{NODE_FILE_NAME, NodeFile},
    },
    types::Vote,
};

use crate::support::{self, Content, DIR, entry, log_id};

/// A log of several segments with every kind of frame in it.
async fn build(disk: &SimDisk) -> raft_store::storage::log::LogStore {
    let mut log = support::open(disk, Origin::New).expect("a new log");
    log.save_vote(&Vote::new_committed(3, 1)).await.expect("a vote");
    for index in 0..4 {
        support::append(
            &mut log,
            vec![entry(1, index, 500), entry(1, index + 100, 0)][..1].to_vec(),
        )
        .await
        .expect("an entry");
    }
    log.truncate_after(Some(log_id(1, 2))).await.expect("truncated");
    support::append(&mut log, vec![entry(2, 3, 40), entry(2, 4, 40)])
        .await
        .expect("entries");
    log.purge(log_id(1, 0)).await.expect("purged");
    support::append(&mut log, vec![entry(3, 5, 900)])
        .await
        .expect("an entry");
    support::append(&mut log, vec![entry(3, 6, 90)])
        .await
        .expect("an entry");
    log
}

/// What opening gives; a refusal must name the file and say what to do.
async fn reopen(disk: &SimDisk, flipped: &Path) -> Option<Content> {
    match support::open(disk, Origin::Existing) {
        Ok(log) => {
            let content = support::content(&log).await;
            drop(log);
            // The writer ends here, and not after all the others.
            tokio::task::yield_now().await;
            Some(content)
        }
        Err(StorageError::Newer { .. }) => panic!("a flip must not look like a newer format"),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("member remove"), "{}: {text}", flipped.display());
            None
        }
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

/// Flips one bit in every byte of the files, and hands each outcome to `check`.
async fn flip_everywhere(
    disk: &SimDisk,
    which: impl Fn(&Path) -> bool,
    mut check: impl FnMut(&Path, usize, Option<Content>),
) {
    for path in disk.files().into_iter().filter(|path| which(path)) {
        let bytes = disk.bytes(&path).expect("a listed file").len();
        for offset in 0..bytes {
            let copy = disk.copy();
            copy.flip(&path, offset, 1 << (offset % 8));
            check(&path, offset, reopen(&copy, &path).await);
        }
    }
}

#[test]
fn after_a_clean_close_no_flipped_bit_loses_anything() {
    support::run(async {
        let disk = SimDisk::new();
        let log = build(&disk).await;
        let expected = support::content(&log).await;
        log.close().await.expect("it closes");
        drop(log);
        assert!(
            disk.files().len() >= 4,
            "a vote and several segments: {:?}",
            disk.files()
        );
        let (mut right, mut refused) = (0, 0);
        flip_everywhere(
            &disk,
            |_| true,
            |path, offset, outcome| match outcome {
                Some(found) => {
                    assert_eq!(found, expected, "flip in {} at {offset}", path.display());
                    right += 1;
                }
                None => refused += 1,
            },
        )
        .await;
        assert!(
            right > 1000 && refused > 1000,
            "both happen: {right} right, {refused} refused"
        );
    });
}

#[test]
fn after_a_kill_no_flipped_bit_loses_anything_either() {
    support::run(async {
        let disk = SimDisk::new();
        let log = build(&disk).await;
        let expected = support::content(&log).await;
        // A kill leaves the page cache: everything written, the mark after the last sync included.
        let killed = disk.reboot(1);
        flip_everywhere(&killed, is_segment, |path, offset, outcome| {
            if let Some(found) = outcome {
                assert_eq!(found, expected, "flip in {} at {offset}", path.display());
            }
        })
        .await;
    });
}

#[test]
fn after_a_power_cut_only_the_very_last_group_can_be_lost_to_a_flip() {
    support::run(async {
        let disk = SimDisk::new();
        let log = build(&disk).await;
        let expected = support::content(&log).await;
        // A power cut right after the last sync: the mark behind it never reached the disk.
        let cut = disk.reboot(0);
        let mut without_last_group = expected.clone();
        without_last_group.entries.pop();
        without_last_group.last = without_last_group.entries.last().map(|entry| entry.log_id);
        let mut lost = 0;
        flip_everywhere(&cut, is_segment, |path, offset, outcome| match outcome {
            Some(found) if found == without_last_group => lost += 1,
            Some(found) => assert_eq!(found, expected, "flip in {} at {offset}", path.display()),
            None => {}
        })
        .await;
        let group_bytes = (64 + 29usize + 90).next_multiple_of(8);
        assert!(
            lost > 0 && lost <= group_bytes,
            "the documented residue is one group, not {lost} bytes"
        );
    });
}

#[test]
fn a_damaged_vote_never_yields_an_older_one() {
    support::run(async {
        let disk = SimDisk::new();
        let mut log = support::open(&disk, Origin::New).expect("a new log");
        log.save_vote(&Vote::new(1, 1)).await.expect("a vote");
        log.save_vote(&Vote::new(2, 2)).await.expect("a newer vote");
        log.close().await.expect("it closes");
        drop(log);
        let path = PathBuf::from(DIR).join("log/VOTE");
        let vote = Some(Vote::new(2, 2));
        for offset in 0..40 {
            // One slot: the other one has it. Both: refused.
            let one = disk.copy();
            one.flip(&path, offset, 0x10);
            let log = support::open(&one, Origin::Existing).expect("the other slot is whole");
            assert_eq!(log.vote(), vote);
            drop(log);
            let both = disk.copy();
            both.flip(&path, offset, 0x10);
            both.flip(&path, 4096 + offset, 0x01);
            let Err(error) = support::open(&both, Origin::Existing) else {
                panic!("voted from a damaged file")
            };
            assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
        }
    });
}

#[test]
fn a_shortened_file_is_refused() {
    support::run(async {
        let disk = SimDisk::new();
        let log = build(&disk).await;
        let expected = support::content(&log).await;
        log.close().await.expect("it closes");
        drop(log);
        for path in disk.files() {
            let bytes = disk.bytes(&path).expect("a listed file").len();
            for keep in (0..bytes).step_by(37) {
                let copy = disk.copy();
                let file = copy
                    .open(&path, raft_store::storage::disk::OpenMode::Write)
                    .expect("opened");
                file.set_len(keep as u64).expect("shortened");
                drop(file);
                if let Some(found) = reopen(&copy, &path).await {
                    assert_eq!(found, expected, "{} cut to {keep}", path.display());
                }
            }
        }
    });
}

#[test]
fn every_flipped_byte_of_the_node_file_is_noticed() {
    let disk = SimDisk::new();
    let dir = Path::new(DIR);
    disk.create_dir_all(dir).expect("a directory");
    let node = NodeFile {
        node_id: 3,
        cluster_id: Some([9; 16]),
        founded: true,
    };
    node.store(&disk, dir).expect("stored");
    let path = dir.join(NODE_FILE_NAME);
    for offset in 0..disk.bytes(&path).expect("the file").len() {
        for bit in 0..8 {
            let copy = disk.copy();
            copy.flip(&path, offset, 1 << bit);
            let Err(error) = NodeFile::load(&copy, dir) else {
                panic!("byte {offset} bit {bit} not noticed")
            };
            assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
        }
    }
}

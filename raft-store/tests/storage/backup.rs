//! Backups: what they hold, what damage does, and what is made from them.

use std::{fs, path::Path};

use raft_store::storage::{
    backup::{self, BackupError, INDEX_GAP, Manifest},
    disk_sim::SimDisk,
    error::StorageError,
    open::{Base, StoreOptions},
};

use crate::{
    node::{NODE_ID, Node, options, real_seams, run, sim_seams},
    workload::{CLUSTER_ID, Workload},
};

/// The entry that is the last in every backup here.
const INDEX: u64 = 60;

/// Writes a backup of the workload's state at [`INDEX`] to `path`.
async fn save(workload: &Workload, path: &Path) -> Manifest {
    let mut node = Node::start(Path::new("/node"), &sim_seams(&SimDisk::new()), &options())
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    node.advance(workload, INDEX).await.expect("advancing");
    let taken = backup::take(&node.opened.shared, &node.opened.snapshots, NODE_ID).await;
    let taken = taken.expect("taking a backup");
    // Applying goes on while it is carried away, and it is no snapshot of the node.
    node.advance(workload, INDEX + 20).await.expect("advancing");
    assert!(node.opened.snapshots.current().is_none());
    let mut bytes = Vec::new();
    loop {
        let chunk = taken.chunk(bytes.len() as u64, 1_000).await.expect("reading");
        if chunk.is_empty() {
            break;
        }
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(bytes.len() as u64, taken.len());
    fs::write(path, bytes).expect("writing");
    taken.manifest
}

fn members(ids: &[u64]) -> Vec<(u64, String)> {
    ids.iter().map(|id| (*id, format!("127.0.0.1:{id}"))).collect()
}

#[test]
fn a_backup_says_what_it_is_and_is_what_it_says() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup");
        let workload = Workload::new(51, 120);
        let manifest = save(&workload, &file).await;
        let loaded = backup::load(&file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(loaded.manifest, manifest);
        assert!(loaded.sales_wrong().is_empty());
        assert_eq!(manifest.log_index, INDEX);
        assert_eq!(
            manifest.state_hash,
            format!("{:032x}", workload.digests[INDEX as usize])
        );
        assert_eq!(manifest.cluster_id, format!("{CLUSTER_ID:032x}"));
        // For people with nothing but a shell.
        let bytes = fs::read(&file).unwrap();
        let first: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').take(2).collect();
        assert_eq!(first[0], b"HOLDFAST BACKUP 1");
        assert!(
            std::str::from_utf8(first[1])
                .unwrap()
                .contains("\"log_index\":60")
        );
    });
}

#[test]
fn damage_and_cuts_are_refused_and_named() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup");
        save(&Workload::new(52, 120), &file).await;
        let whole = fs::read(&file).unwrap();
        let head_bytes = whole
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .nth(2)
            .unwrap()
            .0
            + 1;
        let refused = |bytes: &[u8], what: &str| {
            fs::write(&file, bytes).unwrap();
            match backup::load(&file) {
                Err(BackupError::Damaged { part, why, .. }) => (part, why),
                Err(error) => panic!("{what}: {error}"),
                Ok(_) => panic!("{what} went unnoticed"),
            }
        };
        let places = (0..head_bytes).chain((head_bytes..whole.len()).step_by(61));
        let mut rows_named = 0;
        for at in places {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            let (part, why) = refused(&damaged, &format!("a flipped bit in byte {at}"));
            let expected = if at < head_bytes { "manifest" } else { "snapshot" };
            assert_eq!(part, expected, "byte {at}: {why}");
            rows_named += usize::from(why.contains("row "));
        }
        assert!(rows_named > 0, "damage within a row is named by its row");
        for length in (0..whole.len()).step_by(977) {
            let (part, why) = refused(&whole[..length], &format!("a cut at {length}"));
            let expected = if length < head_bytes {
                "manifest"
            } else {
                "snapshot"
            };
            assert_eq!(part, expected, "cut at {length}: {why}");
            assert!(why.contains("cut off"), "{why}");
        }
        let longer = [&whole[..], b"x"].concat();
        assert!(refused(&longer, "a byte too many").1.contains("1 bytes follow"));
        fs::write(&file, &whole).unwrap();
        assert!(backup::load(&file).is_ok(), "whole again");
    });
}

#[test]
fn a_restored_directory_is_a_new_cluster_with_the_same_contents() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let (file, new) = (dir.path().join("backup"), dir.path().join("new"));
        let manifest = save(&Workload::new(53, 120), &file).await;
        let load = || backup::load(&file).unwrap_or_else(|error| panic!("{error}"));
        let highest = manifest.node_id_highest;
        let ids = [highest + 1, highest + 2];
        // What an interrupted restore left is no obstacle.
        fs::create_dir_all(dir.path().join("new.restoring/node-1")).unwrap();
        let restored = backup::restore(load(), &new, &members(&ids)).await;
        let restored = restored.unwrap_or_else(|error| panic!("{error}"));
        assert!(!dir.path().join("new.restoring").exists());
        assert_ne!(restored.cluster_id, manifest.cluster_id);
        assert_eq!(restored.incarnation, manifest.incarnation + 1);
        assert_eq!(restored.log_index, INDEX + INDEX_GAP);

        for (id, endpoint, data_dir) in &restored.nodes {
            let seams = real_seams(&data_dir.join("image"));
            let options = StoreOptions {
                node_id: *id,
                ..options()
            };
            // Twice: what openraft does with it the first time must be there the second.
            for _ in 0..2 {
                let node = Node::start(data_dir, &seams, &options).await;
                let node = node.unwrap_or_else(|error| panic!("{error}"));
                let opened = &node.opened;
                assert_ne!(opened.base, Base::Nothing);
                let digest = opened.shared.digest_at(restored.log_index).expect("known");
                assert_eq!(format!("{digest:032x}"), restored.state_hash);
                let (contents, log_time_ms, found) = opened.shared.read(|machine| {
                    assert!(machine.recount().are_sound());
                    (
                        machine.contents_digest(),
                        machine.log_time_ms(),
                        machine.founding(),
                    )
                });
                assert_eq!(format!("{contents:032x}"), manifest.contents_hash);
                assert_eq!(log_time_ms, manifest.log_time_ms);
                let cluster_id = found.expect("founded").cluster_id;
                assert_eq!(format!("{cluster_id:032x}"), restored.cluster_id);
                assert_eq!(opened.identity.cluster_id(), Some(cluster_id));
                let membership = opened.shared.membership();
                assert_eq!(membership.voter_ids().collect::<Vec<_>>(), ids);
                assert_eq!(membership.get_node(id).map(|node| &node.addr), Some(endpoint));
                assert_eq!(opened.shared.node_id_highest(), ids[1]);
                let vote = opened.log.vote().expect("beyond the state's term");
                assert!(vote.leader_id.term > manifest.term && !vote.committed);
                node.stop().await;
            }
            // It is that node's and no other's.
            let stranger = StoreOptions {
                node_id: id + 100,
                ..options
            };
            let refused = Node::start(data_dir, &seams, &stranger).await;
            assert!(matches!(refused, Err(StorageError::Foreign { .. })));
        }
    });
}

#[test]
fn a_restore_refuses_data_that_is_there_and_ids_that_were_used() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup");
        let manifest = save(&Workload::new(54, 120), &file).await;
        let load = || backup::load(&file).unwrap_or_else(|error| panic!("{error}"));
        let fresh = members(&[manifest.node_id_highest + 1]);

        let (full, mine) = (dir.path().join("full"), dir.path().join("full/mine"));
        fs::create_dir(&full).unwrap();
        fs::write(&mine, "precious").unwrap();
        let refused = backup::restore(load(), &full, &fresh).await;
        assert!(matches!(refused, Err(BackupError::NotEmpty { .. })));
        assert_eq!(fs::read_to_string(&mine).unwrap(), "precious");
        assert_eq!(fs::read_dir(&full).unwrap().count(), 1);

        let new = dir.path().join("new");
        for wrong in [
            vec![],
            members(&[manifest.node_id_highest]),
            [fresh.clone(), fresh.clone()].concat(),
            vec![(manifest.node_id_highest + 1, "nowhere".to_owned())],
        ] {
            let refused = backup::restore(load(), &new, &wrong).await;
            assert!(matches!(refused, Err(BackupError::Members(_))), "{wrong:?}");
            assert!(!new.exists());
        }
        // An empty directory is as good as none.
        fs::create_dir(&new).unwrap();
        let restored = backup::restore(load(), &new, &fresh).await;
        assert!(restored.is_ok(), "{:?}", restored.err());
        // A state can be restored again and again; the second time it is over its own data.
        let refused = backup::restore(load(), &restored.unwrap().nodes[0].2, &fresh).await;
        let Err(BackupError::NotEmpty { what, .. }) = refused else {
            panic!("a node's data was overwritten");
        };
        assert!(what.contains("holds the data of node"), "{what}");
    });
}

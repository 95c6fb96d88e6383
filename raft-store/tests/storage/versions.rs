//! What a newer machine wrote, seen by this one: refused by name and left as it is, never guessed, never half applied.

use std::path::Path;

use inventory_machine::codec::MACHINE_VERSION;
use openraft::{EntryPayload, storage::RaftLogStorage};
use raft_store::{
    storage::{disk_sim::SimDisk, error::StorageError},
    types::{BatchBytes, Entry},
};

use crate::{
    node::{Node, options, run_paused, sim_seams},
    workload::Workload,
};

const DIR: &str = "/node";

async fn start(disk: &SimDisk) -> Result<Node, StorageError> {
    Node::start(Path::new(DIR), &sim_seams(disk), &options()).await
}

/// The same entry, as if one of its commands had come with the next version.
fn newer(entry: &Entry) -> Entry {
    let EntryPayload::Normal(batch) = &entry.payload else {
        panic!("entry {} is no batch", entry.log_id);
    };
    let mut bytes = batch.0.to_vec();
    bytes[..2].copy_from_slice(&(MACHINE_VERSION + 1).to_le_bytes());
    Entry {
        payload: EntryPayload::Normal(BatchBytes(bytes.into())),
        ..entry.clone()
    }
}

#[test]
fn a_log_with_what_is_not_known_here_is_left_to_a_newer_program() {
    run_paused(async {
        let (workload, disk) = (Workload::new(61, 60), SimDisk::default());
        let mut node = start(&disk).await.unwrap();
        node.advance(&workload, 50).await.unwrap();
        // Not committed, perhaps never: but to lead with it would be to commit it.
        node.append(&[newer(&workload.entries[51])]).await.unwrap();
        node.stop().await;
        let refusal = start(&disk).await.err().expect("must be refused");
        assert!(matches!(refusal, StorageError::Newer { .. }), "{refusal}");
        let versions = format!(
            "machine version {}, this program knows up to {MACHINE_VERSION}",
            MACHINE_VERSION + 1
        );
        assert!(refusal.to_string().contains(&versions), "{refusal}");
    });
}

#[test]
fn what_was_cut_from_the_log_keeps_nobody_out() {
    run_paused(async {
        let (workload, disk) = (Workload::new(62, 60), SimDisk::default());
        let mut node = start(&disk).await.unwrap();
        node.advance(&workload, 50).await.unwrap();
        node.append(&[newer(&workload.entries[51])]).await.unwrap();
        let last = Some(workload.entries[50].log_id);
        node.opened.log.truncate_after(last).await.unwrap();
        node.stop().await;
        let mut node = start(&disk).await.expect("nothing newer is left");
        node.advance(&workload, workload.last()).await.unwrap();
        node.check(&workload).await;
        node.stop().await;
    });
}

#[test]
fn applying_ends_before_what_is_not_known_here() {
    run_paused(async {
        let (workload, disk) = (Workload::new(63, 60), SimDisk::default());
        let mut node = start(&disk).await.unwrap();
        node.advance(&workload, 50).await.unwrap();
        let mut entries = workload.entries[51..=56].to_vec();
        entries[3] = newer(&entries[3]);
        node.append(&entries).await.unwrap();
        let error = node.apply(&entries).await.unwrap_err().to_string();
        let wanted = format!(
            "log entry 54 cannot be applied: it needs machine version {}",
            MACHINE_VERSION + 1
        );
        assert!(
            error.contains(&wanted) && error.contains("start a newer Holdfast"),
            "{error}"
        );
        // What came before is whole, and can be read.
        assert_eq!(node.applied(), Some(53));
        let digest = node.opened.shared.read(|machine| machine.digest());
        assert_eq!(digest, workload.digests[53]);
        assert_eq!(*node.opened.shared.applied().borrow(), 53);
        node.stop().await;
    });
}

//! openraft itself on this storage: one node that writes, snapshots, purges, crashes and comes back.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use inventory_machine::codec::Batch;
use openraft::{
    BasicNode, Config, EntryPayload, OptionalSend, Raft, RaftNetworkFactory, RaftNetworkV2, ServerState,
    SnapshotPolicy,
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
    type_config::alias::SnapshotOf,
};
use raft_store::{
    storage::{
        disk_sim::SimDisk,
        open::{Base, open},
        snapshot::{SnapshotData, SnapshotStore},
        state::{SharedState, StateMachine},
    },
    types::{BatchBytes, TypeConfig, Vote},
};

use crate::{
    node::{NODE_ID, options, run_paused, sim_seams},
    workload::Workload,
};

const DIR: &str = "/node";

/// Nobody else is there.
struct Alone;

impl RaftNetworkFactory<TypeConfig> for Alone {
    type Network = Alone;
    async fn new_client(&mut self, _: u64, _: &BasicNode) -> Alone {
        Alone
    }
}

fn unreachable() -> Unreachable<TypeConfig> {
    Unreachable::new(&std::io::Error::from(std::io::ErrorKind::NotConnected))
}

impl RaftNetworkV2<TypeConfig> for Alone {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(unreachable().into())
    }
    async fn vote(
        &mut self,
        _: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(unreachable().into())
    }
    async fn full_snapshot(
        &mut self,
        _: Vote,
        _: SnapshotOf<TypeConfig, SnapshotData>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(unreachable().into())
    }
}

struct Running {
    raft: Raft<TypeConfig, StateMachine>,
    shared: SharedState,
    snapshots: SnapshotStore,
    base: Base,
}

async fn start(disk: &SimDisk) -> Running {
    let opened = open(Path::new(DIR), &sim_seams(disk), &options()).unwrap_or_else(|error| panic!("{error}"));
    let config = Config {
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    let config = Arc::new(config.validate().expect("valid settings"));
    let raft = Raft::new(NODE_ID, config, Alone, opened.log, opened.state_machine)
        .await
        .expect("raft");
    Running {
        raft,
        shared: opened.shared,
        snapshots: opened.snapshots,
        base: opened.base,
    }
}

/// Proposes batches, checks that each command is answered, and tells the last index.
async fn write(running: &Running, batches: &[BatchBytes]) -> u64 {
    let mut last = 0;
    for batch in batches {
        let answer = running
            .raft
            .client_write(batch.clone())
            .await
            .expect("committed")
            .data;
        let count = Batch::parse(&batch.0).expect("own batch").count;
        assert_eq!(answer.replies.len(), count as usize);
        last = answer.log_index;
        // An answer is only given once everybody can see what it speaks of.
        assert!(
            running
                .shared
                .applied_log_id()
                .is_some_and(|applied| applied.index() >= last)
        );
    }
    last
}

#[test]
fn raft_writes_snapshots_purges_crashes_and_comes_back() {
    run_paused(async {
        let workload = Workload::new(51, 90);
        let batches = workload.entries.iter().filter_map(|entry| match &entry.payload {
            EntryPayload::Normal(batch) => Some(batch.clone()),
            _ => None,
        });
        let batches: Vec<_> = batches.collect();
        let disk = SimDisk::new();
        let running = start(&disk).await;
        let alone = BTreeMap::from([(
            NODE_ID,
            BasicNode {
                addr: "here:1".into(),
            },
        )]);
        running.raft.initialize(alone).await.expect("a new cluster");
        let leads = |raft: &Raft<TypeConfig, StateMachine>| raft.wait(None);
        leads(&running.raft)
            .state(ServerState::Leader, "elected")
            .await
            .expect("elected");

        let mut taken = Vec::new();
        for part in batches[..60].chunks(20) {
            let last = write(&running, part).await;
            running.raft.trigger().snapshot().await.expect("triggered");
            let done = |metrics: &openraft::RaftMetrics<TypeConfig>| {
                metrics.snapshot.is_some_and(|snapshot| snapshot.index() >= last)
            };
            running
                .raft
                .wait(None)
                .metrics(done, "snapshot")
                .await
                .expect("snapshot");
            taken.push(last);
        }
        let upto = running.snapshots.purge_upto().expect("two snapshots");
        assert_eq!(upto.index(), taken[1]);
        running
            .raft
            .trigger()
            .purge_log(upto.index())
            .await
            .expect("triggered");
        running
            .raft
            .wait(None)
            .purged(Some(upto), "purged")
            .await
            .expect("purged");
        let last = write(&running, &batches[60..70]).await;
        let digest = running.shared.digest_at(last).expect("just applied");

        disk.crash();
        drop(running);
        let running = start(&disk.reboot(3)).await;
        assert_eq!(running.base, Base::Snapshot(taken[2]));
        leads(&running.raft)
            .state(ServerState::Leader, "elected again")
            .await
            .expect("elected again");
        running.shared.wait_applied(last).await;
        assert_eq!(
            running.shared.digest_at(last),
            Some(digest),
            "everything acknowledged is there"
        );
        let counts = running.shared.counts();
        assert!(counts.batches >= 10 && counts.commands >= counts.batches && counts.entries > counts.batches);
        write(&running, &batches[70..]).await;
        assert!(running.shared.read(|machine| machine.recount()).are_sound());
        running.raft.shutdown().await.expect("shut down");
    });
}

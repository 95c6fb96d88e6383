//! Knowing when this node leads and may propose.
//!
//! A new leader proposes only once the first entry of its own term is applied: then everything inherited
//! is applied too, its times included, so that no stamp can fall. The first leader ever also gives the
//! cluster its identity.

use fault_points::crash_point;
use inventory_machine::{
    Machine,
    codec::BatchEncoder,
    command::{Body, Command, Found, NOT_AFTER_MS_MAX},
};
use openraft::{async_runtime::watch::WatchReceiver, vote::RaftLeaderId};
use tokio::sync::watch;

use crate::{
    HoldfastRaft,
    batcher::{Door, Lead, LeadState},
    clock::NodeClock,
    network::Identity,
    runtime::random_u64,
    storage::state::SharedState,
    types::BatchBytes,
};

/// Follows raft's metrics and the applied state; tells door, clock and batcher. Ends with raft.
pub(super) async fn follow_lead(
    raft: HoldfastRaft,
    identity: Identity,
    shared: SharedState,
    clock: NodeClock,
    door: Door,
    lead: watch::Sender<Option<Lead>>,
) {
    let mut metrics = raft.metrics();
    let mut applied = shared.applied();
    loop {
        clock.lock().applied(super::applied_stamp(&shared));
        let now = ready_lead(&raft, &shared);
        let founded = shared.read(Machine::founding).is_some();
        match now {
            Some((leader, true)) if founded => {
                let at = clock.now();
                clock.lock().lead(leader.leader.term, at);
                lead.send_if_modified(|known| known.replace(leader) != Some(leader));
                door.set_lead(LeadState::Leading);
            }
            Some((leader, ready)) => {
                door.set_lead(LeadState::Starting);
                lead.send_if_modified(|known| known.take().is_some());
                if ready {
                    let at = clock.now();
                    clock.lock().lead(leader.leader.term, at);
                    found(&raft, &identity, &clock, leader).await;
                }
            }
            None => {
                door.set_lead(LeadState::Following);
                lead.send_if_modified(|known| known.take().is_some());
                clock.lock().follow();
            }
        }
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return },
            changed = applied.changed() => if changed.is_err() { return },
        }
    }
}

/// The term this node leads in, and whether an entry of it is applied.
fn ready_lead(raft: &HoldfastRaft, shared: &SharedState) -> Option<(Lead, bool)> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    if !metrics.state.is_leader() || !metrics.vote.committed {
        return None;
    }
    let leader = metrics.vote.leader_id.to_committed();
    drop(metrics);
    let ready = shared
        .applied_log_id()
        .is_some_and(|applied| *applied.committed_leader_id() == leader);
    Some((Lead { leader }, ready))
}

/// Proposes the cluster's identity, which its founders were enlisted for. Should two leaders do so, the
/// machine takes the first.
async fn found(raft: &HoldfastRaft, identity: &Identity, clock: &NodeClock, lead: Lead) {
    let Some(cluster_id) = identity.cluster_id() else {
        return tracing::error!("a leader that was never enlisted founds nothing");
    };
    // Stamped like any batch, so that a second proposal could not make time fall either.
    let Some(stamp) = clock.stamp(raft) else { return };
    let random = || u128::from(random_u64()) << 64 | u128::from(random_u64());
    let mut encoder = BatchEncoder::new();
    encoder.push(&Command {
        follows: false,
        principal: 0,
        key: random() | 1,
        not_after_ms: stamp.log_time_ms + NOT_AFTER_MS_MAX,
        body: Body::Found(Found {
            cluster_id,
            secret: random(),
            incarnation: 1,
        }),
    });
    let bytes = encoder.finish(stamp.log_time_ms, stamp.wall_time_ms);
    let (responder, receiver) = openraft::impls::OneshotResponder::<crate::types::TypeConfig, _>::new_pair();
    let request = raft
        .write(BatchBytes(bytes.into()))
        .with_leader(lead.leader)
        .responder(responder);
    if request.await.is_ok() {
        crash_point!("founding-proposed");
        // Whatever became of it shows in the applied state.
        let _ = receiver.await;
    }
}

//! What a node sees to beside serving: its identity, its log's length, its disk, and its own end.

use std::{path::PathBuf, sync::Arc, time::Duration};

use inventory_machine::Machine;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::{sync::watch, time::MissedTickBehavior};

use super::StopReason;
use crate::{
    HoldfastRaft,
    batcher::Door,
    membership::Removal,
    network::Identity,
    rehearsals::sales_without,
    storage::{disk::Disk, open::Failures, snapshot::SnapshotStore, state::SharedState},
    types::TypeConfig,
};

/// How often disk space and log length are looked at, in ms.
const LOOK_MS: u64 = 1_000;

/// The parts it looks after.
#[derive(Clone)]
pub(super) struct Keeper {
    pub raft: HoldfastRaft,
    pub shared: SharedState,
    pub identity: Identity,
    pub door: Door,
    pub snapshots: SnapshotStore,
    pub disk: Arc<dyn Disk>,
    pub data_dir: PathBuf,
    pub disk_reserve_bytes: u64,
    /// What is free, as last seen; `None`: not known.
    pub disk_free_bytes: watch::Sender<Option<u64>>,
}

impl Keeper {
    /// Looks around once a second, until dropped.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(Duration::from_millis(LOOK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.look_at_disk();
            self.purge_log().await;
            self.publish_metrics();
        }
    }

    /// Refuses new claims while the disk is nearly full.
    fn look_at_disk(&self) {
        let seen = self.disk.free_bytes(&self.data_dir);
        self.disk_free_bytes.send_replace(seen.as_ref().ok().copied());
        match seen {
            Ok(free_bytes) => {
                metrics::gauge!("holdfast_disk_free_bytes").set(free_bytes as f64);
                self.door
                    .set_disk_reserve_reached(free_bytes < self.disk_reserve_bytes);
            }
            Err(error) => tracing::warn!(%error, "free disk space is not known"),
        }
    }

    /// The log is needed from the older of the two verified snapshots on: not before.
    async fn purge_log(&self) {
        let Some(upto) = self.snapshots.purge_upto() else {
            return;
        };
        let purged = self
            .raft
            .metrics()
            .borrow_watched()
            .purged
            .map_or(0, |log_id| log_id.index);
        if upto.index > purged {
            // It fails only when raft has stopped, which is watched elsewhere.
            let _ = self.raft.trigger().purge_log(upto.index).await;
        }
    }

    fn publish_metrics(&self) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched().clone();
        metrics::gauge!("holdfast_raft_term").set(metrics.current_term as f64);
        metrics::gauge!("holdfast_raft_is_leader").set(if metrics.state.is_leader() { 1.0 } else { 0.0 });
        let applied = metrics.last_applied.map_or(0, |log_id| log_id.index);
        metrics::gauge!("holdfast_raft_applied_index").set(applied as f64);
        let last = metrics.last_log_index.unwrap_or(0);
        metrics::gauge!("holdfast_raft_last_log_index").set(last as f64);
        metrics::gauge!("holdfast_raft_leader_id").set(metrics.current_leader.unwrap_or(0) as f64);
        self.publish_lag(&metrics, last);
        for (lane, waiting) in ["claims", "settles"].into_iter().zip(self.door.waiting()) {
            metrics::gauge!("holdfast_queue_commands", "lane" => lane).set(waiting as f64);
        }
        let (sales, log_time_ms) = self.shared.read(|machine| {
            (
                sales_without(machine, None, SALES_PUBLISHED_MAX),
                machine.log_time_ms(),
            )
        });
        metrics::gauge!("holdfast_log_time_seconds").set(log_time_ms as f64 / 1_000.0);
        for sale in sales {
            for (state, units) in [
                ("total", sale.units_total),
                ("available", sale.units_available),
                ("held", sale.units_held),
                ("confirmed", sale.units_confirmed),
            ] {
                let labels = [("sale", sale.sale_id.clone()), ("state", state.to_owned())];
                metrics::gauge!("holdfast_units", &labels).set(f64::from(units));
            }
        }
    }

    /// How many entries each other member lacks, as a leader knows; nobody lags behind a node that does not
    /// lead.
    fn publish_lag(&self, metrics: &openraft::RaftMetrics<TypeConfig>, last: u64) {
        for (node_id, _) in metrics
            .membership_config
            .nodes()
            .filter(|(id, _)| **id != metrics.id)
        {
            let matched = metrics
                .replication
                .as_ref()
                .and_then(|replication| replication.get(node_id));
            let lag = matched.map_or(0, |matched| {
                last.saturating_sub(matched.as_ref().map_or(0, |log_id| log_id.index))
            });
            metrics::gauge!("holdfast_raft_lag_entries", "peer" => node_id.to_string()).set(lag as f64);
        }
    }

    /// Learns the cluster's identity when it is applied, and says why the node must end when it must.
    pub async fn watch_for_the_end(
        self,
        mut failures: Failures,
        mut removed: watch::Receiver<Option<Removal>>,
        stop: watch::Sender<Option<StopReason>>,
    ) {
        let mut applied = self.shared.applied();
        let mut raft = self.raft.metrics();
        let reason = loop {
            self.learn_identity();
            if let Err(error) = &raft.borrow_watched().running_state {
                break StopReason::Raft(error.to_string());
            }
            if removed.borrow_and_update().is_some() {
                break StopReason::Removed;
            }
            let founded = self.identity.cluster().founded;
            tokio::select! {
                changed = raft.changed() => if changed.is_err() {
                    break StopReason::Raft("it ended".to_owned());
                },
                Ok(()) = removed.changed() => {}
                error = failures.first() => break StopReason::Storage(error.to_string()),
                Ok(()) = applied.changed(), if !founded => {}
            }
        };
        super::end(&stop, reason);
    }

    fn learn_identity(&self) {
        if !self.identity.cluster().founded
            && let Some(founding) = self.shared.read(Machine::founding)
        {
            self.identity.founded(founding.cluster_id);
        }
    }
}

/// Most sales published as metrics: a time series each for four states.
pub(super) const SALES_PUBLISHED_MAX: usize = 100;

//! The exchange of clock reports: log time, wall clocks, the state's hash and the version of the machine, about once a
//! second, everybody with everybody.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::join_all;
use inventory_machine::codec::MACHINE_VERSION;
use openraft::async_runtime::watch::WatchReceiver;
use proto::internal::ClockReport;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

use super::{StopReason, comparison::Comparison};
use crate::{
    HoldfastRaft,
    clock::NodeClock,
    limits::CLOCK_EXCHANGE_MS,
    log_clock::{Stamp, WALL_OFFSET_REPORTED_MS},
    machine_versions::{self, MachineVersions},
    network::Peers,
    reads::Reads,
    service::raft::ClockExchange,
};

/// Both ends of the exchange.
#[derive(Clone)]
pub(super) struct Clocks {
    pub raft: HoldfastRaft,
    pub clock: NodeClock,
    pub reads: Reads,
    pub peers: Peers,
    pub comparison: Arc<Comparison>,
    pub versions: MachineVersions,
}

impl Clocks {
    /// Tells the other members the time and hears theirs, until dropped; ends the node when its state turns out
    /// to differ.
    pub async fn run(self, stop: watch::Sender<Option<StopReason>>) {
        let mut tick = tokio::time::interval(Duration::from_millis(CLOCK_EXCHANGE_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut off = false;
        let mut applied = self.reads.shared().applied();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                // The first voters are known: not a second later, or a young cluster's answers have no date.
                () = self.voters_known(&mut applied), if !self.has_voters() => {}
            }
            let membership = self.reads.shared().membership();
            let membership = membership.membership();
            self.clock.lock().set_voters(membership.voter_ids());
            let own = self.peers.identity().node_id();
            let others: Vec<_> = membership
                .nodes()
                .filter(|&(&id, _)| id != own)
                .map(|(&id, node)| (id, node.addr.clone()))
                .collect();
            join_all(
                others
                    .into_iter()
                    .map(|(id, endpoint)| self.exchange_with(id, endpoint)),
            )
            .await;
            self.report_offset(&mut off);
            let members: BTreeSet<u64> = membership.nodes().map(|(&id, _)| id).collect();
            self.versions.retain(&members);
            let voters = membership.voter_ids().collect();
            if let Some(reason) = self.comparison.judge(&members, &voters) {
                super::end(&stop, reason);
            }
        }
    }

    fn has_voters(&self) -> bool {
        self.reads.shared().membership().voter_ids().next().is_some()
    }

    async fn voters_known(&self, applied: &mut watch::Receiver<u64>) {
        while !self.has_voters() && applied.changed().await.is_ok() {}
    }

    async fn exchange_with(&self, id: u64, endpoint: String) {
        let asked_at = Instant::now();
        let deadline = Duration::from_millis(CLOCK_EXCHANGE_MS);
        // A peer that does not answer is the network's to report.
        if let Ok(theirs) = self
            .peers
            .exchange_clock(id, &endpoint, self.report(), deadline)
            .await
        {
            self.hear(&theirs);
            // Its answer is not older than our question, and what it says is as old as it says.
            let age = theirs.committed_age_ms.map(Duration::from_millis);
            if let Some(known_at) = age.and_then(|age| asked_at.checked_sub(age)) {
                self.reads.heard_leader(known_at, theirs.committed_index);
            }
        }
    }

    fn term(&self) -> u64 {
        self.raft.metrics().borrow_watched().current_term
    }

    fn hear(&self, report: &ClockReport) {
        self.comparison
            .hear(report.node_id, report.state_index, digest_of(report));
        self.versions.hear(
            report.node_id,
            machine_versions::from_wire(report.machine_version),
        );
        let now = self.clock.now();
        let term = self.term();
        let mut clock = self.clock.lock();
        clock.heard_wall(report.node_id, report.wall_ms, now);
        // An old leader that has not noticed yet must not tell the time.
        if report.leader && report.term >= term {
            let stamp = Stamp {
                log_time_ms: report.log_time_ms,
                wall_time_ms: report.wall_agreed_ms,
            };
            clock.heard_leader(stamp, now);
        }
    }

    fn report(&self) -> ClockReport {
        let stamp = self.clock.stamp(&self.raft);
        let now = self.clock.now();
        let newest = stamp.unwrap_or_else(|| self.clock.newest());
        let (state_index, state_digest) = self.comparison.report();
        // Before the committed index is looked at: that one may only be newer.
        let committed_age = self.reads.leading_age();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        ClockReport {
            node_id: self.peers.identity().node_id(),
            term: metrics.current_term,
            leader: stamp.is_some(),
            log_time_ms: newest.log_time_ms,
            wall_ms: now.wall_ms,
            wall_agreed_ms: newest.wall_time_ms,
            committed_index: metrics.local_committed.map_or(0, |log_id| log_id.index),
            state_index,
            state_digest_high: (state_digest >> 64) as u64,
            state_digest_low: state_digest as u64,
            // Rounded up: it is a bound.
            committed_age_ms: committed_age.map(|age| age.as_millis() as u64 + 1),
            machine_version: MACHINE_VERSION.into(),
        }
    }

    /// Says once that this machine's wall clock is off, and once that it is right again.
    fn report_offset(&self, off: &mut bool) {
        let now = self.clock.now();
        let offset_ms = self.clock.lock().own_offset_ms(now);
        metrics::gauge!("holdfast_wall_clock_offset_seconds").set(offset_ms as f64 / 1_000.0);
        let is_off = offset_ms.abs() > WALL_OFFSET_REPORTED_MS;
        if is_off && !*off {
            tracing::warn!(
                offset_ms,
                "this machine's wall clock is off; no sale opens or closes by it alone"
            );
        } else if *off && !is_off {
            tracing::info!(offset_ms, "this machine's wall clock is right again");
        }
        *off = is_off;
    }
}

/// The state's hash that a report tells.
fn digest_of(report: &ClockReport) -> u128 {
    u128::from(report.state_digest_high) << 64 | u128::from(report.state_digest_low)
}

impl ClockExchange for Clocks {
    fn exchange(&self, report: ClockReport) -> ClockReport {
        self.hear(&report);
        self.report()
    }
}

/// The exchange as the raft service takes it.
pub(super) fn exchange(clocks: &Clocks) -> Arc<dyn ClockExchange> {
    Arc::new(clocks.clone())
}

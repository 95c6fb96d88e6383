//! What is measured of the store, each on a fresh cluster, and checked against it afterwards.

mod bench;
mod callers;
mod checkout;
mod claims;
mod decrement;
mod expiry;
mod failover;
mod growth;
pub mod http;
mod http_connection;
mod http_pages;
mod many_sales;
mod paced;
mod peers;
mod reads;
mod restart;
mod retries;
mod second_wave;
mod settle;
mod soak;
mod taker;
mod watch;

use std::{path::Path, time::Duration};

use self::{
    bench::{Bench, spent},
    callers::Settling,
    claims::Works,
    peers::Peer,
};
pub use self::{
    callers::{BulkClaims, SingleClaims},
    growth::CLAIMS as GROWTH_CLAIMS,
    soak::MINUTES as SOAK_MINUTES,
};
use crate::{
    cluster::{Cluster, Shape},
    failure::Failure,
    load::Tally,
    report::{PEER_FIGURES, Run, id, limit_of},
};

/// Claims that a sale under measurement has room for, per second of the window: several times what any
/// machine has reached, so that it does not sell out by itself.
const UNITS_PER_SECOND: u64 = 4_000_000;

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Claims granted and refused, in bulk and one by one.
    Claims,
    /// The same over many sales.
    Sales,
    /// The same on a cluster of five.
    FiveNodes,
    /// The same with TLS both ways.
    Tls,
    /// The same keys again.
    Retries,
    /// Held claims made final.
    Confirm,
    /// Held claims given back.
    Release,
    /// Claims final at once.
    Decrement,
    /// A sale looked at.
    Reads,
    /// A sale's changes heard by many while it sells.
    Watch,
    /// Through one HTTP door.
    Http,
    /// Paid through one HTTP door.
    Checkout,
    /// The same, with a provider that fails.
    CheckoutFaults,
    /// The leader's death, and its handing over.
    Failover,
    /// A node started again on a million claims.
    Restart,
    /// A million holds that end.
    Expiry,
    /// Units that come back to a sale that is sold out.
    SecondWave,
    /// Other stores at the same work, and ours.
    Peers,
    /// One sale that grows to so many live claims.
    Growth { claims: u64 },
    /// A paced load for so long.
    Soak { minutes: u64 },
}

impl Scenario {
    /// All but the checkouts with faults, other stores, and what takes many minutes: growth and soak.
    pub const ALL: [Scenario; 16] = [
        Scenario::Claims,
        Scenario::Sales,
        Scenario::FiveNodes,
        Scenario::Tls,
        Scenario::Retries,
        Scenario::Confirm,
        Scenario::Release,
        Scenario::Decrement,
        Scenario::Reads,
        Scenario::Watch,
        Scenario::Http,
        Scenario::Checkout,
        Scenario::Failover,
        Scenario::Restart,
        Scenario::Expiry,
        Scenario::SecondWave,
    ];

    /// What it measures.
    pub fn figures(self) -> Vec<&'static str> {
        let works = |works: &Works| works.iter().map(|(id, _)| *id).collect();
        match self {
            Scenario::Claims => works(claims::USUAL),
            Scenario::Sales => works(claims::MANY_SALES),
            Scenario::FiveNodes => works(claims::FIVE_NODES),
            Scenario::Tls => works(claims::TLS),
            Scenario::Retries => vec![id::RETRIES_BULK],
            Scenario::Confirm => vec![id::CONFIRMS],
            Scenario::Release => vec![id::RELEASES],
            Scenario::Decrement => vec![id::DECREMENTS],
            Scenario::Reads => vec![id::READS, id::READS_LOCAL],
            Scenario::Watch => watch::figures(),
            Scenario::Http => vec![
                id::HTTP_GRANTS,
                id::HTTP_REFUSED,
                id::HTTP_PAGE,
                id::HTTP_PAGE_UNCHANGED,
            ],
            Scenario::Checkout => checkout::figures(),
            Scenario::CheckoutFaults => vec![id::FAULTS_ALL, id::FAULTS_LONGEST],
            Scenario::Failover => vec![id::FAILOVER, id::TRANSFER],
            Scenario::Restart => vec![
                id::RESTART_READY,
                id::RESTART_CAUGHT_UP,
                id::RESTART_READY_LOADED,
                id::RESTART_CAUGHT_UP_LOADED,
            ],
            Scenario::Expiry => vec![id::EXPIRY_BEFORE, id::EXPIRY_WAVE],
            Scenario::SecondWave => vec![id::WAVE_FIRST, id::WAVE_SECOND],
            Scenario::Peers => PEER_FIGURES.to_vec(),
            Scenario::Growth { .. } => growth::FIGURES.to_vec(),
            Scenario::Soak { .. } => [&soak::MIXED_FIGURES[..], &soak::STEADY_FIGURES].concat(),
        }
    }

    /// The cluster that it is measured on, when others are measured on the usual one.
    fn shape(self, usual: Shape) -> Shape {
        match self {
            Scenario::FiveNodes => Shape { nodes: 5, ..usual },
            Scenario::Tls => Shape { tls: true, ..usual },
            _ => usual,
        }
    }

    /// Figures of claims that this one's are shown beside, where this run has not measured them.
    fn unmeasured_beside(self, only: &[String], run: &Run) -> Vec<String> {
        let asked_for = self.figures().into_iter().filter(|id| wanted(only, id));
        let claims = Scenario::Claims.figures();
        let missing = asked_for
            .filter_map(limit_of)
            .filter(|id| claims.contains(id) && run.get(id).is_none());
        missing.map(str::to_owned).collect()
    }

    /// Measures it once on a cluster of its own: all its figures, or only those asked for. Ours beside other stores is
    /// measured anew after each of them, so that a slow minute slows both.
    ///
    /// # Errors
    /// The cluster fails, or has not what it told its callers.
    pub async fn measure(
        self,
        usual: Shape,
        place: &Path,
        window: Duration,
        only: &[String],
        run: &mut Run,
    ) -> Result<(), Failure> {
        let known = self.figures();
        if !only.is_empty() && !only.iter().any(|only| known.contains(&only.as_str())) {
            return Ok(());
        }
        if self != Scenario::Peers {
            let beside = self.unmeasured_beside(only, run);
            if self != Scenario::Claims && !beside.is_empty() {
                Scenario::Claims
                    .measure_cluster(usual, place, window, &beside, run)
                    .await?;
            }
            return self.measure_cluster(usual, place, window, only, run).await;
        }
        for peer in Peer::ALL {
            if peer.measure(place, window, only, run).await? {
                let ours = peers::ours(only);
                self.measure_cluster(usual, place, window, &ours, run).await?;
            }
        }
        Ok(())
    }

    async fn measure_cluster(
        self,
        usual: Shape,
        place: &Path,
        window: Duration,
        only: &[String],
        run: &mut Run,
    ) -> Result<(), Failure> {
        let cluster = Cluster::start(place, self.shape(usual)).await?;
        let mut bench = Bench {
            cluster,
            door: None,
            callers: Vec::new(),
            place,
            window,
            only,
            names: 0,
            run,
        };
        match self {
            Scenario::Claims | Scenario::Peers => claims::measure(&mut bench, claims::USUAL).await?,
            Scenario::Sales => claims::measure(&mut bench, claims::MANY_SALES).await?,
            Scenario::FiveNodes => claims::measure(&mut bench, claims::FIVE_NODES).await?,
            Scenario::Tls => claims::measure(&mut bench, claims::TLS).await?,
            Scenario::Retries => retries::measure(&mut bench).await?,
            Scenario::Confirm => settle::measure(&mut bench, Settling::Confirm).await?,
            Scenario::Release => settle::measure(&mut bench, Settling::Release).await?,
            Scenario::Decrement => decrement::measure(&mut bench).await?,
            Scenario::Reads => reads::measure(&mut bench).await?,
            Scenario::Watch => watch::measure(&mut bench).await?,
            Scenario::Http => http::measure(&mut bench).await?,
            Scenario::Checkout => checkout::measure(&mut bench).await?,
            Scenario::CheckoutFaults => checkout::measure_faults(&mut bench).await?,
            Scenario::Failover => failover::measure(&mut bench).await?,
            Scenario::Restart => restart::measure(&mut bench).await?,
            Scenario::Expiry => expiry::measure(&mut bench).await?,
            Scenario::SecondWave => second_wave::measure(&mut bench).await?,
            Scenario::Growth { claims } => growth::measure(&mut bench, claims).await?,
            Scenario::Soak { minutes } => soak::measure(&mut bench, minutes).await?,
        }
        bench.cluster.stop().await
    }
}

/// Whether this figure was asked for.
fn wanted(only: &[String], id: &str) -> bool {
    only.is_empty() || only.iter().any(|only| only == id)
}

/// Units of a sale that does not sell out within the window.
fn endless_units(window: Duration) -> u32 {
    let units = (window.as_secs() + 1) * UNITS_PER_SECOND;
    u32::try_from(units)
        .unwrap_or(u32::MAX)
        .min(inventory_machine::command::UNITS_MAX)
}

/// Fails unless this is all that was answered: the scenario measured what it says it measures.
fn nothing_but(answers: u64, tally: &Tally, doing: &str) -> Result<(), Failure> {
    if tally.answered() == answers {
        return Ok(());
    }
    Err(Failure::new(
        doing,
        format!("other answers than these were among them: {tally:?}"),
    ))
}

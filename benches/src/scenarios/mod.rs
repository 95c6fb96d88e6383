//! What is measured of the store, each on a fresh cluster, and checked against it afterwards.

mod callers;
mod checkout;
mod claims;
mod decrement;
mod expiry;
mod failover;
pub mod http;
mod http_connection;
mod memory;
mod paced;
mod peers;
mod reads;
mod restart;
mod retries;
mod settle;

use std::{path::Path, time::Duration};

use raft_store::limits::ENTRY_COMMANDS_MAX;

use self::{
    callers::{BULK_CALLERS, BulkClaims, Settling},
    peers::Peer,
};
use crate::{
    cluster::Cluster,
    failure::Failure,
    load::{Caller, Measured, Tally, drive, exhaust},
    names::Names,
    process::Process,
    procfs,
    report::{Figure, PEER_FIGURES, Processor, Run, id},
};

/// Claims that a sale under measurement has room for, per second of the window: several times what any
/// machine has reached, so that it does not sell out by itself.
const UNITS_PER_SECOND: u64 = 4_000_000;

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Claims granted and refused, in bulk and one by one.
    Claims,
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
    /// Memory per live claim.
    Memory,
    /// Other stores at the same work, and ours.
    Peers,
}

impl Scenario {
    /// All but the checkouts with faults, and other stores.
    pub const ALL: [Scenario; 12] = [
        Scenario::Claims,
        Scenario::Retries,
        Scenario::Confirm,
        Scenario::Release,
        Scenario::Decrement,
        Scenario::Reads,
        Scenario::Http,
        Scenario::Checkout,
        Scenario::Failover,
        Scenario::Restart,
        Scenario::Expiry,
        Scenario::Memory,
    ];

    /// What it measures.
    pub fn figures(self) -> &'static [&'static str] {
        match self {
            Scenario::Claims => &[
                id::CLAIMS_BULK,
                id::CLAIMS_64,
                id::CLAIMS_32_CLIENTS,
                id::CLAIMS_8_CLIENTS,
                id::CLAIMS_ONE,
                id::REFUSED_BULK,
                id::REFUSED_64,
            ],
            Scenario::Retries => &[id::RETRIES_BULK],
            Scenario::Confirm => &[id::CONFIRMS],
            Scenario::Release => &[id::RELEASES],
            Scenario::Decrement => &[id::DECREMENTS],
            Scenario::Reads => &[id::READS, id::READS_LOCAL],
            Scenario::Http => &[id::HTTP_GRANTS, id::HTTP_REFUSED],
            Scenario::Checkout => &[id::CHECKOUT_WRITES, id::CHECKOUT, id::CHECKOUT_OVERHEAD],
            Scenario::CheckoutFaults => &[id::FAULTS_ALL, id::FAULTS_LONGEST],
            Scenario::Failover => &[id::FAILOVER, id::TRANSFER],
            Scenario::Restart => &[
                id::RESTART_READY,
                id::RESTART_CAUGHT_UP,
                id::RESTART_READY_LOADED,
                id::RESTART_CAUGHT_UP_LOADED,
            ],
            Scenario::Expiry => &[id::EXPIRY_BEFORE, id::EXPIRY_WAVE],
            Scenario::Memory => &[id::MEMORY],
            Scenario::Peers => &PEER_FIGURES,
        }
    }

    /// Measures it once on a cluster of its own: all its figures, or only those asked for. Ours beside other stores is
    /// measured anew after each of them, so that a slow minute slows both.
    ///
    /// # Errors
    /// The cluster fails, or has not what it told its callers.
    pub async fn measure(
        self,
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
            return self.measure_cluster(place, window, only, run).await;
        }
        for peer in Peer::ALL {
            if peer.measure(place, window, only, run).await? {
                let ours = peers::ours(only);
                self.measure_cluster(place, window, &ours, run).await?;
            }
        }
        Ok(())
    }

    async fn measure_cluster(
        self,
        place: &Path,
        window: Duration,
        only: &[String],
        run: &mut Run,
    ) -> Result<(), Failure> {
        let cluster = Cluster::start(place).await?;
        let mut bench = Bench {
            cluster,
            door: None,
            place,
            window,
            only,
            names: 0,
            run,
        };
        match self {
            Scenario::Claims => claims::measure(&mut bench).await?,
            Scenario::Retries => retries::measure(&mut bench).await?,
            Scenario::Confirm => settle::measure(&mut bench, Settling::Confirm).await?,
            Scenario::Release => settle::measure(&mut bench, Settling::Release).await?,
            Scenario::Decrement => decrement::measure(&mut bench).await?,
            Scenario::Reads => reads::measure(&mut bench).await?,
            Scenario::Http => http::measure(&mut bench).await?,
            Scenario::Checkout => checkout::measure(&mut bench).await?,
            Scenario::CheckoutFaults => checkout::measure_faults(&mut bench).await?,
            Scenario::Failover => failover::measure(&mut bench).await?,
            Scenario::Restart => restart::measure(&mut bench).await?,
            Scenario::Expiry => expiry::measure(&mut bench).await?,
            Scenario::Memory => memory::measure(&mut bench).await?,
            Scenario::Peers => claims::measure(&mut bench).await?,
        }
        bench.cluster.stop().await
    }
}

/// One scenario at work.
struct Bench<'a> {
    cluster: Cluster,
    /// The HTTP door, where the scenario has one.
    door: Option<Process>,
    place: &'a Path,
    window: Duration,
    /// The figures asked for; empty: all.
    only: &'a [String],
    /// Sets of names handed out.
    names: u64,
    run: &'a mut Run,
}

impl Bench<'_> {
    /// Names that this cluster has not heard yet.
    fn names(&mut self) -> Names {
        self.names += 1;
        Names::new(self.names)
    }

    /// Whether this figure was asked for.
    fn wants(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == id)
    }

    /// Makes a sale that does not sell out within the window.
    async fn endless_sale(&self, sale_id: &str) -> Result<(), Failure> {
        let units = endless_units(self.window);
        self.cluster.create_sale(sale_id, units).await
    }

    /// Makes so many claims of one unit each, by users of their own.
    async fn fill(&mut self, sale_id: &str, claims: usize) -> Result<Tally, Failure> {
        const DOING: &str = "filling";
        let (client, names) = (self.cluster.client().clone(), self.names());
        let caller = |caller: usize| {
            // The division's rest goes to the first.
            let rest = if caller == 0 { claims % BULK_CALLERS } else { 0 };
            let names = names.of_caller(caller).take(claims / BULK_CALLERS + rest);
            BulkClaims::new(client.clone(), sale_id, names)
        };
        let (tally, _) = exhaust((0..BULK_CALLERS).map(caller).collect()).await;
        tally.all_answered(DOING)?;
        nothing_but(tally.granted, &tally, DOING)?;
        Ok(tally)
    }

    /// Lets callers call for a window, writes down operations per second, and gives the tally.
    async fn rate<C: Caller>(&mut self, id: &'static str, callers: Vec<C>) -> Result<Tally, Failure> {
        self.figure(id, callers, Measured::rate).await
    }

    /// Like [`Bench::rate`], but writes down the median latency in ms.
    async fn latency<C: Caller>(&mut self, id: &'static str, callers: Vec<C>) -> Result<Tally, Failure> {
        self.figure(id, callers, |measured| measured.latency_ms(0.50))
            .await
    }

    async fn figure<C: Caller>(
        &mut self,
        id: &'static str,
        callers: Vec<C>,
        value: impl Fn(&Measured) -> f64,
    ) -> Result<Tally, Failure> {
        // What the load before left to be written behind is not this load's to carry.
        self.cluster.settled().await?;
        let (index, before) = (self.cluster.applied_index().await?, self.processor_times()?);
        let (measured, tally) = drive(self.window, callers).await?;
        let processor = self.processor_since(&before, tally.answered())?;
        let entries = self.cluster.applied_index().await? - index;
        tally.all_answered(id)?;
        let figure = Figure {
            processor: Some(processor),
            per_entry: Some(tally.asked_of_the_log() as f64 / entries as f64)
                .filter(|&count| count > 0.0 && count <= ENTRY_COMMANDS_MAX as f64),
            ..measured.figure(value(&measured))
        };
        self.run.add(id, figure);
        Ok(tally)
    }

    /// What each of so many operations cost since then.
    fn processor_since(&self, before: &[Duration], operations: u64) -> Result<Processor, Failure> {
        Ok(spent(before, &self.processor_times()?, operations))
    }

    /// Processor time so far of this process, then of every node, then of the door if there is one.
    fn processor_times(&self) -> Result<Vec<Duration>, Failure> {
        let mut times = vec![procfs::processor_time(std::process::id())?];
        times.extend(self.cluster.processor_times()?);
        if let Some(door) = &self.door {
            times.push(procfs::processor_time(door.id()?)?);
        }
        Ok(times)
    }
}

/// Units of a sale that does not sell out within the window.
fn endless_units(window: Duration) -> u32 {
    let units = (window.as_secs() + 1) * UNITS_PER_SECOND;
    u32::try_from(units)
        .unwrap_or(u32::MAX)
        .min(inventory_machine::command::UNITS_MAX)
}

/// What each of so many operations cost between two looks at the time of this process, then of every server.
fn spent(before: &[Duration], after: &[Duration], operations: u64) -> Processor {
    let spent = after
        .iter()
        .zip(before)
        .map(|(after, before)| after.saturating_sub(*before));
    let mut spent_us = spent.map(|spent| spent.as_secs_f64() * 1e6 / operations as f64);
    Processor::new(spent_us.next().unwrap_or_default(), spent_us.collect())
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

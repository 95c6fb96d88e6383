//! What is measured of the store, each on a fresh cluster, and checked against it afterwards.

mod callers;
mod claims;
mod confirm;
mod http;
mod http_connection;
mod memory;
mod retries;

use std::{path::Path, time::Duration};

use crate::{
    cluster::Cluster,
    failure::Failure,
    load::{Caller, Tally, drive},
    names::Names,
    report::{Figure, Run},
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
    /// Through one HTTP door.
    Http,
    /// Memory per live claim.
    Memory,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Scenario; 5] = [
        Scenario::Claims,
        Scenario::Retries,
        Scenario::Confirm,
        Scenario::Http,
        Scenario::Memory,
    ];

    /// Measures it once on a cluster of its own.
    ///
    /// # Errors
    /// The cluster fails, or has not what it told its callers.
    pub async fn measure(self, place: &Path, window: Duration, run: &mut Run) -> Result<(), Failure> {
        let cluster = Cluster::start(place).await?;
        let mut bench = Bench {
            cluster,
            place,
            window,
            names: 0,
            run,
        };
        match self {
            Scenario::Claims => claims::measure(&mut bench).await?,
            Scenario::Retries => retries::measure(&mut bench).await?,
            Scenario::Confirm => confirm::measure(&mut bench).await?,
            Scenario::Http => http::measure(&mut bench).await?,
            Scenario::Memory => memory::measure(&mut bench).await?,
        }
        bench.cluster.stop().await
    }
}

/// One scenario at work.
struct Bench<'a> {
    cluster: Cluster,
    place: &'a Path,
    window: Duration,
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

    /// Makes a sale that does not sell out within the window.
    async fn endless_sale(&self, sale_id: &str) -> Result<(), Failure> {
        let units = (self.window.as_secs() + 1) * UNITS_PER_SECOND;
        let units = u32::try_from(units)
            .unwrap_or(u32::MAX)
            .min(inventory_machine::command::UNITS_MAX);
        self.cluster.create_sale(sale_id, units).await
    }

    /// Lets callers call for a window, writes down operations per second, and gives the tally.
    async fn rate<C: Caller>(
        &mut self,
        id: &'static str,
        callers: Vec<C>,
    ) -> Result<(Tally, Vec<C>), Failure> {
        let (measured, tally, callers) = drive(self.window, callers).await?;
        tally.all_answered(id)?;
        let (p50_ms, p99_ms) = (measured.latency_ms(0.50), measured.latency_ms(0.99));
        self.run.add(
            id,
            Figure {
                value: measured.rate(),
                p50_ms: Some(p50_ms),
                p99_ms: Some(p99_ms),
            },
        );
        Ok((tally, callers))
    }

    /// Like [`Bench::rate`], but writes down the median latency in ms.
    async fn latency<C: Caller>(&mut self, id: &'static str, callers: Vec<C>) -> Result<Tally, Failure> {
        let (measured, tally, _) = drive(self.window, callers).await?;
        tally.all_answered(id)?;
        let (p50_ms, p99_ms) = (measured.latency_ms(0.50), measured.latency_ms(0.99));
        self.run.add(
            id,
            Figure {
                value: p50_ms,
                p50_ms: Some(p50_ms),
                p99_ms: Some(p99_ms),
            },
        );
        Ok(tally)
    }
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

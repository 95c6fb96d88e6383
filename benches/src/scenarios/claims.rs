//! Claims: granted and refused, in bulk, by many single callers, by one, and by many processes; and the same work for
//! a cluster of another shape, or spread over many sales.

use client::Client;

use super::{
    Bench,
    callers::{BULK_CALLERS, BulkClaims, SingleClaims},
    many_sales, nothing_but,
};
use crate::{
    failure::Failure,
    load::{Caller, Measured, Tally, exhaust},
    names::{CallerNames, Names},
    report::id,
};

/// Single callers that share one client, where their number is not what is measured.
pub(super) const SINGLE_CALLERS: usize = 64;

/// Claims of a small batch.
const BATCH_CLAIMS: usize = 100;

/// Who claims, and how.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// Callers in bulk, which share a client.
    Bulk,
    /// So many single callers, which share a client.
    Callers(usize),
    /// One caller: what is measured is its latency.
    One,
    /// So many processes, each with a connection and one call of so many claims at a time: what only a leader that
    /// merges across connections can carry.
    Processes { count: usize, claims_per_call: usize },
    /// Single callers whose every next claim is in the next of so many sales.
    Sales(usize),
    /// In bulk, of a sale that is sold out: every refusal the leader's word, none from a cache.
    RefusedBulk,
    /// The same by so many single callers.
    RefusedCallers(usize),
}

/// What a figure is measured by.
pub(super) type Works = [(&'static str, Work)];

/// On a cluster of the usual shape.
pub(super) const USUAL: &Works = &[
    (id::CLAIMS_BULK, Work::Bulk),
    (id::CLAIMS_8, Work::Callers(8)),
    (id::CLAIMS_64, Work::Callers(SINGLE_CALLERS)),
    (id::CLAIMS_256, Work::Callers(256)),
    (id::CLAIMS_1024, Work::Callers(1_024)),
    (id::CLAIMS_ONE, Work::One),
    (id::CLAIMS_8_PROCESSES, processes(8, 1)),
    (id::CLAIMS_32_PROCESSES, processes(32, 1)),
    (id::CLAIMS_8_PROCESSES_BATCHES, processes(8, BATCH_CLAIMS)),
    (id::CLAIMS_32_PROCESSES_BATCHES, processes(32, BATCH_CLAIMS)),
    (id::REFUSED_BULK, Work::RefusedBulk),
    (id::REFUSED_64, Work::RefusedCallers(SINGLE_CALLERS)),
];

/// Over many sales.
pub(super) const MANY_SALES: &Works = &[
    (id::CLAIMS_100_SALES, Work::Sales(100)),
    (id::CLAIMS_10000_SALES, Work::Sales(10_000)),
];

/// On a cluster of five nodes.
pub(super) const FIVE_NODES: &Works = &[
    (id::FIVE_NODES_BULK, Work::Bulk),
    (id::FIVE_NODES_64, Work::Callers(SINGLE_CALLERS)),
    (id::FIVE_NODES_ONE, Work::One),
];

/// On a cluster that speaks TLS both ways.
pub(super) const TLS: &Works = &[
    (id::TLS_BULK, Work::Bulk),
    (id::TLS_64, Work::Callers(SINGLE_CALLERS)),
    (id::TLS_ONE, Work::One),
    (id::TLS_32_PROCESSES, processes(32, 1)),
    (id::TLS_REFUSED_BULK, Work::RefusedBulk),
];

const fn processes(count: usize, claims_per_call: usize) -> Work {
    Work::Processes {
        count,
        claims_per_call,
    }
}

pub(super) async fn measure(bench: &mut Bench<'_>, works: &Works) -> Result<(), Failure> {
    for &(id, work) in works {
        if bench.wants(id) {
            work.measure(bench, id).await?;
        }
    }
    Ok(())
}

impl Work {
    async fn measure(self, bench: &mut Bench<'_>, id: &'static str) -> Result<(), Failure> {
        let client = bench.cluster.client().clone();
        match self {
            Work::Bulk => {
                let callers = bulk(&client, id, bench.names());
                granted(bench, id, callers, Measured::rate).await
            }
            Work::Callers(count) => {
                let callers = SingleClaims::callers(count, &client, id, bench.names());
                granted(bench, id, callers, Measured::rate).await
            }
            Work::One => {
                let callers = SingleClaims::callers(1, &client, id, bench.names());
                granted(bench, id, callers, Measured::p50_ms).await
            }
            Work::Processes {
                count,
                claims_per_call,
            } => by_processes(bench, id, count, claims_per_call).await,
            Work::Sales(count) => many_sales::measure(bench, id, count).await,
            Work::RefusedBulk => {
                let callers = bulk(&client, id, bench.names());
                refused(bench, id, callers).await
            }
            Work::RefusedCallers(count) => {
                let callers = SingleClaims::callers(count, &client, id, bench.names());
                refused(bench, id, callers).await
            }
        }
    }
}

pub(super) fn bulk(client: &Client, sale_id: &str, names: Names) -> Vec<BulkClaims<CallerNames>> {
    (0..BULK_CALLERS)
        .map(|caller| BulkClaims::new(client.clone(), sale_id, names.of_caller(caller)))
        .collect()
}

async fn granted<C: Caller>(
    bench: &mut Bench<'_>,
    id: &'static str,
    callers: Vec<C>,
    value: fn(&Measured) -> f64,
) -> Result<(), Failure> {
    bench.endless_sale(id).await?;
    let tally = bench.figure(id, callers, value).await?;
    nothing_but(tally.granted, &tally, id)?;
    bench.cluster.check(id, &tally).await
}

/// Claims of single callers in a sale of their own, beside something else: the figure is their 99th percentile.
pub(super) async fn beside(bench: &mut Bench<'_>, id: &'static str) -> Result<Tally, Failure> {
    let callers = singles(bench, id);
    let tally = bench.figure(id, callers, p99_ms).await?;
    nothing_but(tally.granted, &tally, id)?;
    Ok(tally)
}

/// The same for as long as that something takes, and what it came to.
pub(super) async fn meanwhile<T>(
    bench: &mut Bench<'_>,
    id: &'static str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<(Tally, T), Failure> {
    let callers = singles(bench, id);
    let (tally, done) = bench.figure_meanwhile(id, callers, p99_ms, work).await?;
    nothing_but(tally.granted, &tally, id)?;
    Ok((tally, done))
}

fn singles(bench: &mut Bench<'_>, sale_id: &str) -> Vec<SingleClaims> {
    let names = bench.names();
    SingleClaims::callers(SINGLE_CALLERS, bench.cluster.client(), sale_id, names)
}

fn p99_ms(measured: &Measured) -> f64 {
    measured.latency_ms(0.99)
}

async fn by_processes(
    bench: &mut Bench<'_>,
    id: &'static str,
    count: usize,
    claims_per_call: usize,
) -> Result<(), Failure> {
    bench.endless_sale(id).await?;
    let tally = bench.rate_of_processes(id, count, claims_per_call).await?;
    nothing_but(tally.granted, &tally, id)?;
    bench.cluster.check(id, &tally).await
}

/// Refusals of a sale whose one unit is taken.
async fn refused<C: Caller>(bench: &mut Bench<'_>, id: &'static str, callers: Vec<C>) -> Result<(), Failure> {
    let names = bench.names();
    bench.cluster.create_sale(id, 1).await?;
    let winner = names.of_caller(0).take(1);
    let winner = BulkClaims::new(bench.cluster.client().clone(), id, winner);
    let (told, _) = exhaust(vec![winner]).await;
    told.all_answered("selling out")?;

    let tally = bench.rate(id, callers).await?;
    nothing_but(tally.sold_out, &tally, id)?;
    bench.cluster.check(id, &told).await
}

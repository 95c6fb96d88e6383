//! Claims: granted and refused, in bulk, by many single callers, by one, and by many clients.

use super::{
    Bench,
    callers::{BULK_CALLERS, BulkClaims, SingleClaims},
    nothing_but,
};
use crate::{
    failure::Failure,
    load::{Caller, Tally, exhaust},
    report::id,
};

/// Single callers that share one client.
pub(super) const SINGLE_CALLERS: usize = 64;

/// Clients with a connection each, one call at a time: what only a leader that merges across
/// connections can carry.
const LONE_CLIENTS: usize = 32;

/// Clients that send small batches, and the claims of one.
const BATCH_CLIENTS: usize = 8;
const BATCH_CLAIMS: usize = 100;

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<(), Failure> {
    granted(bench).await?;
    refused(bench).await
}

async fn granted(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let client = bench.cluster.client().clone();

    let names = bench.names();
    let bulk = |caller| BulkClaims::new(client.clone(), id::CLAIMS_BULK, names.of_caller(caller));
    measure_granted(bench, id::CLAIMS_BULK, (0..BULK_CALLERS).map(bulk).collect()).await?;

    let names = bench.names();
    let callers = SingleClaims::callers(SINGLE_CALLERS, &client, id::CLAIMS_64, names);
    measure_granted(bench, id::CLAIMS_64, callers).await?;

    let names = bench.names();
    let mut callers = Vec::new();
    for caller in 0..LONE_CLIENTS {
        let client = bench.cluster.another_client()?;
        callers.push(SingleClaims::new(
            client,
            id::CLAIMS_32_CLIENTS,
            names.of_caller(caller),
        ));
    }
    measure_granted(bench, id::CLAIMS_32_CLIENTS, callers).await?;

    let names = bench.names();
    let mut callers = Vec::new();
    for caller in 0..BATCH_CLIENTS {
        let client = bench.cluster.another_client()?;
        let claims = BulkClaims::new(client, id::CLAIMS_8_CLIENTS, names.of_caller(caller));
        callers.push(claims.by(BATCH_CLAIMS));
    }
    measure_granted(bench, id::CLAIMS_8_CLIENTS, callers).await?;

    if !bench.wants(id::CLAIMS_ONE) {
        return Ok(());
    }
    let names = bench.names();
    bench.endless_sale(id::CLAIMS_ONE).await?;
    let one = SingleClaims::callers(1, &client, id::CLAIMS_ONE, names);
    let tally = bench.latency(id::CLAIMS_ONE, one).await?;
    nothing_but(tally.granted, &tally, id::CLAIMS_ONE)?;
    bench.cluster.check(id::CLAIMS_ONE, &tally).await
}

async fn measure_granted<C: Caller>(
    bench: &mut Bench<'_>,
    id: &'static str,
    callers: Vec<C>,
) -> Result<(), Failure> {
    if !bench.wants(id) {
        return Ok(());
    }
    bench.endless_sale(id).await?;
    let tally = bench.rate(id, callers).await?;
    nothing_but(tally.granted, &tally, id)?;
    bench.cluster.check(id, &tally).await
}

/// Refusals of a sale whose one unit is taken: every one the leader's word, none from a cache.
async fn refused(bench: &mut Bench<'_>) -> Result<(), Failure> {
    const SALE: &str = "sold-out";
    let client = bench.cluster.client().clone();
    bench.cluster.create_sale(SALE, 1).await?;
    let winner = BulkClaims::new(client.clone(), SALE, bench.names().of_caller(0).take(1));
    let (told, _) = exhaust(vec![winner]).await;
    told.all_answered("selling out")?;

    let names = bench.names();
    let bulk = |caller| BulkClaims::new(client.clone(), SALE, names.of_caller(caller));
    let callers = (0..BULK_CALLERS).map(bulk).collect();
    measure_refused(bench, id::REFUSED_BULK, SALE, &told, callers).await?;

    let names = bench.names();
    let callers = SingleClaims::callers(SINGLE_CALLERS, &client, SALE, names);
    measure_refused(bench, id::REFUSED_64, SALE, &told, callers).await
}

async fn measure_refused<C: Caller>(
    bench: &mut Bench<'_>,
    id: &'static str,
    sale_id: &str,
    told: &Tally,
    callers: Vec<C>,
) -> Result<(), Failure> {
    if !bench.wants(id) {
        return Ok(());
    }
    let tally = bench.rate(id, callers).await?;
    nothing_but(tally.sold_out, &tally, id)?;
    bench.cluster.check(sale_id, told).await
}

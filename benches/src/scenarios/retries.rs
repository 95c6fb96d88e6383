//! Retries: claims whose answer was lost, asked for again with the same user and key.
//!
//! Each is looked up and answered with the claim that it made: no second effect.

use super::{
    Bench,
    callers::{BULK_CALLERS, BulkClaims},
    nothing_but,
};
use crate::{failure::Failure, load::exhaust, report::id};

/// Claims that each caller makes and then asks for over and over.
const CLAIMS_PER_CALLER: usize = 20_000;

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let sale_id = id::RETRIES_BULK;
    let (client, names) = (bench.cluster.client().clone(), bench.names());
    bench.endless_sale(sale_id).await?;
    let names_of = |caller| names.of_caller(caller).take(CLAIMS_PER_CALLER);

    let first = |caller| BulkClaims::new(client.clone(), sale_id, names_of(caller));
    let (told, _) = exhaust((0..BULK_CALLERS).map(first).collect()).await;
    told.all_answered("claiming first")?;
    nothing_but(told.granted, &told, "claiming first")?;

    let again = |caller| BulkClaims::new(client.clone(), sale_id, names_of(caller).cycle());
    let tally = bench
        .rate(sale_id, (0..BULK_CALLERS).map(again).collect())
        .await?;
    nothing_but(tally.repeated, &tally, sale_id)?;
    bench.cluster.check(sale_id, &told).await
}

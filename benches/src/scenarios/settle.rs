//! Confirms and releases: held claims made final, or given back, by many single callers, which the client gathers
//! into frames.

use super::{
    Bench,
    callers::{BULK_CALLERS, BulkClaims, Held, Settles, Settling},
    nothing_but,
};
use crate::{failure::Failure, load::exhaust, report::id};

/// Callers at one time.
const CALLERS: usize = 512;

/// Claims made ready for each second of the window; when they run out, the window ends there.
const CLAIMS_PER_SECOND: usize = 200_000;

pub(super) async fn measure(bench: &mut Bench<'_>, settling: Settling) -> Result<(), Failure> {
    let sale_id = match settling {
        Settling::Confirm => id::CONFIRMS,
        Settling::Release => id::RELEASES,
    };
    let (client, names) = (bench.cluster.client().clone(), bench.names());
    let claims = CLAIMS_PER_SECOND * (bench.window.as_secs() as usize + 1);
    bench.endless_sale(sale_id).await?;
    let fill = |caller| {
        let names = names.of_caller(caller).take(claims / BULK_CALLERS);
        BulkClaims::new(client.clone(), sale_id, names).keeping()
    };
    let (mut told, callers) = exhaust((0..BULK_CALLERS).map(fill).collect()).await;
    told.all_answered("claiming first")?;
    nothing_but(told.granted, &told, "claiming first")?;

    let held: Vec<Held> = callers.into_iter().flat_map(BulkClaims::into_kept).collect();
    let names = bench.names();
    let settle = |(caller, held): (usize, &[Held])| {
        Settles::new(client.clone(), settling, held.to_vec(), names.of_caller(caller))
    };
    let callers = held
        .chunks(held.len().div_ceil(CALLERS))
        .enumerate()
        .map(settle)
        .collect();
    let tally = bench.rate(sale_id, callers).await?;
    match settling {
        Settling::Confirm => nothing_but(tally.confirmed, &tally, sale_id)?,
        Settling::Release => nothing_but(tally.released, &tally, sale_id)?,
    }
    told.add(tally);
    bench.cluster.check(sale_id, &told).await
}

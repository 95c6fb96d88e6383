//! Decrements: claims that are final at once, by as many single callers as claim one by one.

use super::{Bench, callers::SingleClaims, claims::SINGLE_CALLERS, nothing_but};
use crate::{failure::Failure, report::id};

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let (client, names) = (bench.cluster.client().clone(), bench.names());
    bench.endless_sale(id::DECREMENTS).await?;
    let callers = SingleClaims::callers(SINGLE_CALLERS, &client, id::DECREMENTS, names);
    let callers = callers.into_iter().map(SingleClaims::at_once).collect();
    let told = bench.rate(id::DECREMENTS, callers).await?;
    nothing_but(told.decremented, &told, id::DECREMENTS)?;
    bench.cluster.check(id::DECREMENTS, &told).await
}

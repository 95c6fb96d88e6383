//! Memory: by how much a replica's process grows for each live claim.
//!
//! The slope between one million and four million held claims, so that what a node needs anyway, and
//! what it keeps in bounded buffers, does not count. Looked at when every replica has applied and
//! written all of them; the replica that grew most is the figure.

use super::Bench;
use crate::{
    failure::Failure,
    load::Tally,
    report::{Figure, id},
};

/// Live claims at the first and at the second look.
const LOOKS: [usize; 2] = [1_000_000, 4_000_000];

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let sale_id = id::MEMORY;
    bench.cluster.create_sale(sale_id, LOOKS[1] as u32).await?;
    let (mut told, mut resident) = (Tally::default(), Vec::new());
    let mut live = 0;
    for claims in LOOKS {
        told.add(bench.fill(sale_id, claims - live).await?);
        live = claims;
        bench.cluster.settled().await?;
        resident.push(bench.cluster.resident_bytes()?);
    }
    bench.cluster.check(sale_id, &told).await?;
    let grew = resident[0]
        .iter()
        .zip(&resident[1])
        .map(|(before, after)| after.saturating_sub(*before));
    let per_claim = grew.max().unwrap_or_default() as f64 / (LOOKS[1] - LOOKS[0]) as f64;
    bench.run.add(id::MEMORY, Figure::new(per_claim));
    Ok(())
}

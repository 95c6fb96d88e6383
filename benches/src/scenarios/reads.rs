//! Reads: one sale, looked at by many single callers while it sells.
//!
//! A light load of claims goes on, so that there is something to be late with. A linearizable read has to show
//! every claim that any caller had heard of before the read began; a local one may be late, but the units of
//! what it shows have to add up as well.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use client::{Client, Consistency, Sale};

use super::{Bench, nothing_but, paced::PacedClaims};
use crate::{
    failure::Failure,
    load::{Caller, Tally},
    report::id,
};

/// Callers at one time; all but one share a client.
const CALLERS: usize = 256;

/// Callers that claim meanwhile: some 100 claims a second cost the readers next to nothing.
const CLAIMERS: usize = 1;

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<(), Failure> {
    for (id, consistency) in [
        (id::READS, Consistency::Linearizable),
        (id::READS_LOCAL, Consistency::Local),
    ] {
        if !bench.wants(id) {
            continue;
        }
        bench.endless_sale(id).await?;
        // Every replica has the sale before anybody reads it there.
        bench.cluster.settled().await?;
        let selling = PacedClaims::start(CLAIMERS, &bench.cluster.another_client()?, id, bench.names());
        let reader = |client: &Client| Reads {
            client: client.clone(),
            sale_id: id,
            consistency,
            rank_max: selling.rank_max(),
        };
        // The last has a connection of its own: what it asks is answered at once, when lateness shows most.
        let clients = [bench.cluster.client().clone(), bench.cluster.another_client()?];
        let shared = std::iter::repeat_n(&clients[0], CALLERS - 1);
        let readers = shared.chain([&clients[1]]).map(reader).collect();
        let tally = bench.rate(id, readers).await?;
        nothing_but(tally.read, &tally, id)?;
        let told = selling.stop().await?;
        bench.cluster.check(id, &told).await?;
    }
    Ok(())
}

/// Reads a sale again and again.
struct Reads {
    client: Client,
    sale_id: &'static str,
    consistency: Consistency,
    /// The highest rank that somebody has heard of.
    rank_max: Arc<AtomicU32>,
}

impl Caller for Reads {
    async fn call(&mut self) -> Option<Tally> {
        let rank_before = match self.consistency {
            Consistency::Linearizable => self.rank_max.load(Ordering::Acquire),
            Consistency::Bounded(_) | Consistency::Local => 0,
        };
        let mut tally = Tally::default();
        match self.client.get_sale(self.sale_id, self.consistency).await {
            Ok((sale, _)) => match wrong(&sale, rank_before) {
                None => tally.read = 1,
                Some(why) => tally.fail(|| why),
            },
            Err(error) => tally.fail(|| format!("a read failed: {error}")),
        }
        Some(tally)
    }
}

/// What is wrong with a sale that was read when somebody had heard of this rank.
fn wrong(sale: &Sale, rank_before: u32) -> Option<String> {
    let units = [sale.units_available, sale.units_held, sale.units_confirmed].map(u64::from);
    let sum: u64 = units.iter().sum();
    if sum != u64::from(sale.units_total) {
        return Some(format!("a read showed {units:?} units of {}", sale.units_total));
    }
    (sale.claims_made < rank_before).then(|| {
        let made = sale.claims_made;
        format!("a read showed {made} claims, when {rank_before} had been acknowledged before it began")
    })
}

#[cfg(test)]
mod tests {
    use client::SaleStatus;

    use super::*;

    fn sale(units_available: u32, claims_made: u32) -> Sale {
        Sale {
            sale_id: "sale".to_owned(),
            name: String::new(),
            status: SaleStatus::Open,
            units_total: 10,
            units_available,
            units_held: claims_made,
            units_confirmed: 0,
            per_user_units_max: 1,
            hold_ms: 1_000,
            checkout_max_ms: 0,
            opens_at_ms: 0,
            closes_at_ms: 0,
            price_minor: 0,
            currency: String::new(),
            claims_made,
            claims_max: 10_000,
            changed_index: 0,
            first_deadline_ms: None,
            last_deadline_ms: None,
        }
    }

    #[test]
    fn a_read_is_wrong_when_it_is_late_or_does_not_add_up() {
        assert_eq!(wrong(&sale(7, 3), 3), None);
        assert_eq!(wrong(&sale(7, 3), 0), None, "newer than it had to be");
        assert!(wrong(&sale(7, 3), 4).is_some_and(|why| why.contains("3 claims, when 4")));
        assert!(wrong(&sale(8, 3), 3).is_some_and(|why| why.contains("of 10")));
    }
}

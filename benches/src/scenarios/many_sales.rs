//! Many sales at one time: single callers, each of whose claims is in another sale than the one before.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use client::Client;
use futures::{StreamExt, TryStreamExt, stream};

use super::{Bench, callers::SingleClaims, endless_units, nothing_but};
use crate::{
    failure::Failure,
    load::{Caller, Tally},
    names::CallerNames,
};

/// Callers, at the same place of the sales each.
const CALLERS: usize = 256;

/// Sales that are made at one time.
const MAKING_AT_ONCE: usize = 64;

/// How many times a sale's share of what may be claimed it has units for.
const UNITS_SLACK: u32 = 4;

pub(super) async fn measure(bench: &mut Bench<'_>, id: &'static str, count: usize) -> Result<(), Failure> {
    let units = endless_units(bench.window) / count as u32 * UNITS_SLACK;
    let sales: Arc<[Sale]> = (0..count).map(|number| Sale::new(id, number)).collect();
    stream::iter(sales.iter())
        .map(|sale| bench.cluster.create_sale(&sale.sale_id, units))
        .buffer_unordered(MAKING_AT_ONCE)
        .try_collect::<()>()
        .await?;

    let (client, names) = (bench.cluster.client().clone(), bench.names());
    let caller = |caller: usize| ClaimsInTurn {
        client: client.clone(),
        sales: sales.clone(),
        // Spread over all of them from the start.
        next: caller * count / CALLERS,
        names: names.of_caller(caller),
    };
    let tally = bench.rate(id, (0..CALLERS).map(caller).collect()).await?;
    nothing_but(tally.granted, &tally, id)?;
    let told: Vec<(String, Tally)> = sales.iter().map(Sale::told).collect();
    bench.cluster.check_all(&told).await
}

/// A sale, and how many claims of it were granted.
struct Sale {
    sale_id: String,
    granted: AtomicU64,
}

impl Sale {
    fn new(id: &str, number: usize) -> Sale {
        Sale {
            sale_id: format!("{id}-{number}"),
            granted: AtomicU64::new(0),
        }
    }

    fn told(&self) -> (String, Tally) {
        let told = Tally {
            granted: self.granted.load(Ordering::Relaxed),
            ..Tally::default()
        };
        (self.sale_id.clone(), told)
    }
}

/// Claims in one sale after the other.
struct ClaimsInTurn {
    client: Client,
    sales: Arc<[Sale]>,
    next: usize,
    names: CallerNames,
}

impl Caller for ClaimsInTurn {
    async fn call(&mut self) -> Option<Tally> {
        let sale = &self.sales[self.next];
        self.next = (self.next + 1) % self.sales.len();
        let name = self.names.next()?;
        let tally = SingleClaims::claim(&self.client, &sale.sale_id, name).await;
        sale.granted.fetch_add(tally.granted, Ordering::Relaxed);
        Some(tally)
    }
}

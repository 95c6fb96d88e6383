//! The books, counted again from the records: from time to time, and when an operator asks.
//!
//! Counted from a frozen state and in small steps with pauses between, so that nobody waits for it. What is
//! found goes into the metrics that the oversold alerts are about. Books that do not balance are an alarm and
//! not the node's end: the same commands made them on every replica, and people must decide. Records that are
//! not what commands made of them are this node's own, and end it ([`StopReason::Damaged`]).

use std::{collections::BTreeSet, time::Duration};

use inventory_machine::{Books, SaleBooks, command::NAMESPACE_DEFAULT};
use proto::is_rehearsal;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use super::{StopReason, housekeeping::SALES_PUBLISHED_MAX};
use crate::storage::state::SharedState;

/// How long is counted at a stretch: as long as a thread that serves may be away. By time and not by rows: a row is a
/// block of 47 claims, which takes 2 µs, or one remembered key, of which there are a dozen for every order.
const STEP_TIME: Duration = Duration::from_micros(200);

/// Rows counted between two looks at the clock: some 40 µs of the slowest.
const STEP_ROWS: usize = 20;

/// Pause between two stretches, in ms: a recount takes a twentieth of one core, and of ten million claims some
/// ten seconds.
const STEP_PAUSE_MS: u64 = 4;

/// Counts a node's books.
pub(super) struct Recounter {
    shared: SharedState,
    /// One count at a time: each keeps a frozen state, and what has changed since is there twice.
    turn: Mutex<()>,
}

impl Recounter {
    pub fn new(shared: SharedState) -> Recounter {
        Recounter {
            shared,
            turn: Mutex::new(()),
        }
    }

    /// The books of the state as it is now.
    pub async fn count(&self) -> Books {
        let _turn = self.turn.lock().await;
        let frozen = self.shared.freeze().0;
        let mut recount = frozen.recount();
        let mut begun = Instant::now();
        while recount.step(STEP_ROWS) {
            if begun.elapsed() >= STEP_TIME {
                sleep(Duration::from_millis(STEP_PAUSE_MS)).await;
                begun = Instant::now();
            }
        }
        recount.books()
    }

    /// Counts again and again; returns when the state is not what its commands made of it.
    pub async fn run(&self, every: Duration) -> StopReason {
        let mut known_wrong = BTreeSet::new();
        loop {
            sleep(every).await;
            let books = self.count().await;
            publish(&books);
            for sale in books.unbalanced() {
                if known_wrong.insert((sale.namespace, sale.sale_id.clone())) {
                    tracing::error!(?sale, "units are not conserved: pause this sale and look into it");
                }
            }
            if !books.is_intact() {
                return StopReason::Damaged {
                    log_index: books.applied_index,
                };
            }
        }
    }
}

fn publish(books: &Books) {
    metrics::counter!("holdfast_recounts_total").increment(1);
    metrics::gauge!("holdfast_unbalanced_sales").set(books.unbalanced().count() as f64);
    // A rehearsal that is wrong is a bug like any other.
    let shown = |sale: &&SaleBooks| {
        sale.namespace == NAMESPACE_DEFAULT && (!is_rehearsal(&sale.sale_id) || !sale.is_balanced())
    };
    let mut sales: Vec<&SaleBooks> = books.sales.iter().filter(shown).collect();
    // Those that must be seen first, then those that the counters are published of.
    sales.sort_by_key(|sale| (sale.is_balanced(), &sale.sale_id));
    for sale in sales.into_iter().take(SALES_PUBLISHED_MAX) {
        for (state, units) in [
            ("total", u64::from(sale.units_total)),
            ("available", u64::from(sale.units_available)),
            ("held", sale.held_counted),
            ("confirmed", sale.confirmed_counted),
        ] {
            let labels = [("sale", sale.sale_id.clone()), ("state", state.to_owned())];
            metrics::gauge!("holdfast_recounted_units", &labels).set(units as f64);
        }
    }
}

//! What operators see of checkouts. Labels are names of our own.

use std::time::Duration;

pub(crate) const ENDED: &str = "holdfast_checkouts_total";
pub(crate) const DURATION: &str = "holdfast_checkout_duration_seconds";
pub(crate) const IN_FLIGHT: &str = "holdfast_checkouts_in_flight";
pub(crate) const OPEN: &str = "holdfast_checkouts_open";
pub(crate) const OLDEST: &str = "holdfast_checkout_oldest_seconds";
pub(crate) const RESUMED: &str = "holdfast_checkouts_resumed_total";
pub(crate) const WEBHOOKS: &str = "holdfast_webhooks_total";
pub(crate) const BOOKS_REFUSED: &str = "holdfast_books_refused_total";

/// Says what they are; once a process.
pub(crate) fn describe() {
    metrics::describe_counter!(ENDED, "Checkouts and cancellations that ended, by outcome.");
    metrics::describe_histogram!(
        DURATION,
        metrics::Unit::Seconds,
        "Time from a checkout's beginning to its end or to the shopper's turn, while one process owned it."
    );
    metrics::describe_gauge!(IN_FLIGHT, "Checkouts that this process is working on.");
    metrics::describe_gauge!(OPEN, "Checkouts open in the store when this process last looked.");
    metrics::describe_gauge!(
        OLDEST,
        metrics::Unit::Seconds,
        "Age in log time, when this process last looked, of the oldest open checkout that does not wait for its shopper."
    );
    metrics::describe_counter!(
        RESUMED,
        "Checkouts taken over after their owner's lease had ended."
    );
    metrics::describe_counter!(WEBHOOKS, "Webhooks received, by what came of them.");
    metrics::describe_counter!(
        BOOKS_REFUSED,
        "Entries that an order or the ledger did not take: each needs somebody to look at it."
    );
}

/// A checkout or cancellation ended.
pub(crate) fn ended(outcome: &'static str, took: Duration) {
    metrics::counter!(ENDED, "outcome" => outcome).increment(1);
    metrics::histogram!(DURATION).record(took.as_secs_f64());
}

/// So many are open, the oldest that is not its shopper's turn for so long.
pub(crate) fn open(checkouts: u32, oldest: Duration) {
    metrics::gauge!(OPEN).set(f64::from(checkouts));
    metrics::gauge!(OLDEST).set(oldest.as_secs_f64());
}

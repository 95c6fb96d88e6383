//! What must be true of checkouts, whatever they run on: one file, one verdict each.
//!
//! [`Books`] are what a harness has read once nothing is under way any more: what the payment provider says, what the
//! store says, and what shoppers were told meanwhile. They are plain data, so that a simulation and a fleet of
//! processes are judged alike. A property looks at nothing else: it knows no fault, no bug and no step of a checkout.

mod books;
mod bought_is_bought;
mod charged_once;
mod key_acts_once;
mod ledger_agrees;
mod no_money_held;
mod order_is_paid;
mod orders_are_kept;
mod paid_has_order;
mod same_key_same_answer;
mod settles;
#[cfg(test)]
mod testing;

pub use books::{Answer, Asked, Attempt, Books, Claim, Order, OrderStage, Payment, Settling};

use super::{Finding, Look};

/// One property.
pub struct Property {
    /// Its name, as reports show it.
    pub name: &'static str,
    /// What it promises.
    pub promise: &'static str,
    check: fn(&Books, &mut Look),
}

/// All of them.
pub const PROPERTIES: &[Property] = &[
    Property {
        name: "charged-once",
        promise: "at most one charge for a claim, and never more than it costs",
        check: charged_once::check,
    },
    Property {
        name: "bought-is-bought",
        promise: "orders, charges and confirmed units are of the same claims",
        check: bought_is_bought::check,
    },
    Property {
        name: "paid-has-order",
        promise: "nobody has paid who has no order",
        check: paid_has_order::check,
    },
    Property {
        name: "order-is-paid",
        promise: "every order is paid, by its own payment and in full",
        check: order_is_paid::check,
    },
    Property {
        name: "no-money-held",
        promise: "no card is left with money held once all is settled",
        check: no_money_held::check,
    },
    Property {
        name: "orders-are-kept",
        promise: "an order that a shopper was told of is there, a cancellation likewise",
        check: orders_are_kept::check,
    },
    Property {
        name: "ledger-agrees",
        promise: "the ledger sums to zero and equals the provider's books, account by account",
        check: ledger_agrees::check,
    },
    Property {
        name: "checkouts-settle",
        promise: "every checkout is decided in time after the last fault",
        check: settles::check,
    },
    Property {
        name: "checkout-key-acts-once",
        promise: "an attempt asks a card once, and a key makes one order or one end",
        check: key_acts_once::check,
    },
    Property {
        name: "same-key-same-answer",
        promise: "a final answer to a key is the answer to that key for ever",
        check: same_key_same_answer::check,
    },
];

/// What every property says of these books.
pub fn check(books: &Books) -> Vec<Finding> {
    PROPERTIES
        .iter()
        .map(|property| {
            let mut look = Look::default();
            (property.check)(books, &mut look);
            look.finding(property.name)
        })
        .collect()
}

//! The verdict: what shoppers were told, joined with what every replica holds.
//!
//! A pure function. It believes no server counter: sums are recounted from the claims that each replica
//! lists, and what was promised is read from the shoppers' journal. The counters appear once, to be
//! compared with the recount. Each check can fail on its own; the tests make each one fail.

mod checks;
mod money;

use std::{collections::BTreeMap, time::Duration};

use client::{Claim, ClaimStatus, Receipt};

use super::journal::{Answer, Entry, Told};

/// All that is known after the sale.
pub struct Evidence {
    /// Units that were for sale.
    pub units: u64,
    /// Most units of one user.
    pub per_user_units_max: u64,
    /// Replicas that must have been heard.
    pub replicas_expected: usize,
    /// Every HTTP answer.
    pub journal: Vec<Entry>,
    /// What each replica holds.
    pub replicas: Vec<Replica>,
    /// Where the money is.
    pub money: Money,
    /// What was killed at random; then the sale need not sell out.
    pub chaos: Option<Chaos>,
}

/// What was killed at random, and how long checkouts were open meanwhile.
#[derive(Clone, Debug)]
pub struct Chaos {
    /// Nodes.
    pub nodes: Kills,
    /// Doors.
    pub doors: Kills,
    /// The provider.
    pub provider: Kills,
    /// Longest that a checkout was seen open.
    pub open_longest: Duration,
    /// Longest that it may be.
    pub open_max: Duration,
}

/// How often one kind of process was killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kills {
    /// Processes killed.
    pub processes: u32,
    /// Times that all of the kind were killed at once.
    pub all_at_once: u32,
}

/// Where the money is, after everything is decided.
pub struct Money {
    /// Price of a unit, in minor units.
    pub price_minor: u64,
    /// Every payment in the provider's books.
    pub charges: Vec<Charge>,
    /// Every order.
    pub orders: Vec<Order>,
    /// Every account of the ledger and what is on it, in minor units.
    pub accounts: Vec<(&'static str, i128)>,
}

/// One payment, as the provider knows it. Amounts are in minor units.
pub struct Charge {
    /// Its id.
    pub payment_id: String,
    /// The claim it is for.
    pub claim_id: String,
    /// Held on the card, neither charged nor given back.
    pub authorized_minor: u64,
    /// Charged.
    pub captured_minor: u64,
    /// Of that, given back.
    pub refunded_minor: u64,
}

impl Charge {
    /// What the shopper has paid in the end.
    pub fn net_minor(&self) -> u64 {
        self.captured_minor.saturating_sub(self.refunded_minor)
    }
}

/// One order.
pub struct Order {
    /// Its id.
    pub order_id: String,
    /// The claim it is for.
    pub claim_id: String,
    /// The payment it was paid with.
    pub payment_id: String,
    /// Units.
    pub quantity: u32,
    /// Paid, and not being cancelled.
    pub paid: bool,
}

/// What one replica holds.
pub struct Replica {
    /// Its node.
    pub node_id: u64,
    /// The log index that the hash is of; the sale has not changed since.
    pub log_index: u64,
    /// State hash there.
    pub digest: Vec<u8>,
    /// Units the replica says are available: the one number that no claim shows.
    pub units_available: u64,
    /// Units the replica says are held.
    pub units_held: u64,
    /// Units the replica says are confirmed.
    pub units_confirmed: u64,
    /// Every claim of the sale, as listed.
    pub claims: Vec<Claim>,
}

/// One question and its answer.
#[derive(Debug, PartialEq)]
pub struct Check {
    /// What is checked.
    pub name: &'static str,
    /// Whether it holds.
    pub passed: bool,
    /// The number found.
    pub found: String,
    /// One thing that is wrong, when it does not hold and there is one to show.
    pub example: Option<String>,
}

/// The whole verdict.
#[derive(Debug)]
pub struct Verdict {
    /// In the order they are shown.
    pub checks: Vec<Check>,
    /// Receipts of the first and the last unit sold.
    pub sold: Option<(Receipt, Receipt)>,
}

impl Verdict {
    /// Whether everything holds.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}

/// Names of the checks.
pub mod name {
    pub const HEARD: &str = "every replica was heard";
    pub const OVERSOLD: &str = "units oversold";
    pub const PER_USER: &str = "shoppers with more than their share";
    pub const PER_CLAIM: &str = "claims granted twice";
    pub const OWNER: &str = "claims of somebody else than was told";
    pub const GRANTS: &str = "acknowledged grants lost";
    pub const CONFIRMS: &str = "acknowledged confirms lost";
    pub const SOLD: &str = "units sold";
    pub const CONSERVED: &str = "available + held + sold = total";
    pub const ORDER: &str = "ranks and receipts unique, increasing";
    pub const EQUAL: &str = "replicas that list the same claims";
    pub const HASHES: &str = "replicas with the same state hash";
    pub const BOUGHT: &str = "orders = charges = units sold";
    pub const DOUBLE: &str = "double charges";
    pub const NO_ORDER: &str = "paid without an order";
    pub const NO_PAYMENT: &str = "orders without their payment";
    pub const HELD_MONEY: &str = "cards with money still on hold";
    pub const ORDERS: &str = "acknowledged orders lost";
    pub const LEDGER: &str = "ledger adds up to zero, and to the charges";
    pub const KILLED: &str = "every kind of process was killed";
    pub const STUCK: &str = "longest that a checkout was open";
}

/// Examines the evidence.
pub fn judge(evidence: &Evidence) -> Verdict {
    let told = Acknowledged::of(&evidence.journal);
    let listed = evidence
        .replicas
        .first()
        .map_or(&[][..], |replica| &replica.claims);
    let mut receipts: Vec<Receipt> = listed
        .iter()
        .filter(|claim| claim.status == ClaimStatus::Confirmed)
        .map(|claim| claim.receipt)
        .collect();
    receipts.sort_by_key(|receipt| (receipt.log_index, receipt.position));
    Verdict {
        checks: checks::all(evidence, &told),
        sold: receipts.first().copied().zip(receipts.last().copied()),
    }
}

/// What shoppers were told, by claim.
struct Acknowledged<'a> {
    /// Claim id → every (user, claim) it was told with.
    claims: BTreeMap<&'a str, Vec<(u32, &'a Told)>>,
    /// Claim ids told to be sold, to whom, and how many units.
    confirmed: BTreeMap<&'a str, (u32, u32)>,
    /// Orders told, and the claims they were told for.
    orders: BTreeMap<&'a str, &'a str>,
}

impl<'a> Acknowledged<'a> {
    fn of(journal: &'a [Entry]) -> Self {
        let mut told = Acknowledged {
            claims: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            orders: BTreeMap::new(),
        };
        for entry in journal {
            match &entry.answer {
                Answer::Claim(claim) => {
                    told.claims
                        .entry(&claim.claim_id)
                        .or_default()
                        .push((entry.user, claim));
                    if claim.status == "confirmed" {
                        told.confirmed
                            .insert(&claim.claim_id, (entry.user, claim.quantity));
                    }
                }
                Answer::Paid(order) => {
                    told.orders.insert(&order.order_id, &order.claim_id);
                    // Everybody claims one unit.
                    told.confirmed.insert(&order.claim_id, (entry.user, 1));
                }
                _ => {}
            }
        }
        told
    }
}

#[cfg(test)]
mod tests;

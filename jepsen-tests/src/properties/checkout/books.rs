//! What a harness reads of checkouts. Amounts are in minor units, times in ms.

use std::collections::BTreeMap;

use client::ClaimStatus;

/// Everything, once nothing is under way any more.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// The payment provider's: every payment there is, also those that came to nothing.
    pub payments: Vec<Payment>,
    /// The store's orders.
    pub orders: Vec<Order>,
    /// The store's claims, of every sale that can be paid for.
    pub claims: Vec<Claim>,
    /// Attempts that ended without an order, as the store has them.
    pub attempts: Vec<Attempt>,
    /// The ledger's balance of each account, by currency and account.
    pub balances: BTreeMap<(String, String), i128>,
    /// What shoppers were told, in the order in which they heard it.
    pub answers: Vec<Answer>,
    /// How it came to rest.
    pub settling: Settling,
}

/// A payment, as the provider has it.
#[derive(Clone, Debug, Default)]
pub struct Payment {
    /// The provider's id.
    pub payment_id: String,
    /// What it is for.
    pub claim_id: String,
    /// Of which attempt.
    pub attempt: String,
    /// Upper case, ISO 4217.
    pub currency: String,
    /// How often a card was asked, in vain or not.
    pub charges: usize,
    /// Held on a card.
    pub authorized_minor: u64,
    /// Taken from it.
    pub captured_minor: u64,
    /// Of that, given back, or about to be.
    pub refunded_minor: u64,
    /// Of that, taken back by a bank.
    pub disputed_minor: u64,
}

impl Payment {
    /// What the shopper has paid in the end.
    pub fn kept_minor(&self) -> u64 {
        self.captured_minor.saturating_sub(self.refunded_minor)
    }
}

/// How far an order has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderStage {
    /// Paid and sold.
    Paid,
    /// Its money is back, or on its way; its unit is not yet.
    Cancelling,
    /// Both are back.
    Cancelled,
}

/// An order of the store's.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its id.
    pub order_id: String,
    /// Of which claim.
    pub claim_id: String,
    /// Paid with which payment.
    pub payment_id: String,
    /// Units.
    pub quantity: u32,
    /// All of it.
    pub amount_minor: u64,
    /// Upper case, ISO 4217.
    pub currency: String,
    /// How far it has come.
    pub stage: OrderStage,
}

/// A claim of the store's.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its id.
    pub claim_id: String,
    /// How it ended.
    pub status: ClaimStatus,
    /// Units.
    pub quantity: u32,
    /// What all of it costs.
    pub amount_minor: u64,
    /// Somebody has confirmed it without a checkout, and need not have paid.
    pub confirmed_unpaid: bool,
}

/// An attempt that ended without an order.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Of which claim.
    pub claim_id: String,
    /// Its number, from one.
    pub attempt: u32,
    /// The caller's key.
    pub key: String,
    /// How it ended, in a word.
    pub ending: String,
    /// Whether that is the answer to its key for good.
    pub is_final: bool,
}

/// What a shopper asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// To pay for a claim.
    Pay,
    /// To cancel an order.
    Cancel,
}

/// What a shopper was told.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Who.
    pub user: String,
    /// What he had asked for.
    pub asked: Asked,
    /// Of which claim.
    pub claim_id: String,
    /// Under which key.
    pub key: String,
    /// The HTTP status.
    pub status: u16,
    /// Whether such an answer is the last word on its key.
    pub is_final: bool,
    /// The order it tells of.
    pub order_id: Option<String>,
    /// Kind of the problem it tells of, and the provider's word.
    pub problem: Option<String>,
}

/// How it came to rest.
#[derive(Clone, Debug, Default)]
pub struct Settling {
    /// How long after the last fault no checkout was open any more; none: some still were when it was given up.
    pub took_ms: Option<u64>,
    /// How long it may take.
    pub took_ms_max: u64,
    /// Checkouts and events that were left, in words.
    pub left: Vec<String>,
}

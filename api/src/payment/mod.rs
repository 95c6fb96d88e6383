//! Payment: the port to whoever moves the money, and what stands behind it.
//!
//! [`PaymentProvider`] is all that the checkout knows of a provider. A payment is *created* unconfirmed
//! (no money moves, but now it has an id that can be journalled), *confirmed* (the amount is reserved on
//! the card), and *captured* (the amount is charged) or *cancelled* (the reservation is given back).
//!
//! - **At most one effect per [`ProviderKey`]**: the provider remembers it, errors included, for at
//!   least [`PROVIDER_KEY_REMEMBERED`]. Later the same key may act again: retrieve first.
//! - **An error says what is known.** [`PaymentError`] separates *no* (declined, refused), *not done by
//!   this call* (unavailable) and *maybe done* (unknown). Nothing else may be concluded from it.
//! - An unknown `create` is harmless: what may exist is unconfirmed, and without its id nobody ever
//!   confirms it. An unknown confirm, capture or cancel is settled by [`retrieve`](PaymentProvider::retrieve).
//! - Card data never comes here: only tokens for payment methods do.
//!
//! Left out: searching a provider for our payments. Stripe's search lags behind its writes, so not
//! finding a payment there proves nothing; repeating `create` with its key does.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub mod breaker;
mod error;
pub mod money;
mod signature;
pub mod simulator;
pub mod stripe;
pub mod webhook;

pub use breaker::{BreakerOptions, GuardOptions, Guarded};
pub use error::{Doubt, PaymentError, Unavailability};
pub use money::{Currency, Money, MoneyError};
/// What secrets are kept in: never printed, wiped when dropped.
pub use secrecy::SecretString;
pub use signature::{SIGNATURE_TOLERANCE, SignatureCheck, SignatureError};

/// How long a provider surely remembers a key: Stripe promises at least 24 hours.
pub const PROVIDER_KEY_REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest key a provider takes, in bytes: Stripe's limit.
pub const PROVIDER_KEY_BYTES_MAX: usize = 255;

/// What a call does to a payment; the last part of its key and the label of its metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Makes it, unconfirmed.
    Create,
    /// Reserves the amount.
    Confirm,
    /// Charges it.
    Capture,
    /// Gives the reservation back.
    Cancel,
    /// Gives the money back.
    Refund,
    /// Only looks.
    Retrieve,
}

impl Call {
    /// In keys, labels and logs.
    pub fn name(self) -> &'static str {
        match self {
            Call::Create => "create",
            Call::Confirm => "confirm",
            Call::Capture => "capture",
            Call::Cancel => "cancel",
            Call::Refund => "refund",
            Call::Retrieve => "retrieve",
        }
    }
}

/// The provider's idempotency key: the same effect at most once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProviderKey(String);

impl ProviderKey {
    /// `c_….a1.capture`: claim, attempt and call. The attempt grows only after a definite outcome,
    /// because a provider repeats a decline under its key.
    ///
    /// # Panics
    /// Beyond [`PROVIDER_KEY_BYTES_MAX`], or with other than visible ASCII: claim ids are neither.
    pub fn new(claim_id: &str, attempt: u32, call: Call) -> Self {
        ProviderKey::checked(format!("{claim_id}.a{attempt}.{}", call.name()))
    }

    /// `c_….a1.refund.N`: for payments that are given back in parts, each with its own number.
    ///
    /// # Panics
    /// As [`ProviderKey::new`].
    pub fn part(claim_id: &str, attempt: u32, call: Call, number: u32) -> Self {
        ProviderKey::checked(format!("{claim_id}.a{attempt}.{}.{number}", call.name()))
    }

    fn checked(key: String) -> Self {
        assert!(
            key.len() <= PROVIDER_KEY_BYTES_MAX,
            "provider key too long: {key}"
        );
        assert!(
            key.bytes().all(|byte| byte.is_ascii_graphic()),
            "provider key: {key}"
        );
        ProviderKey(key)
    }

    /// As it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProviderKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Where a payment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// Created without a card, or the card was declined: nothing is reserved.
    RequiresPaymentMethod,
    /// Created: nothing is reserved.
    RequiresConfirmation,
    /// The shopper must act (3-D Secure) at [`Payment::next_action_url`].
    RequiresAction,
    /// The provider is at it: ask again.
    Processing,
    /// Reserved, not charged.
    RequiresCapture,
    /// Given up for good; nothing is reserved.
    Canceled,
    /// Charged.
    Succeeded,
    /// One that this version does not know: decide nothing on it, ask again.
    Other,
}

/// A payment, as the provider last showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The provider's id.
    pub id: String,
    /// Where it is.
    pub status: PaymentStatus,
    /// What it is for.
    pub amount: Money,
    /// Reserved and not yet charged, minor units.
    pub amount_capturable_minor: u64,
    /// Charged, minor units.
    pub amount_received_minor: u64,
    /// Given back, minor units, where the answer says so.
    pub amount_refunded_minor: Option<u64>,
    /// Where the shopper goes on, while he must act.
    pub next_action_url: Option<String>,
    /// Why the last attempt with a card failed.
    pub decline: Option<Decline>,
    /// Its latest charge.
    pub charge_id: Option<String>,
    /// Our claim, from the metadata that we gave it.
    pub reference: Option<String>,
    /// Our attempt, likewise.
    pub attempt: Option<u32>,
}

/// Why a card was declined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decline {
    /// `card_declined`, `expired_card`, …
    pub code: String,
    /// The issuer's word, where there is one: `insufficient_funds`, …
    pub decline_code: Option<String>,
    /// For the shopper.
    pub message: String,
}

/// Where a refund is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// Taken on; the money is on its way.
    Pending,
    /// Someone must act first.
    RequiresAction,
    /// Given back.
    Succeeded,
    /// Not given back; the money is ours again.
    Failed,
    /// Given up before it left.
    Canceled,
    /// One that this version does not know.
    Other,
}

/// Money given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// The provider's id.
    pub id: String,
    /// Where it is.
    pub status: RefundStatus,
    /// How much.
    pub amount: Money,
    /// Of which payment.
    pub payment_id: Option<String>,
    /// Of which charge.
    pub charge_id: Option<String>,
}

/// A payment to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPayment {
    /// How much.
    pub amount: Money,
    /// Token of the shopper's payment method: never a card number.
    pub payment_method: String,
    /// Our claim; comes back in every answer and every webhook.
    pub reference: String,
    /// Our attempt; likewise.
    pub attempt: u32,
    /// The order it will become, where that has an id already.
    pub order_id: Option<String>,
}

/// Whether calls reach a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// They do.
    Closed,
    /// One call at a time tries whether they would.
    HalfOpen,
    /// They are refused, so that it can recover.
    Open,
}

/// Whoever moves the money. Every call ends by its deadline.
pub trait PaymentProvider: Send + Sync + 'static {
    /// Whether calls are let through; `None` where nothing stands before the provider.
    fn breaker(&self) -> Option<BreakerState> {
        None
    }

    /// Creates a payment with manual capture, unconfirmed: no money moves.
    fn create<'a>(
        &'a self,
        new: &'a NewPayment,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Payment, PaymentError>>;

    /// Reserves the amount. The answer may require the shopper to act, who then comes back to
    /// `return_url`. (The URL belongs here and not to `create`: Stripe takes it only with a confirmation.)
    fn confirm<'a>(
        &'a self,
        payment_id: &'a str,
        return_url: Option<&'a str>,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Payment, PaymentError>>;

    /// Charges what is reserved, all of it.
    fn capture<'a>(
        &'a self,
        payment_id: &'a str,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Payment, PaymentError>>;

    /// Gives the reservation back; of a payment that was not charged.
    fn cancel<'a>(
        &'a self,
        payment_id: &'a str,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Payment, PaymentError>>;

    /// Gives money back: this amount, or all that is left.
    fn refund<'a>(
        &'a self,
        payment_id: &'a str,
        amount: Option<Money>,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Refund, PaymentError>>;

    /// Looks. Here `Unknown` only means that nothing was seen.
    fn retrieve<'a>(
        &'a self,
        payment_id: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Payment, PaymentError>>;

    /// Looks at a refund; as [`retrieve`](PaymentProvider::retrieve).
    fn retrieve_refund<'a>(
        &'a self,
        refund_id: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Refund, PaymentError>>;

    /// Whether calls are being refused unseen just now, and for how long still: ask before beginning a
    /// checkout. Providers without a breaker never do.
    fn refusing(&self) -> Option<Duration> {
        None
    }
}

/// Longest token of a payment method, in bytes: Stripe promises at most 255.
const PAYMENT_METHOD_BYTES_MAX: usize = 255;

/// Whether this can be a token for a payment method. Digits alone are not: a card number must neither be
/// sent on nor kept nor logged.
pub fn is_payment_method_token(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=PAYMENT_METHOD_BYTES_MAX).contains(&text.len())
        && text.bytes().all(plain)
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// A provider to share between tasks.
pub type SharedProvider = Arc<dyn PaymentProvider>;

/// Chooses this process's cryptography, where nobody has. HTTP clients as they are built here cannot be made
/// without, not even for plain HTTP.
pub fn use_ring() {
    // Whoever came first is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_claim_attempt_and_call() {
        assert_eq!(
            ProviderKey::new("c_7f", 1, Call::Create).as_str(),
            "c_7f.a1.create"
        );
        assert_eq!(
            ProviderKey::part("c_7f", 2, Call::Refund, 3).as_str(),
            "c_7f.a2.refund.3"
        );
    }

    #[test]
    #[should_panic(expected = "provider key")]
    fn a_key_that_no_header_can_carry_is_our_mistake() {
        ProviderKey::new("c 7f", 1, Call::Create);
    }

    #[test]
    fn a_card_number_is_no_token() {
        for token in ["pm_card_visa", "pm_1NqG", "card_1a", "tok-x"] {
            assert!(is_payment_method_token(token), "{token}");
        }
        for other in [
            "",
            "4242424242424242",
            "4242-4242-4242-4242",
            "4242 4242",
            "pm_1&confirm=true",
            "pm_ä",
        ] {
            assert!(!is_payment_method_token(other), "{other}");
        }
        assert!(!is_payment_method_token(&"p".repeat(256)));
    }
}

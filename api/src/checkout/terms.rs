//! The words of a checkout: where it stands, what it does, what comes of that, how it ends.
//!
//! Plain data; what follows from what is `saga`'s. Those that are kept in journals are never renamed.

use client::ClaimStatus;
use fault_points::planted;
use serde::{Deserialize, Serialize};

use super::journal::Refunded;
use crate::orders::Order;

/// Where a checkout stands: what is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// Make sure that its number is its own.
    Begin,
    /// Extend the hold, once.
    Extend,
    /// Create the payment, unconfirmed.
    Create,
    /// Confirm it: the provider asks the bank.
    Authorize,
    /// The shopper is with his bank.
    AwaitShopper,
    /// Make the claim final.
    Confirm,
    /// Take the money.
    Capture,
    /// Write order and ledger.
    Record,
    /// Undo a confirmed claim.
    Return,
    /// Undo an authorization.
    Void,
    /// Undo a capture that could not be voided any more.
    Refund,
    /// Write down what became of it.
    Close,
    /// An order is being cancelled: give the money back.
    OrderRefund,
    /// Give the unit back.
    OrderReturn,
    /// Write that down.
    OrderRecord,
    /// Nothing is left to be done.
    Done,
}

/// What has to be found out before going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Nothing.
    #[default]
    Nothing,
    /// How the payment stands.
    Payment,
    /// Whether the claim is still held.
    Claim,
}

/// What the provider refused, in its words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) decline_code: Option<String>,
    pub(crate) message: String,
}

/// How a checkout ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    /// There is an order.
    Paid,
    /// The bank said no; the hold is kept.
    Declined(Refusal),
    /// The provider refused the request as such; the hold is kept.
    Refused(Refusal),
    /// The hold ended first; whatever was authorized is voided.
    HoldGone,
    /// Somebody else confirmed the claim; whatever was authorized is voided.
    ConfirmedElsewhere,
    /// Somebody else has begun to settle this claim; nothing was asked of the provider.
    BegunElsewhere,
    /// The provider is not to be reached; nothing was charged, the hold is kept.
    ProviderUnavailable {
        /// When it may be worth trying again.
        retry_after_ms: u64,
    },
    /// Authorized, but the money could not be taken: the unit went back.
    CaptureFailed(Refusal),
    /// The provider's payment is not what was asked for: voided.
    Mismatch(Refusal),
    /// Another attempt came first; nothing was done.
    Superseded,
    /// The order is cancelled and refunded.
    Cancelled,
    /// The provider refused the refund: the order stands.
    CancelRefused(Refusal),
}

impl Ending {
    /// Whether the same key is answered by it for good; otherwise the key may be used again.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(
            self,
            Ending::BegunElsewhere
                | Ending::ProviderUnavailable { .. }
                | Ending::Superseded
                | Ending::CancelRefused(_)
        )
    }

    /// The provider's words, where it was the provider who ended it.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Ending::Declined(refusal)
            | Ending::Refused(refusal)
            | Ending::CaptureFailed(refusal)
            | Ending::Mismatch(refusal)
            | Ending::CancelRefused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Name in metrics and answers.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Ending::Paid => "paid",
            Ending::Declined(_) => "declined",
            Ending::Refused(_) => "refused",
            Ending::HoldGone => "hold-gone",
            Ending::ConfirmedElsewhere => "confirmed-elsewhere",
            Ending::BegunElsewhere => "begun-elsewhere",
            Ending::ProviderUnavailable { .. } => "provider-unavailable",
            Ending::CaptureFailed(_) => "capture-failed",
            Ending::Mismatch(_) => "mismatch",
            Ending::Superseded => "superseded",
            Ending::Cancelled => "cancelled",
            Ending::CancelRefused(_) => "cancel-refused",
        }
    }
}

/// One thing to do in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Read whether there is an order, and the version of the closed record.
    CheckTurn,
    /// Extend the hold.
    Extend,
    /// Read the claim.
    LookAtClaim,
    /// Create the payment.
    Create,
    /// Confirm the payment.
    Authorize,
    /// Read the payment.
    Retrieve,
    /// Confirm the claim.
    ConfirmClaim,
    /// Capture the payment.
    Capture,
    /// Cancel the claim.
    CancelClaim,
    /// Cancel the payment.
    Void,
    /// Refund the payment, all that is left of it.
    Refund,
    /// Write order and ledger.
    RecordPaid,
    /// Write the closed record, and the ledger where money was held.
    Close,
    /// Write the cancelled order and the ledger.
    RecordCancelled,
}

impl Effect {
    /// Whether the journal must be saved as it is, under the lease, before this is done: where an owner
    /// whose lease is over must not act, or a successor must know that it may have been done.
    pub(crate) fn is_guarded(self) -> bool {
        match self {
            Effect::Authorize => !planted!("charge-before-journal"),
            Effect::ConfirmClaim
            | Effect::CancelClaim
            | Effect::Void
            | Effect::Refund
            | Effect::RecordPaid
            | Effect::Close => true,
            // Reads; effects that charge nobody and are found again under the same key; and what was
            // decided and saved with the step before: capture with `ConfirmClaim`, the cancelled order
            // with `CancelClaim`.
            Effect::CheckTurn
            | Effect::Extend
            | Effect::LookAtClaim
            | Effect::Create
            | Effect::Retrieve
            | Effect::Capture
            | Effect::RecordCancelled => false,
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This.
    Do(Effect),
    /// Save the journal and give the lease back: the shopper has something to do elsewhere.
    Park,
    /// Let the journal end.
    Finish,
}

/// How a payment stands, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PaymentState {
    /// Nobody has confirmed it.
    Unconfirmed,
    /// The shopper has to go there.
    ActionRequired {
        /// Where.
        url: Option<String>,
    },
    /// The bank thinks.
    Processing,
    /// The money is held for us.
    Authorized,
    /// The money is ours.
    Captured {
        /// All of it has gone back.
        refunded: bool,
    },
    /// The bank said no.
    Declined(Refusal),
    /// It is over.
    Canceled,
}

/// What came of an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// `CheckTurn`: what became of the attempts before.
    Turn {
        /// The closed record's version; zero: there is none.
        closed_version: u64,
        /// There is an order.
        ordered: bool,
    },
    /// `Extend`: done, now or before under the same key.
    Extended {
        /// The claim's new token.
        claim_token: u64,
        /// End of the hold, log time.
        hold_until_ms: u64,
    },
    /// `ConfirmClaim`, `CancelClaim`: done, now or before under the same key.
    Settled,
    /// The claim as it is: `LookAtClaim`, and every step on a claim that is refused because its status is
    /// not the one that was needed.
    Claim(ClaimStatus),
    /// `ConfirmClaim`, `CancelClaim`, `Extend`: the token is not the claim's any more.
    StaleToken,
    /// `Create`: done.
    Created {
        /// The provider's id.
        payment_id: String,
    },
    /// The payment as it is now.
    Payment(PaymentState),
    /// Before the claim is confirmed: the payment is not the one that was asked for.
    Mismatch(Refusal),
    /// The provider refused the request; this request did nothing.
    Refused(Refusal),
    /// `Refund`: accepted.
    Refunded(Refunded),
    /// `RecordPaid`: there is this order; `None`: one that does not take what was said of it.
    Ordered(Option<Box<Order>>),
    /// `Close`, `RecordCancelled`: written.
    Written,
    /// Certainly not done, for now.
    NotNow {
        /// When it may be worth trying again.
        retry_after_ms: u64,
    },
    /// The provider failed at it once and will repeat that under this key for good. Whether it was done
    /// is not known; what is known is that this key will not do it any more.
    Stuck,
    /// It may or may not have been done.
    Unknown,
}

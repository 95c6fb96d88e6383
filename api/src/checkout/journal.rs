//! The record of one attempt to pay for a claim, kept in the store while money may be in motion.
//!
//! - `checkout/open/{claim_id}` is the [`Journal`]: written before the effect that it announces, by the
//!   owner of its lease alone. It exists exactly as long as something is left to be done, so listing
//!   that prefix finds every checkout whose owner may have died.
//! - `checkout/closed/{claim_id}` is the [`Closed`] record: what became of the attempts that ended
//!   without an order, under which of the caller's keys, and the claim's token once its hold was
//!   extended. An attempt names the version it continues, so two attempts never share a number.
//! - A checkout that succeeds leaves its order, which lives elsewhere.
//!
//! Both are JSON with a format number: an operator can read them, and a newer process an older one's.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::terms::{Doubt, Ending, Refusal, Stage};
use crate::orders::Granted;

/// Prefix of the journals of checkouts in progress.
pub(crate) const OPEN_PREFIX: &str = "checkout/open/";

/// Prefix of the records of attempts that ended without an order.
const CLOSED_PREFIX: &str = "checkout/closed/";

/// Format of both documents. Raised when a reader of the old one would misunderstand the new one.
pub(crate) const FORMAT: u32 = 1;

/// Attempts to pay for one claim: enough for somebody who tries all his cards, too few to try out
/// stolen ones.
pub(crate) const ATTEMPTS_MAX: u32 = 10;

/// How long a closed record is kept, in ms of log time: beyond the longest hold with its extension (a
/// day and more), so that a number is never used twice while its claim can be paid for.
pub(crate) const CLOSED_TTL_MS: u64 = 7 * 24 * 3_600_000;

/// Key of a claim's journal.
pub(crate) fn open_key(claim_id: &str) -> String {
    format!("{OPEN_PREFIX}{claim_id}")
}

/// Key of a claim's closed record.
pub(crate) fn closed_key(claim_id: &str) -> String {
    format!("{CLOSED_PREFIX}{claim_id}")
}

/// What the shopper asked for, as far as it decides whether two requests are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The provider's token for his card or account; never the card.
    pub(crate) payment_method: String,
    /// Where the provider sends him back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) return_url: Option<String>,
}

/// One attempt in progress, or the cancelling of the order it made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    pub(crate) format: u32,
    pub(crate) claim_id: String,
    pub(crate) sale_id: String,
    /// As in his token: what the order will carry.
    pub(crate) user: String,
    pub(crate) quantity: u32,
    /// Price times quantity.
    pub(crate) amount_minor: u64,
    /// ISO 4217, as the sale has it.
    pub(crate) currency: String,
    /// Number of this attempt for this claim, from one: part of every key shown to the provider.
    pub(crate) attempt: u32,
    /// The caller's idempotency key.
    pub(crate) key: String,
    pub(crate) request: Request,
    /// Version of the closed record that this attempt continues; zero: there was none.
    pub(crate) closed_version: u64,
    /// The claim's token: before `extended` the one it was granted with.
    pub(crate) claim_token: u64,
    pub(crate) extended: bool,
    /// End of the hold in log time, as last heard.
    pub(crate) hold_until_ms: u64,
    /// When the claim was granted.
    pub(crate) receipt: Granted,
    pub(crate) rank: u32,
    pub(crate) stage: Stage,
    /// Why it is being undone; decided once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ending: Option<Ending>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payment_id: Option<String>,
    /// Where the shopper has to go meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_action_url: Option<String>,
    /// The provider was seen to hold the money.
    #[serde(default)]
    pub(crate) authorized: bool,
    /// The provider was seen to have taken it.
    #[serde(default)]
    pub(crate) captured: bool,
    /// Part of the keys that undo: grows when one of them is used up in vain.
    #[serde(default)]
    pub(crate) undo_number: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refund: Option<Refunded>,
    /// When it began, in log time.
    pub(crate) began_ms: u64,
    /// Agreed wall time then, in Unix ms: what the order shows.
    pub(crate) began_wall_ms: u64,
    /// While it waits for the shopper: log time before which nobody need look at it unasked.
    #[serde(default)]
    pub(crate) wake_ms: u64,
    /// When it was last looked at while it waits for the shopper, log time.
    #[serde(default)]
    pub(crate) looked_ms: u64,
    /// How often it was looked at in vain while waiting for the shopper.
    #[serde(default)]
    pub(crate) looks: u32,
    /// What this owner has to find out before it goes on; a new owner starts from [`Doubt::Nothing`].
    #[serde(skip)]
    pub(crate) doubt: Doubt,
    /// The provider's refusal of the last request, until it is known what it means.
    #[serde(skip)]
    pub(crate) refusal: Option<Refusal>,
    /// Vain tries in a row of this owner: how long it pauses.
    #[serde(skip)]
    pub(crate) vain: u32,
}

/// A refund that the provider accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refunded {
    pub(crate) refund_id: String,
    pub(crate) amount_minor: u64,
}

/// The attempts that ended without an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Closed {
    pub(crate) format: u32,
    pub(crate) claim_id: String,
    pub(crate) user: String,
    /// The claim's token since its hold was extended; zero: it was not.
    pub(crate) claim_token: u64,
    /// Newest last; at most [`ATTEMPTS_MAX`] and one that was superseded.
    pub(crate) attempts: Vec<Attempt>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) attempt: u32,
    pub(crate) key: String,
    pub(crate) request: Request,
    pub(crate) ending: Ending,
}

impl Closed {
    /// The record with this attempt added, whose ending is decided.
    pub(crate) fn with(before: Option<Closed>, journal: &Journal) -> Closed {
        let mut closed = before.unwrap_or_default();
        closed.format = FORMAT;
        closed.claim_id.clone_from(&journal.claim_id);
        closed.user.clone_from(&journal.user);
        if journal.extended {
            closed.claim_token = journal.claim_token;
        }
        let ending = journal
            .ending
            .clone()
            .expect("an attempt is closed with an ending");
        closed.attempts.push(Attempt {
            attempt: journal.attempt,
            key: journal.key.clone(),
            request: journal.request.clone(),
            ending,
        });
        closed
    }

    /// Number of the last attempt; zero: none.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempts.last().map_or(0, |last| last.attempt)
    }

    /// The attempt made with this key whose ending is the final answer to it.
    pub(crate) fn answered(&self, key: &str) -> Option<&Attempt> {
        let mut made = self.attempts.iter().rev();
        made.find(|attempt| attempt.key == key && attempt.ending.is_final())
    }
}

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{document}: {why}; was it written by a newer release?")]
pub(crate) struct Unreadable {
    document: String,
    why: String,
}

/// A document's body.
pub(crate) fn encode(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("a record is a plain map of texts and numbers")
}

/// Reads a document's body.
pub(crate) fn decode<T: DeserializeOwned>(document: &str, body: &[u8]) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let unreadable = |why: String| Unreadable {
        document: document.to_owned(),
        why,
    };
    let head: Head = serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))?;
    if head.format != FORMAT {
        return Err(unreadable(format!("format {}, known is {FORMAT}", head.format)));
    }
    serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))
}

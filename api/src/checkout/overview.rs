//! Checkouts as operators see them: what is open, who owns it, what is done next, and how attempts ended.
//!
//! Reads the store's documents and decides nothing; what is next is what the saga would tell whoever owned the
//! checkout now. Whom it is for and which card he uses are left out: an operator does not need to know.

use client::{Error, ListedDocument};
use serde::Serialize;

use super::{
    journal::{Attempt, Closed, Journal, OPEN_PREFIX, closed_key, decode, open_key},
    saga,
    terms::{Effect, Stage, Step},
};
use crate::{
    documents::Documents,
    orders::{self, OrderError, order_id},
};

/// Checkouts read in one page: with their bodies some 200 KB.
const PAGE_MAX: u32 = 256;

/// A checkout, or the cancelling of an order, that is not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenCheckout {
    /// The claim that is paid for.
    pub claim_id: String,
    /// Of this sale.
    pub sale_id: String,
    /// Which attempt to pay for it, from one.
    pub attempt: u32,
    /// Where it stands.
    pub stage: String,
    /// What whoever owns it does next.
    pub next_step: &'static str,
    /// Why it is being undone, if it is.
    pub ending: Option<&'static str>,
    /// Token of its owner's lease; zero: nobody owns it.
    pub owner_token: u64,
    /// How much is left of that lease, in ms of log time.
    pub lease_left_ms: u64,
    /// Time since it began, in ms of log time.
    pub age_ms: u64,
    /// How much is left of the hold, in ms of log time, as last heard; zero once the claim is confirmed or gone.
    pub hold_left_ms: u64,
    /// What is to be paid, in minor units.
    pub amount_minor: u64,
    /// ISO 4217.
    pub currency: String,
    /// The provider's payment, once there is one.
    pub payment_id: Option<String>,
    /// The provider was seen to hold the money.
    pub authorized: bool,
    /// The provider was seen to have taken it.
    pub captured: bool,
}

/// An attempt that ended without an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndedAttempt {
    /// Its number, from one.
    pub attempt: u32,
    /// How it ended.
    pub ending: &'static str,
    /// The provider's word for that, where the provider ended it.
    pub payment_code: Option<String>,
}

/// All that is known of a claim's checkout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimCheckout {
    /// The claim.
    pub claim_id: String,
    /// What is under way.
    pub open: Option<OpenCheckout>,
    /// What ended before.
    pub ended: Vec<EndedAttempt>,
    /// The order, if there is one.
    pub order_id: Option<String>,
}

/// A page of open checkouts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// They, in order of claim ids.
    pub checkouts: Vec<OpenCheckout>,
    /// Where the next page begins; `None`: this is the last.
    pub after: Option<String>,
}

/// Why they cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum OverviewError {
    /// The store cannot say.
    #[error(transparent)]
    Store(#[from] Error),
    /// A record of another release, or damage.
    #[error("{0}")]
    Unreadable(String),
}

/// Open checkouts after a key that another page gave; empty: from the first.
///
/// # Errors
/// The store cannot answer, or a journal cannot be read.
pub async fn page(store: &dyn Documents, after: &str) -> Result<Page, OverviewError> {
    let list = store.documents(OPEN_PREFIX, after, PAGE_MAX).await?;
    let now_ms = list.position.log_time_ms;
    let last = list.documents.last().filter(|_| list.more);
    let after = last.map(|last| String::from_utf8_lossy(&last.key).into_owned());
    let mut checkouts = Vec::with_capacity(list.documents.len());
    for found in &list.documents {
        checkouts.extend(open(found, now_ms)?);
    }
    Ok(Page { checkouts, after })
}

/// What is known of one claim's checkout; `None`: it was never begun, or long ago.
///
/// # Errors
/// As [`page`].
pub async fn of_claim(store: &dyn Documents, claim_id: &str) -> Result<Option<ClaimCheckout>, OverviewError> {
    let (key, closed_key) = (open_key(claim_id), closed_key(claim_id));
    let (order_id, unreadable) = (order_id(claim_id), |why: super::journal::Unreadable| {
        OverviewError::Unreadable(why.to_string())
    });
    let (journal, closed, order) = futures::join!(
        store.document(&key),
        store.document(&closed_key),
        orders::load(store, &order_id),
    );
    let journal = match journal? {
        Some(found) => {
            let listed = ListedDocument {
                key: key.into(),
                body: found.body,
                version: found.version,
                fencing_token: found.fencing_token,
                leased_until_ms: found.leased_until_ms,
                expires_at_ms: found.expires_at_ms,
            };
            open(&listed, found.position.log_time_ms)?
        }
        None => None,
    };
    let closed: Option<Closed> = match closed? {
        Some(found) => Some(decode(&closed_key, &found.body).map_err(unreadable)?),
        None => None,
    };
    let order = match order {
        Ok(order) => order.is_some(),
        Err(OrderError::Store(error)) => return Err(error.into()),
        // One that cannot be read is one all the same.
        Err(_) => true,
    };
    let known = ClaimCheckout {
        claim_id: claim_id.to_owned(),
        open: journal,
        ended: closed.map_or_else(Vec::new, |closed| closed.attempts.iter().map(ended).collect()),
        order_id: order.then_some(order_id),
    };
    let nothing = known.open.is_none() && known.ended.is_empty() && known.order_id.is_none();
    Ok((!nothing).then_some(known))
}

/// A journal as it stands; `None`: it is over, and about to go.
fn open(found: &ListedDocument, now_ms: u64) -> Result<Option<OpenCheckout>, OverviewError> {
    let key = String::from_utf8_lossy(&found.key);
    let mut journal: Journal =
        decode(&key, &found.body).map_err(|why| OverviewError::Unreadable(why.to_string()))?;
    let lease_left_ms = found.leased_until_ms.saturating_sub(now_ms);
    if lease_left_ms == 0 {
        saga::take_over(&mut journal);
    }
    let next = saga::next(&journal);
    if next == Step::Finish {
        return Ok(None);
    }
    let holds = journal.hold_until_ms > 0
        && matches!(
            journal.stage,
            Stage::Begin
                | Stage::Extend
                | Stage::Create
                | Stage::Authorize
                | Stage::AwaitShopper
                | Stage::Confirm
        );
    Ok(Some(OpenCheckout {
        stage: word(&journal.stage),
        next_step: step(next),
        ending: journal.ending.as_ref().map(|ending| ending.name()),
        owner_token: if lease_left_ms > 0 { found.fencing_token } else { 0 },
        lease_left_ms,
        age_ms: now_ms.saturating_sub(journal.began_ms),
        hold_left_ms: if holds {
            journal.hold_until_ms.saturating_sub(now_ms)
        } else {
            0
        },
        claim_id: journal.claim_id,
        sale_id: journal.sale_id,
        attempt: journal.attempt,
        amount_minor: journal.amount_minor,
        currency: journal.currency,
        payment_id: journal.payment_id,
        authorized: journal.authorized,
        captured: journal.captured,
    }))
}

fn ended(attempt: &Attempt) -> EndedAttempt {
    EndedAttempt {
        attempt: attempt.attempt,
        ending: attempt.ending.name(),
        payment_code: attempt.ending.refusal().map(|refusal| refusal.code.clone()),
    }
}

/// A stage as journals have it.
fn word(stage: &Stage) -> String {
    match serde_json::to_value(stage) {
        Ok(serde_json::Value::String(word)) => word.replace('_', "-"),
        _ => unreachable!("stages are plain words"),
    }
}

fn step(next: Step) -> &'static str {
    match next {
        Step::Do(effect) => match effect {
            Effect::CheckTurn => "check that no attempt came before",
            Effect::Extend => "extend the hold",
            Effect::LookAtClaim => "look whether the claim is held",
            Effect::Create => "create the payment",
            Effect::Authorize => "authorize the payment",
            Effect::Retrieve => "look how the payment stands",
            Effect::ConfirmClaim => "confirm the claim",
            Effect::Capture => "capture the payment",
            Effect::CancelClaim => "give the unit back",
            Effect::Void => "void the authorization",
            Effect::Refund => "refund the payment",
            Effect::RecordPaid => "write order and ledger",
            Effect::Close => "write down how it ended",
            Effect::RecordCancelled => "write the cancelled order",
        },
        Step::Park => "wait for the shopper",
        Step::Finish => "nothing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkout::{journal::encode, saga::golden_tests::begun};

    fn listed(stage: Stage, leased_until_ms: u64) -> ListedDocument {
        let journal = Journal {
            stage,
            payment_id: Some("pi_1".into()),
            ..begun(1, 0)
        };
        ListedDocument {
            key: open_key(&journal.claim_id).into(),
            body: encode(&journal).into(),
            version: 3,
            fencing_token: 9,
            leased_until_ms,
            expires_at_ms: 0,
        }
    }

    #[test]
    fn an_owner_goes_on_and_a_successor_looks_first() {
        let owned = open(&listed(Stage::Capture, 5_000), 2_000).unwrap().unwrap();
        assert_eq!((owned.owner_token, owned.lease_left_ms), (9, 3_000));
        assert_eq!(
            (owned.stage.as_str(), owned.next_step),
            ("capture", "capture the payment")
        );
        let orphaned = open(&listed(Stage::Capture, 2_000), 2_000).unwrap().unwrap();
        assert_eq!((orphaned.owner_token, orphaned.lease_left_ms), (0, 0));
        assert_eq!(orphaned.next_step, "look how the payment stands");
        let parked = open(&listed(Stage::AwaitShopper, 5_000), 2_000).unwrap().unwrap();
        assert_eq!(
            (parked.stage.as_str(), parked.next_step),
            ("await-shopper", "wait for the shopper")
        );
        assert_eq!(
            open(&listed(Stage::Done, 0), 2_000).unwrap(),
            None,
            "over, and about to go"
        );
    }

    #[test]
    fn neither_shopper_nor_card_is_shown() {
        let shown = serde_json::to_string(&open(&listed(Stage::Begin, 0), 0).unwrap()).unwrap();
        let journal = begun(1, 0);
        assert!(
            !shown.contains(&journal.user) && !shown.contains(&journal.request.payment_method),
            "{shown}"
        );
    }

    #[test]
    fn another_releases_record_is_said_to_be_one() {
        let mut listed = listed(Stage::Begin, 0);
        listed.body = r#"{"format":99}"#.into();
        let why = open(&listed, 0).unwrap_err().to_string();
        assert!(
            why.contains("checkout/open/") && why.contains("newer release"),
            "{why}"
        );
    }
}

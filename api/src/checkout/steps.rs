//! Carries out the effects of a checkout, and says what came of them in the saga's words.
//!
//! Decides nothing: every answer of the store and of the provider becomes an [`Outcome`], and what is
//! not certain stays so. Every call has its own time, and every key follows from the journal, so an
//! effect repeated by whoever owns the checkout next is the same effect.

use std::{sync::Arc, time::Duration};

use client::{Claim, ClaimStatus, Error, Reason};
use fault_points::planted;
use tokio::time::{Instant, timeout};

use super::{
    books,
    journal::{Closed, FORMAT, Journal, Refunded, closed_key, decode, encode},
    options::CheckoutOptions,
    terms::{Effect, Outcome, PaymentState, Refusal, Stage},
};
use crate::{
    documents::{DocumentWrite, fresh_key, is_version_mismatch},
    orders::{self, OrderError},
    payment::{
        Call, Currency, Decline, Doubt, Money, NewPayment, Payment, PaymentError, PaymentStatus, ProviderKey,
        RefundStatus, SharedProvider,
    },
    store::{Settle, Step, Store},
};

/// Who settles claims that are paid for here, in the scope of the store's keys: all doors together.
const PRINCIPAL: &str = "checkout";

/// Wait after a refusal of the store that time alone will change, in ms.
const STORE_WAIT_MS: u64 = 1_000;

/// The provider's word for a payment of which nothing is left to give back.
const ALREADY_REFUNDED: &str = "charge_already_refunded";

/// The world as a checkout can reach it.
#[derive(Clone)]
pub(crate) struct Steps {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) provider: SharedProvider,
    payment_call: Duration,
    store_call: Duration,
}

impl Steps {
    pub(crate) fn new(store: Arc<dyn Store>, provider: SharedProvider, options: &CheckoutOptions) -> Self {
        Steps {
            store,
            provider,
            payment_call: Duration::from_millis(options.payment_call_ms_max),
            store_call: Duration::from_millis(options.store_call_ms_max),
        }
    }

    /// Does it.
    pub(crate) async fn carry_out(&self, effect: Effect, journal: &Journal) -> Outcome {
        match effect {
            Effect::CheckTurn => self.in_time(self.turn(journal)).await.unwrap_or_else(of_error),
            Effect::LookAtClaim => {
                let found = self.in_time(self.store.find_claim(&journal.claim_id, None)).await;
                found.map_or_else(of_error, |(claim, _, _)| Outcome::Claim(claim.status))
            }
            Effect::Extend => self.settle(Step::Extend, journal).await,
            Effect::ConfirmClaim => self.settle(Step::Confirm, journal).await,
            Effect::CancelClaim => self.settle(Step::Cancel, journal).await,
            Effect::Create
            | Effect::Authorize
            | Effect::Retrieve
            | Effect::Capture
            | Effect::Void
            | Effect::Refund => self.pay(effect, journal).await,
            Effect::RecordPaid => {
                let order = self.in_time(books::paid(&*self.store, journal)).await;
                order.map_or_else(of_error, |order| Outcome::Ordered(order.map(Box::new)))
            }
            Effect::RecordCancelled => written(self.in_time(books::cancelled(&*self.store, journal)).await),
            Effect::Close => {
                if let Err(error) = self.in_time(books::undone(&*self.store, journal)).await {
                    return of_error(error);
                }
                written(self.in_time(self.close(journal)).await)
            }
        }
    }

    /// A call of the store, no longer than one may take. What takes longer may have happened.
    async fn in_time<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        timeout(self.store_call, call).await.unwrap_or_else(|_| {
            Err(Error::Unknown {
                message: "the store did not answer in time".to_owned(),
                not_after_ms: u64::MAX,
            })
        })
    }

    async fn turn(&self, journal: &Journal) -> Result<Outcome, Error> {
        let (closed_key, order_id) = (closed_key(&journal.claim_id), orders::order_id(&journal.claim_id));
        let (closed, order) = futures::join!(
            self.store.document(&closed_key),
            orders::load(&*self.store, &order_id),
        );
        Ok(Outcome::Turn {
            closed_version: closed?.map_or(0, |closed| closed.version),
            ordered: match order {
                Ok(order) => order.is_some(),
                Err(OrderError::Store(error)) => return Err(error),
                // One that cannot be read is one all the same.
                Err(_) => true,
            },
        })
    }

    async fn settle(&self, step: Step, journal: &Journal) -> Outcome {
        let came = self.in_time(self.store.settle(settle_of(step, journal))).await;
        settled(step, came.map(|(claim, _)| claim))
    }

    /// Adds the attempt to the closed record, unless it is there.
    async fn close(&self, journal: &Journal) -> Result<(), Error> {
        let document = closed_key(&journal.claim_id);
        let found = self.store.document(&document).await?;
        let version = found.as_ref().map_or(0, |found| found.version);
        let before: Option<Closed> = match &found {
            Some(found) => Some(decode(&document, &found.body).map_err(unreadable)?),
            None => None,
        };
        if before
            .as_ref()
            .is_some_and(|closed| closed.attempt() >= journal.attempt)
        {
            return Ok(());
        }
        let write = DocumentWrite {
            document,
            body: encode(&Closed::with(before, journal)).into(),
            version_expected: version,
            fencing_token: 0,
            ttl_ms: super::journal::CLOSED_TTL_MS,
        };
        self.store.write_document(write, fresh_key()).await?;
        Ok(())
    }

    async fn pay(&self, effect: Effect, journal: &Journal) -> Outcome {
        let deadline = Instant::now() + self.payment_call;
        let provider = &self.provider;
        let (claim_id, attempt, number) = (&journal.claim_id, journal.attempt, journal.undo_number);
        let part = |call| ProviderKey::part(claim_id, attempt, call, number);
        let key = |call| {
            if planted!("payment-retried-with-new-key") {
                return part(call);
            }
            ProviderKey::new(claim_id, attempt, call)
        };
        let id = journal.payment_id.as_deref().unwrap_or_default();
        assert!(
            effect == Effect::Create || !id.is_empty(),
            "{effect:?} of a payment that was never created"
        );
        let answer = match effect {
            Effect::Create => {
                let new = NewPayment {
                    amount: amount(journal),
                    payment_method: journal.request.payment_method.clone(),
                    reference: claim_id.clone(),
                    attempt,
                    order_id: Some(orders::order_id(claim_id)),
                };
                provider.create(&new, &key(Call::Create), deadline).await
            }
            Effect::Authorize => {
                let return_url = journal.request.return_url.as_deref();
                provider
                    .confirm(id, return_url, &key(Call::Confirm), deadline)
                    .await
            }
            Effect::Retrieve => provider.retrieve(id, deadline).await,
            Effect::Capture => provider.capture(id, &key(Call::Capture), deadline).await,
            Effect::Void => provider.cancel(id, &part(Call::Cancel), deadline).await,
            Effect::Refund => {
                let refunded = provider.refund(id, None, &part(Call::Refund), deadline).await;
                return refunded.map_or_else(
                    |error| of_payment_error(effect, error),
                    |refund| match refund.status {
                        // This one will never arrive, and its key repeats it.
                        RefundStatus::Failed | RefundStatus::Canceled => Outcome::Stuck,
                        _ => Outcome::Refunded(Refunded {
                            refund_id: refund.id,
                            amount_minor: refund.amount.minor,
                        }),
                    },
                );
            }
            effect => unreachable!("{effect:?} asks nothing of the provider"),
        };
        match answer {
            Err(error) => of_payment_error(effect, error),
            Ok(payment) => {
                if let Some(refusal) = mismatch(&payment, journal) {
                    tracing::error!(
                        claim_id,
                        payment_id = payment.id,
                        why = refusal.message,
                        "payment differs"
                    );
                    return Outcome::Mismatch(refusal);
                }
                if effect == Effect::Create {
                    return Outcome::Created {
                        payment_id: payment.id,
                    };
                }
                Outcome::Payment(state(payment))
            }
        }
    }
}

/// A step of the claim, as its journal asks for it.
pub(crate) fn settle_of(step: Step, journal: &Journal) -> Settle {
    let (claim_id, attempt) = (&journal.claim_id, journal.attempt);
    let key = match step {
        // Once in a claim's life, whichever attempt comes to it.
        Step::Extend => format!("{claim_id}.extend"),
        Step::Confirm => format!("{claim_id}.a{attempt}.confirm"),
        Step::Cancel => format!("{claim_id}.a{attempt}.cancel"),
        Step::Release => unreachable!("a checkout gives no hold back: it ends by itself"),
    };
    Settle {
        step,
        claim_id: claim_id.clone(),
        fencing_token: journal.claim_token,
        key,
        principal: PRINCIPAL.to_owned(),
    }
}

/// What came of it.
pub(crate) fn settled(step: Step, came: Result<Claim, Error>) -> Outcome {
    let claim = match came {
        Ok(claim) => claim,
        Err(error) => return of_error(error),
    };
    // A key that was used before is answered with the claim as it is by now.
    match (step, claim.status) {
        (Step::Extend, ClaimStatus::Held) => Outcome::Extended {
            claim_token: claim.fencing_token,
            hold_until_ms: claim.deadline_ms,
        },
        (Step::Confirm, ClaimStatus::Confirmed) | (Step::Cancel, ClaimStatus::Cancelled) => Outcome::Settled,
        (_, status) => Outcome::Claim(status),
    }
}

/// What the checkout is about.
pub(crate) fn amount(journal: &Journal) -> Money {
    let currency = Currency::from_code(&journal.currency).expect("checked before the journal was written");
    Money::new(journal.amount_minor, currency)
}

/// How a payment differs from what was asked for; only while nothing has been given for it yet.
fn mismatch(payment: &Payment, journal: &Journal) -> Option<Refusal> {
    if !matches!(
        journal.stage,
        Stage::Create | Stage::Authorize | Stage::AwaitShopper
    ) {
        return None;
    }
    let asked = amount(journal);
    let held_minor = payment.amount_capturable_minor;
    let refusal = |code: &str, message: String| {
        Some(Refusal {
            code: code.to_owned(),
            decline_code: None,
            message,
        })
    };
    if payment.amount != asked {
        return refusal(
            "amount_differs",
            format!("{asked} was asked for, the payment is over {}", payment.amount),
        );
    }
    if payment.status == PaymentStatus::RequiresCapture && held_minor != asked.minor {
        return refusal(
            "partly_held",
            format!("{asked} was asked for, {held_minor} minor units are held"),
        );
    }
    let reference = payment.reference.as_deref().unwrap_or(&journal.claim_id);
    if reference != journal.claim_id {
        return refusal("reference_differs", format!("the payment is for {reference}"));
    }
    None
}

fn state(payment: Payment) -> PaymentState {
    match payment.status {
        PaymentStatus::RequiresPaymentMethod => PaymentState::Declined(payment.decline.map_or_else(
            || Refusal {
                code: "payment_failed".to_owned(),
                decline_code: None,
                message: "the payment failed".to_owned(),
            },
            declined,
        )),
        PaymentStatus::RequiresConfirmation => PaymentState::Unconfirmed,
        PaymentStatus::RequiresAction => PaymentState::ActionRequired {
            url: payment.next_action_url,
        },
        PaymentStatus::Processing | PaymentStatus::Other => PaymentState::Processing,
        PaymentStatus::RequiresCapture => PaymentState::Authorized,
        PaymentStatus::Canceled => PaymentState::Canceled,
        PaymentStatus::Succeeded => {
            let back = payment.amount_refunded_minor.unwrap_or(0);
            PaymentState::Captured {
                refunded: back > 0 && back >= payment.amount_received_minor,
            }
        }
    }
}

fn declined(decline: Decline) -> Refusal {
    Refusal {
        code: decline.code,
        decline_code: decline.decline_code,
        message: decline.message,
    }
}

fn of_payment_error(effect: Effect, error: PaymentError) -> Outcome {
    tracing::info!(?effect, %error, "the payment provider did not do it");
    match error {
        // A look that is refused, or repeated, tells nothing of the payment.
        PaymentError::Declined { .. } | PaymentError::Refused { .. } if effect == Effect::Retrieve => {
            Outcome::Unknown
        }
        PaymentError::Declined { decline, .. } => match effect {
            Effect::Create | Effect::Authorize | Effect::Capture => {
                Outcome::Payment(PaymentState::Declined(declined(decline)))
            }
            _ => Outcome::Refused(declined(decline)),
        },
        // No word on this request, but on the payment: all of it went back, by whichever request.
        PaymentError::Refused { code, .. } if effect == Effect::Refund && code == ALREADY_REFUNDED => {
            Outcome::Payment(PaymentState::Captured { refunded: true })
        }
        PaymentError::Refused { code, message, .. } => Outcome::Refused(Refusal {
            code,
            decline_code: None,
            message,
        }),
        PaymentError::Unavailable { retry_after, .. } => Outcome::NotNow {
            retry_after_ms: retry_after.map_or(0, |wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        },
        PaymentError::Unknown {
            cause: Doubt::ReplayedError,
            ..
        } if effect != Effect::Retrieve => Outcome::Stuck,
        PaymentError::Unknown { .. } => Outcome::Unknown,
    }
}

fn of_error(error: Error) -> Outcome {
    match error {
        Error::Unavailable { retry_after_ms, .. } => Outcome::NotNow { retry_after_ms },
        Error::Unknown { .. } => Outcome::Unknown,
        Error::Rejected(rejected) => match rejected.reason {
            Reason::ClaimGone => Outcome::Claim(rejected.claim_status),
            // Its sale was archived, and the claim with it.
            Reason::ClaimUnknown => Outcome::Claim(ClaimStatus::Unspecified),
            Reason::StaleToken => Outcome::StaleToken,
            // Somebody resolved the key while its outcome was unknown: it is free again within a minute.
            Reason::KeyFenced | Reason::TooLate | Reason::TableFull => Outcome::NotNow {
                retry_after_ms: STORE_WAIT_MS,
            },
            reason => {
                tracing::error!(
                    ?reason,
                    message = rejected.message,
                    "the store refused a step of a checkout"
                );
                Outcome::NotNow {
                    retry_after_ms: STORE_WAIT_MS,
                }
            }
        },
    }
}

/// What was written, or found written by somebody else in between: then it is read again.
fn written(result: Result<(), Error>) -> Outcome {
    match result {
        Ok(()) => Outcome::Written,
        Err(error) if is_version_mismatch(&error) => Outcome::Unknown,
        Err(error) => of_error(error),
    }
}

/// A record of a newer release: that one's processes go on with it.
fn unreadable(error: super::journal::Unreadable) -> Error {
    tracing::error!(%error, format = FORMAT, "a record of the checkout cannot be read");
    Error::Unavailable {
        message: error.to_string(),
        retry_after_ms: STORE_WAIT_MS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refund_that_finds_everything_given_back_is_no_refusal() {
        let refused = |code: &str| PaymentError::Refused {
            code: code.to_owned(),
            message: String::new(),
            payment: None,
        };
        let done = Outcome::Payment(PaymentState::Captured { refunded: true });
        assert_eq!(of_payment_error(Effect::Refund, refused(ALREADY_REFUNDED)), done);
        for (effect, code) in [
            (Effect::Refund, "balance_insufficient"),
            (Effect::Capture, ALREADY_REFUNDED),
        ] {
            let outcome = of_payment_error(effect, refused(code));
            assert!(
                matches!(outcome, Outcome::Refused(_)),
                "{effect:?} {code}: {outcome:?}"
            );
        }
    }
}

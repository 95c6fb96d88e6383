//! What a checkout does next: a pure function of its journal. No IO, no clock, no chance.
//!
//! [`next`] names the one step to take, [`record`] takes in what came of it. Around them stands a driver
//! that carries steps out, saves the journal where [`Effect::is_guarded`](super::terms::Effect::is_guarded) asks for it, and drops
//! everything it had in mind when it dies; whoever takes over goes on from the saved journal after
//! [`take_over`].
//!
//! The road of a checkout that succeeds:
//!
//! ```text
//! Begin → Extend → Create → Authorize → (AwaitShopper) → Confirm → Capture → Record → Done
//!                                          │                │         │
//!   undone: Close ←── Refund? ←── Void ←───┴────────────────┘         │
//!                                  ↑──────────── Return ←─────────────┘
//! ```
//!
//! Invariants, each with the reason why it holds although owners die, pause and come back:
//! - **No money moves that is not journalled.** A payment is created unconfirmed, its id is saved, and
//!   only then it is confirmed. A payment whose id was lost was never confirmed and never will be.
//! - **One attempt at a time.** An attempt is the creation of the open document. What it was begun upon is
//!   checked once it owns that: every attempt before it has left an order, or a newer version of the closed
//!   record, which fixes its number.
//! - **The store decides whether the shopper has the unit**, not a clock here: `Confirm` either confirms
//!   the claim or is refused for good. It is saved before it is asked, so nobody who comes later closes
//!   the checkout without asking again with the same key.
//! - **Capture is the pivot.** After it only forward. Its definite failure returns the unit; what is
//!   unknown is looked up by id until it is known.
//! - **Order or compensation, never both.** `Record` and everything that undoes are guarded: saved under
//!   the lease before they act, so of two owners only one gets to act on what it saw.
//! - Every effect has a key made of claim, attempt and step, and is harmless when repeated. An owner that
//!   lost its lease may still carry out an effect it had begun, and none that is guarded.
//! - A refusal that may be the echo of our own earlier request (*already captured*, *already
//!   cancelled*) is never taken at its word: the payment is looked at first.

use client::ClaimStatus;
use fault_points::planted;

use super::{
    journal::Journal,
    terms::{Doubt, Effect, Ending, Outcome, PaymentState, Refusal, Stage, Step},
};

/// The step to take.
pub(crate) fn next(journal: &Journal) -> Step {
    let do_unless_in_doubt = |effect| match journal.doubt {
        Doubt::Nothing => Step::Do(effect),
        Doubt::Payment => Step::Do(Effect::Retrieve),
        Doubt::Claim => Step::Do(Effect::LookAtClaim),
    };
    match journal.stage {
        Stage::Begin => Step::Do(Effect::CheckTurn),
        Stage::Extend => Step::Do(Effect::Extend),
        Stage::Create => do_unless_in_doubt(Effect::Create),
        Stage::Authorize => do_unless_in_doubt(Effect::Authorize),
        Stage::AwaitShopper => match do_unless_in_doubt(Effect::Authorize) {
            Step::Do(Effect::Authorize) => Step::Park,
            look => look,
        },
        Stage::Confirm => Step::Do(Effect::ConfirmClaim),
        Stage::Capture => do_unless_in_doubt(Effect::Capture),
        Stage::Record => Step::Do(Effect::RecordPaid),
        Stage::Return | Stage::OrderReturn => Step::Do(Effect::CancelClaim),
        Stage::Void => do_unless_in_doubt(Effect::Void),
        Stage::Refund | Stage::OrderRefund => do_unless_in_doubt(Effect::Refund),
        Stage::Close => Step::Do(Effect::Close),
        Stage::OrderRecord => Step::Do(Effect::RecordCancelled),
        Stage::Done => Step::Finish,
    }
}

/// Another owner goes on: what its predecessor had under way, it does not know.
pub(crate) fn take_over(journal: &mut Journal) {
    journal.doubt = match journal.stage {
        Stage::Authorize | Stage::AwaitShopper | Stage::Capture | Stage::Void => Doubt::Payment,
        Stage::Create => Doubt::Claim,
        _ => Doubt::Nothing,
    };
    (journal.refusal, journal.vain) = (None, 0);
}

/// Takes in what came of the step that [`next`] named.
pub(crate) fn record(journal: &mut Journal, outcome: Outcome) {
    let before = journal.stage;
    match outcome {
        Outcome::NotNow { retry_after_ms } => not_now(journal, retry_after_ms),
        Outcome::Unknown => unknown(journal),
        Outcome::Stuck => stuck(journal),
        outcome => learned(journal, outcome),
    }
    if journal.stage != before {
        journal.vain = 0;
    }
}

/// Something did not bring it on: the next step waits a little, longer each time.
fn in_vain(journal: &mut Journal) {
    journal.vain = journal.vain.saturating_add(1);
}

/// Nothing happened, for now.
fn not_now(journal: &mut Journal, retry_after_ms: u64) {
    in_vain(journal);
    match (journal.stage, journal.doubt) {
        // Nothing was charged and nothing is under way: better a clear answer now than a wait.
        (Stage::Create, Doubt::Nothing) => {
            close(journal, Ending::ProviderUnavailable { retry_after_ms });
        }
        // While it lasts the hold may end, and then it is to be undone rather than repeated.
        (Stage::Authorize, Doubt::Nothing) => journal.doubt = Doubt::Claim,
        _ => {}
    }
}

/// It may have happened.
fn unknown(journal: &mut Journal) {
    in_vain(journal);
    if journal.doubt != Doubt::Nothing {
        return;
    }
    if planted!("payment-retried-with-new-key") && journal.stage == Stage::Authorize {
        journal.undo_number += 1;
        go(journal, Stage::Create);
        return;
    }
    journal.doubt = match journal.stage {
        Stage::Authorize | Stage::Capture | Stage::Void => Doubt::Payment,
        // Repeated with the same key it gives the same payment; but only while that is of use.
        Stage::Create => Doubt::Claim,
        _ => Doubt::Nothing,
    };
}

/// The key is used up.
fn stuck(journal: &mut Journal) {
    in_vain(journal);
    let refusal = || Refusal {
        code: "provider_error".into(),
        decline_code: None,
        message: "the provider failed and only repeats that it did".into(),
    };
    match journal.stage {
        // What may exist is unconfirmed and never will be; the next attempt has a key of its own.
        Stage::Create => close(journal, Ending::ProviderUnavailable { retry_after_ms: 0 }),
        // Never under another key: if it did not happen, it is given up.
        Stage::Authorize | Stage::Capture => {
            journal.refusal = Some(refusal());
            journal.doubt = Doubt::Payment;
        }
        // Giving back must succeed in the end. Another key is safe once the payment has been looked at:
        // what this one asked for is over.
        Stage::Void | Stage::Refund | Stage::OrderRefund => {
            journal.undo_number += 1;
            journal.doubt = Doubt::Payment;
        }
        stage => unreachable!("{stage:?} asks nothing of the provider"),
    }
}

/// Something is known.
fn learned(journal: &mut Journal, outcome: Outcome) {
    use Stage as S;
    match (journal.stage, outcome) {
        (
            S::Begin,
            Outcome::Turn {
                closed_version,
                ordered,
            },
        ) => {
            if ordered || closed_version != journal.closed_version {
                finish(journal, Ending::Superseded);
            } else if journal.extended {
                go(journal, S::Create);
            } else {
                go(journal, S::Extend);
            }
        }
        (
            S::Extend,
            Outcome::Extended {
                claim_token,
                hold_until_ms,
            },
        ) => {
            (journal.claim_token, journal.hold_until_ms) = (claim_token, hold_until_ms);
            journal.extended = true;
            go(journal, S::Create);
        }
        (S::Extend, Outcome::Claim(ClaimStatus::Held) | Outcome::StaleToken) => {
            close(journal, Ending::BegunElsewhere);
        }
        (S::Extend, Outcome::Claim(status)) => close(journal, gone(status)),

        (S::Create | S::Authorize | S::AwaitShopper, Outcome::Claim(status)) => {
            if status == ClaimStatus::Held {
                journal.doubt = Doubt::Nothing;
            } else {
                undo(journal, gone(status));
            }
        }
        (S::Create, Outcome::Created { payment_id }) => {
            journal.payment_id = Some(payment_id);
            go(journal, S::Authorize);
        }
        // Created by this key, and confirmed by nobody: that is refused or declined before any money.
        (S::Create, Outcome::Payment(PaymentState::Declined(refusal))) => {
            close(journal, Ending::Declined(refusal));
        }
        (S::Create, Outcome::Refused(refusal)) => close(journal, Ending::Refused(refusal)),

        (S::Create | S::Authorize | S::AwaitShopper, Outcome::Mismatch(refusal)) => {
            undo(journal, Ending::Mismatch(refusal));
        }
        (S::Authorize | S::AwaitShopper, Outcome::Payment(state)) => authorizing(journal, state),
        (S::Authorize, Outcome::Refused(refusal)) => {
            journal.refusal = Some(refusal);
            journal.doubt = Doubt::Payment;
        }

        (S::Confirm, Outcome::Settled) => go(journal, S::Capture),
        (S::Confirm, Outcome::Claim(_)) if planted!("hold-ends-during-payment") => go(journal, S::Capture),
        (S::Confirm, Outcome::Claim(status)) => undo(journal, gone(status)),
        (S::Confirm, Outcome::StaleToken) => undo(journal, Ending::BegunElsewhere),

        (S::Capture, Outcome::Payment(state)) => capturing(journal, state),
        (S::Capture, Outcome::Refused(refusal)) => {
            journal.refusal = Some(refusal);
            journal.doubt = Doubt::Payment;
        }
        (S::Record, Outcome::Ordered(_)) => finish(journal, Ending::Paid),

        // Refused is it only when it is not confirmed any more: the unit is back already.
        (S::Return, Outcome::Settled | Outcome::Claim(_) | Outcome::StaleToken) => go(journal, S::Void),
        (S::Void, Outcome::Payment(state)) => voiding(journal, state),
        (S::Void, Outcome::Refused(refusal)) => {
            journal.refusal = Some(refusal);
            journal.doubt = Doubt::Payment;
        }
        (S::Refund, Outcome::Refunded(refund)) => {
            journal.refund = Some(refund);
            go(journal, S::Close);
        }
        (S::Refund, Outcome::Payment(PaymentState::Captured { refunded: true })) => go(journal, S::Close),
        (S::Close, Outcome::Written) => {
            let ending = journal.ending.clone().expect("decided before it was closed");
            finish(journal, ending);
        }

        (S::OrderRefund, Outcome::Refunded(refund)) => {
            journal.refund = Some(refund);
            go(journal, S::OrderReturn);
        }
        (S::OrderRefund, Outcome::Payment(PaymentState::Captured { refunded: true })) => {
            go(journal, S::OrderReturn);
        }
        (S::OrderRefund, Outcome::Payment(_)) => match journal.refusal.take() {
            Some(refusal) => finish(journal, Ending::CancelRefused(refusal)),
            None => {
                journal.doubt = Doubt::Nothing;
                in_vain(journal);
            }
        },
        (S::Refund | S::OrderRefund, Outcome::Refused(refusal)) => {
            journal.refusal = Some(refusal);
            journal.doubt = Doubt::Payment;
        }
        // Nobody can give back what is not captured; looked at again after a pause.
        (S::Refund, Outcome::Payment(_)) => {
            journal.doubt = Doubt::Nothing;
            in_vain(journal);
        }
        (S::OrderReturn, Outcome::Settled | Outcome::Claim(_) | Outcome::StaleToken) => {
            go(journal, S::OrderRecord)
        }
        (S::OrderRecord, Outcome::Written) => finish(journal, Ending::Cancelled),
        (stage, outcome) => unreachable!("{outcome:?} is no outcome of a step of {stage:?}"),
    }
}

/// The payment as it is, before the claim is confirmed.
fn authorizing(journal: &mut Journal, state: PaymentState) {
    match state {
        // Captured by nobody here; were it so, the capture that follows would find out.
        PaymentState::Authorized | PaymentState::Captured { .. } => {
            journal.authorized = true;
            go(journal, Stage::Confirm);
        }
        PaymentState::ActionRequired { url } => {
            // Seen again: is there still something to wait for? The first time there surely is.
            let again = journal.stage == Stage::AwaitShopper;
            journal.looks = if again { journal.looks.saturating_add(1) } else { 0 };
            journal.next_action_url = url.or(journal.next_action_url.take());
            go(journal, Stage::AwaitShopper);
            if again {
                journal.doubt = Doubt::Claim;
            }
        }
        PaymentState::Processing => {
            go(journal, Stage::Authorize);
            journal.doubt = Doubt::Payment;
            in_vain(journal);
        }
        PaymentState::Unconfirmed => match journal.refusal.take() {
            // Refused for good, and cancelled, so that no straggler can confirm it after all.
            Some(refusal) => undo(journal, Ending::Refused(refusal)),
            None => {
                go(journal, Stage::Authorize);
                journal.doubt = Doubt::Claim;
                in_vain(journal);
            }
        },
        PaymentState::Declined(refusal) => close(journal, Ending::Declined(refusal)),
        PaymentState::Canceled => close(
            journal,
            Ending::Declined(Refusal {
                code: "payment_canceled".into(),
                decline_code: None,
                message: "the payment was cancelled at the provider".into(),
            }),
        ),
    }
}

/// The payment as it is, once the claim is confirmed.
fn capturing(journal: &mut Journal, state: PaymentState) {
    let failed = |code: &str, message: &str| Refusal {
        code: code.into(),
        decline_code: None,
        message: message.into(),
    };
    let refusal = match state {
        PaymentState::Captured { .. } => {
            journal.captured = true;
            go(journal, Stage::Record);
            return;
        }
        PaymentState::Authorized => match journal.refusal.take() {
            Some(refusal) => refusal,
            None => {
                journal.doubt = Doubt::Nothing;
                return;
            }
        },
        PaymentState::Processing => {
            journal.doubt = Doubt::Payment;
            in_vain(journal);
            return;
        }
        PaymentState::Declined(refusal) => refusal,
        PaymentState::Canceled => failed(
            "payment_canceled",
            "the authorization was cancelled at the provider",
        ),
        PaymentState::Unconfirmed | PaymentState::ActionRequired { .. } => {
            failed("not_authorized", "the payment is not authorized any more")
        }
    };
    journal.ending = Some(Ending::CaptureFailed(refusal));
    go(journal, Stage::Return);
}

/// The payment as it is, when it is to be undone.
fn voiding(journal: &mut Journal, state: PaymentState) {
    match state {
        // Declined holds no money and cannot be captured.
        PaymentState::Canceled | PaymentState::Declined(_) => go(journal, Stage::Close),
        PaymentState::Captured { refunded } => {
            journal.captured = true;
            go(journal, if refunded { Stage::Close } else { Stage::Refund });
        }
        state => {
            journal.authorized |= state == PaymentState::Authorized;
            journal.doubt = Doubt::Nothing;
            in_vain(journal);
        }
    }
}

fn go(journal: &mut Journal, stage: Stage) {
    journal.stage = stage;
    journal.doubt = Doubt::Nothing;
    journal.refusal = None;
}

/// Why a claim that is not held cannot be paid for.
fn gone(status: ClaimStatus) -> Ending {
    match status {
        ClaimStatus::Confirmed => Ending::ConfirmedElsewhere,
        _ => Ending::HoldGone,
    }
}

/// Undoes what there is to undo before the claim is confirmed.
fn undo(journal: &mut Journal, ending: Ending) {
    journal.ending = Some(ending);
    let created = journal.payment_id.is_some() && !planted!("compensation-skipped");
    go(journal, if created { Stage::Void } else { Stage::Close });
}

fn close(journal: &mut Journal, ending: Ending) {
    journal.ending = Some(ending);
    go(journal, Stage::Close);
}

fn finish(journal: &mut Journal, ending: Ending) {
    journal.ending = Some(ending);
    go(journal, Stage::Done);
}

#[cfg(test)]
#[path = "saga_golden_tests.rs"]
pub(super) mod golden_tests;
#[cfg(test)]
#[path = "saga_model_tests.rs"]
mod model_tests;

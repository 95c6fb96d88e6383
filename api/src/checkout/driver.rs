//! Drives one checkout that this process owns: step after step, until it is over, it is the shopper's
//! turn, or it is lost to somebody else.
//!
//! What a step came to is in memory only, until the saga asks for it to be saved. A driver that dies
//! leaves a saved journal and a lease that ends.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    books, crash_points,
    journal::Journal,
    metrics,
    owner::{Lost, Owner},
    saga,
    steps::Steps,
    terms::{Effect, Outcome, Stage, Step},
};
use crate::{orders::Order, store};

/// First pause after a step in vain, in ms; doubled for each further one.
const PAUSE_MS_MIN: u64 = 50;

/// Longest pause, in ms: what a shopper who waits still notices.
const PAUSE_MS_MAX: u64 = 5_000;

/// Longest one driver goes on in vain, in ms. Then the checkout is left to whoever looks next, so that
/// an outage of hours keeps no tasks busy.
const DRIVE_MS_MAX: u64 = 120_000;

/// First wait for a shopper before he is looked after, in ms of log time; grows by half with every look.
const LOOK_MS_MIN: u64 = 4_000;

/// Longest such wait, in ms of log time.
const LOOK_MS_MAX: u64 = 30_000;

/// How long after the end of a hold its claim surely says so, in ms of log time: the store ends holds within 50 ms.
const HOLD_OVER_MS: u64 = 250;

/// How driving came to its end.
#[derive(Debug)]
pub(crate) enum End {
    /// It is over; with the order, if it was written here.
    Over(Journal, Option<Box<Order>>),
    /// It is the shopper's turn.
    Parked(Journal),
    /// Somebody else goes on with it, or will.
    Left(Journal),
}

/// Goes on with a checkout.
pub(crate) async fn drive(steps: &Steps, mut owner: Owner, longest_call: Duration) -> End {
    let began = Instant::now();
    let mut last = owner.journal.clone();
    let mut order = None;
    let mut together = true;
    let end = loop {
        if let Err(lost) = owner.hold_on(longest_call).await {
            break left(last, &lost);
        }
        let step = saga::next(&owner.journal);
        let effect = match step {
            // Once: what it finds there, or is refused, is gone through piece by piece.
            Step::Do(Effect::RecordPaid) if std::mem::take(&mut together) => {
                let Some((books, ordered)) = books::of_paid(&owner.journal) else {
                    continue;
                };
                crash_points::before(Effect::RecordPaid);
                let all = owner.end_with(books, &ordered).await;
                crash_points::after(Effect::RecordPaid);
                match all {
                    Ok(true) => break over(owner.journal, Some(Box::new(ordered)), began),
                    Ok(false) => continue,
                    Err(lost) => break left(last, &lost),
                }
            }
            Step::Do(effect) => effect,
            Step::Park => {
                let journal = &mut owner.journal;
                let passed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                journal.looked_ms = owner.since_ms + passed_ms;
                journal.wake_ms = next_look_ms(journal);
                last = journal.clone();
                if let Err(lost) = owner.save().await {
                    break left(last, &lost);
                }
                break End::Parked(owner.give_back().await);
            }
            Step::Finish => {
                last = owner.journal.clone();
                match owner.end().await {
                    Ok(journal) => break over(journal, order, began),
                    // Everything was done; only the record of it is somebody else's now.
                    Err(lost) => break left(last, &lost),
                }
            }
        };
        let saves = effect.is_guarded() && owner.is_dirty();
        let settles = match effect {
            Effect::ConfirmClaim => Some(store::Step::Confirm),
            Effect::CancelClaim => Some(store::Step::Cancel),
            _ => None,
        };
        let vain = owner.journal.vain;
        let saved = match settles {
            Some(settle) if saves => {
                crash_points::before(effect);
                owner.save_and_settle(settle).await.map(Some)
            }
            _ if saves => owner.save().await.map(|()| None),
            _ => Ok(None),
        };
        let outcome = match saved {
            Ok(Some(settled)) => settled,
            Ok(None) => {
                crash_points::before(effect);
                steps.carry_out(effect, &owner.journal).await
            }
            Err(lost) => break left(last, &lost),
        };
        crash_points::after(effect);
        tracing::debug!(
            claim_id = owner.journal.claim_id,
            ?effect,
            ?outcome,
            "checkout step"
        );
        if let Outcome::Ordered(ordered) = &outcome {
            order = ordered.clone();
        }
        saga::record(&mut owner.journal, outcome);
        last = owner.journal.clone();
        if owner.journal.vain > vain {
            let waits_for_shopper = owner.journal.stage == Stage::AwaitShopper;
            if waits_for_shopper || began.elapsed() > Duration::from_millis(DRIVE_MS_MAX) {
                break End::Left(owner.give_back().await);
            }
            sleep(pause(owner.journal.vain)).await;
        }
    };
    if let End::Left(journal) = &end {
        tracing::info!(claim_id = journal.claim_id, stage = ?journal.stage, "a checkout is left to others");
    }
    end
}

fn over(journal: Journal, order: Option<Box<Order>>, began: Instant) -> End {
    let ending = journal.ending.as_ref().map_or("unknown", |ending| ending.name());
    metrics::ended(ending, began.elapsed());
    End::Over(journal, order)
}

fn left(journal: Journal, lost: &Lost) -> End {
    tracing::info!(
        claim_id = journal.claim_id,
        ?lost,
        "a checkout is not owned any more"
    );
    End::Left(journal)
}

/// Doubled with every try, half of it chance, so that those who failed together come back apart.
fn pause(vain: u32) -> Duration {
    let doubled = PAUSE_MS_MIN.saturating_mul(1 << vain.saturating_sub(1).min(16));
    let full_ms = doubled.min(PAUSE_MS_MAX);
    Duration::from_millis(full_ms / 2 + client::chance::below(full_ms / 2 + 1))
}

/// When to look again: the longer it takes, the more seldom; but once his hold is over, nobody waits for him any more.
fn next_look_ms(journal: &Journal) -> u64 {
    let look_ms = journal.looked_ms + look_ms(journal.looks);
    let over_ms = journal.hold_until_ms + HOLD_OVER_MS;
    if journal.looked_ms < over_ms {
        look_ms.min(over_ms)
    } else {
        look_ms
    }
}

/// How long a shopper who was looked after so often is let alone.
fn look_ms(looks: u32) -> u64 {
    let mut wait_ms = LOOK_MS_MIN;
    for _ in 0..looks.min(16) {
        wait_ms += wait_ms / 2;
    }
    wait_ms.min(LOOK_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkout::saga::golden_tests::begun;

    #[test]
    fn a_shopper_is_looked_after_more_and_more_seldom_and_when_his_hold_ends() {
        let mut journal = Journal {
            hold_until_ms: 30_000,
            ..begun(1, 0)
        };
        let mut looks = Vec::new();
        for look in 0..6 {
            journal.looks = look;
            journal.looked_ms = next_look_ms(&journal);
            looks.push(journal.looked_ms);
        }
        assert_eq!(looks, [4_000, 10_000, 19_000, 30_250, 50_500, 80_500]);
    }
}

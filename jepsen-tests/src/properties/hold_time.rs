//! A hold lasts as long as it was promised, on the harness's own monotonic clock, and not a confirm longer.
//!
//! A claim was granted after it was asked for. So whoever hears that its hold has ended by itself hears it at
//! least one hold time after the asking. Too late is judged in log time, which stands still while nobody leads.

use std::collections::{HashMap, HashSet};

use client::EventKind;

use super::{Look, Run};
use crate::history::{Call, Name, Outcome};

/// Both clocks count whole ms, and each end of a hold is rounded by each.
const ROUNDING_NS: u64 = 2_000_000;

/// What was promised to the claim that made a hold.
struct Promise {
    id: u64,
    /// When it was asked for.
    asked_ns: u64,
    /// Length of the hold.
    hold_ns: u64,
    /// Latest deadline that was ever told.
    deadline: u64,
}

pub(super) fn check(run: &Run, look: &mut Look) {
    let mut promises: HashMap<Name, Promise> = HashMap::new();
    // When a key was first sent: a later answer may tell what an earlier attempt has done.
    let mut first_sent_ns: HashMap<(Name, Name), u64> = HashMap::new();
    for operation in &run.operations {
        if let Call::Claim { key, .. } = operation.call {
            (first_sent_ns.entry((operation.sale, key))).or_insert(operation.invoked_ns);
        }
        let Some(answer) = operation.answer() else {
            continue;
        };
        match (operation.call, answer.outcome) {
            (Call::Claim { key, .. }, Outcome::Granted { hold, deadline }) => {
                promises.entry(hold).or_insert_with(|| Promise {
                    id: operation.id,
                    asked_ns: first_sent_ns[&(operation.sale, key)],
                    hold_ns: deadline.saturating_sub(answer.lt) * 1_000_000,
                    deadline,
                });
            }
            (Call::Extend { hold, .. }, Outcome::Extended { deadline }) => {
                if let Some(promise) = promises.get_mut(&hold) {
                    promise.deadline = promise.deadline.max(deadline);
                }
            }
            _ => {}
        }
    }
    too_early(run, &promises, look);
    too_late(run, &promises, look);
}

fn too_early(run: &Run, promises: &HashMap<Name, Promise>, look: &mut Look) {
    // Holds that somebody has settled, or may have, did not end by themselves.
    let settled: HashSet<Name> = run
        .operations
        .iter()
        .filter(|operation| operation.is_unknown() || operation.effect().is_some())
        .filter_map(|operation| match operation.call {
            Call::Confirm { hold, .. } | Call::Release { hold, .. } | Call::Cancel { hold, .. } => Some(hold),
            _ => None,
        })
        .collect();
    let ahead_ppm = run.observations.clock_ahead_ppm;
    let early = |promise: &Promise, heard_ns: u64| {
        let lived_ns = heard_ns.saturating_sub(promise.asked_ns);
        let lived_ns = lived_ns.saturating_add(lived_ns / 1_000_000 * ahead_ppm);
        lived_ns + ROUNDING_NS < promise.hold_ns
    };
    for operation in &run.operations {
        let (Call::Confirm { hold, .. } | Call::Release { hold, .. }) = operation.call else {
            continue;
        };
        let gone = operation
            .answer()
            .is_some_and(|answer| answer.outcome == Outcome::Gone);
        if let Some(promise) = promises.get(&hold)
            && gone
            && !settled.contains(&hold)
        {
            let ids = [promise.id, operation.id];
            look.at(!early(promise, operation.returned_ns), &ids, || {
                format!(
                    "{} was promised for {} ms, and gone {} ms after it was asked for",
                    run.text(hold),
                    promise.hold_ns / 1_000_000,
                    operation.returned_ns.saturating_sub(promise.asked_ns) / 1_000_000
                )
            });
        }
    }
    for feed in &run.observations.feeds {
        for event in &feed.events {
            if event.kind != EventKind::ClaimExpired {
                continue;
            }
            let Some(claim) = &event.claim else { continue };
            let name = run.history.names.find(&claim.claim_id);
            if let Some(promise) = name.and_then(|name| promises.get(&name)) {
                look.at(!early(promise, event.t), &[promise.id], || {
                    format!(
                        "{} saw {} expire at log index {}, {} ms after it was asked for, of {} promised",
                        feed.name,
                        claim.claim_id,
                        event.log_index,
                        event.t.saturating_sub(promise.asked_ns) / 1_000_000,
                        promise.hold_ns / 1_000_000
                    )
                });
            }
        }
    }
}

fn too_late(run: &Run, promises: &HashMap<Name, Promise>, look: &mut Look) {
    let mut told: HashSet<(Name, Name)> = HashSet::new();
    for operation in &run.operations {
        let (Call::Confirm { hold, key } | Call::Release { hold, key } | Call::Extend { hold, key }) =
            operation.call
        else {
            continue;
        };
        // A repetition may come at any time.
        let Some(effect) = operation.effect().filter(|_| told.insert((hold, key))) else {
            continue;
        };
        let Some(promise) = promises.get(&hold) else {
            continue;
        };
        look.at(effect.lt < promise.deadline, &[promise.id, operation.id], || {
            format!(
                "{} ended at log time {}, and was settled at {}",
                run.text(hold),
                promise.deadline,
                effect.lt
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use client::EventKind;

    use super::super::testing::{Story, TTL_MS, assert_invalid, assert_valid, story};

    fn held() -> Story {
        let mut story = story(1);
        story.claim("u1", "k1", 1, "h1");
        story
    }

    #[test]
    fn a_hold_that_ends_in_time() {
        let mut story = held();
        story.at(TTL_MS).event("w", (2, 0), EventKind::ClaimExpired, "h1");
        story.gone("h1", "c1", 3);
        assert_valid(&story.run(), "hold-time");
    }

    #[test]
    fn a_hold_that_an_unknown_attempt_has_made() {
        let mut story = story(1);
        story.unknown_claim("u1", "k1");
        story.at(500).claim("u1", "k1", 2, "h1");
        story.at(TTL_MS).event("w", (3, 0), EventKind::ClaimExpired, "h1");
        assert_valid(&story.run(), "hold-time");
    }

    #[test]
    fn a_hold_seen_expired_early() {
        let mut story = held();
        story
            .at(TTL_MS - 10)
            .event("w", (2, 0), EventKind::ClaimExpired, "h1");
        assert_invalid(&story.run(), "hold-time");
    }

    #[test]
    fn a_hold_gone_early() {
        let mut story = held();
        story.at(TTL_MS - 10).gone("h1", "c1", 2);
        assert_invalid(&story.run(), "hold-time");
    }

    #[test]
    fn a_clock_that_is_known_to_run_fast() {
        let mut story = held();
        story.observations.clock_ahead_ppm = 20_000;
        story.at(TTL_MS - 10).gone("h1", "c1", 2);
        assert_valid(&story.run(), "hold-time");
    }

    #[test]
    fn a_released_hold_is_gone_at_once() {
        let mut story = held();
        story.release("h1", "r1", 2);
        story.gone("h1", "c1", 3);
        assert_valid(&story.run(), "hold-time");
    }

    #[test]
    fn a_confirm_at_the_deadline() {
        let mut story = held();
        story.at(TTL_MS).confirm("h1", "c1", 2);
        assert_invalid(&story.run(), "hold-time");
    }
}

//! At most one effect per key: every answer to a key tells the same effect, no two keys share a hold, once told
//! it is never refused to who asked for it, and no claim is granted, settled or ended twice in the feed.

use std::collections::{BTreeMap, HashMap};

use client::EventKind;

use super::{Look, Operation, Run};
use crate::history::{Call, Kind, Name, Outcome};

pub(super) fn check(run: &Run, look: &mut Look) {
    let mut by_key: BTreeMap<(Name, Kind, Name), Vec<&Operation>> = BTreeMap::new();
    for operation in &run.operations {
        if let Some(&key) = operation.call.key() {
            let scope = (operation.sale, operation.call.kind(), key);
            by_key.entry(scope).or_default().push(operation);
        }
    }
    let mut makers: HashMap<Name, (Name, u64)> = HashMap::new();
    for ((_, _, key), operations) in &by_key {
        let mut effects = operations
            .iter()
            .filter_map(|operation| Some((operation, operation.effect()?)));
        let Some((first, effect)) = effects.next() else {
            continue;
        };
        for (other, answer) in effects {
            look.at(
                answer.outcome.is_same_effect(&effect.outcome),
                &[first.id, other.id],
                || {
                    format!(
                        "key {} had two effects: {} and {}",
                        run.text(*key),
                        told(run, &effect.outcome),
                        told(run, &answer.outcome)
                    )
                },
            );
        }
        if let Outcome::Granted { hold, .. } | Outcome::Sold { hold: Some(hold) } = effect.outcome {
            let (maker, id) = *makers.entry(hold).or_insert((*key, first.id));
            look.at(maker == *key, &[id, first.id], || {
                format!(
                    "{} was made by two keys: {} and {}",
                    run.text(hold),
                    run.text(maker),
                    run.text(*key)
                )
            });
        }
        told_later(run, *key, &first.call, operations, look);
    }
    in_feeds(run, look);
}

/// Whoever asks the same again after the effect was told hears it again; whoever asks something else under its key is
/// told that the key is used.
fn told_later(run: &Run, key: Name, asked: &Call, operations: &[&Operation], look: &mut Look) {
    let told_at = operations
        .iter()
        .filter(|operation| operation.effect().is_some())
        .map(|operation| operation.returned_ns)
        .min()
        .unwrap_or(u64::MAX);
    for operation in operations {
        if operation.invoked_ns <= told_at {
            continue;
        }
        if let Some(answer) = operation.answer() {
            let right = match operation.call == *asked {
                true => answer.outcome.is_effect(),
                false => answer.outcome == Outcome::KeyReused,
            };
            look.at(right, &[operation.id], || {
                format!(
                    "key {} had its effect, and was later answered {}",
                    run.text(key),
                    told(run, &answer.outcome)
                )
            });
        }
    }
}

fn told(run: &Run, outcome: &Outcome) -> String {
    format!("{:?}", outcome.map(|name| run.text(name)))
}

fn in_feeds(run: &Run, look: &mut Look) {
    for feed in &run.observations.feeds {
        // The last thing that happened to a claim, by its id.
        let mut last: HashMap<&str, EventKind> = HashMap::new();
        for event in &feed.events {
            let Some(claim) = &event.claim else { continue };
            let hold = claim.claim_id.as_str();
            let before = last.insert(hold, event.kind);
            use EventKind::{
                ClaimCancelled, ClaimConfirmed, ClaimExpired, ClaimExtended, ClaimGranted, ClaimReleased,
            };
            let follows = match (before, event.kind) {
                // The feed may begin, or go on, in the middle of a claim's life.
                (None, kind) => kind == ClaimGranted || feed.from_index > 1 || !feed.resumed.is_empty(),
                (Some(ClaimGranted), kind) => kind != ClaimGranted && kind != ClaimCancelled,
                (Some(ClaimExtended), kind) => {
                    matches!(kind, ClaimConfirmed | ClaimReleased | ClaimExpired)
                }
                (Some(ClaimConfirmed), kind) => kind == ClaimCancelled,
                (Some(_), _) => false,
            };
            look.at(follows || !feed.resumed.is_empty(), &[], || {
                format!(
                    "{} saw {hold} {:?} at log index {}, after {before:?}",
                    feed.name, event.kind, event.log_index
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use client::EventKind;

    use super::super::testing::{assert_invalid, assert_valid, story};
    use crate::history::{Call, Outcome};

    #[test]
    fn a_key_that_tells_its_effect_again() {
        let mut story = story(2);
        story.claim("u1", "k1", 1, "h1");
        story.claim("u1", "k1", 2, "h1");
        assert_valid(&story.run(), "one-effect-per-key");
    }

    #[test]
    fn a_key_that_claims_twice() {
        let mut story = story(2);
        story.claim("u1", "k1", 1, "h1");
        story.claim("u1", "k1", 2, "h2");
        assert_invalid(&story.run(), "one-effect-per-key");
    }

    #[test]
    fn two_keys_of_one_hold() {
        let mut story = story(2);
        story.claim("u1", "k1", 1, "h1");
        story.claim("u2", "k2", 2, "h1");
        assert_invalid(&story.run(), "one-effect-per-key");
    }

    #[test]
    fn a_key_that_is_forgotten() {
        let mut story = story(1);
        story.claim("u1", "k1", 1, "h1");
        story.at(5).sold_out("u1", "k1", 2);
        assert_invalid(&story.run(), "one-effect-per-key");
    }

    #[test]
    fn a_key_means_one_request() {
        let write = |body| Call::Put {
            body,
            version: 0,
            token: 0,
            ttl_ms: 0,
            key: "k1",
        };
        let told = |body, outcome| {
            let mut story = story(1);
            story.answered(write("one"), 1, Outcome::Written { version: 1 });
            story.at(5).answered(write(body), 2, outcome);
            story.run()
        };
        let (written, reused) = (Outcome::Written { version: 1 }, Outcome::KeyReused);
        assert_valid(&told("one", written), "one-effect-per-key");
        assert_valid(&told("two", reused), "one-effect-per-key");
        assert_invalid(&told("one", reused), "one-effect-per-key");
        assert_invalid(&told("two", written), "one-effect-per-key");
    }

    #[test]
    fn a_refusal_is_not_remembered() {
        let mut story = story(1);
        story.sold_out("u1", "k1", 1);
        story.at(5).claim("u1", "k1", 2, "h1");
        assert_valid(&story.run(), "one-effect-per-key");
    }

    #[test]
    fn a_hold_that_ends_twice() {
        let mut story = story(1);
        story.event("w", (1, 0), EventKind::ClaimGranted, "h1");
        story.event("w", (2, 0), EventKind::ClaimReleased, "h1");
        story.event("w", (3, 0), EventKind::ClaimExpired, "h1");
        assert_invalid(&story.run(), "one-effect-per-key");
    }
}

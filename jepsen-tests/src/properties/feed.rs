//! The feed has every change once and in order, and is the same wherever it is watched. A gap is allowed only
//! where it was announced.

use std::collections::{BTreeMap, HashMap, HashSet};

use client::{ClaimStatus, EventKind};

use super::{Look, Observations, Run, SeenEvent, SeenFeed};
use crate::history::{Call, Index, Outcome};

pub(super) fn check(run: &Run, look: &mut Look) {
    // What anybody saw at a place, and who.
    let mut everywhere: BTreeMap<(u64, u32), (&SeenEvent, &str)> = BTreeMap::new();
    for feed in &run.observations.feeds {
        in_order(feed, look);
        for event in &feed.events {
            let place = (event.log_index, event.ordinal);
            let (first, watcher) = *everywhere.entry(place).or_insert((event, &feed.name));
            look.at(same(first, event), &[], || {
                format!(
                    "at {place:?} {watcher} saw {:?} of {}, and {} saw {:?} of {}",
                    first.kind, first.sale, feed.name, event.kind, event.sale
                )
            });
        }
    }
    // What one watcher saw, every other one saw that watched it.
    for feed in &run.observations.feeds {
        let seen: HashSet<(u64, u32)> = places(feed).collect();
        for (place, (event, watcher)) in &everywhere {
            if covers(feed, event.log_index, &event.sale) {
                look.at(seen.contains(place), &[], || {
                    format!(
                        "{} missed the change {place:?} that {watcher} saw: {:?}",
                        feed.name, event.kind
                    )
                });
            }
        }
    }
    for feed in &run.observations.feeds {
        let last = crate::workloads::watch::goal(&run.observations.last_changes, &feed.sale);
        look.at(feed.reached >= last || feed.ends_early, &[], || {
            format!(
                "{} never saw what happened after log index {}, up to {last}",
                feed.name, feed.reached
            )
        });
    }
    told_effects(run, look);
    told_claims(run, look);
}

/// Every claim that a replica has at the end, and what became of it, is in every feed that has no gap.
fn told_claims(run: &Run, look: &mut Look) {
    let Observations {
        feeds,
        replicas,
        last_changes,
        ..
    } = &run.observations;
    for feed in feeds {
        let whole = feed.from_index <= 1
            && feed.resumed.is_empty()
            && feed.reached >= crate::workloads::watch::goal(last_changes, &feed.sale);
        if !whole {
            continue;
        }
        let changes = feed.events.iter();
        let seen: HashSet<(&str, EventKind)> = changes
            .filter_map(|event| Some((event.claim.as_ref()?.claim_id.as_str(), event.kind)))
            .collect();
        let watched = |sale: &String| feed.sale.as_ref().is_none_or(|watched| watched == sale);
        for replica in replicas {
            for (_, sale) in replica.sales.iter().filter(|(sale, _)| watched(sale)) {
                for claim in &sale.claims {
                    let became = match claim.status {
                        ClaimStatus::Confirmed => EventKind::ClaimConfirmed,
                        ClaimStatus::Released => EventKind::ClaimReleased,
                        ClaimStatus::Expired => EventKind::ClaimExpired,
                        ClaimStatus::Cancelled => EventKind::ClaimCancelled,
                        ClaimStatus::Held | ClaimStatus::Unspecified => EventKind::ClaimGranted,
                    };
                    for kind in [EventKind::ClaimGranted, became] {
                        look.at(seen.contains(&(claim.claim_id.as_str(), kind)), &[], || {
                            format!(
                                "{} has {}, {:?}, and {} saw no {kind:?} of it",
                                replica.node, claim.claim_id, claim.status, feed.name
                            )
                        });
                    }
                }
            }
        }
    }
}

fn places(feed: &SeenFeed) -> impl Iterator<Item = (u64, u32)> + '_ {
    feed.events.iter().map(|event| (event.log_index, event.ordinal))
}

fn same(one: &SeenEvent, other: &SeenEvent) -> bool {
    one.kind == other.kind
        && one.sale == other.sale
        && one.claim == other.claim
        && one.value == other.value
        && one.lt == other.lt
        && one.command == other.command
}

/// Whether a feed must have this entry's changes of this sale.
fn covers(feed: &SeenFeed, log_index: u64, sale: &str) -> bool {
    // With an announced gap nobody knows where it began: what counts is what came after the last one.
    let from = feed.resumed.iter().copied().fold(feed.from_index, u64::max);
    feed.sale.as_deref().is_none_or(|watched| watched == sale) && (from..=feed.reached).contains(&log_index)
}

fn in_order(feed: &SeenFeed, look: &mut Look) {
    for pair in feed.events.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let rises = (before.log_index, before.ordinal) < (after.log_index, after.ordinal);
        look.at(rises, &[], || {
            format!(
                "{} saw change ({}, {}) after ({}, {})",
                feed.name, after.log_index, after.ordinal, before.log_index, before.ordinal
            )
        });
        // Within an entry nothing is left out, where everything is watched.
        let next = after.log_index != before.log_index || after.ordinal == before.ordinal + 1;
        look.at(next || feed.sale.is_some(), &[], || {
            format!(
                "{} saw change {} of entry {} after change {}",
                feed.name, after.ordinal, after.log_index, before.ordinal
            )
        });
    }
}

/// Every effect that a client was told is in every feed that covers it, at its place.
fn told_effects(run: &Run, look: &mut Look) {
    for feed in &run.observations.feeds {
        let mut seen: HashMap<(&str, EventKind), Index> = HashMap::new();
        for event in &feed.events {
            if let Some(claim) = &event.claim {
                let at = Index {
                    log_index: event.log_index,
                    position: event.command.map_or(u64::MAX, u64::from),
                };
                seen.insert((&claim.claim_id, event.kind), at);
            }
        }
        for operation in &run.operations {
            let Some(answer) = operation.effect() else {
                continue;
            };
            let (hold, kind) = match (operation.call, answer.outcome) {
                (Call::Claim { .. }, Outcome::Granted { hold, .. }) => (hold, EventKind::ClaimGranted),
                (Call::Decrement { .. }, Outcome::Sold { hold: Some(hold) }) => {
                    (hold, EventKind::ClaimConfirmed)
                }
                (Call::Confirm { hold, .. }, _) => (hold, EventKind::ClaimConfirmed),
                (Call::Release { hold, .. }, _) => (hold, EventKind::ClaimReleased),
                (Call::Extend { hold, .. }, _) => (hold, EventKind::ClaimExtended),
                (Call::Cancel { hold, .. }, _) => (hold, EventKind::ClaimCancelled),
                _ => continue,
            };
            let Some(at) = answer.idx else { continue };
            if !covers(feed, at.log_index, run.text(operation.sale)) {
                continue;
            }
            let place = seen.get(&(run.text(hold), kind));
            // A repetition tells a later place than where it happened. One before the gap is out of sight.
            let right =
                place.is_some_and(|place| *place <= at) || (place.is_none() && !feed.resumed.is_empty());
            look.at(right, &[operation.id], || {
                format!(
                    "{} was told {kind:?} at {at:?}, and {} has it at {place:?}",
                    run.text(hold),
                    feed.name
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use client::{
        ClaimStatus,
        EventKind::{ClaimExpired, ClaimGranted},
    };

    use super::super::testing::{Story, assert_invalid, assert_valid, claim, story};

    fn watched() -> Story {
        let mut story = story(3);
        story.claim("u1", "k1", 1, "h1");
        story.claim("u2", "k2", 2, "h2");
        for watcher in ["one", "two"] {
            story.event(watcher, (1, 0), ClaimGranted, "h1");
            story.event(watcher, (2, 0), ClaimGranted, "h2");
        }
        story
    }

    #[test]
    fn two_watchers_of_one_feed() {
        assert_valid(&watched().run(), "feed");
    }

    #[test]
    fn a_repetition() {
        let mut story = watched();
        story.event("one", (2, 0), ClaimGranted, "h2");
        assert_invalid(&story.run(), "feed");
    }

    #[test]
    fn a_reorder() {
        let mut story = watched();
        story.observations.feeds[0].events.swap(0, 1);
        assert_invalid(&story.run(), "feed");
    }

    #[test]
    fn a_gap_between_watchers() {
        let mut story = watched();
        story.observations.feeds[0].events.remove(0);
        assert_invalid(&story.run(), "feed");
    }

    #[test]
    fn a_gap_within_an_entry() {
        let mut story = watched();
        for watcher in ["one", "two"] {
            story.event(watcher, (3, 0), ClaimExpired, "h1");
            story.event(watcher, (3, 2), ClaimExpired, "h2");
        }
        assert_invalid(&story.run(), "feed");
    }

    #[test]
    fn an_effect_that_no_watcher_saw() {
        let mut story = watched();
        story.claim("u3", "k3", 3, "h3");
        for feed in &mut story.observations.feeds {
            feed.reached = 3;
        }
        assert_invalid(&story.run(), "feed");
    }

    #[test]
    fn a_claim_that_became_something_nobody_saw() {
        for (status, valid) in [(ClaimStatus::Held, true), (ClaimStatus::Confirmed, false)] {
            let mut story = watched();
            story.replica("n1", vec![claim("h1", status, 1)]);
            if valid {
                assert_valid(&story.run(), "feed");
            } else {
                assert_invalid(&story.run(), "feed");
            }
            // Behind a gap that was announced it may be out of sight.
            for feed in &mut story.observations.feeds {
                feed.resumed = vec![2];
            }
            assert_valid(&story.run(), "feed");
        }
    }

    #[test]
    fn a_watcher_that_never_sees_the_end() {
        let mut story = watched();
        story.observations.last_changes.insert("s".to_owned(), 3);
        assert_invalid(&story.run(), "feed");
    }

    #[test]
    fn a_watcher_that_has_not_come_so_far() {
        let mut story = watched();
        story.claim("u3", "k3", 3, "h3");
        assert_valid(&story.run(), "feed");
    }

    #[test]
    fn a_gap_that_was_announced() {
        let mut story = watched();
        let feed = &mut story.observations.feeds[0];
        feed.events.remove(0);
        feed.resumed.push(2);
        assert_valid(&story.run(), "feed");
    }

    #[test]
    fn watchers_that_saw_different_things() {
        let mut story = watched();
        story.observations.feeds[0].events[1].kind = ClaimExpired;
        assert_invalid(&story.run(), "feed");
    }
}

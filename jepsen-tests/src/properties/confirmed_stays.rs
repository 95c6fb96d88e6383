//! What was confirmed stays confirmed: on every replica, in the feed, and in what reads count as sold.

use std::collections::{BTreeMap, HashMap, HashSet};

use client::{ClaimStatus, EventKind};

use super::{Look, Run};
use crate::history::{Call, Index, Name, Outcome};

pub(super) fn check(run: &Run, look: &mut Look) {
    // A cancellation takes a sale back by wish, also when nobody knows whether it happened.
    let cancelled: HashSet<Name> = run
        .operations
        .iter()
        .filter(|operation| operation.is_unknown() || operation.effect().is_some())
        .filter_map(|operation| match operation.call {
            Call::Cancel { hold, .. } => Some(hold),
            _ => None,
        })
        .collect();
    let mut confirmed: BTreeMap<Name, u64> = BTreeMap::new();
    for operation in &run.operations {
        let hold = match (operation.call, operation.answer().map(|answer| answer.outcome)) {
            (Call::Confirm { hold, .. }, Some(Outcome::Confirmed)) => Some(hold),
            (Call::Decrement { .. }, Some(Outcome::Sold { hold })) => hold,
            _ => None,
        };
        if let Some(hold) = hold.filter(|hold| !cancelled.contains(hold)) {
            confirmed.insert(hold, operation.id);
        }
    }
    on_replicas(run, &confirmed, look);
    in_feeds(run, look);
    in_reads(run, look);
}

fn on_replicas(run: &Run, confirmed: &BTreeMap<Name, u64>, look: &mut Look) {
    for replica in &run.observations.replicas {
        let claims = replica.sales.values().flat_map(|sale| &sale.claims);
        let status: HashMap<&str, ClaimStatus> = claims
            .map(|claim| (claim.claim_id.as_str(), claim.status))
            .collect();
        for (&hold, &id) in confirmed {
            let hold = run.text(hold);
            let now = status.get(hold).copied();
            look.at(now == Some(ClaimStatus::Confirmed), &[id], || {
                format!("{hold} was confirmed, and on {} it is {now:?}", replica.node)
            });
        }
    }
}

fn in_feeds(run: &Run, look: &mut Look) {
    for feed in &run.observations.feeds {
        let mut confirmed: HashSet<&str> = HashSet::new();
        for event in &feed.events {
            let Some(claim) = &event.claim else { continue };
            let hold = claim.claim_id.as_str();
            match event.kind {
                EventKind::ClaimConfirmed => {
                    confirmed.insert(hold);
                }
                EventKind::ClaimCancelled => {
                    confirmed.remove(hold);
                }
                EventKind::ClaimReleased | EventKind::ClaimExpired => {
                    look.at(!confirmed.contains(hold), &[], || {
                        format!(
                            "{} saw {hold} confirmed, and then {:?} at log index {}",
                            feed.name, event.kind, event.log_index
                        )
                    });
                }
                _ => {}
            }
        }
    }
}

/// Where nobody cancels, the number of units sold never falls along the log.
fn in_reads(run: &Run, look: &mut Look) {
    /// Where a read stood, the units it told as sold, and its operation's id.
    type Told = (Index, u64, Option<u64>);
    let mut sold: BTreeMap<&str, Vec<Told>> = BTreeMap::new();
    let mut cancels: HashSet<&str> = HashSet::new();
    for operation in &run.operations {
        let sale = run.text(operation.sale);
        if matches!(operation.call, Call::Cancel { .. }) {
            cancels.insert(sale);
        }
        if let Some(answer) = operation.answer()
            && let (Some(at), Outcome::Counters { sold: units, .. }) = (answer.idx, answer.outcome)
        {
            sold.entry(sale)
                .or_default()
                .push((at, units, Some(operation.id)));
        }
    }
    for read in &run.observations.reads {
        let at = Index {
            log_index: read.log_index,
            position: u64::MAX,
        };
        sold.entry(&read.sale)
            .or_default()
            .push((at, read.counters.sold, None));
    }
    for (sale, mut reads) in sold {
        if cancels.contains(sale) {
            continue;
        }
        reads.sort();
        for pair in reads.windows(2) {
            let ((earlier, before, first), (later, after, second)) = (pair[0], pair[1]);
            let ids: Vec<u64> = first.into_iter().chain(second).collect();
            look.at(before <= after, &ids, || {
                format!(
                    "{sale} had {before} units sold at log index {}, and {after} at {}",
                    earlier.log_index, later.log_index
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use client::{ClaimStatus, EventKind};

    use super::super::testing::{assert_invalid, assert_valid, claim, story};
    use crate::properties::testing::Story;

    fn bought() -> Story {
        let mut story = story(2);
        story.claim("u1", "k1", 1, "h1");
        story.confirm("h1", "c1", 2);
        story
    }

    #[test]
    fn a_purchase_that_is_there() {
        let mut story = bought();
        story.replica("n1", vec![claim("h1", ClaimStatus::Confirmed, 1)]);
        assert_valid(&story.run(), "confirmed-stays");
    }

    #[test]
    fn a_purchase_that_expired_on_a_replica() {
        let mut story = bought();
        story.replica("n1", vec![claim("h1", ClaimStatus::Expired, 1)]);
        assert_invalid(&story.run(), "confirmed-stays");
    }

    #[test]
    fn a_purchase_that_is_gone() {
        let mut story = bought();
        story.replica("n1", vec![]);
        assert_invalid(&story.run(), "confirmed-stays");
    }

    #[test]
    fn a_purchase_that_the_feed_takes_back() {
        let mut story = bought();
        story.event("w", (2, 0), EventKind::ClaimConfirmed, "h1");
        story.event("w", (3, 0), EventKind::ClaimExpired, "h1");
        assert_invalid(&story.run(), "confirmed-stays");
    }

    #[test]
    fn reads_that_count_fewer_sold() {
        let mut story = bought();
        story.read((1, 0, 1, 2), 3);
        story.seen_read("n2", 4, (2, 0, 0, 2));
        assert_invalid(&story.run(), "confirmed-stays");
    }
}

//! Whoever answers a read: at one log index a sale has one state. And a bounded read is as fresh as it was asked
//! to be: it reflects whatever was acknowledged longer ago than its bound.

use std::collections::BTreeMap;

use super::{Counters, Look, Run};
use crate::history::Outcome;

pub(super) fn check(run: &Run, look: &mut Look) {
    let mut at_index: BTreeMap<(&str, u64), (Counters, &str)> = BTreeMap::new();
    for operation in &run.operations {
        let Some(answer) = operation.answer() else {
            continue;
        };
        if let Outcome::Counters {
            available,
            held,
            sold,
            total,
        } = answer.outcome
            && let Some(idx) = answer.idx
        {
            let counters = Counters {
                available,
                held,
                sold,
                total,
            };
            let sale = run.text(operation.sale);
            let (first, node) = *(at_index.entry((sale, idx.log_index))).or_insert((counters, "the leader"));
            look.at(first == counters, &[operation.id], || {
                format!(
                    "{sale} at log index {} is {first:?} by {node}, and {counters:?} by the leader",
                    idx.log_index
                )
            });
        }
    }
    for read in &run.observations.reads {
        let place = (read.sale.as_str(), read.log_index);
        let (first, node) = *at_index.entry(place).or_insert((read.counters, &read.node));
        look.at(first == read.counters, &[], || {
            format!(
                "{} at log index {} is {first:?} by {node}, and {:?} by {}",
                read.sale, read.log_index, read.counters, read.node
            )
        });
    }
    fresh_enough(run, look);
}

fn fresh_enough(run: &Run, look: &mut Look) {
    // When what was acknowledged, and the newest index acknowledged by then.
    let mut acknowledged: Vec<(u64, u64, u64)> = run
        .operations
        .iter()
        .filter(|operation| operation.returned_ns != u64::MAX)
        .filter_map(|operation| {
            let idx = operation.answer()?.idx?;
            Some((operation.returned_ns, idx.log_index, operation.id))
        })
        .collect();
    acknowledged.sort();
    let mut newest = 0;
    for (_, log_index, id) in &mut acknowledged {
        if *log_index > newest {
            newest = *log_index;
        } else {
            (*log_index, *id) = (newest, *id);
        }
    }
    let ahead_ppm = run.observations.clock_ahead_ppm;
    for read in &run.observations.reads {
        let Some(age_ms_max) = read.age_ms_max else {
            continue;
        };
        // A node with a slow clock counts the age by it.
        let age_ns = age_ms_max * 1_000_000 + age_ms_max * ahead_ppm;
        let since = read.invoked_ns.saturating_sub(age_ns);
        let known = acknowledged.partition_point(|&(returned_ns, ..)| returned_ns < since);
        if let Some(&(_, log_index, id)) = known.checked_sub(1).and_then(|last| acknowledged.get(last)) {
            look.at(read.log_index >= log_index, &[id], || {
                format!(
                    "a read of {} from {} at most {age_ms_max} ms old reflects log index {}, \
                     though {log_index} had been acknowledged before",
                    read.sale, read.node, read.log_index
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_invalid, assert_valid, story};

    #[test]
    fn one_state_at_one_index() {
        let mut story = story(2);
        story.claim("u1", "k1", 1, "h1");
        story.read((1, 1, 0, 2), 1);
        story.seen_read("n2", 1, (1, 1, 0, 2));
        story.seen_read("n3", 0, (2, 0, 0, 2));
        assert_valid(&story.run(), "reads-at-index");
    }

    #[test]
    fn two_states_at_one_index() {
        let mut story = story(2);
        story.seen_read("n2", 1, (1, 1, 0, 2));
        story.seen_read("n3", 1, (2, 0, 0, 2));
        assert_invalid(&story.run(), "reads-at-index");
    }

    #[test]
    fn a_bounded_read_may_miss_what_is_younger_than_its_bound() {
        let mut story = story(2);
        story.at(100).claim("u1", "k1", 5, "h1");
        story.at(150).seen_read("n2", 4, (2, 0, 0, 2)).age_ms_max = Some(100);
        assert_valid(&story.run(), "reads-at-index");
    }

    #[test]
    fn a_bounded_read_that_is_too_old() {
        let mut story = story(2);
        story.at(100).claim("u1", "k1", 5, "h1");
        story.at(150).seen_read("n2", 4, (2, 0, 0, 2)).age_ms_max = Some(40);
        assert_invalid(&story.run(), "reads-at-index");
    }
}

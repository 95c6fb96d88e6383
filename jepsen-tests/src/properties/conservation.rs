//! Units are conserved: in every read, linearizable or not, of every replica, they add up.

use super::{Look, Run};
use crate::{history::Outcome, properties::Counters};

pub(super) fn check(run: &Run, look: &mut Look) {
    for operation in &run.operations {
        if let Some(Outcome::Counters {
            available,
            held,
            sold,
            total,
        }) = operation.answer().map(|answer| answer.outcome)
        {
            let counters = Counters {
                available,
                held,
                sold,
                total,
            };
            look.at(counters.add_up(), &[operation.id], || {
                format!(
                    "a read of {} does not add up: {counters:?}",
                    run.text(operation.sale)
                )
            });
        }
    }
    for read in &run.observations.reads {
        look.at(read.counters.add_up(), &[], || {
            format!(
                "a read of {} from {} does not add up: {:?}",
                read.sale, read.node, read.counters
            )
        });
    }
    for replica in &run.observations.replicas {
        for (sale, state) in &replica.sales {
            look.at(state.counters.add_up(), &[], || {
                format!("{sale} on {} does not add up: {:?}", replica.node, state.counters)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_invalid, assert_valid, story};

    #[test]
    fn units_that_add_up() {
        let mut story = story(2);
        story.claim("u1", "k1", 1, "h1");
        story.read((1, 1, 0, 2), 2);
        assert_valid(&story.run(), "conservation");
    }

    #[test]
    fn a_unit_that_is_nowhere() {
        let mut story = story(2);
        story.claim("u1", "k1", 1, "h1");
        story.read((0, 1, 0, 2), 2);
        assert_invalid(&story.run(), "conservation");
    }

    #[test]
    fn a_unit_that_is_nowhere_in_a_follower_s_read() {
        let mut story = story(2);
        story.seen_read("n2", 1, (3, 0, 0, 2));
        assert_invalid(&story.run(), "conservation");
    }
}

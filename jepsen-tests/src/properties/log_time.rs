//! Log time never falls along the log, and all that one entry says, it says at one time.

use super::{Look, Run};

pub(super) fn check(run: &Run, look: &mut Look) {
    // Log index, log time, and the operation that told it.
    let mut times: Vec<(u64, u64, Option<u64>)> = Vec::new();
    for operation in &run.operations {
        if let Some(answer) = operation.answer()
            && let Some(idx) = answer.idx
        {
            times.push((idx.log_index, answer.lt, Some(operation.id)));
        }
    }
    let observations = &run.observations;
    times.extend(
        observations
            .reads
            .iter()
            .map(|read| (read.log_index, read.lt, None)),
    );
    let events = observations.feeds.iter().flat_map(|feed| &feed.events);
    times.extend(events.map(|event| (event.log_index, event.lt, None)));
    times.sort();
    for pair in times.windows(2) {
        let ((earlier, before, first), (later, after, second)) = (pair[0], pair[1]);
        let ids: Vec<u64> = first.into_iter().chain(second).collect();
        let right = if earlier == later {
            before == after
        } else {
            before <= after
        };
        look.at(right, &ids, || {
            format!("log time was {before} ms at log index {earlier}, and {after} ms at {later}")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_invalid, assert_valid, story};

    #[test]
    fn time_that_stands_still_or_goes_on() {
        let mut story = story(9);
        story.at(5).sold_out("u1", "k1", 1);
        story.sold_out("u2", "k2", 2);
        story.at(6).sold_out("u3", "k3", 3);
        assert_valid(&story.run(), "log-time");
    }

    #[test]
    fn time_that_falls() {
        let mut story = story(9);
        story.at(5).sold_out("u1", "k1", 2);
        story.at(6).sold_out("u2", "k2", 1);
        assert_invalid(&story.run(), "log-time");
    }

    #[test]
    fn one_entry_at_two_times() {
        let mut story = story(9);
        story.at(5).sold_out("u1", "k1", 1);
        story.at(6).seen_read("n2", 1, (9, 0, 0, 9));
        assert_invalid(&story.run(), "log-time");
    }
}

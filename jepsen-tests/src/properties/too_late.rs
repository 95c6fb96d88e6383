//! Who was told that an outcome is unknown was told until when it may still come about. After that log time it does
//! not, wherever the network kept what was sent.

use std::collections::HashMap;

use super::{End, Look, Run};

pub(super) fn check(run: &Run, look: &mut Look) {
    // Until when any attempt of a key may take effect; none: nobody said.
    let mut until_ms: HashMap<_, Option<u64>> = HashMap::new();
    for operation in &run.operations {
        let Some(key) = operation.call.key() else {
            continue;
        };
        let told = match operation.end {
            // It, or an attempt of its own that nobody heard, may be what took effect.
            End::Answered(answer) if answer.outcome.is_effect() => None,
            End::Answered(_) | End::Failed => continue,
            End::Unknown | End::Learned(_) | End::Abandoned => {
                run.observations.alive_until_ms.get(&operation.id).copied()
            }
        };
        let until = until_ms
            .entry((operation.sale, operation.call.kind(), key))
            .or_insert(Some(0));
        *until = until.zip(told).map(|(one, other)| one.max(other));
    }
    for operation in &run.operations {
        let (End::Learned(answer), Some(key)) = (operation.end, operation.call.key()) else {
            continue;
        };
        let until = until_ms.get(&(operation.sale, operation.call.kind(), key));
        if let (Some(&Some(until)), true) = (until, answer.outcome.is_effect()) {
            look.at(answer.lt <= until, &[operation.id], || {
                format!(
                    "operation {} took effect at log time {} ms, though its caller was told that it cannot after {until} ms",
                    operation.id, answer.lt
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_invalid, assert_valid, at, story};
    use crate::{
        history::{Answer, Call, Outcome},
        properties::Run,
    };

    /// An unknown claim that took effect at this log time; its caller, and whoever else used its key, was told these.
    fn learned(lt: u64, told: &[Option<u64>]) -> Run {
        let mut story = story(3);
        let ids: Vec<u64> = told
            .iter()
            .map(|_| story.unknown(Call::claim("u", "k")))
            .collect();
        for (id, told) in ids.iter().zip(told) {
            if let Some(told) = told {
                story.observations.alive_until_ms.insert(*id, *told);
            }
        }
        let granted = Answer {
            idx: Some(at(4)),
            lt,
            outcome: Outcome::Granted {
                hold: "h",
                deadline: lt + 1_000,
            },
        };
        story.recorder.resolve(ids[0], Some(granted));
        story.run()
    }

    #[test]
    fn an_effect_in_time_is_right_and_one_after_it_is_not() {
        assert_valid(&learned(900, &[Some(900)]), "nothing-too-late");
        assert_invalid(&learned(901, &[Some(900)]), "nothing-too-late");
    }

    #[test]
    fn whoever_used_the_key_may_have_done_it_until_his_own_time() {
        assert_valid(&learned(901, &[Some(900), Some(950)]), "nothing-too-late");
        assert_invalid(&learned(951, &[Some(900), Some(950)]), "nothing-too-late");
        assert_valid(&learned(951, &[Some(900), None]), "nothing-too-late");
    }

    #[test]
    fn an_answer_from_another_attempt_has_its_own_time() {
        let mut story = story(3);
        let lost = story.unknown(Call::claim("u", "k"));
        story.observations.alive_until_ms.insert(lost, 10);
        let outcome = Outcome::Granted {
            hold: "h",
            deadline: 1_500,
        };
        story.at(500).answered(Call::claim("u", "k"), 3, outcome);
        assert_valid(&story.run(), "nothing-too-late");
    }
}

//! After the last fault the cluster comes back by itself: it serves within a bound, every unknown becomes known,
//! every hold ends in time, and then every unit is available or sold, on every replica.

use super::{Look, Run};

pub(super) fn check(run: &Run, look: &mut Look) {
    let Some(healing) = &run.observations.healing else {
        return;
    };
    let within = |at: Option<u64>, ms_max: u64| {
        at.is_some_and(|at| at.saturating_sub(healing.healed_ns) <= ms_max * 1_000_000)
    };
    let since = |at: Option<u64>| match at {
        Some(at) => format!("{} ms", at.saturating_sub(healing.healed_ns) / 1_000_000),
        None => "never".to_owned(),
    };
    look.at(within(healing.serving_ns, healing.serving_ms_max), &[], || {
        format!(
            "after the last fault a command was first answered after {}, of {} ms allowed",
            since(healing.serving_ns),
            healing.serving_ms_max
        )
    });
    look.at(healing.unresolved.is_empty(), &healing.unresolved, || {
        format!(
            "{} unknown operations could not be resolved",
            healing.unresolved.len()
        )
    });
    look.at(within(healing.holds_ended_ns, healing.holds_ms_max), &[], || {
        format!(
            "after the last fault the last hold ended after {}, of {} ms allowed",
            since(healing.holds_ended_ns),
            healing.holds_ms_max
        )
    });
    look.at(healing.missing.is_empty(), &[], || {
        format!("replicas did not come back: {}", healing.missing.join("; "))
    });
    for replica in &run.observations.replicas {
        for (sale, state) in &replica.sales {
            let counters = state.counters;
            look.at(counters.available + counters.sold == counters.total, &[], || {
                format!("{sale} on {} has not come to rest: {counters:?}", replica.node)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use client::ClaimStatus;

    use super::{
        super::testing::{Story, assert_invalid, assert_valid, claim, story},
        *,
    };
    use crate::properties::Healing;

    fn healed(change: impl FnOnce(&mut Story, &mut Healing)) -> Run {
        let mut story = story(2);
        let mut healing = Healing {
            healed_ns: 1_000_000_000,
            serving_ns: Some(2_000_000_000),
            serving_ms_max: 1_000,
            unresolved: Vec::new(),
            holds_ended_ns: Some(3_000_000_000),
            holds_ms_max: 2_000,
            missing: Vec::new(),
        };
        change(&mut story, &mut healing);
        story.observations.healing = Some(healing);
        story.run()
    }

    #[test]
    fn a_cluster_that_came_back() {
        let run = healed(|story, _| story.replica("n1", vec![claim("h1", ClaimStatus::Confirmed, 1)]));
        assert_valid(&run, "healed");
    }

    #[test]
    fn a_leader_that_came_late_or_never() {
        assert_invalid(&healed(|_, healing| healing.serving_ms_max = 900), "healed");
        assert_invalid(&healed(|_, healing| healing.serving_ns = None), "healed");
    }

    #[test]
    fn an_unknown_that_stays_unknown() {
        assert_invalid(&healed(|_, healing| healing.unresolved.push(3)), "healed");
    }

    #[test]
    fn a_hold_that_never_ends() {
        assert_invalid(&healed(|_, healing| healing.holds_ended_ns = None), "healed");
        let run = healed(|story, _| story.replica("n1", vec![claim("h1", ClaimStatus::Held, 1)]));
        assert_invalid(&run, "healed");
    }

    #[test]
    fn a_replica_that_is_missing() {
        assert_invalid(
            &healed(|_, healing| healing.missing.push("n3: refused".to_owned())),
            "healed",
        );
    }
}

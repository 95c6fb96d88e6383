//! No overselling: at no place of the log are more units held and sold than the sale has.

use super::{
    Look, Run,
    ledger::{Bound, Change, Walk, ledgers},
};

pub(super) fn check(run: &Run, look: &mut Look) {
    for ledger in ledgers(run) {
        let mut walk = Walk::new(&ledger, Bound::Least);
        let sale = run.text(ledger.sale);
        while let Some(step) = walk.step() {
            if matches!(step.change, Change::Held { .. } | Change::Sold { .. }) {
                let units = walk.total + ledger.may_bring;
                look.at(walk.taken <= units, &[step.id], || {
                    format!(
                        "{sale} has {units} units, and {} are held or sold at log index {}",
                        walk.taken, step.at.log_index
                    )
                });
            }
        }
    }
    for replica in &run.observations.replicas {
        for (sale, state) in &replica.sales {
            let live = state.claims.iter().filter(|claim| {
                matches!(
                    claim.status,
                    client::ClaimStatus::Held | client::ClaimStatus::Confirmed
                )
            });
            let taken: u64 = live.map(|claim| u64::from(claim.quantity)).sum();
            look.at(taken <= state.counters.total, &[], || {
                format!(
                    "{} of {sale} has {taken} units in live claims, of {}",
                    replica.node, state.counters.total
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_invalid, assert_valid, story};

    #[test]
    fn a_unit_may_be_held_again_once_its_hold_has_ended() {
        let mut story = story(1);
        story.claim("u1", "k1", 1, "h1");
        story.at(2_000).claim("u2", "k2", 2, "h2");
        assert_valid(&story.run(), "no-oversell");
    }

    #[test]
    fn two_live_holds_of_one_unit() {
        let mut story = story(1);
        story.claim("u1", "k1", 1, "h1");
        story.claim("u2", "k2", 2, "h2");
        assert_invalid(&story.run(), "no-oversell");
    }

    #[test]
    fn a_confirmed_hold_never_ends() {
        let mut story = story(1);
        story.claim("u1", "k1", 1, "h1");
        story.confirm("h1", "c1", 2);
        story.at(2_000).claim("u2", "k2", 3, "h2");
        assert_invalid(&story.run(), "no-oversell");
    }

    #[test]
    fn an_unknown_release_may_have_returned_the_unit() {
        let mut story = story(1);
        story.claim("u1", "k1", 1, "h1");
        story.unknown_release("h1", "r1");
        story.claim("u2", "k2", 3, "h2");
        assert_valid(&story.run(), "no-oversell");
    }

    #[test]
    fn one_key_told_twice_is_one_hold() {
        let mut story = story(1);
        story.claim("u1", "k1", 1, "h1");
        story.claim("u1", "k1", 2, "h1");
        assert_valid(&story.run(), "no-oversell");
    }
}

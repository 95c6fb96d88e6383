//! One live claim for a user, or as many units as the sale allows: never more.

use std::collections::HashMap;

use client::ClaimStatus;

use super::{
    Look, Run,
    ledger::{Bound, Change, Walk, ledgers},
};

pub(super) fn check(run: &Run, look: &mut Look) {
    for ledger in ledgers(run) {
        let mut walk = Walk::new(&ledger, Bound::Least);
        let sale = run.text(ledger.sale);
        while let Some(step) = walk.step() {
            let user = match step.change {
                Change::Held { user, .. } => Some(user),
                Change::Sold { user, .. } => user,
                _ => None,
            };
            if let Some(user) = user {
                let units = walk.of_user(user);
                look.at(units <= ledger.user_units_max, &[step.id], || {
                    format!(
                        "{} has {units} units of {sale} at log index {}, and may have {}",
                        run.text(user),
                        step.at.log_index,
                        ledger.user_units_max
                    )
                });
            }
        }
    }
    for replica in &run.observations.replicas {
        for (sale, state) in &replica.sales {
            let limit = run
                .history
                .header
                .sales
                .get(sale)
                .map_or(u64::MAX, |sale| sale.per_user_units_max);
            let mut units: HashMap<&[u8], u64> = HashMap::new();
            for claim in &state.claims {
                if matches!(claim.status, ClaimStatus::Held | ClaimStatus::Confirmed) {
                    *units.entry(&claim.user_hash).or_default() += u64::from(claim.quantity);
                }
            }
            let most = units.values().copied().max().unwrap_or_default();
            look.at(most <= limit, &[], || {
                format!(
                    "on {} somebody has {most} live units of {sale}, and may have {limit}",
                    replica.node
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_invalid, assert_valid, story};

    #[test]
    fn a_user_may_claim_again_when_his_hold_has_ended() {
        let mut story = story(9);
        story.claim("u1", "k1", 1, "h1");
        story.at(2_000).claim("u1", "k2", 2, "h2");
        assert_valid(&story.run(), "user-limit");
    }

    #[test]
    fn two_live_holds_of_one_user() {
        let mut story = story(9);
        story.claim("u1", "k1", 1, "h1");
        story.claim("u1", "k2", 2, "h2");
        assert_invalid(&story.run(), "user-limit");
    }

    #[test]
    fn a_user_who_has_bought_may_not_hold() {
        let mut story = story(9);
        story.claim("u1", "k1", 1, "h1");
        story.confirm("h1", "c1", 2);
        story.at(5_000).claim("u1", "k2", 3, "h2");
        assert_invalid(&story.run(), "user-limit");
    }
}

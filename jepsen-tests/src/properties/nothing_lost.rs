//! No acknowledged effect is lost, and none appears that nobody asked for: at the end every replica has exactly
//! the claims that were told, each as its receipt says.

use std::collections::{HashMap, HashSet};

use client::{Claim, ClaimStatus};

use super::{Look, Operation, Run};
use crate::history::{Call, Outcome};

pub(super) fn check(run: &Run, look: &mut Look) {
    // Unknown claims may have made claims that nobody was told of.
    let all_known = !run.operations.iter().any(|operation| {
        operation.is_unknown() && matches!(operation.call, Call::Claim { .. } | Call::Decrement { .. })
    });
    for replica in &run.observations.replicas {
        let claims: HashMap<&str, &Claim> = replica
            .sales
            .values()
            .flat_map(|sale| &sale.claims)
            .map(|claim| (claim.claim_id.as_str(), claim))
            .collect();
        let mut told: HashSet<&str> = HashSet::new();
        for operation in &run.operations {
            one(run, &replica.node, operation, &claims, &mut told, look);
        }
        if all_known {
            let stranger = claims.keys().copied().filter(|hold| !told.contains(hold)).min();
            look.at(stranger.is_none(), &[], || {
                format!(
                    "{} has {}, of which nobody was told",
                    replica.node,
                    stranger.unwrap_or_default()
                )
            });
        }
    }
}

fn one<'a>(
    run: &'a Run,
    node: &str,
    operation: &Operation,
    claims: &HashMap<&str, &Claim>,
    told: &mut HashSet<&'a str>,
    look: &mut Look,
) {
    let Some(answer) = operation.answer() else {
        return;
    };
    let hold = match (operation.call, answer.outcome) {
        (
            _,
            Outcome::Granted { hold, .. } | Outcome::Already { hold } | Outcome::Sold { hold: Some(hold) },
        ) => hold,
        (Call::Release { hold, .. }, Outcome::Released) => {
            let hold = run.text(hold);
            let now = claims.get(hold).map(|claim| claim.status);
            look.at(now == Some(ClaimStatus::Released), &[operation.id], || {
                format!("{hold} was released, and on {node} it is {now:?}")
            });
            return;
        }
        _ => return,
    };
    let hold = run.text(hold);
    told.insert(hold);
    let claim = claims.get(hold);
    look.at(claim.is_some(), &[operation.id], || {
        format!(
            "{node} does not have {hold}, which was told at log index {:?}",
            answer.idx
        )
    });
    // A repetition may tell a later place; nobody may tell an earlier one than where the claim is.
    if let (Some(claim), Some(idx)) = (claim, answer.idx) {
        let granted = (claim.receipt.log_index, u64::from(claim.receipt.position));
        look.at((idx.log_index, idx.position) >= granted, &[operation.id], || {
            format!("{hold} was told at {idx:?}, and on {node} it was granted at {granted:?}")
        });
    }
}

#[cfg(test)]
mod tests {
    use client::ClaimStatus;

    use super::super::testing::{assert_invalid, assert_valid, claim, story};

    #[test]
    fn what_was_told_is_there() {
        let mut story = story(2);
        story.claim("u1", "k1", 1, "h1");
        story.claim("u2", "k2", 2, "h2");
        story.release("h2", "r2", 3);
        let (held, released) = (ClaimStatus::Held, ClaimStatus::Released);
        story.replica("n1", vec![claim("h1", held, 1), claim("h2", released, 2)]);
        assert_valid(&story.run(), "nothing-lost");
    }

    #[test]
    fn a_claim_that_is_lost() {
        let mut story = story(2);
        story.claim("u1", "k1", 1, "h1");
        story.replica("n1", vec![]);
        assert_invalid(&story.run(), "nothing-lost");
    }

    #[test]
    fn a_release_that_is_lost() {
        let mut story = story(2);
        story.claim("u1", "k1", 1, "h1");
        story.release("h1", "r1", 2);
        story.replica("n1", vec![claim("h1", ClaimStatus::Expired, 1)]);
        assert_invalid(&story.run(), "nothing-lost");
    }

    #[test]
    fn a_claim_that_nobody_was_told_of() {
        let mut story = story(2);
        story.replica("n1", vec![claim("h1", ClaimStatus::Held, 1)]);
        assert_invalid(&story.run(), "nothing-lost");
    }

    #[test]
    fn an_unknown_claim_may_be_there() {
        let mut story = story(2);
        story.unknown_claim("u1", "k1");
        story.replica("n1", vec![claim("h1", ClaimStatus::Held, 1)]);
        assert_valid(&story.run(), "nothing-lost");
    }

    #[test]
    fn a_claim_told_before_it_was_granted() {
        let mut story = story(2);
        story.claim("u1", "k1", 1, "h1");
        story.replica("n1", vec![claim("h1", ClaimStatus::Held, 2)]);
        assert_invalid(&story.run(), "nothing-lost");
    }
}

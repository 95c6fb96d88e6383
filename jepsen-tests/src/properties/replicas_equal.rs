//! Replicas that have applied the same log have the same state: at one index one hash, whenever it was taken;
//! at the end the same claims; and every replica's records add up to its counters.

use std::collections::BTreeMap;

use client::ClaimStatus;

use super::{Counters, Look, Run, SeenHash};

pub(super) fn check(run: &Run, look: &mut Look) {
    let mut at_index: BTreeMap<u64, &SeenHash> = BTreeMap::new();
    for hash in &run.observations.hashes {
        let first = *at_index.entry(hash.log_index).or_insert(hash);
        look.at(first.digest == hash.digest, &[], || {
            format!(
                "{} and {} differ at log index {}",
                first.node, hash.node, hash.log_index
            )
        });
        look.at(hash.sales_wrong.is_empty(), &[], || {
            format!(
                "{} counts wrong at log index {}: {}",
                hash.node,
                hash.log_index,
                hash.sales_wrong.join(", ")
            )
        });
    }
    let replicas = &run.observations.replicas;
    for replica in replicas {
        for (sale, state) in &replica.sales {
            let units = |status| {
                let claims = state.claims.iter().filter(|claim| claim.status == status);
                claims.map(|claim| u64::from(claim.quantity)).sum::<u64>()
            };
            let (held, sold) = (units(ClaimStatus::Held), units(ClaimStatus::Confirmed));
            let Counters {
                held: held_counted,
                sold: sold_counted,
                ..
            } = state.counters;
            look.at((held, sold) == (held_counted, sold_counted), &[], || {
                format!(
                    "the claims of {sale} on {} have {held} units held and {sold} sold, its counters {:?}",
                    replica.node, state.counters
                )
            });
        }
    }
    for pair in replicas.windows(2) {
        let (one, other) = (&pair[0], &pair[1]);
        for (sale, state) in &one.sales {
            let theirs = other.sales.get(sale);
            let same = theirs
                .is_some_and(|theirs| theirs.counters == state.counters && theirs.claims == state.claims);
            look.at(same, &[], || {
                let first = theirs.and_then(|theirs| {
                    let mut pairs = state.claims.iter().zip(&theirs.claims);
                    pairs.find(|(one, other)| one != other)
                });
                format!(
                    "{sale} is not the same on {} and {} at the end: {first:?}",
                    one.node, other.node
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use client::ClaimStatus::{Confirmed, Expired, Held};

    use super::super::testing::{assert_invalid, assert_valid, claim, story};

    #[test]
    fn replicas_that_are_one() {
        let mut story = story(2);
        story.hash("n1", 7, 1);
        story.hash("n2", 8, 2);
        story.hash("n3", 7, 1);
        story.replica("n1", vec![claim("h1", Held, 1)]);
        story.replica("n2", vec![claim("h1", Held, 1)]);
        assert_valid(&story.run(), "replicas-equal");
    }

    #[test]
    fn two_hashes_at_one_index() {
        let mut story = story(2);
        story.hash("n1", 7, 1);
        story.hash("n2", 7, 2);
        assert_invalid(&story.run(), "replicas-equal");
    }

    #[test]
    fn a_node_that_finds_itself_wrong() {
        let mut story = story(2);
        story.hash("n1", 7, 1);
        story.observations.hashes[0].sales_wrong.push("s".to_owned());
        assert_invalid(&story.run(), "replicas-equal");
    }

    #[test]
    fn counters_that_the_claims_do_not_bear_out() {
        let mut story = story(2);
        story.replica("n1", vec![claim("h1", Held, 1)]);
        let sale = story.observations.replicas[0].sales.get_mut("s").unwrap();
        sale.counters.held = 2;
        assert_invalid(&story.run(), "replicas-equal");
    }

    #[test]
    fn a_claim_that_became_two_things() {
        let mut story = story(2);
        story.replica("n1", vec![claim("h1", Confirmed, 1)]);
        story.replica("n2", vec![claim("h1", Expired, 1)]);
        assert_invalid(&story.run(), "replicas-equal");
    }
}

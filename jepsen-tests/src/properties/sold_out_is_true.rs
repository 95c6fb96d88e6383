//! *Sold out* is an answer, not an excuse: at its place of the log fewer units were available than asked for.

use super::{
    Look, Run,
    ledger::{Bound, Walk, ledgers},
};
use crate::history::{Call, Index, Outcome};

pub(super) fn check(run: &Run, look: &mut Look) {
    for ledger in ledgers(run) {
        let mut refusals: Vec<(Index, u64, u64, u64)> = Vec::new();
        for operation in run
            .operations
            .iter()
            .filter(|operation| operation.sale == ledger.sale)
        {
            let (Call::Claim { quantity, .. } | Call::Decrement { quantity, .. }) = operation.call else {
                continue;
            };
            if let Some(answer) = operation.answer()
                && answer.outcome == Outcome::SoldOut
                && let Some(at) = answer.idx
            {
                refusals.push((at, answer.lt, quantity, operation.id));
            }
        }
        refusals.sort();
        let mut walk = Walk::new(&ledger, Bound::Most);
        for (at, lt, quantity, id) in refusals {
            walk.go_to(at, lt);
            let taken_most = walk.taken + ledger.may_take + ledger.may_withdraw;
            let available = walk.total.saturating_sub(taken_most);
            look.at(available < quantity, &[id], || {
                format!(
                    "{} was said to be sold out at log index {}, where {available} units were available",
                    run.text(ledger.sale),
                    at.log_index
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_invalid, assert_valid, story};

    #[test]
    fn the_last_unit_is_held() {
        let mut story = story(1);
        story.claim("u1", "k1", 1, "h1");
        story.sold_out("u2", "k2", 2);
        assert_valid(&story.run(), "sold-out-is-true");
    }

    #[test]
    fn a_unit_was_left() {
        let mut story = story(2);
        story.claim("u1", "k1", 1, "h1");
        story.sold_out("u2", "k2", 2);
        assert_invalid(&story.run(), "sold-out-is-true");
    }

    #[test]
    fn the_last_hold_had_ended() {
        let mut story = story(1);
        story.claim("u1", "k1", 1, "h1");
        story.at(2_000).sold_out("u2", "k2", 2);
        assert_invalid(&story.run(), "sold-out-is-true");
    }

    #[test]
    fn the_last_unit_was_released() {
        let mut story = story(1);
        story.claim("u1", "k1", 1, "h1");
        story.release("h1", "r1", 2);
        story.sold_out("u2", "k2", 3);
        assert_invalid(&story.run(), "sold-out-is-true");
    }

    #[test]
    fn an_unknown_claim_may_have_the_last_unit() {
        let mut story = story(1);
        story.unknown_claim("u1", "k1");
        story.sold_out("u2", "k2", 2);
        assert_valid(&story.run(), "sold-out-is-true");
    }
}

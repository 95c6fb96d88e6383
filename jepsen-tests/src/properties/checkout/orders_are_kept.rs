//! An order that a shopper was told of is there; one that he was told is cancelled is cancelled, and only such a one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Asked, Books, Look, Order, OrderStage};

const OK: u16 = 200;
const CREATED: u16 = 201;

pub(super) fn check(books: &Books, look: &mut Look) {
    let orders: BTreeMap<&str, &Order> = books
        .orders
        .iter()
        .map(|order| (order.order_id.as_str(), order))
        .collect();
    // Somebody asked for it, whatever he was told.
    let asked: BTreeSet<&str> = books
        .answers
        .iter()
        .filter(|answer| answer.asked == Asked::Cancel)
        .map(|answer| answer.claim_id.as_str())
        .collect();
    for answer in &books.answers {
        let Some(order_id) = &answer.order_id else {
            continue;
        };
        let told_paid = answer.asked == Asked::Pay && answer.status == CREATED;
        let told_cancelled = answer.asked == Asked::Cancel && answer.status == OK;
        if !told_paid && !told_cancelled {
            continue;
        }
        let order = orders.get(order_id.as_str());
        let same = order.is_some_and(|order| order.claim_id == answer.claim_id);
        look.at(same, &[], || {
            format!(
                "{} was told of order {order_id} of {}, which is not there",
                answer.user, answer.claim_id
            )
        });
        let Some(order) = order else { continue };
        let kept = order.stage == OrderStage::Paid || asked.contains(answer.claim_id.as_str());
        look.at(kept, &[], || {
            format!("{order_id} is cancelled, and nobody asked for that")
        });
        look.at(
            !told_cancelled || order.stage == OrderStage::Cancelled,
            &[],
            || {
                format!(
                    "{} was told that {order_id} is cancelled, and it is not",
                    answer.user
                )
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Asked, OrderStage,
        testing::{bought, red},
    };

    const NAME: &str = "orders-are-kept";

    #[test]
    fn what_was_told_is_true_for_ever() {
        let broken = |change: fn(&mut super::Books)| {
            let mut books = bought();
            change(&mut books);
            red(&books).contains(&NAME.to_owned())
        };
        assert!(!broken(|_| {}));
        assert!(broken(|books| books.orders.clear()));
        assert!(broken(|books| books.orders[0].claim_id = "c_2".into()));
        assert!(broken(|books| books.orders[0].stage = OrderStage::Cancelled));
        assert!(!broken(|books| books.answers.clear()));
        assert!(broken(|books| {
            let mut told = books.answers[0].clone();
            (told.asked, told.status, told.key) = (Asked::Cancel, super::OK, "k2".into());
            books.answers.push(told);
        }));
    }
}

//! Orders, charges and confirmed units are of the same claims: not only as many, the very same.

use std::collections::BTreeMap;

use client::ClaimStatus;

use super::{Books, Look, OrderStage};

/// What there is for one claim, in units, and whether it was charged.
#[derive(Default)]
struct Bought {
    ordered: u32,
    confirmed: u32,
    charged: bool,
    unpaid: bool,
}

pub(super) fn check(books: &Books, look: &mut Look) {
    let mut by_claim: BTreeMap<&str, Bought> = BTreeMap::new();
    for order in books
        .orders
        .iter()
        .filter(|order| order.stage == OrderStage::Paid)
    {
        by_claim.entry(&order.claim_id).or_default().ordered += order.quantity;
    }
    for payment in books.payments.iter().filter(|payment| payment.kept_minor() > 0) {
        by_claim.entry(&payment.claim_id).or_default().charged = true;
    }
    for claim in &books.claims {
        if claim.status == ClaimStatus::Confirmed {
            let bought = by_claim.entry(&claim.claim_id).or_default();
            bought.confirmed += claim.quantity;
            bought.unpaid = claim.confirmed_unpaid;
        }
    }
    for (claim_id, bought) in by_claim {
        let Bought {
            ordered,
            confirmed,
            charged,
            unpaid,
        } = bought;
        let nothing_paid = unpaid && ordered == 0 && !charged;
        look.at(nothing_paid || (ordered == confirmed && charged), &[], || {
            let charged = if charged { "charged" } else { "not charged" };
            format!("{claim_id}: {ordered} units ordered, {confirmed} confirmed, {charged}")
        });
    }
    for order in &books.orders {
        look.at(order.stage != OrderStage::Cancelling, &[], || {
            format!("{} is being cancelled for ever", order.order_id)
        });
    }
}

#[cfg(test)]
mod tests {
    use client::ClaimStatus;

    use super::super::{
        OrderStage,
        testing::{bought, red},
    };

    const NAME: &str = "bought-is-bought";

    #[test]
    fn each_of_the_three_must_be_there() {
        let broken = |change: fn(&mut super::Books)| {
            let mut books = bought();
            change(&mut books);
            red(&books).contains(&NAME.to_owned())
        };
        assert!(!broken(|_| {}));
        assert!(broken(|books| books.orders.clear()));
        assert!(broken(|books| books.payments.clear()));
        assert!(broken(|books| books.claims[0].status = ClaimStatus::Expired));
        assert!(broken(|books| books.orders[0].quantity += 1));
        assert!(broken(|books| books.orders[0].stage = OrderStage::Cancelled));
        assert!(broken(|books| books.orders[0].stage = OrderStage::Cancelling));
        assert!(!broken(|books| {
            books.orders.clear();
            books.payments.clear();
            books.claims[0].confirmed_unpaid = true;
        }));
    }
}

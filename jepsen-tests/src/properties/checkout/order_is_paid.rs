//! Every order is paid, by its own payment and in full; a cancelled one is paid back.

use std::collections::BTreeMap;

use super::{Books, Look, OrderStage, Payment};

pub(super) fn check(books: &Books, look: &mut Look) {
    let payments: BTreeMap<&str, &Payment> = books
        .payments
        .iter()
        .map(|payment| (payment.payment_id.as_str(), payment))
        .collect();
    for order in &books.orders {
        let (id, payment_id) = (&order.order_id, &order.payment_id);
        let Some(payment) = payments.get(payment_id.as_str()) else {
            look.at(false, &[], || {
                format!("{id} names {payment_id}, which the provider does not know")
            });
            continue;
        };
        look.at(payment.claim_id == order.claim_id, &[], || {
            format!(
                "{id} is of {}, its payment {payment_id} for {}",
                order.claim_id, payment.claim_id
            )
        });
        let (owed, verb) = match order.stage {
            OrderStage::Paid => (order.amount_minor, "costs"),
            OrderStage::Cancelling | OrderStage::Cancelled => (0, "is cancelled and costs"),
        };
        let same = payment.currency == order.currency && payment.kept_minor() == owed;
        look.at(same, &[], || {
            format!(
                "{id} {verb} {owed} {}, and {} {} was paid with {payment_id}",
                order.currency,
                payment.kept_minor(),
                payment.currency
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        OrderStage,
        testing::{bought, red},
    };

    const NAME: &str = "order-is-paid";

    #[test]
    fn an_order_without_its_money_is_noticed() {
        let broken = |change: fn(&mut super::Books)| {
            let mut books = bought();
            change(&mut books);
            red(&books).contains(&NAME.to_owned())
        };
        assert!(!broken(|_| {}));
        assert!(broken(|books| books.payments.clear()));
        assert!(broken(|books| books.payments[0].claim_id = "c_2".into()));
        assert!(broken(|books| books.payments[0].captured_minor -= 1));
        assert!(broken(|books| books.payments[0].refunded_minor = 1));
        assert!(broken(|books| books.orders[0].currency = "JPY".into()));
        assert!(broken(|books| books.orders[0].stage = OrderStage::Cancelled));
        assert!(!broken(|books| {
            books.orders[0].stage = OrderStage::Cancelled;
            books.payments[0].refunded_minor = books.payments[0].captured_minor;
        }));
    }
}

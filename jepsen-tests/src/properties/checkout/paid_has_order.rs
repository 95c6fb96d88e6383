//! Nobody has paid who has no order.

use std::collections::BTreeSet;

use super::{Books, Look, OrderStage};

pub(super) fn check(books: &Books, look: &mut Look) {
    let paid: BTreeSet<&str> = books
        .orders
        .iter()
        .filter(|order| order.stage == OrderStage::Paid)
        .map(|order| order.payment_id.as_str())
        .collect();
    for payment in books.payments.iter().filter(|payment| payment.kept_minor() > 0) {
        look.at(paid.contains(payment.payment_id.as_str()), &[], || {
            format!(
                "{} was charged for {}, and no order names it",
                payment.payment_id, payment.claim_id
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bought, red};

    #[test]
    fn a_payment_that_no_order_names_is_noticed() {
        let mut books = bought();
        books.orders[0].payment_id = "pi_2".into();
        assert!(red(&books).contains(&"paid-has-order".to_owned()));
        books.payments[0].refunded_minor = books.payments[0].captured_minor;
        assert!(!red(&books).contains(&"paid-has-order".to_owned()));
    }
}

//! At most one charge for a claim, and never more than it costs.

use std::collections::BTreeMap;

use super::{Books, Look, Payment};

pub(super) fn check(books: &Books, look: &mut Look) {
    let prices: BTreeMap<&str, u64> = books
        .claims
        .iter()
        .map(|claim| (claim.claim_id.as_str(), claim.amount_minor))
        .collect();
    let mut by_claim: BTreeMap<&str, Vec<&Payment>> = BTreeMap::new();
    for payment in books.payments.iter().filter(|payment| payment.kept_minor() > 0) {
        by_claim.entry(&payment.claim_id).or_default().push(payment);
    }
    for (claim_id, payments) in by_claim {
        let kept: u64 = payments.iter().map(|payment| payment.kept_minor()).sum();
        look.at(payments.len() == 1, &[], || {
            format!("{claim_id} was charged {} times, {kept} in all", payments.len())
        });
        let price = prices.get(claim_id).copied();
        look.at(price.is_some_and(|price| kept <= price), &[], || match price {
            Some(price) => format!("{claim_id} costs {price}, and {kept} was charged"),
            None => format!("{kept} was charged for {claim_id}, which is no claim"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bought, red};

    #[test]
    fn a_second_charge_and_one_too_high_are_noticed() {
        assert_eq!(red(&bought()), Vec::<String>::new());
        let mut books = bought();
        let mut second = books.payments[0].clone();
        second.payment_id = "pi_2".into();
        second.attempt = "2".into();
        books.payments.push(second);
        assert!(red(&books).contains(&"charged-once".to_owned()));
        let mut books = bought();
        books.payments[0].captured_minor += 1;
        assert!(red(&books).contains(&"charged-once".to_owned()));
        books.payments[0].refunded_minor = 1;
        assert!(!red(&books).contains(&"charged-once".to_owned()));
    }
}

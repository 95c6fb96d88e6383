//! One effect for a key: an attempt asks a card with one payment only, and a caller's key makes one order, or comes to
//! one final end.

use std::collections::BTreeMap;

use super::{Books, Look};

pub(super) fn check(books: &Books, look: &mut Look) {
    // A payment that was created and never confirmed is none: nobody was asked for money.
    let mut asked: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for payment in books.payments.iter().filter(|payment| payment.charges > 0) {
        let attempt = (payment.claim_id.as_str(), payment.attempt.as_str());
        asked.entry(attempt).or_default().push(&payment.payment_id);
    }
    for ((claim_id, attempt), payments) in asked {
        look.at(payments.len() == 1, &[], || {
            format!(
                "attempt {attempt} for {claim_id} asked for money with {}",
                payments.join(" and ")
            )
        });
    }
    let mut ends: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    let mut numbers: BTreeMap<(&str, u32), usize> = BTreeMap::new();
    for attempt in &books.attempts {
        *numbers.entry((&attempt.claim_id, attempt.attempt)).or_default() += 1;
        if attempt.is_final {
            let key = (attempt.claim_id.as_str(), attempt.key.as_str());
            ends.entry(key).or_default().push(&attempt.ending);
        }
    }
    for ((claim_id, key), ends) in ends {
        look.at(ends.len() == 1, &[], || {
            format!(
                "key {key} for {claim_id} ended more than once: {}",
                ends.join(" and ")
            )
        });
    }
    for ((claim_id, number), count) in numbers {
        look.at(count == 1, &[], || {
            format!("attempt {number} for {claim_id} ended {count} times")
        });
    }
    let mut orders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for order in &books.orders {
        orders.entry(&order.claim_id).or_default().push(&order.order_id);
    }
    for (claim_id, orders) in orders {
        look.at(orders.len() == 1, &[], || {
            format!("{claim_id} has the orders {}", orders.join(" and "))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Attempt,
        testing::{bought, red},
    };

    const NAME: &str = "checkout-key-acts-once";

    #[test]
    fn a_second_payment_end_or_order_is_noticed() {
        let mut books = bought();
        let mut second = books.payments[0].clone();
        (second.payment_id, second.captured_minor) = ("pi_2".into(), 0);
        books.payments.push(second.clone());
        assert_eq!(red(&books), [NAME]);
        // Created twice is not asked twice.
        books.payments[1].charges = 0;
        assert!(red(&books).is_empty());

        let mut books = bought();
        let declined = Attempt {
            claim_id: "c_1".into(),
            attempt: 1,
            key: "k0".into(),
            ending: "declined".into(),
            is_final: true,
        };
        books.attempts = vec![declined.clone()];
        assert!(red(&books).is_empty());
        books.attempts.push(Attempt {
            attempt: 2,
            ..declined.clone()
        });
        assert_eq!(red(&books), [NAME]);
        books.attempts[1].key = "k1".into();
        assert!(red(&books).is_empty());
        books.attempts[1].attempt = 1;
        assert_eq!(red(&books), [NAME]);

        let mut books = bought();
        let mut second = books.orders[0].clone();
        second.order_id = "o_2".into();
        books.orders.push(second);
        assert!(red(&books).contains(&NAME.to_owned()));
    }
}

//! No card is left with money held once all is settled.

use super::{Books, Look};

pub(super) fn check(books: &Books, look: &mut Look) {
    for payment in &books.payments {
        look.at(payment.authorized_minor == 0, &[], || {
            format!(
                "{} holds {} for {}, and nobody will take it or give it back",
                payment.payment_id, payment.authorized_minor, payment.claim_id
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bought, red};

    #[test]
    fn money_left_on_a_card_is_noticed() {
        let mut books = bought();
        books.payments[0].authorized_minor = 1;
        assert_eq!(red(&books), ["no-money-held"]);
    }
}

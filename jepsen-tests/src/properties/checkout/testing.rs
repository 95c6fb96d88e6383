//! Books in which all is well, for tests to break.

use client::ClaimStatus;

use super::{Answer, Asked, Books, Claim, Order, OrderStage, Payment, Settling, check};
use crate::properties::Verdict;

/// One claim, paid for.
pub(super) fn bought() -> Books {
    let on = |account: &str, minor: i128| (("EUR".to_owned(), account.to_owned()), minor);
    Books {
        payments: vec![Payment {
            payment_id: "pi_1".into(),
            claim_id: "c_1".into(),
            attempt: "1".into(),
            currency: "EUR".into(),
            charges: 1,
            captured_minor: 4_900,
            ..Payment::default()
        }],
        orders: vec![Order {
            order_id: "o_1".into(),
            claim_id: "c_1".into(),
            payment_id: "pi_1".into(),
            quantity: 1,
            amount_minor: 4_900,
            currency: "EUR".into(),
            stage: OrderStage::Paid,
        }],
        claims: vec![Claim {
            claim_id: "c_1".into(),
            status: ClaimStatus::Confirmed,
            quantity: 1,
            amount_minor: 4_900,
            confirmed_unpaid: false,
        }],
        attempts: Vec::new(),
        balances: [
            on("provider_clearing", 4_900),
            on("revenue", -4_900),
            on("provider_hold", 0),
        ]
        .into(),
        answers: vec![Answer {
            user: "ada".into(),
            asked: Asked::Pay,
            claim_id: "c_1".into(),
            key: "k1".into(),
            status: 201,
            is_final: true,
            order_id: Some("o_1".into()),
            problem: None,
        }],
        settling: Settling {
            took_ms: Some(1_000),
            took_ms_max: 1_000,
            left: Vec::new(),
        },
    }
}

/// The properties that do not hold.
pub(super) fn red(books: &Books) -> Vec<String> {
    check(books)
        .into_iter()
        .filter(|finding| finding.verdict == Verdict::Invalid)
        .map(|finding| finding.property)
        .collect()
}

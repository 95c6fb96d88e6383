//! Orders over the real machine in memory.

use super::*;
use crate::machine_store::MachineStore;

fn sold() -> Sold {
    Sold {
        claim_id: "c_abc".into(),
        sale_id: "hot".into(),
        user: "alice".into(),
        quantity: 2,
        rank: 7,
        receipt: Granted::default(),
        amount: "98.00 EUR".parse().unwrap(),
        payment_id: "pi_1".into(),
        paid_at_ms: 1_700_000_000_000,
    }
}

fn refund(refund_id: &str, amount_minor: u64, status: OrderRefundStatus) -> OrderRefund {
    OrderRefund {
        refund_id: refund_id.into(),
        amount_minor,
        status,
        at_ms: 1,
    }
}

fn dispute(dispute_id: &str, status: OrderDisputeStatus) -> OrderDispute {
    OrderDispute {
        dispute_id: dispute_id.into(),
        amount_minor: 9_800,
        status,
        at_ms: 1,
    }
}

#[tokio::test]
async fn a_claim_has_one_order() {
    let store = MachineStore::new();
    let (made, version) = create(&store, Order::paid(sold())).await.unwrap();
    assert_eq!(made.order_id, "o_abc");
    let later = Sold {
        paid_at_ms: 1_700_000_000_999,
        ..sold()
    };
    let again = create(&store, Order::paid(later)).await.unwrap();
    assert_eq!(again, (made.clone(), version), "the one that is there");
    assert_eq!(load(&store, "o_abc").await.unwrap(), Some((made, version)));
    assert_eq!(load(&store, "o_ab").await.unwrap(), None);
    let twice = Sold {
        payment_id: "pi_2".into(),
        ..sold()
    };
    let refused = create(&store, Order::paid(twice)).await;
    assert!(
        matches!(refused, Err(OrderError::PaidOtherwise { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn two_who_change_an_order_do_not_overwrite_each_other() {
    let store = MachineStore::new();
    let (order, version) = create(&store, Order::paid(sold())).await.unwrap();
    let (mut one, mut other) = (order.clone(), order);
    one.advance(Stage::Cancelling, 5);
    save(&store, &one, version).await.unwrap();
    other
        .note_dispute(dispute("dp_1", OrderDisputeStatus::Open))
        .unwrap();
    let refused = save(&store, &other, version).await;
    assert!(matches!(refused, Err(OrderError::Changed { .. })), "{refused:?}");
    assert_eq!(load(&store, "o_abc").await.unwrap().unwrap().0, one);
}

#[tokio::test]
async fn an_order_of_a_newer_release_is_not_guessed_at() {
    let store = MachineStore::new();
    let newer = Order {
        format: FORMAT + 1,
        ..Order::paid(sold())
    };
    save(&store, &newer, 0).await.unwrap();
    let refused = load(&store, "o_abc").await;
    assert!(
        matches!(refused, Err(OrderError::Unreadable { .. })),
        "{refused:?}"
    );
}

#[test]
fn stages_go_one_way() {
    let mut order = Order::paid(sold());
    assert!(!order.advance(Stage::Paid, 1));
    assert!(order.advance(Stage::Cancelling, 2));
    assert_eq!((order.status(), order.cancelled_at_ms), ("cancelling", None));
    assert!(order.advance(Stage::Cancelled, 3));
    assert!(!order.advance(Stage::Cancelling, 4));
    assert_eq!((order.status(), order.cancelled_at_ms), ("cancelled", Some(3)));
}

#[test]
fn news_of_a_refund_may_come_twice_and_in_any_order() {
    use OrderRefundStatus::{Failed, Pending, Succeeded};
    let mut order = Order::paid(sold());
    assert!(order.note_refund(refund("re_1", 800, Succeeded)).unwrap());
    assert!(
        !order.note_refund(refund("re_1", 800, Pending)).unwrap(),
        "old news"
    );
    assert!(!order.note_refund(refund("re_1", 800, Succeeded)).unwrap());
    assert_eq!(
        (order.status(), order.refunded_minor()),
        ("partially_refunded", 800)
    );
    assert!(order.note_refund(refund("re_2", 9_000, Pending)).unwrap());
    assert_eq!((order.status(), order.refunded_minor()), ("refunded", 9_800));
    assert!(order.note_refund(refund("re_2", 9_000, Failed)).unwrap());
    assert!(!order.note_refund(refund("re_2", 9_000, Succeeded)).unwrap());
    assert_eq!((order.status(), order.refunds.len()), ("partially_refunded", 2));
}

#[test]
fn more_than_was_paid_is_not_believed() {
    use OrderRefundStatus::{Failed, Succeeded};
    let mut order = Order::paid(sold());
    order.note_refund(refund("re_1", 9_000, Succeeded)).unwrap();
    let before = order.clone();
    for news in [
        refund("re_2", 801, Succeeded),
        refund("re_2", u64::MAX, Succeeded),
        refund("re_1", 9_001, Succeeded),
    ] {
        let refused = order.note_refund(news);
        assert!(
            matches!(refused, Err(OrderError::Implausible { .. })),
            "{refused:?}"
        );
    }
    let dispute = OrderDispute {
        amount_minor: 9_801,
        ..dispute("dp_1", OrderDisputeStatus::Open)
    };
    assert!(order.note_dispute(dispute).is_err());
    assert_eq!(order, before);
    // A failed one took nothing, so it is taken down whatever it was of.
    assert!(order.note_refund(refund("re_3", 9_800, Failed)).unwrap());
    assert!(order.note_refund(refund("re_4", 800, Succeeded)).unwrap());
}

#[test]
fn a_dispute_shows_until_it_is_won() {
    use OrderDisputeStatus::{Lost, Open, Won};
    let mut order = Order::paid(sold());
    assert!(order.note_dispute(dispute("dp_1", Open)).unwrap());
    assert!(!order.note_dispute(dispute("dp_1", Open)).unwrap());
    assert_eq!(order.status(), "disputed");
    assert!(order.note_dispute(dispute("dp_1", Won)).unwrap());
    assert!(!order.note_dispute(dispute("dp_1", Open)).unwrap(), "old news");
    assert_eq!(order.status(), "paid");
    assert!(order.note_dispute(dispute("dp_2", Lost)).unwrap());
    assert_eq!(order.status(), "disputed");
}

#[test]
fn the_fullest_order_fits_its_document() {
    let long = |what: &str| format!("{what}{}", "x".repeat(40 - what.len()));
    let mut order = Order::paid(Sold {
        user: "\u{1}".repeat(64),
        sale_id: "s".repeat(64),
        claim_id: "c".repeat(64),
        payment_id: "p".repeat(56),
        quantity: u32::MAX,
        ..sold()
    });
    for number in 0..REFUNDS_MAX + 1 {
        let news = refund(&long(&format!("re_{number}_")), 1, OrderRefundStatus::Succeeded);
        assert_eq!(order.note_refund(news).is_ok(), number < REFUNDS_MAX);
    }
    for number in 0..DISPUTES_MAX + 1 {
        let news = dispute(&long(&format!("dp_{number}_")), OrderDisputeStatus::Lost);
        assert_eq!(order.note_dispute(news).is_ok(), number < DISPUTES_MAX);
    }
    let bytes = serde_json::to_vec(&order).unwrap().len();
    assert!(bytes <= 16 * 1024, "{bytes}");
}

//! Every limit refuses by name, and every bounded table does what it says when it is full.

mod common;

use common::{FOUND, apply, bytes_of};
use inventory_machine::{
    CHECKOUT_MAX_MS_MAX, CLAIMS_MAX_MAX, FENCES_MAX, LEASE_MS_MAX, Machine, SALE_EFFECTS_MAX, TTL_MS_MAX,
    codec::{Batch, BatchEncoder},
    command::*,
    reply::*,
};

const SALES: [&str; 1] = ["launch"];

const CREATE: CreateSale<'static> = CreateSale {
    sale: 0,
    name: "launch",
    units_total: 1_000,
    per_user_units_max: 1,
    hold_ms: 1_000,
    checkout_max_ms: 0,
    opens_at_ms: 0,
    closes_at_ms: 0,
    price_minor: 0,
    currency: *b"EUR",
    claims_max: 0,
};

const PUT: PutDocument<'static> = PutDocument {
    document: b"d",
    body: b"",
    version_expected: 0,
    fencing_token: 0,
    ttl_ms: 0,
};

fn at(key: u128, body: Body<'_>) -> Command<'_> {
    Command {
        follows: false,
        principal: 1,
        key,
        not_after_ms: 0,
        body,
    }
}

fn founded() -> Machine {
    let mut machine = Machine::default();
    apply(&mut machine, 1, &bytes_of(&[], &[at(1, FOUND)], 0, 0));
    machine
}

/// What a command hears in a founded cluster, whose table of sales is `sales`.
fn heard(sales: &[&str], body: Body<'_>) -> Reply {
    apply(&mut founded(), 1, &bytes_of(sales, &[at(2, body)], 0, 0))
        .replies
        .remove(0)
}

fn assert_out_of_range(reply: Reply, field: Field) {
    assert_eq!(reply, Reply::Rejected(Rejection::OutOfRange { field }));
}

#[test]
fn terms_out_of_range_are_refused_by_name() {
    let long_name = "x".repeat(SALE_NAME_BYTES_MAX + 1);
    let hours = CreateSale {
        opens_at_ms: 7,
        closes_at_ms: 7,
        ..CREATE
    };
    for (create, field) in [
        (
            CreateSale {
                name: &long_name,
                ..CREATE
            },
            Field::SaleName,
        ),
        (
            CreateSale {
                units_total: UNITS_MAX + 1,
                ..CREATE
            },
            Field::Units,
        ),
        (
            CreateSale {
                per_user_units_max: 0,
                ..CREATE
            },
            Field::PerUserUnitsMax,
        ),
        (
            CreateSale {
                per_user_units_max: QUANTITY_MAX + 1,
                ..CREATE
            },
            Field::PerUserUnitsMax,
        ),
        (
            CreateSale {
                hold_ms: HOLD_MS_MIN - 1,
                ..CREATE
            },
            Field::HoldMs,
        ),
        (
            CreateSale {
                hold_ms: HOLD_MS_MAX + 1,
                ..CREATE
            },
            Field::HoldMs,
        ),
        (
            CreateSale {
                checkout_max_ms: CHECKOUT_MAX_MS_MAX + 1,
                ..CREATE
            },
            Field::CheckoutMaxMs,
        ),
        (hours, Field::Hours),
        (
            CreateSale {
                currency: *b"EuR",
                ..CREATE
            },
            Field::Currency,
        ),
        (
            CreateSale {
                claims_max: CLAIMS_MAX_MAX + 1,
                ..CREATE
            },
            Field::ClaimsMax,
        ),
    ] {
        assert_out_of_range(heard(&SALES, Body::CreateSale(create)), field);
    }
    let too_long = "x".repeat(SALE_ID_BYTES_MAX + 1);
    for id in ["", "a b", "ä", "a/b", &too_long] {
        assert_out_of_range(heard(&[id], Body::CreateSale(CREATE)), Field::SaleId);
    }
    let widest = CreateSale {
        units_total: UNITS_MAX,
        per_user_units_max: QUANTITY_MAX,
        hold_ms: HOLD_MS_MAX,
        checkout_max_ms: CHECKOUT_MAX_MS_MAX,
        claims_max: CLAIMS_MAX_MAX,
        opens_at_ms: u64::MAX - 1,
        closes_at_ms: u64::MAX,
        price_minor: u64::MAX,
        ..CREATE
    };
    let longest = "x".repeat(SALE_ID_BYTES_MAX);
    assert!(matches!(
        heard(&[&longest], Body::CreateSale(widest)),
        Reply::Done(_)
    ));
    let narrowest = CreateSale {
        units_total: 0,
        hold_ms: HOLD_MS_MIN,
        claims_max: 1,
        name: "",
        ..CREATE
    };
    assert!(matches!(
        heard(&["A.z_0-9"], Body::CreateSale(narrowest)),
        Reply::Done(_)
    ));
}

#[test]
fn documents_out_of_range_are_refused_by_name() {
    let (key, body) = (
        vec![b'k'; DOCUMENT_KEY_BYTES_MAX + 1],
        vec![0; DOCUMENT_BODY_BYTES_MAX + 1],
    );
    for (put, field) in [
        (PutDocument { document: b"", ..PUT }, Field::DocumentKey),
        (
            PutDocument {
                document: &key,
                ..PUT
            },
            Field::DocumentKey,
        ),
        (PutDocument { body: &body, ..PUT }, Field::DocumentBody),
        (
            PutDocument {
                ttl_ms: TTL_MS_MAX + 1,
                ..PUT
            },
            Field::TtlMs,
        ),
    ] {
        assert_out_of_range(heard(&[], Body::PutDocument(put)), field);
    }
    let widest = PutDocument {
        document: &key[1..],
        body: &body[1..],
        ttl_ms: TTL_MS_MAX,
        ..PUT
    };
    assert!(matches!(
        heard(&[], Body::PutDocument(widest)),
        Reply::Document { .. }
    ));
    assert_out_of_range(
        heard(
            &[],
            Body::DeleteDocument {
                document: b"",
                version_expected: 1,
            },
        ),
        Field::DocumentKey,
    );
    let lease = |lease_ms| Body::LeaseDocument {
        document: b"d",
        fencing_token: 0,
        lease_ms,
    };
    assert_out_of_range(heard(&[], lease(LEASE_MS_MAX + 1)), Field::LeaseMs);
    assert_out_of_range(heard(&[], lease(0)), Field::LeaseMs);
}

#[test]
fn nothing_happens_before_the_cluster_is_founded() {
    let mut machine = Machine::default();
    let commands = [
        at(1, Body::CreateSale(CREATE)),
        at(2, Body::PutDocument(PUT)),
        at(3, FOUND),
        at(4, FOUND),
    ];
    let replies = apply(&mut machine, 1, &bytes_of(&SALES, &commands, 0, 0)).replies;
    let refused = Reply::Rejected(Rejection::Founding);
    assert_eq!(replies[..2], [refused.clone(), refused.clone()]);
    assert!(matches!(replies[2], Reply::Done(_)));
    assert_eq!(replies[3], refused, "a cluster is founded once");
    assert_eq!(machine.founding().map(|founding| founding.cluster_id), Some(77));
    assert!(machine.sale(NAMESPACE_DEFAULT, "launch").is_none());
}

/// Applies commands made one by one, as many as are asked for, and gives the last reply.
fn flood(machine: &mut Machine, keys: std::ops::Range<u128>, body: impl Fn(u128) -> Body<'static>) -> Reply {
    let mut encoder = BatchEncoder::new();
    let mut last = None;
    let mut keys = keys.peekable();
    while keys.peek().is_some() {
        encoder.sale(NAMESPACE_DEFAULT, SALES[0]);
        keys.by_ref()
            .take(60_000)
            .for_each(|key| encoder.push(&at(key, body(key))));
        let bytes = encoder.finish(0, 0);
        last = apply(machine, 1, &bytes).replies.pop();
    }
    last.expect("at least one command")
}

#[test]
fn a_full_memory_of_sale_changes_forgets_the_oldest() {
    let mut machine = founded();
    let first = 1 << 100;
    let restock = |_| Body::Restock { sale: 0, units: 1 };
    apply(
        &mut machine,
        1,
        &bytes_of(&SALES, &[at(2, Body::CreateSale(CREATE))], 0, 0),
    );
    let many = first..first + SALE_EFFECTS_MAX as u128;
    let (oldest, newest) = (many.start, many.end - 1);
    assert!(matches!(flood(&mut machine, many, restock), Reply::Done(_)));
    let stock = |machine: &Machine| {
        machine
            .sale(NAMESPACE_DEFAULT, "launch")
            .map(|sale| sale.units_total)
    };
    let full = stock(&machine);
    // Full, and none of these forgotten: the creation was the oldest.
    for key in [oldest, newest] {
        apply(&mut machine, 1, &bytes_of(&SALES, &[at(key, restock(0))], 0, 0));
    }
    assert_eq!(stock(&machine), full);
    // One more makes the oldest of them unknown again.
    assert!(machine.effect(1, Operation::Sale, oldest).is_some());
    apply(&mut machine, 1, &bytes_of(&SALES, &[at(3, restock(0))], 0, 0));
    assert!(machine.effect(1, Operation::Sale, oldest).is_none());
    assert!(machine.effect(1, Operation::Sale, newest).is_some());
}

#[test]
fn a_full_table_of_fences_promises_nothing_more() {
    let mut machine = founded();
    let resolve = |key| {
        Body::Resolve(Resolve {
            sale: 0,
            operation: Operation::Claim,
            key,
            fence_until_ms: 0,
        })
    };
    let first = 1 << 80;
    let abandoned = Reply::Resolved(Resolution::Abandoned {
        fenced_until_ms: NOT_AFTER_MS_MAX,
    });
    assert_eq!(
        flood(&mut machine, first..first + FENCES_MAX as u128, resolve),
        abandoned
    );
    let one_more = first + FENCES_MAX as u128;
    let full = Reply::Rejected(Rejection::TableFull);
    assert_eq!(flood(&mut machine, one_more..one_more + 1, resolve), full);
    assert_eq!(
        flood(&mut machine, first..first + 1, resolve),
        abandoned,
        "an old promise stands"
    );
    // Time lifts the fences and makes room.
    apply(&mut machine, 1, &bytes_of(&SALES, &[], NOT_AFTER_MS_MAX + 1, 0));
    assert!(!machine.waits_for_time());
}

#[test]
fn a_batch_that_does_not_decode_changes_nothing() {
    let mut machine = founded();
    let before = (machine.digest(), machine.applied_index());
    let mut bytes = bytes_of(
        &SALES,
        &[at(2, Body::CreateSale(CREATE)), at(3, Body::OpenSale { sale: 0 })],
        5,
        5,
    );
    let last = bytes.len() - 1;
    bytes[last] = 9;
    let batch = Batch::parse(&bytes).expect("the header is sound");
    assert!(machine.apply(2, 1, &batch).is_err());
    assert_eq!((machine.digest(), machine.applied_index()), before);
}

#[test]
fn refusals_wait_for_the_first_deadline() {
    let mut machine = founded();
    let take = |user| {
        Body::Claim(Take {
            sale: 0,
            user,
            quantity: 1,
        })
    };
    let create = CreateSale {
        units_total: 1,
        ..CREATE
    };
    let commands = [
        at(2, Body::CreateSale(create)),
        at(3, Body::OpenSale { sale: 0 }),
        at(4, take(7)),
    ];
    apply(&mut machine, 1, &bytes_of(&SALES, &commands, 0, 0));
    let ask = |user, key, now_ms| {
        machine.refusal(
            machine.sale_number(NAMESPACE_DEFAULT, "launch"),
            user,
            key,
            1,
            now_ms,
        )
    };
    let sold_out = Rejection::SoldOut {
        units_available: 0,
        maybe_more_until_ms: 1_000,
    };
    assert_eq!(ask(8, 8, 999), Some(Reply::Rejected(sold_out)));
    assert_eq!(ask(8, 8, 1_000), None, "the unit comes back at this very moment");
    // The winner whose reply was lost never hears sold out.
    assert!(matches!(
        ask(7, 4, 999),
        Some(Reply::Claim {
            grant: Grant::Repeated,
            ..
        })
    ));
    assert!(matches!(
        ask(7, 5, 999),
        Some(Reply::Claim {
            grant: Grant::Already,
            ..
        })
    ));
}

mod broken {
    //! Our own mistakes stop the node.

    use super::*;

    fn apply_at(machine: &mut Machine, index: u64, log_time_ms: u64, wall_time_ms: u64) {
        let bytes = bytes_of(&[], &[], log_time_ms, wall_time_ms);
        machine.apply(index, 1, &Batch::parse(&bytes).unwrap()).unwrap();
    }

    #[test]
    #[should_panic(expected = "does not follow")]
    fn a_gap() {
        apply_at(&mut founded(), 3, 0, 0);
    }

    #[test]
    #[should_panic(expected = "does not follow")]
    fn a_gap_between_skipped_entries() {
        founded().skip(3);
    }

    #[test]
    #[should_panic(expected = "does not follow")]
    fn an_entry_twice() {
        apply_at(&mut founded(), 1, 0, 0);
    }

    #[test]
    #[should_panic(expected = "log time fell")]
    fn log_time_falls() {
        let mut machine = founded();
        apply_at(&mut machine, 2, 5, 0);
        apply_at(&mut machine, 3, 4, 0);
    }

    #[test]
    #[should_panic(expected = "wall time fell")]
    fn wall_time_falls() {
        let mut machine = founded();
        apply_at(&mut machine, 2, 0, 5);
        apply_at(&mut machine, 3, 0, 4);
    }

    #[test]
    fn raft_may_begin_with_entry_zero() {
        let mut machine = Machine::default();
        machine.skip(0);
        machine.skip(1);
        apply_at(&mut machine, 2, 0, 0);
        assert_eq!(machine.applied_index(), 2);
    }
}

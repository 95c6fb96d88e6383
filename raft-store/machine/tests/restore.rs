//! The same batches give the same state, however often it was written out and loaded on the way; and
//! rows that are not exactly a state are refused.

mod common;

use std::collections::BTreeMap;

use common::{
    apply, bytes_of, events, load, rows_of,
    script::{self, Player, Ready, SALES, Step},
    write_dirty,
};
use inventory_machine::{DocumentQuery, LoadError, Machine, Row, RowKey, command::*};
use proptest::{collection::vec, prelude::*};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Everything that can be read must be the same, what is derived included.
fn assert_same(left: &Machine, right: &Machine) {
    assert_eq!(left.digest(), right.digest());
    assert_eq!(
        (
            left.applied_index(),
            left.log_time_ms(),
            left.wall_time_ms(),
            left.founding()
        ),
        (
            right.applied_index(),
            right.log_time_ms(),
            right.wall_time_ms(),
            right.founding()
        )
    );
    assert_eq!(left.sales(0, None, usize::MAX), right.sales(0, None, usize::MAX));
    for sale in left.sales(0, None, usize::MAX) {
        let number = sale.sale_number;
        assert_eq!(
            left.claims(number, 1, usize::MAX),
            right.claims(number, 1, usize::MAX)
        );
        for user in (0..5).map(script::user) {
            assert_eq!(
                left.claims_of(number, user, 100),
                right.claims_of(number, user, 100)
            );
        }
    }
    assert_eq!(
        left.documents(&DocumentQuery::ALL),
        right.documents(&DocumentQuery::ALL)
    );
    assert_eq!(
        (
            left.next_deadline_ms(),
            left.next_hour_ms(),
            left.waits_for_time()
        ),
        (
            right.next_deadline_ms(),
            right.next_hour_ms(),
            right.waits_for_time()
        )
    );
    assert_eq!(rows_of(&left.freeze()), rows_of(&right.freeze()));
}

fn check_history(steps: Vec<Step>) {
    let mut machine = Machine::default();
    let mut restored = Machine::default();
    let mut image = BTreeMap::new();
    let mut player = Player::default();
    let mut steps = steps.into_iter();
    while let Some(ready) = player.next(&mut steps, &machine) {
        let Ready {
            commands,
            log_time_ms,
            wall_time_ms,
            term,
        } = &ready;
        let bytes = bytes_of(&SALES, commands, *log_time_ms, *wall_time_ms);
        // A state frozen before the batch must not see it.
        let frozen = machine.freeze();
        let before = rows_of(&frozen);

        let applied = apply(&mut machine, *term, &bytes);
        let again = apply(&mut restored, *term, &bytes);
        assert_eq!(
            (&applied.replies, &applied.events),
            (&again.replies, &again.events)
        );
        let shown = events(&machine, &applied.events);
        assert_eq!(events(&restored, &again.events), shown);
        player.learn(&shown);
        if commands.len() == 1 {
            machine.skip(machine.applied_index() + 1);
            restored.skip(restored.applied_index() + 1);
        }
        assert_eq!(rows_of(&frozen), before);

        restored = load(&rows_of(&machine.freeze())).expect("the rows of a machine");
        assert!(
            restored.take_dirty().is_empty(),
            "what was just loaded needs no writing"
        );
        assert_same(&machine, &restored);
        write_dirty(&mut machine, &mut image);
        assert_eq!(
            image,
            rows_of(&machine.freeze()),
            "the image follows by dirty rows alone"
        );
        assert!(machine.take_dirty().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn states_survive_their_rows_at_every_index(steps in vec(any::<Step>(), 1..100)) {
        check_history(steps);
    }
}

/// A state with every kind of row in it, small enough to damage byte by byte.
fn small() -> Machine {
    let mut machine = Machine::default();
    let at = |key: u128, body| Command {
        follows: false,
        principal: 5,
        key,
        not_after_ms: 1_000,
        body,
    };
    let create = CreateSale {
        sale: 0,
        name: "a sale",
        units_total: 50,
        per_user_units_max: 2,
        hold_ms: 1_000,
        checkout_max_ms: 0,
        opens_at_ms: 0,
        closes_at_ms: 0,
        price_minor: 1,
        currency: *b"EUR",
        claims_max: 0,
    };
    let put = PutDocument {
        document: b"o/1",
        body: b"body",
        version_expected: 0,
        fencing_token: 0,
        ttl_ms: 9_000,
    };
    let resolve = Resolve {
        sale: 0,
        operation: Operation::Claim,
        key: 999,
        fence_until_ms: 0,
    };
    let mut commands = vec![
        at(1, common::FOUND),
        at(2, Body::CreateSale(create)),
        at(3, Body::OpenSale { sale: 0 }),
        at(4, Body::PutDocument(put)),
        at(5, Body::Resolve(resolve)),
    ];
    // More than one block of records.
    for claim in 0..49u128 {
        commands.push(at(
            100 + claim,
            Body::Claim(Take {
                sale: 0,
                user: 1 + claim,
                quantity: 1,
            }),
        ));
    }
    apply(&mut machine, 1, &bytes_of(&["alpha"], &commands, 10, 20));
    machine
}

/// What comes of loading rows, one of which was changed.
fn load_with(
    rows: &BTreeMap<RowKey, Vec<u8>>,
    key: &RowKey,
    value: Option<Vec<u8>>,
) -> Result<Machine, LoadError> {
    let mut rows = rows.clone();
    match value {
        Some(value) => rows.insert(key.clone(), value),
        None => rows.remove(key),
    };
    load(&rows)
}

#[test]
fn every_damaged_byte_is_found() {
    let rows = rows_of(&small().freeze());
    assert_eq!(
        rows.len(),
        9,
        "two blocks, document, three effects, fence, sale, meta"
    );
    for (key, value) in &rows {
        for at in 0..value.len() {
            for bit in [0x01, 0x80] {
                let mut damaged = value.clone();
                damaged[at] ^= bit;
                let result = load_with(&rows, key, Some(damaged));
                assert!(
                    matches!(&result, Err(LoadError::Row { key: named, .. }) if named == key),
                    "{at}: {result:?}"
                );
            }
        }
        for length in 0..value.len() {
            assert!(load_with(&rows, key, Some(value[..length].to_vec())).is_err());
        }
        assert!(load_with(&rows, key, Some([&value[..], &[0]].concat())).is_err());
    }
}

#[test]
fn missing_foreign_and_misplaced_rows_are_found() {
    let machine = small();
    let rows = rows_of(&machine.freeze());
    for key in rows.keys() {
        assert!(
            load_with(&rows, key, None).is_err(),
            "without {}",
            key.escape_ascii()
        );
        for at in 0..key.len() {
            let mut moved = rows.clone();
            let value = moved.remove(key).unwrap();
            let mut other = key.clone();
            other[at] ^= 1;
            if moved.contains_key(&other) {
                continue;
            }
            moved.insert(other, value);
            assert!(load(&moved).is_err(), "{} at another key", key.escape_ascii());
        }
    }
    // Rows of a later state, each sound in itself, in the midst of the earlier one.
    let mut later = machine;
    let command = Command {
        follows: false,
        principal: 5,
        key: 77,
        not_after_ms: 1_000,
        body: Body::Decrement(Take {
            sale: 0,
            user: 1,
            quantity: 1,
        }),
    };
    apply(&mut later, 1, &bytes_of(&["alpha"], &[command], 11, 20));
    let newer = rows_of(&later.freeze());
    for (key, value) in &newer {
        if rows.get(key) != Some(value) {
            assert!(
                load_with(&rows, key, Some(value.clone())).is_err(),
                "new {}",
                key.escape_ascii()
            );
        }
    }
    let mut twice = Machine::loader();
    let (key, value) = rows.first_key_value().unwrap();
    twice.row(key, value).unwrap();
    assert!(matches!(twice.row(key, value), Err(LoadError::Row { .. })));
    assert!(matches!(load(&BTreeMap::new()), Err(LoadError::Count { .. })));
}

#[test]
fn rows_may_come_in_any_order() {
    let machine = small();
    let rows = rows_of(&machine.freeze());
    let mut backwards = Machine::loader();
    for (key, value) in rows.iter().rev() {
        backwards.row(key, value).unwrap();
    }
    assert_same(&machine, &backwards.finish().unwrap());
}

#[test]
fn what_is_not_there_has_no_row() {
    let frozen = small().freeze();
    let mut out = vec![1, 2, 3];
    let effect = |table, number| Row::Effect {
        table,
        key: 1,
        number,
    };
    for row in [
        Row::Sale { sale_number: 0 },
        Row::Sale { sale_number: 2 },
        Row::Block {
            sale_number: 1,
            block: 2,
        },
        Row::Block {
            sale_number: 2,
            block: 0,
        },
        Row::Document {
            key: b"none"[..].into(),
        },
        Row::Fence { key: 1 },
        effect(0, u64::MAX),
        effect(2, 0),
    ] {
        assert!(!frozen.row(&row, &row.key(), &mut out), "{row:?}");
    }
    assert_eq!(out, [1, 2, 3]);
}

#[test]
fn keys_that_name_nothing_are_no_rows() {
    for key in [
        &b""[..],
        b"x",
        b"m1",
        b"b",
        b"s\0\0\0",
        b"e\x02",
        b"e\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"f\0",
    ] {
        let sealed = xxh3_64_with_seed(&[], xxh3_64(key)).to_le_bytes();
        let why = Machine::loader().row(key, &sealed).unwrap_err().to_string();
        assert!(
            why.contains("no row has such a key"),
            "{}: {why}",
            key.escape_ascii()
        );
    }
}

#[test]
fn the_empty_state_has_one_row() {
    let machine = Machine::default();
    let rows = rows_of(&machine.freeze());
    assert_eq!(rows.len(), 1);
    assert_same(&machine, &load(&rows).unwrap());
}

/// Whoever loaded a state forgets the same keys at the same time as who did not.
#[test]
fn a_loaded_state_forgets_in_the_order_of_the_log() {
    let mut machine = Machine::default();
    // The older a key, the larger: the rows come in the other order.
    let put = |key: u128, log_time_ms: u64| Command {
        follows: false,
        principal: 1,
        key,
        not_after_ms: log_time_ms,
        body: Body::PutDocument(PutDocument {
            document: b"d",
            body: b"",
            // Each comes when the one before it has ended by itself.
            version_expected: 0,
            fencing_token: 0,
            ttl_ms: 1_000,
        }),
    };
    apply(
        &mut machine,
        1,
        &bytes_of(
            &[],
            &[Command {
                follows: false,
                body: common::FOUND,
                ..put(100, 0)
            }],
            0,
            0,
        ),
    );
    let times = [0, 2_000, 4_000];
    for (key, log_time_ms) in [9, 6, 3].into_iter().zip(times) {
        apply(
            &mut machine,
            1,
            &bytes_of(&[], &[put(key, log_time_ms)], log_time_ms, 0),
        );
    }
    let mut loaded = load(&rows_of(&machine.freeze())).expect("the rows of a machine");
    for forgotten in 1..=times.len() {
        let bytes = bytes_of(&[], &[], times[forgotten - 1] + EFFECT_KEEP_MS, 0);
        apply(&mut machine, 1, &bytes);
        apply(&mut loaded, 1, &bytes);
        assert_same(&machine, &loaded);
        let known = [9, 6, 3].map(|key| loaded.effect(0, Operation::Document, key).is_some());
        assert_eq!(known, [forgotten < 1, forgotten < 2, forgotten < 3]);
    }
}

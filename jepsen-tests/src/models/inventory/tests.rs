use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;

fn sale() -> Sale {
    let limits = history::Sale {
        units: 4,
        ttl_ms: 5,
        per_user_units_max: 2,
        extend_ms: 3,
    };
    Sale::new(limits, 40, true)
}

fn some_call(chance: &mut SmallRng) -> Call<Id> {
    let key = chance.random_range(0..20);
    let hold = chance.random_range(20..40);
    let user = chance.random_range(0..4);
    match chance.random_range(0..9) {
        0..3 => Call::Claim {
            user,
            key,
            quantity: chance.random_range(1..3),
        },
        3 => Call::Confirm { hold, key },
        4 => Call::Release { hold, key },
        5 => Call::Extend { hold, key },
        6 => Call::Cancel { hold, key },
        7 => Call::Decrement {
            user: Some(user),
            key,
            quantity: 1,
        },
        _ => Call::Pause { key },
    }
}

/// Everything that is kept, so that two sales can be compared.
fn all(sale: &Sale) -> impl PartialEq + std::fmt::Debug + use<> {
    let due: Vec<(u64, Id)> = sale.due.iter().copied().collect();
    (
        sale.counters,
        sale.holds.clone(),
        sale.keys.clone(),
        sale.taken.clone(),
        due,
        sale.fingerprint(),
    )
}

#[test]
fn what_is_undone_never_was() {
    for seed in 0..200 {
        let mut chance = SmallRng::seed_from_u64(seed);
        let (mut sale, mut lt) = (sale(), 1);
        let mut past = vec![(sale.mark(), lt, all(&sale))];
        for _ in 0..60 {
            if chance.random_ratio(1, 3) {
                let back = chance.random_range(0..past.len());
                let (mark, then, before) = &past[back];
                sale.undo(*mark);
                lt = *then;
                assert_eq!(all(&sale), *before, "seed {seed}");
                past.truncate(back + 1);
                continue;
            }
            lt += chance.random_range(0..3);
            let call = some_call(&mut chance);
            sale.step_unheard(&call, lt, Some(chance.random_range(20..40)));
            past.push((sale.mark(), lt, all(&sale)));
        }
    }
}

#[test]
fn different_states_have_different_fingerprints() {
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..500 {
        let mut chance = SmallRng::seed_from_u64(seed);
        let (mut sale, mut lt) = (sale(), 1);
        for _ in 0..8 {
            lt += chance.random_range(0..2);
            let call = some_call(&mut chance);
            sale.step_unheard(&call, lt, Some(chance.random_range(20..40)));
            // An extension of a hold that is over, and who had it, mean nothing any more.
            let kept = (
                sale.counters,
                sale.keys.clone(),
                sale.taken.clone(),
                sale.due.clone(),
            );
            let before = seen
                .entry(sale.fingerprint())
                .or_insert_with(|| format!("{kept:?}"));
            assert_eq!(*before, format!("{kept:?}"));
        }
    }
    assert!(seen.len() > 1_000, "{}", seen.len());
}

#[test]
fn a_claim_told_again_is_told_as_it_is_by_then() {
    let mut sale = sale();
    let (hold, claim) = (
        20,
        Call::Claim {
            user: 0,
            key: 0,
            quantity: 1,
        },
    );
    let granted = |deadline| Outcome::Granted { hold, deadline };
    assert_eq!(sale.step(&claim, 1, &granted(6)), Ok(Done::Effect));
    assert_eq!(sale.step(&claim, 1, &granted(6)), Ok(Done::Repeated));
    let extend = Call::Extend { hold, key: 1 };
    let extended = Outcome::Extended { deadline: 9 };
    assert_eq!(sale.step(&extend, 2, &extended), Ok(Done::Effect));
    assert_eq!(sale.step(&claim, 2, &granted(9)), Ok(Done::Repeated));
    let before = sale.step(&claim, 2, &granted(6));
    assert_eq!(
        before,
        Err(Wrong::Remembered(granted(9))),
        "its first deadline is no more"
    );
    // Over, it keeps the deadline that it had.
    assert_eq!(sale.step(&claim, 9, &granted(9)), Ok(Done::Repeated));
    assert_eq!(sale.hold(hold).status, Status::Over);
}

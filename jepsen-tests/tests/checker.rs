//! The checker: every rule of the specification, right and wrong, from small files; random histories, right
//! and broken; the histories of others; and the command.

#[path = "checker/lies.rs"]
mod lies;
#[path = "checker/plain.rs"]
mod plain;

use std::{fs, path::PathBuf};

use jepsen_tests::{
    checker::{
        Answer, Lies, Options, Resolves, Verdict, along,
        budget::{Budget, Limits},
        check, operations, searched, witness,
    },
    generate::{self, Operation, Plan},
    history::History,
};
use lies::Lie;
use plain::explained;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

fn histories() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/histories")
}

/// What a file says of itself: `rule1-….valid.ndjson`.
fn expected(name: &str) -> &str {
    name.split('.').nth(1).expect("a name of three parts")
}

fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "valid",
        Verdict::Unknown(_) => "unknown",
        Verdict::Disagreement(_) => "disagreement",
        Verdict::Invalid(contradiction) => match contradiction.lies {
            Lies::Order => "order-lies",
            Lies::Values => "values-lie",
            Lies::Either => "either-lies",
        },
    }
}

#[test]
fn every_rule_of_the_specification_right_and_wrong() {
    let mut wrong = Vec::new();
    let mut files = 0;
    for entry in fs::read_dir(histories()).expect("the histories") {
        let path = entry.expect("a file").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.ends_with(".ndjson") {
            continue;
        }
        files += 1;
        let history = History::read_file(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = check(&history, Options::default());
        if verdict(&found) != expected(&name) {
            wrong.push(format!("{name}: {found:?}"));
        }
        if let Verdict::Invalid(contradiction) = &found {
            assert!(!contradiction.operations.is_empty(), "{name} shows no operation");
            assert!(
                contradiction.operations.len() <= 4,
                "{name} shows too many: {contradiction:?}"
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(files >= 150, "only {files} histories");
}

/// Few enough operations to try everything.
const TINY: Plan = Plan {
    operations: 6,
    sales: 1,
    units: 2,
    users: 3,
    ttl_ms: 3,
    unheard_percent: 35,
    resolved_percent: 50,
    overlap: 2,
    step_ms: 3,
};

const SMALL: Plan = Plan {
    operations: 150,
    sales: 2,
    units: 5,
    users: 12,
    ttl_ms: 10,
    unheard_percent: 0,
    resolved_percent: 50,
    overlap: 4,
    step_ms: 3,
};

const UNHEARD: Plan = Plan {
    unheard_percent: 10,
    ..SMALL
};

/// A tiny run, with up to two lies told.
fn tiny(seed: u64) -> Vec<Operation> {
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut operations = generate::run(TINY, seed);
    for operation in &mut operations {
        operation.resolved = None;
    }
    for _ in 0..chance.random_range(0..3) {
        Lie::ALL[chance.random_range(0..Lie::ALL.len())].tell(&mut operations, &mut chance);
    }
    operations
}

fn is_yes(answer: &Answer) -> Option<bool> {
    match answer {
        Answer::Yes => Some(true),
        Answer::No(_) => Some(false),
        Answer::GaveUp(_) => None,
    }
}

/// The same cases every time, so that a red run can be run again; others with HOLDFAST_SEED.
fn cases(cases: u32) -> ProptestConfig {
    let seed =
        std::env::var("HOLDFAST_SEED").map_or(1, |seed| seed.parse().expect("HOLDFAST_SEED is a number"));
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(seed),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(1_500))]

    #[test]
    fn witness_and_search_say_what_trying_everything_says(seed: u64) {
        let operations = tiny(seed);
        let history = generate::history(TINY, &operations);
        for partition in operations::partitions(&history, Resolves::Used) {
            let found = is_yes(&searched(&partition, &mut Budget::new(Limits::default())));
            let exact = explained(&operations, TINY.units, TINY.ttl_ms, false);
            prop_assert_eq!(found, Some(exact), "search: {:#?}", operations);
        }
        // Two answers at one place have no order among themselves that everything else must keep to.
        let all = operations::partitions(&history, Resolves::Used);
        let order = witness::order(&all).expect("every answer has an index");
        if witness::check_order(&all, &order).is_ok() && let [partition] = &all[..] {
            let order: Vec<u32> = order.places.iter().map(|&(_, index)| index).collect();
            let found = is_yes(&along(partition, &order, &mut Budget::new(Limits::default())));
            let exact = explained(&operations, TINY.units, TINY.ttl_ms, true);
            prop_assert_eq!(found, Some(exact), "witness: {:#?}", operations);
        }
    }
}

#[test]
fn a_large_history_with_many_unknowns_gets_a_word_within_the_limits() {
    let plan = Plan {
        operations: 20_000,
        sales: 3,
        units: 2_000,
        users: 4_000,
        ttl_ms: 500,
        unheard_percent: 5,
        resolved_percent: 100,
        overlap: 16,
        step_ms: 3,
    };
    let history = generate::history(plan, &generate::run(plan, 1));
    assert_eq!(check(&history, Options::default()), Verdict::Valid);
    for (states_max, tries_max, reached) in [
        (1_000, u64::MAX, "--states-max"),
        (usize::MAX, 20_000, "--tries-max"),
    ] {
        let harder = Options {
            resolves: Resolves::Ignored,
            limits: Limits {
                states_max,
                tries_max,
            },
            ..Options::default()
        };
        let Verdict::Unknown(why) = check(&history, harder) else {
            panic!("decided within {states_max} states and {tries_max} tries")
        };
        assert!(why.contains(reached), "{why}");
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn what_follows_the_specification_is_valid(seed: u64) {
        for plan in [SMALL, UNHEARD] {
            let history = generate::history(plan, &generate::run(plan, seed));
            prop_assert_eq!(check(&history, Options::default()), Verdict::Valid);
        }
    }

    #[test]
    fn what_follows_the_specification_is_valid_though_nobody_resolves(seed: u64) {
        let history = generate::history(UNHEARD, &generate::run(UNHEARD, seed));
        let harder = Options { resolves: Resolves::Ignored, ..Options::default() };
        prop_assert_eq!(check(&history, harder), Verdict::Valid);
    }

    #[test]
    fn every_lie_is_caught_or_harmless(seed: u64, lie in prop::sample::select(Lie::ALL.to_vec())) {
        let mut chance = SmallRng::seed_from_u64(seed);
        let mut operations = generate::run(SMALL, seed);
        prop_assume!(lie.tell(&mut operations, &mut chance));
        let history = generate::history(SMALL, &operations);
        // The search is only asked who is at fault.
        let limits = Limits { states_max: 20_000, tries_max: 100_000 };
        match check(&history, Options { limits, ..Options::default() }) {
            // Witness and search both explain it: the lie happens to be a truth.
            Verdict::Valid => {}
            Verdict::Invalid(contradiction) => {
                prop_assert!(!contradiction.operations.is_empty());
                prop_assert!(contradiction.operations.len() <= 20, "{lie:?}: {contradiction:?}");
            }
            other => prop_assert!(false, "{lie:?}: {other:?}"),
        }
    }
}

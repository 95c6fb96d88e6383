//! Every named crash point of a checkout is reached by a simulated door and survived: the door that loses its power
//! right there comes back, or another goes on, and the books are as they should be.
//!
//! A first run of a seed counts who passes where; since runs repeat to the byte, a second run of the seed surely comes
//! to any of those passings. `HOLDFAST_SEED=n` starts from another seed.

use std::{collections::BTreeMap, time::Duration};

use fault_points::registry::{CRASH_POINTS, Passer};
use jepsen_tests::simulation::{
    Trace,
    checkout::plan::CheckoutPlan,
    crash_points::CrashPoints,
    run,
    scenario::{CHECKOUT_SEEDS_FROM, Scenario},
};

/// Seeds that are tried until one comes by a point.
const SEEDS_MAX: u64 = 12;

/// How long shoppers shop, in ms: long enough that all that can happen to a checkout happens to one.
const LOAD_MS: u64 = 8_000;

fn first_seed() -> u64 {
    std::env::var("HOLDFAST_SEED").map_or(CHECKOUT_SEEDS_FROM + 1, |seed| {
        seed.parse().expect("HOLDFAST_SEED is a number")
    })
}

/// A seed's shoppers and provider, in a street where nothing else goes wrong.
fn quiet(seed: u64) -> Scenario {
    let mut plan = CheckoutPlan::of(seed);
    plan.cluster.load_ms = LOAD_MS;
    plan.cluster.faults.clear();
    plan.faults.clear();
    Scenario::Checkout(Box::new(plan))
}

/// Runs it, and gives who passed where; all must be well.
fn passed(seed: u64, crash: Option<(&str, u32)>) -> BTreeMap<&'static str, u32> {
    let crash_points = CrashPoints::new();
    if let Some((point, passing)) = crash {
        crash_points.arm(point, passing, Duration::ZERO..Duration::MAX);
    }
    let outcome = run::run(&quiet(seed), Trace::if_asked_for());
    assert_eq!(outcome.wrong(), Vec::<String>::new(), "seed {seed}, {crash:?}");
    if let Some((point, _)) = crash {
        let crashed = crash_points.take_crashed();
        assert_eq!(crashed.len(), 1, "seed {seed}: nobody crashed at {point}");
    }
    crash_points.passed()
}

/// One test, so that no other simulation runs beside: some of what libraries draw is shared by all threads.
#[test]
fn every_crash_point_of_a_checkout_is_reached_and_survived() {
    let points = || {
        CRASH_POINTS
            .iter()
            .filter(|point| point.passed_by == Passer::Door)
    };
    let mut passings: BTreeMap<&str, (u64, u32)> = BTreeMap::new();
    for seed in first_seed()..first_seed() + SEEDS_MAX {
        for (point, count) in passed(seed, None) {
            passings.entry(point).or_insert((seed, count));
        }
        if points().all(|point| passings.contains_key(point.name)) {
            break;
        }
    }
    for point in points() {
        let Some(&(seed, count)) = passings.get(point.name) else {
            panic!("no seed of {SEEDS_MAX} comes to {}: {}", point.name, point.what);
        };
        passed(seed, Some((point.name, count.div_ceil(2))));
    }
}

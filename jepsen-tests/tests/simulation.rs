//! Whole clusters under faults, from seeds. `HOLDFAST_SEED=n` runs one seed instead.

use jepsen_tests::simulation::flash::{Plan, run};

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        units: 40,
        users: 120,
        faults: 4,
    }
}

fn seeds(default: std::ops::Range<u64>) -> Vec<u64> {
    match std::env::var("HOLDFAST_SEED") {
        Ok(seed) => vec![seed.parse().expect("HOLDFAST_SEED is a number")],
        Err(_) => default.collect(),
    }
}

fn run_or_panic(seed: u64) -> String {
    // Silent unless RUST_LOG asks; a second call changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .without_time()
        .try_init();
    run(plan(seed)).unwrap_or_else(|error| panic!("{error}")).text()
}

#[test]
fn two_runs_of_one_seed_are_equal_to_the_byte() {
    for seed in seeds(1..3) {
        let (first, second) = (run_or_panic(seed), run_or_panic(seed));
        for needed in [
            "power cut",
            "partition",
            "heal",
            "granted",
            "confirmed",
            "end index",
        ] {
            assert!(first.contains(needed), "seed {seed} shows no {needed}:\n{first}");
        }
        for (one, other) in first.lines().zip(second.lines()) {
            assert_eq!(one, other, "seed {seed}: the runs part here");
        }
        assert_eq!(first.len(), second.len(), "seed {seed}: one run has more to tell");
    }
}

#[test]
fn promises_hold_under_faults() {
    for seed in seeds(100..110) {
        run_or_panic(seed);
    }
}

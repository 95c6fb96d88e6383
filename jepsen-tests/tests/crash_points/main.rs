//! Every named crash point is reached by a simulated cluster and survived: the machine that loses its power
//! right there comes back, everything that was acknowledged is there, and replicas are equal.
//!
//! A first run of a seed counts who passes where; since runs repeat to the byte, a second run of the seed
//! surely comes to any of those passings. `HOLDFAST_SEED=n` starts from another seed. The points of the image, which
//! needs threads, are the process tests'.

mod churn;

use std::collections::BTreeMap;

use churn::{Crash, Ended, run};
use fault_points::registry::{CRASH_POINTS, Passer};

/// Seeds that are tried until one comes by a point.
const SEEDS_MAX: u64 = 12;
/// Passings of each point to crash at: an early one, when little is there, and a late one.
const CRASHES: usize = 2;

fn first_seed() -> u64 {
    std::env::var("HOLDFAST_SEED").map_or(1, |seed| seed.parse().expect("HOLDFAST_SEED is a number"))
}

fn run_or_panic(seed: u64, crash: Option<Crash>) -> Ended {
    run(seed, crash).unwrap_or_else(|error| {
        panic!(
            "seed {seed}, {crash:?}: {error}\nrun it again: HOLDFAST_SEED={seed} cargo test -p jepsen-tests \
             --features fault-points --test crash_points"
        )
    })
}

/// For every simulated point, a seed that passes it, and how often. More seeds are run only for those that
/// the first ones have missed.
fn passings() -> BTreeMap<&'static str, (u64, u32)> {
    let mut passings = BTreeMap::new();
    let simulated = CRASH_POINTS
        .iter()
        .filter(|point| point.passed_by == Passer::Node)
        .count();
    for seed in first_seed()..first_seed() + SEEDS_MAX {
        for (point, count) in run_or_panic(seed, None).passed {
            passings.entry(point).or_insert((seed, count));
        }
        if passings.len() == simulated {
            break;
        }
    }
    passings
}

/// One test, so that no other simulation runs beside: some of what libraries draw is shared by all threads.
#[test]
fn crashes_at_points_repeat_and_every_point_is_reached_and_survived() {
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .without_time()
            .init();
    }
    fault_points::from_environment().unwrap_or_else(|error| panic!("{error}"));
    a_crash_repeats_to_the_byte();
    let passings = passings();
    for point in CRASH_POINTS {
        let passed = passings.get(point.name);
        if point.passed_by != Passer::Node {
            assert!(passed.is_none(), "{} is said not to be simulated", point.name);
            continue;
        }
        let Some(&(seed, count)) = passed else {
            panic!("no seed of {SEEDS_MAX} comes to {}: {}", point.name, point.what);
        };
        let mut crashes = vec![1, count.div_ceil(2)];
        crashes.dedup();
        for passing in crashes.into_iter().take(CRASHES) {
            let crash = Crash {
                point: point.name,
                passing,
            };
            let ended = run_or_panic(seed, Some(crash));
            assert_eq!(ended.crashed.len(), 1, "seed {seed}: nobody crashed at {crash:?}");
        }
    }
}

fn a_crash_repeats_to_the_byte() {
    let crash = Crash {
        point: "log-append-written",
        passing: 40,
    };
    let seed = first_seed();
    let (first, second) = (run_or_panic(seed, Some(crash)), run_or_panic(seed, Some(crash)));
    assert_eq!(first.crashed.len(), 1);
    assert_eq!(first.crashed, second.crashed);
    assert_eq!(first.trace, second.trace);
}

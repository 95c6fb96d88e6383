//! Whole clusters under faults, from seeds. `HOLDFAST_SEED=n` runs one seed instead, `HOLDFAST_TRACE=1` prints
//! what happens in it. Thousands of seeds: `cargo run --profile proof -p jepsen-tests --bin simulate`.

use jepsen_tests::simulation::{
    Trace,
    corpus::corpus,
    plan::{Fault, Plan},
    run::run,
};

fn seeds(default: impl IntoIterator<Item = u64>) -> Vec<u64> {
    match std::env::var("HOLDFAST_SEED") {
        Ok(seed) => vec![seed.parse().expect("HOLDFAST_SEED is a number")],
        Err(_) => default.into_iter().collect(),
    }
}

/// Runs a seed; gives all that can be told of it.
fn told(seed: u64) -> String {
    let trace = Trace::default();
    let outcome = run(&Plan::of(seed), trace.clone());
    let wrong = outcome.wrong();
    assert!(
        wrong.is_empty(),
        "seed {seed}: {}\nrun it again: HOLDFAST_SEED={seed} HOLDFAST_TRACE=1 cargo test -p jepsen-tests --test \
         simulation\n{}",
        wrong.join("\n"),
        trace.text()
    );
    let run = outcome.run.expect("a run with nothing wrong has come to its end");
    let mut history = Vec::new();
    run.history.write(&mut history).expect("a Vec takes all");
    let history = String::from_utf8(history).expect("JSON is text");
    let findings: Vec<String> = outcome
        .findings
        .iter()
        .map(|finding| format!("{}: {}", finding.property, finding.summary))
        .collect();
    format!("{}\n{}\n{history}", trace.text(), findings.join("\n"))
}

/// A seed in which much happens.
fn eventful() -> u64 {
    let eventful = |seed: &u64| {
        let faults = Plan::of(*seed).faults;
        [Fault::PowerCutInWrite, Fault::Grow, Fault::KillAll, Fault::Loss]
            .iter()
            .all(|fault| faults.iter().any(|planned| planned.fault == *fault))
    };
    (0..).find(eventful).expect("every combination comes up")
}

/// Where a child of the test below tells what it saw.
const TELL_TO: &str = "HOLDFAST_TELL_TO";

/// Not a test by itself: one run, in a process of its own.
#[test]
fn one_run_told_to_a_file() {
    if let Some(path) = std::env::var_os(TELL_TO) {
        let told: Vec<String> = seeds([]).into_iter().map(told).collect();
        std::fs::write(path, told.concat()).expect("a file in the temporary directory");
    }
}

// In fresh processes, as a seed is replayed: within one, the order in which a dying node's connections close depends
// on what the process did before.
#[test]
fn two_runs_of_one_seed_are_equal_to_the_byte() {
    for seed in seeds([eventful()]) {
        let [first, second] = [1, 2].map(|run| {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let path = dir.path().join("told");
            let child = std::process::Command::new(std::env::current_exe().expect("this test"))
                .args(["--exact", "one_run_told_to_a_file", "--nocapture"])
                .env("HOLDFAST_SEED", seed.to_string())
                .env(TELL_TO, &path)
                .output()
                .expect("this test runs again");
            let words = String::from_utf8_lossy(&child.stderr);
            assert!(child.status.success(), "seed {seed}, run {run}: {words}");
            std::fs::read_to_string(path).expect("what the child told")
        });
        assert!(first.lines().count() > 1_000, "seed {seed} has little to tell");
        for (one, other) in first.lines().zip(second.lines()) {
            assert_eq!(one, other, "seed {seed}: the runs part here");
        }
        assert_eq!(first.len(), second.len(), "seed {seed}: one run has more to tell");
    }
}

#[test]
fn promises_hold_under_faults() {
    for seed in seeds(100..104) {
        told(seed);
    }
}

#[test]
fn seeds_that_found_something_find_nothing_now() {
    for found in corpus() {
        told(found.seed);
    }
}

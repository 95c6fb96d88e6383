//! Whole clusters under faults, from seeds. `HOLDFAST_SEED=n` runs one seed instead, `HOLDFAST_TRACE=1` prints
//! what happens in it. Thousands of seeds: `cargo run --profile proof -p jepsen-tests --bin simulate`.

use std::process::Command;

use jepsen_tests::{
    history::{Kind, Outcome},
    simulation::{
        Trace,
        plan::{Fault, Plan},
        run::run,
        scenario::{CHECKOUT_SEEDS_FROM, Scenario},
    },
};

/// Runs `simulate`, each seed in a process of its own: within one, the order in which a dying node's connections
/// close depends on what the process did before.
fn simulate(arguments: &[&str]) {
    let mut simulate = Command::new(env!("CARGO_BIN_EXE_simulate"));
    match std::env::var("HOLDFAST_SEED") {
        Ok(seed) => simulate.args(["--seeds", "1", "--first", &seed]),
        Err(_) => simulate.args(arguments),
    };
    if arguments.contains(&"--twice") && !simulate.get_args().any(|argument| argument == "--twice") {
        simulate.arg("--twice");
    }
    let ran = simulate.output().expect("our own command runs");
    let (out, err) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    if std::env::var_os("HOLDFAST_TRACE").is_some() {
        println!("{err}{out}");
    }
    assert!(
        ran.status.success(),
        "{}\n{err}{out}\nrun a seed N again: HOLDFAST_SEED=N HOLDFAST_TRACE=1 cargo test -p jepsen-tests --test \
         simulation",
        ran.status
    );
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

#[test]
fn two_runs_of_one_seed_are_equal_to_the_byte() {
    simulate(&["--twice", "--seeds", "1", "--first", &eventful().to_string()]);
}

/// A seed in which doors, nodes and the provider all fail.
fn eventful_checkout() -> u64 {
    let eventful = |seed: &u64| {
        let Scenario::Checkout(plan) = Scenario::of(*seed) else {
            unreachable!("seeds from there on are checkouts")
        };
        let has = |fault| plan.faults.iter().any(|planned| planned.fault == fault);
        let nodes_fail = plan.cluster.faults.len() > 2;
        nodes_fail && has(Fault::DoorKill) && has(Fault::DoorPause) && has(Fault::BankKill)
    };
    (CHECKOUT_SEEDS_FROM..)
        .find(eventful)
        .expect("every combination comes up")
}

#[test]
fn two_runs_of_one_checkout_seed_are_equal_to_the_byte() {
    simulate(&[
        "--twice",
        "--seeds",
        "1",
        "--first",
        &eventful_checkout().to_string(),
    ]);
}

#[test]
fn checkouts_keep_their_promises_under_faults() {
    simulate(&["--checkout", "--seeds", "2", "--first", "100"]);
}

#[test]
fn promises_hold_under_faults() {
    simulate(&["--seeds", "4", "--first", "100"]);
}

#[test]
fn documents_are_written_and_keys_resolved_in_every_run() {
    let run = run(&Plan::of(100), Trace::silent()).run;
    let answers = |kind: Kind| {
        let asked = run
            .operations
            .iter()
            .filter(move |operation| operation.call.kind() == kind);
        asked.filter_map(|operation| Some(operation.answer()?.outcome))
    };
    for kind in [Kind::Put, Kind::Delete, Kind::Lease] {
        assert!(answers(kind).any(|outcome| outcome.is_effect()), "{kind:?}");
    }
    assert!(answers(Kind::Put).any(|outcome| matches!(outcome, Outcome::WrongVersion { .. })));
    let there = |outcome: &Outcome| matches!(outcome, Outcome::Document { body: Some(_), .. });
    assert!(answers(Kind::Get).any(|outcome| there(&outcome)));
    let found = |outcome: &Outcome| matches!(outcome, Outcome::Found { .. });
    assert!(answers(Kind::Resolve).any(|outcome| found(&outcome)));
    assert!(answers(Kind::Resolve).any(|outcome| !found(&outcome)));
}

#[test]
fn seeds_that_found_something_find_nothing_now() {
    simulate(&["--corpus"]);
}

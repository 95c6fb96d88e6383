//! Runs one plan from the founding to the verdicts.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Trace,
    checkout::Street,
    cluster::{Machine, simulation_with},
    coverage::Coverage,
    load::load,
    nemesis::{CALLERS, Nemesis},
    scenario::Scenario,
    stage::Stage,
};
use crate::{
    checker,
    history::Recorder,
    properties::{self, Finding, Observations, Run, Verdict},
    workloads::shop::Shop,
};

/// Longest a run may take, in simulated time: everything in it that waits is bounded far below.
const SIMULATED_MAX: Duration = Duration::from_secs(300);

/// The search, which needs ten times as long as the run itself, is asked for a second opinion on every seed that
/// is a multiple of this; whatever the witness does not explain is searched anyway.
const SEARCHED_EVERY: u64 = 100;

/// And on histories with at most so many operations, which are searched in no time.
const SEARCHED_OPERATIONS_MAX: usize = 200;

/// What came of a plan.
pub struct Outcome {
    /// What every property says, and whether the run came to its end.
    pub findings: Vec<Finding>,
    /// History and observations; of a run that did not come to its end, the history until then, which nobody has
    /// judged: where each effect stands is only found out at the end.
    pub run: Run,
    /// What faults came about.
    pub coverage: Coverage,
    /// Answers that no caller deserved: the harness or the store is wrong about something.
    pub oddities: Vec<String>,
    /// Operations that were made.
    pub operations: usize,
    /// How long it lasted, in simulated time.
    pub simulated: Duration,
}

impl Outcome {
    /// What is wrong with it, if anything is.
    pub fn wrong(&self) -> Vec<String> {
        self.said(Verdict::Invalid)
            .chain(self.oddities.iter().map(|oddity| format!("odd answer: {oddity}")))
            .collect()
    }

    /// What could not be decided.
    pub fn undecided(&self) -> Vec<String> {
        self.said(Verdict::Unknown).collect()
    }

    fn said(&self, verdict: Verdict) -> impl Iterator<Item = String> + '_ {
        let findings = self.findings.iter();
        findings
            .filter(move |finding| finding.verdict == verdict)
            .map(|finding| format!("{}: {}", finding.property, finding.summary))
    }
}

/// Runs a plan in a process that does nothing else, and tells `ended` what came of it. Where code panics the run is
/// over, and so is the process: what is left of a runtime in which somebody panicked cannot even be dropped.
pub fn run_alone(scenario: &Scenario, trace: Trace, ended: impl Fn(&Outcome) + Send + Sync + 'static) {
    let ended = Arc::new(ended);
    let fallen = {
        let (ended, printed) = (ended.clone(), trace.printed);
        move |recorder: &Recorder, simulated: Duration, said: &str| {
            if printed {
                eprintln!("{said}");
            }
            ended(&cut_short(recorder, simulated, said));
            // Not an unwinding end: see above.
            std::process::exit(0);
        }
    };
    ended(&run_with(scenario, trace, Some(Box::new(fallen))));
}

/// Told of a panic: what was recorded until then, simulated time, and its words.
type Fallen = Box<dyn Fn(&Recorder, Duration, &str) + Send + Sync>;

/// What there is of a run in which somebody panicked.
fn cut_short(recorder: &Recorder, simulated: Duration, said: &str) -> Outcome {
    let run = Run::new(recorder.finish_or_nothing(), Observations::default());
    Outcome {
        findings: vec![nodes_stay_up(Err(said.to_owned()))],
        coverage: Coverage::new(),
        oddities: Vec::new(),
        operations: run.operations.len(),
        run,
        simulated,
    }
}

/// Whether every node served until it was stopped, and nobody panicked.
fn nodes_stay_up(ended: Result<(), String>) -> Finding {
    Finding {
        property: "nodes-stay-up".to_owned(),
        verdict: if ended.is_ok() {
            Verdict::Valid
        } else {
            Verdict::Invalid
        },
        summary: ended
            .err()
            .unwrap_or_else(|| "the run came to its end".to_owned()),
        operations: Vec::new(),
    }
}

/// Runs a plan. Notes what happens in `trace`.
pub fn run(scenario: &Scenario, trace: Trace) -> Outcome {
    run_with(scenario, trace, None)
}

fn run_with(scenario: &Scenario, trace: Trace, fallen: Option<Fallen>) -> Outcome {
    let plan = scenario.cluster();
    let now_ns = Arc::new(AtomicU64::new(0));
    let outside_ns = now_ns.clone();
    // Inside, a host knows the time better than the last step does.
    let clock: Arc<dyn Fn() -> u64 + Send + Sync> = Arc::new(move || {
        let inside = turmoil::sim_elapsed().unwrap_or_default().as_nanos() as u64;
        inside.max(outside_ns.load(Ordering::Relaxed))
    });
    let recorder_clock = clock.clone();
    let recorder = Recorder::new(plan.shop.header(), move || recorder_clock());
    if let Some(fallen) = fallen {
        let (recorder, now_ns) = (recorder.clone(), now_ns.clone());
        std::panic::set_hook(Box::new(move |panic| {
            let said = words(panic.payload());
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let simulated = Duration::from_nanos(now_ns.load(Ordering::Relaxed));
            fallen(&recorder, simulated, &format!("a panic: {said} ({place})"));
        }));
    }
    let shop = Shop::new(recorder.clone(), clock);
    let machines = (1..=plan.nodes)
        .map(|id| {
            let skew_ms = if id == plan.seed % plan.nodes + 1 {
                plan.skew_ms
            } else {
                0
            };
            Machine::new(id, skew_ms).with_raft(plan.raft)
        })
        .collect();
    let stage = Stage::new(recorder.clone(), machines);

    let mut street = match scenario {
        Scenario::Claims(_) => None,
        Scenario::Checkout(plan) => Some(Street::new(plan, &stage, &trace)),
    };
    let mut nemesis = Nemesis::new(plan, &stage, trace.clone())
        .and_callers(street.as_ref().map_or_else(Vec::new, Street::hosts));
    let mut simulated = Duration::ZERO;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let messages_max = Duration::from_millis(plan.message_ms_max);
        let mut sim = simulation_with(plan.seed, SIMULATED_MAX, messages_max);
        for machine in stage.machines() {
            register(&mut sim, machine, &trace, plan.snapshot_entries);
        }
        match &street {
            Some(street) => street.open(&mut sim),
            None => {
                let loading = load(Arc::new(plan.clone()), stage.clone(), shop.clone(), trace.clone());
                sim.client(CALLERS, loading);
            }
        }
        loop {
            let stepped = sim.step();
            simulated = sim.elapsed();
            now_ns.store(simulated.as_nanos() as u64, Ordering::Relaxed);
            stage.set_now(simulated);
            match stepped {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    nemesis.step(&mut sim);
                    if let Some(street) = &mut street {
                        street.step(&mut sim);
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }));
    nemesis.settle();
    let whole = stage.take_run();
    let mut findings = Vec::new();
    if let (Some(run), Some(street)) = (&whole, &street) {
        findings.push(properties::replicas_equal(run));
        findings.extend(street.findings());
    } else if let Some(run) = &whole {
        let options = checker::Options {
            cross_check_operations_max: if plan.seed.is_multiple_of(SEARCHED_EVERY) {
                usize::MAX
            } else {
                SEARCHED_OPERATIONS_MAX
            },
            ..checker::Options::default()
        };
        findings.push(properties::linearizable_with(&run.history, options));
        findings.extend(properties::check(run));
    }
    let ended = ended.unwrap_or_else(|panic| Err(format!("a panic: {}", words(&*panic))));
    findings.push(nodes_stay_up(ended));
    let oddities = std::mem::take(&mut shop.notes().oddities);
    if let Some(street) = &street {
        nemesis.coverage.add(street.coverage());
    }
    Outcome {
        findings,
        run: whole.unwrap_or_else(|| Run::new(recorder.finish(), Observations::default())),
        coverage: nemesis.coverage,
        oddities,
        operations: street.map_or_else(|| recorder.operations(), |street| street.requests()),
        simulated,
    }
}

/// Puts a machine into the simulation.
pub(super) fn register(sim: &mut turmoil::Sim<'_>, machine: Machine, trace: &Trace, snapshot_entries: u64) {
    let trace = trace.clone();
    sim.host(machine.name(), move || {
        machine.clone().run(trace.clone(), snapshot_entries)
    });
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without words")
        .to_owned()
}

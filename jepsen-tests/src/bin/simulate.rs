//! Runs simulations, a seed each, and says whether every promise held in all of them.
//!
//! `cargo run --profile proof -p jepsen-tests --bin simulate -- --seeds 300`

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use jepsen_tests::simulation::{
    Trace,
    corpus::corpus,
    coverage::Coverage,
    plan::Fault,
    run::run_alone,
    scenario::{CHECKOUT_SEEDS_FROM, Scenario},
    worker::{self, Told, Wrong},
};
use serde::Serialize;

/// From so many seeds on every fault has come about and hit a leader, or something is wrong with the nemesis.
const SEEDS_FOR_COVERAGE: u64 = 300;

/// Simulated clusters under faults, a seed each, each in a process of its own. Exit code 0: every promise held. 1:
/// one was broken. 2: some run could not be decided. 3: the runs say too little, for instance because a fault never
/// came about.
#[derive(Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Checkouts at doors before the cluster, in place of claims at the cluster itself
    #[arg(long)]
    checkout: bool,
    /// Stop after this many minutes
    #[arg(long)]
    minutes: Option<f64>,
    /// Seeds run at once; by default one for each processor
    #[arg(long)]
    jobs: Option<u64>,
    /// Run the seeds that once found something instead
    #[arg(long)]
    corpus: bool,
    /// Run each seed twice: both runs must be equal to the byte
    #[arg(long)]
    twice: bool,
    /// Print the plan and what happens
    #[arg(long)]
    trace: bool,
    /// Keep history, verdicts and report of seeds that failed here
    #[arg(long)]
    keep: Option<PathBuf>,
    /// How results are printed
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Run the first seed here, and tell what came of it
    #[arg(long, hide = true)]
    worker: bool,
    /// Leave trace and history here
    #[arg(long, hide = true)]
    leave: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// One seed that failed.
#[derive(Serialize)]
struct Failed {
    seed: u64,
    wrong: Vec<Wrong>,
    replay: String,
}

/// All seeds.
#[derive(Serialize)]
struct Summary {
    seeds: u64,
    operations: u64,
    operations_per_seed: f64,
    core_seconds: f64,
    seeds_per_core_hour: f64,
    simulated_seconds: f64,
    failed: Vec<Failed>,
    undecided: Vec<Failed>,
    thin: Vec<u64>,
    coverage: Coverage,
    coverage_missing: Vec<&'static str>,
}

#[derive(Default)]
struct Totals {
    seeds: u64,
    operations: u64,
    simulated_ms: u64,
    cpu_ms: f64,
    failed: Vec<Failed>,
    undecided: Vec<Failed>,
    thin: BTreeSet<u64>,
    coverage: Coverage,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.worker {
        work(arguments);
        return ExitCode::SUCCESS;
    }
    match simulate(&arguments) {
        Ok(totals) => conclude(totals, arguments.output),
        Err(error) => {
            eprintln!("simulate: {error}");
            ExitCode::from(3)
        }
    }
}

/// Runs one seed in this process, and nothing else.
fn work(arguments: Arguments) {
    worker::die_with_parent();
    let seed = arguments.first;
    let scenario = Scenario::of(seed);
    let trace = match (&arguments.leave, arguments.trace) {
        (Some(_), _) => Trace::default(),
        (None, true) => Trace::printed(),
        (None, false) => Trace::if_asked_for(),
    };
    if arguments.trace {
        eprintln!("{scenario:#?}");
    }
    let (traced, words) = (trace.clone(), arguments.trace);
    let name = scenario.name();
    run_alone(&scenario, trace, move |outcome| {
        if words {
            for finding in &outcome.findings {
                let verdict = finding.verdict;
                eprintln!("{:>20} {verdict:?}: {}", finding.property, finding.summary);
            }
        }
        let told = Told::of(seed, outcome);
        let left = arguments.leave.as_ref();
        let left = left.map_or(Ok(()), |dir| worker::leave(dir, &traced, outcome));
        let kept = match &arguments.keep {
            Some(dir) if !told.wrong.is_empty() => {
                worker::report(&kept_in(dir, seed), name.clone(), replay(seed), seed, outcome).map(drop)
            }
            _ => Ok(()),
        };
        if let Err(error) = left.and(kept).and_then(|()| told.tell()) {
            eprintln!("simulate: seed {seed}: {error}");
            std::process::exit(3);
        }
    });
}

/// Where what is kept of a seed lies.
fn kept_in(dir: &Path, seed: u64) -> PathBuf {
    dir.join(format!("seed-{seed}"))
}

/// Runs all seeds.
fn simulate(arguments: &Arguments) -> io::Result<Totals> {
    let seeds: Vec<u64> = if arguments.corpus {
        corpus().iter().map(|found| found.seed).collect()
    } else {
        let from = if arguments.checkout {
            CHECKOUT_SEEDS_FROM
        } else {
            0
        };
        let first = from.saturating_add(arguments.first);
        (first..first.saturating_add(arguments.seeds)).collect()
    };
    let jobs = match arguments.jobs {
        Some(jobs) => jobs.max(1),
        None => std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
    };
    let bar = progress(seeds.len() as u64);
    let mut coverage = Coverage::new();
    if arguments.checkout {
        coverage.add(&Coverage::of(&Fault::DOORS));
    }
    let totals = Mutex::new(Totals {
        coverage,
        ..Totals::default()
    });
    let next = AtomicUsize::new(0);
    let deadline = arguments
        .minutes
        .map(|minutes| Instant::now() + Duration::from_secs_f64(minutes * 60.0));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(|| -> io::Result<()> {
                    loop {
                        let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                        match seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                            Some(&seed) if !late => {
                                let told = one(seed, arguments)?;
                                count(told, arguments, &totals, &bar);
                            }
                            _ => return Ok(()),
                        }
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("no thread of ours panics"))
    })?;
    bar.finish_and_clear();
    Ok(totals.into_inner().expect("no thread panicked while counting"))
}

/// This program again, for one seed.
fn worker_of(seed: u64, arguments: &Arguments) -> io::Result<Command> {
    let mut worker = Command::new(std::env::current_exe()?);
    worker.args(["--worker", "--first", &seed.to_string()]);
    if arguments.trace {
        worker.arg("--trace");
    }
    if let Some(dir) = &arguments.keep {
        worker.arg("--keep").arg(dir);
    }
    Ok(worker)
}

/// What came of one seed, run once or twice.
fn one(seed: u64, arguments: &Arguments) -> io::Result<Told> {
    let loud = arguments.trace || std::env::var_os("HOLDFAST_TRACE").is_some();
    if !arguments.twice {
        return worker::seen(worker_of(seed, arguments)?, seed, loud);
    }
    let dir = std::env::temp_dir().join(format!("holdfast-twice-{}-{seed}", std::process::id()));
    let [first, second] = [1, 2].map(|run| dir.join(run.to_string()));
    let run = |into: &Path| {
        let mut worker = worker_of(seed, arguments)?;
        worker.arg("--leave").arg(into);
        worker::seen(worker, seed, loud)
    };
    let (mut told, again) = (run(&first)?, run(&second)?);
    let parting = worker::parting(&first, &second);
    std::fs::remove_dir_all(&dir)?;
    told.cpu_ms += again.cpu_ms;
    if let Some(said) = parting? {
        let property = "repeats-to-the-byte".to_owned();
        told.wrong.push(Wrong { property, said });
    }
    Ok(told)
}

fn count(told: Told, arguments: &Arguments, totals: &Mutex<Totals>, bar: &ProgressBar) {
    let seed = told.seed;
    if !told.wrong.is_empty() {
        bar.suspend(|| {
            eprintln!(
                "seed {seed} failed\n{}\n  replay: {}",
                lines(&told.wrong),
                replay(seed)
            );
            if let Some(dir) = &arguments.keep {
                eprintln!("  report: {}", kept_in(dir, seed).join("report.html").display());
            }
        });
    }
    let mut totals = totals.lock().expect("no thread panicked while counting");
    totals.seeds += 1;
    totals.operations += told.operations;
    totals.simulated_ms += told.simulated_ms;
    totals.cpu_ms += told.cpu_ms;
    totals.coverage.add(&told.coverage);
    let failed = |wrong| Failed {
        seed,
        wrong,
        replay: replay(seed),
    };
    if !told.wrong.is_empty() {
        totals.failed.push(failed(told.wrong));
    } else if !told.undecided.is_empty() {
        totals.undecided.push(failed(told.undecided));
    } else if told.operations < Scenario::of(seed).operations_min() {
        totals.thin.insert(seed);
    }
    bar.set_message(format!(
        "{} failed, {} operations",
        totals.failed.len(),
        totals.operations
    ));
    bar.inc(1);
}

fn lines(wrong: &[Wrong]) -> String {
    let line = |wrong: &Wrong| format!("  {}: {}", wrong.property, wrong.said);
    wrong.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The line that runs a seed again.
fn replay(seed: u64) -> String {
    format!("cargo run --profile proof -p jepsen-tests --bin simulate -- --first {seed} --seeds 1 --trace")
}

fn progress(seeds: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} seeds  {eta} left  {wide_msg}")
        .expect("the template is well formed");
    ProgressBar::new(seeds).with_style(style)
}

fn conclude(totals: Totals, output: Output) -> ExitCode {
    let core_seconds = totals.cpu_ms / 1e3;
    let seeds = totals.seeds as f64;
    let coverage_missing = if totals.seeds >= SEEDS_FOR_COVERAGE {
        totals.coverage.missing()
    } else {
        Vec::new()
    };
    let mut summary = Summary {
        seeds: totals.seeds,
        operations: totals.operations,
        operations_per_seed: totals.operations as f64 / seeds.max(1.0),
        core_seconds,
        seeds_per_core_hour: seeds * 3_600.0 / core_seconds.max(1e-9),
        simulated_seconds: totals.simulated_ms as f64 / 1e3,
        failed: totals.failed,
        undecided: totals.undecided,
        thin: totals.thin.into_iter().collect(),
        coverage: totals.coverage,
        coverage_missing,
    };
    summary.failed.sort_by_key(|failed| failed.seed);
    match output {
        Output::Json => println!(
            "{}",
            serde_json::to_string_pretty(&summary).expect("a summary is plain data")
        ),
        Output::Table => table(&summary),
    }
    if !summary.failed.is_empty() {
        ExitCode::from(1)
    } else if !summary.undecided.is_empty() {
        ExitCode::from(2)
    } else if summary.seeds == 0 || !summary.thin.is_empty() || !summary.coverage_missing.is_empty() {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    }
}

fn table(summary: &Summary) {
    println!("{:<20} {:>8} {:>10}", "fault", "fired", "at leader");
    for (name, count) in summary.coverage.counts() {
        println!("{name:<20} {:>8} {:>10}", count.fired, count.at_leader);
    }
    println!(
        "{} seeds, {} operations ({:.0} a seed), {:.0} simulated s in {:.1} core s: {:.0} seeds a core hour",
        summary.seeds,
        summary.operations,
        summary.operations_per_seed,
        summary.simulated_seconds,
        summary.core_seconds,
        summary.seeds_per_core_hour
    );
    if !summary.thin.is_empty() {
        println!("too few operations to say much: seeds {:?}", summary.thin);
    }
    if !summary.coverage_missing.is_empty() {
        println!(
            "never came about, or never hit a leader: {}",
            summary.coverage_missing.join(", ")
        );
    }
    for undecided in &summary.undecided {
        println!(
            "seed {} is undecided\n{}",
            undecided.seed,
            lines(&undecided.wrong)
        );
    }
    for failed in &summary.failed {
        println!("seed {} failed\n{}", failed.seed, lines(&failed.wrong));
    }
    let word = match (summary.failed.is_empty(), summary.undecided.is_empty()) {
        (true, true) => "valid",
        (true, false) => "unknown",
        (false, _) => "INVALID",
    };
    println!("{word}");
}

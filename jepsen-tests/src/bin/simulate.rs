//! Runs simulations, a seed each, and says whether every promise held in all of them.
//!
//! `cargo run --profile proof -p jepsen-tests --bin simulate -- --seeds 300`

use std::{
    collections::BTreeSet,
    io::IsTerminal,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jepsen_tests::simulation::{
    Trace,
    corpus::corpus,
    coverage::Coverage,
    plan::Plan,
    run::{Outcome, run},
};
use serde::Serialize;

/// From so many seeds on every fault has come about and hit a leader, or something is wrong with the nemesis.
const SEEDS_FOR_COVERAGE: u64 = 300;

/// A seed below makes too few operations to say much: nobody was served.
const OPERATIONS_MIN: usize = 200;

/// Simulated clusters under faults, a seed each. Exit code 0: every promise held. 1: one was broken. 2: some run
/// could not be decided. 3: the runs say too little, for instance because a fault never came about.
#[derive(Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Stop after this many minutes
    #[arg(long)]
    minutes: Option<f64>,
    /// Seeds run at once
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Run the seeds that once found something instead
    #[arg(long)]
    corpus: bool,
    /// Print the plan and what happens
    #[arg(long)]
    trace: bool,
    /// Keep the histories of seeds that failed here
    #[arg(long)]
    keep: Option<PathBuf>,
    /// How results are printed
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
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
    wrong: Vec<String>,
    replay: String,
}

/// All seeds.
#[derive(Serialize)]
struct Summary {
    seeds: u64,
    operations: u64,
    operations_per_seed: f64,
    seconds: f64,
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
    simulated: Duration,
    busy: Duration,
    failed: Vec<Failed>,
    undecided: Vec<Failed>,
    thin: BTreeSet<u64>,
    coverage: Coverage,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Panics of simulated nodes are findings, told with their seed.
    if !arguments.trace {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let seeds: Vec<u64> = if arguments.corpus {
        corpus().iter().map(|found| found.seed).collect()
    } else {
        (arguments.first..arguments.first.saturating_add(arguments.seeds)).collect()
    };
    let bar = progress(seeds.len() as u64);
    let totals = Mutex::new(Totals {
        coverage: Coverage::new(),
        ..Totals::default()
    });
    let next = AtomicUsize::new(0);
    let deadline = arguments
        .minutes
        .map(|minutes| Instant::now() + Duration::from_secs_f64(minutes * 60.0));
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                    match seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                        Some(&seed) if !late => one(seed, &arguments, &totals, &bar),
                        _ => return,
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    let totals = totals.into_inner().expect("no thread panicked while counting");
    conclude(totals, arguments.output)
}

fn one(seed: u64, arguments: &Arguments, totals: &Mutex<Totals>, bar: &ProgressBar) {
    let plan = Plan::of(seed);
    if arguments.trace {
        eprintln!("{plan:#?}");
    }
    let started = Instant::now();
    let outcome = run(
        &plan,
        if arguments.trace {
            Trace::printed()
        } else {
            Trace::silent()
        },
    );
    let busy = started.elapsed();
    let wrong = outcome.wrong();
    if arguments.trace {
        for finding in &outcome.findings {
            eprintln!(
                "{:>20} {:?}: {}",
                finding.property, finding.verdict, finding.summary
            );
        }
    }
    if !wrong.is_empty() {
        let told: Vec<String> = wrong.iter().map(|wrong| format!("  {wrong}")).collect();
        bar.suspend(|| {
            eprintln!(
                "seed {seed} failed\n{}\n  replay: {}",
                told.join("\n"),
                replay(seed)
            )
        });
        keep(seed, &outcome, arguments);
    }
    let undecided = outcome.undecided();
    let mut totals = totals.lock().expect("no thread panicked while counting");
    totals.seeds += 1;
    totals.operations += outcome.operations as u64;
    totals.simulated += outcome.simulated;
    totals.busy += busy;
    totals.coverage.add(&outcome.coverage);
    let replay = replay(seed);
    if !wrong.is_empty() {
        totals.failed.push(Failed { seed, wrong, replay });
    } else if !undecided.is_empty() {
        let wrong = undecided;
        totals.undecided.push(Failed { seed, wrong, replay });
    } else if outcome.operations < OPERATIONS_MIN {
        totals.thin.insert(seed);
    }
    bar.set_message(format!(
        "{} failed, {} operations",
        totals.failed.len(),
        totals.operations
    ));
    bar.inc(1);
}

/// The line that runs a seed again.
fn replay(seed: u64) -> String {
    format!("cargo run --profile proof -p jepsen-tests --bin simulate -- --first {seed} --seeds 1 --trace")
}

fn keep(seed: u64, outcome: &Outcome, arguments: &Arguments) {
    let (Some(dir), Some(run)) = (&arguments.keep, &outcome.run) else {
        return;
    };
    let path = dir.join(format!("seed-{seed}.ndjson.zst"));
    let kept = std::fs::create_dir_all(dir).and_then(|()| run.history.write_file(&path));
    if let Err(error) = kept {
        eprintln!("cannot keep {}: {error}", path.display());
    }
}

fn progress(seeds: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} seeds  {eta} left  {wide_msg}")
        .expect("the template is well formed");
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    ProgressBar::with_draw_target(Some(seeds), target).with_style(style)
}

fn conclude(totals: Totals, output: Output) -> ExitCode {
    let seconds = totals.busy.as_secs_f64();
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
        seconds,
        seeds_per_core_hour: seeds * 3_600.0 / seconds.max(1e-9),
        simulated_seconds: totals.simulated.as_secs_f64(),
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
        summary.seconds,
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
            "seed {} is undecided: {}",
            undecided.seed,
            undecided.wrong.join("; ")
        );
    }
    for failed in &summary.failed {
        println!("seed {} failed: {}", failed.seed, failed.wrong.join("; "));
    }
    let word = match (summary.failed.is_empty(), summary.undecided.is_empty()) {
        (true, true) => "valid",
        (true, false) => "unknown",
        (false, _) => "INVALID",
    };
    println!("{word}");
}

//! Runs the shipped binary under load and faults, and judges what clients heard.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use jepsen_tests::{
    campaign::{Options, campaign, exit_code, planned},
    nemeses::Kind,
    workloads::Workload,
};

/// Length of a quick run, in minutes.
const QUICK_MINUTES: f64 = 1.0;

/// Clusters of processes under load and faults, every history checked.
///
/// Needs neither root nor tools beyond a C compiler, which builds the fault library. Results go to a directory:
/// for each run the history, verdicts.json, the faults as they came, and the nodes' logs.
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit codes: 0 valid, 1 invalid (some property does not hold), 2 unknown (some could not be decided), \
                  3 broken (a run or the coverage says nothing)"
)]
struct Arguments {
    /// Nodes of a cluster; several: clusters of these sizes in turn. [default: 3, with --hours 3,5]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u64).range(3..=7))]
    nodes: Vec<u64>,
    /// How long each run has load, in minutes.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Runs until so many hours are full, workloads and sizes in turn; without it, each workload has each size once.
    #[arg(long, conflicts_with = "quick")]
    hours: Option<f64>,
    /// What clients do.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    workload: Vec<String>,
    /// Which faults are dealt.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    nemesis: Vec<String>,
    /// Requests and faults are drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs of a minute, and no complaint about faults that had no turn.
    #[arg(long)]
    quick: bool,
    /// The binary under test.
    #[arg(long, default_value = "target/release/holdfast")]
    binary: PathBuf,
    /// Where results go; must not exist.
    #[arg(long, default_value = "target/campaign")]
    dir: PathBuf,
}

/// `all`, or each of the names.
fn chosen<T: clap::ValueEnum>(words: &[String]) -> Result<Vec<T>, String> {
    if words.iter().any(|word| word == "all") {
        return Ok(T::value_variants().to_vec());
    }
    let one = |word: &String| {
        T::from_str(word, false).map_err(|_| {
            let names: Vec<String> = T::value_variants()
                .iter()
                .filter_map(|value| Some(value.to_possible_value()?.get_name().to_owned()))
                .collect();
            format!("`{word}` is none of all, {}", names.join(", "))
        })
    };
    words.iter().map(one).collect()
}

fn options(arguments: &Arguments) -> Result<Options, String> {
    let minutes = if arguments.quick {
        QUICK_MINUTES
    } else {
        arguments.minutes
    };
    if !(0.1..=1_440.0).contains(&minutes) {
        return Err(format!("{minutes} minutes: give 0.1 to 1,440"));
    }
    if !arguments.binary.is_file() {
        let binary = arguments.binary.display();
        return Err(format!(
            "no binary at {binary}: build it (cargo build --release) or name one (--binary)"
        ));
    }
    if arguments.dir.exists() {
        let dir = arguments.dir.display();
        return Err(format!("{dir} exists already: name another directory (--dir)"));
    }
    let workloads = chosen::<Workload>(&arguments.workload)?;
    let sizes = match (&arguments.nodes[..], arguments.hours) {
        ([], Some(_)) => &[3, 5],
        ([], None) => &[3][..],
        (sizes, _) => sizes,
    };
    let count = match arguments.hours {
        None => workloads.len() * sizes.len(),
        Some(hours) if (0.1..=168.0).contains(&hours) => (hours * 60.0 / minutes).ceil() as usize,
        Some(hours) => return Err(format!("{hours} hours: give 0.1 to 168")),
    };
    Ok(Options {
        binary: arguments.binary.clone(),
        dir: arguments.dir.clone(),
        load: Duration::from_secs_f64(minutes * 60.0),
        runs: planned(&workloads, sizes, count),
        kinds: chosen::<Kind>(&arguments.nemesis)?,
        seed: arguments.seed,
        coverage_required: !arguments.quick,
    })
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    // Some bugs are planted in the client, which runs here.
    if let Err(error) = fault_points::from_environment() {
        eprintln!("campaign: {error}");
        return ExitCode::from(3);
    }
    let options = match options(&Arguments::parse()) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("campaign: {why}");
            return ExitCode::from(3);
        }
    };
    let done = tokio::select! {
        done = campaign(&options, |line| println!("{line}")) => done,
        _ = tokio::signal::ctrl_c() => {
            // What ran is dropped, and its processes with it; half a run is no result.
            eprintln!("interrupted: removing {}", options.dir.display());
            if let Err(error) = std::fs::remove_dir_all(&options.dir) {
                eprintln!("campaign: {}: {error}", options.dir.display());
            }
            return ExitCode::from(3);
        }
    };
    match done {
        Ok(overall) => ExitCode::from(exit_code(overall)),
        Err(error) => {
            eprintln!("campaign: {error}");
            ExitCode::from(3)
        }
    }
}

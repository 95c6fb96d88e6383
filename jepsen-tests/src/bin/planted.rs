//! Plants bugs, one after the other, and sees which properties notice: makes the kill matrix.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Mutex,
    time::Duration,
};

use clap::Parser;
use fault_points::registry::{PLANTED_BUGS, PlantedBug};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jepsen_tests::{
    kills::{
        Arena, Hunt, Matrix, TABLE_NAME,
        hunt::{self, Campaigns},
    },
    simulation::{scenario::CHECKOUT_SEEDS_FROM, worker},
};

/// Bugs planted on purpose, and what notices them.
///
/// Hunts every bug through seeds of the simulation until a property turns red, then runs the seeds that killed
/// without any bug: they must be green. With --campaign, hunts through campaigns on processes instead. What is
/// found is added to jepsen-tests/kills.json, and jepsen-tests/KILLS.md is written from it.
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit codes: 0 all hunted bugs were noticed, but for those whose survival is explained; \
                        1 one was not, or a seed is red without any bug; 3 the hunt itself failed"
)]
struct Arguments {
    /// Only this bug; may be repeated.
    #[arg(long, value_name = "NAME")]
    bug: Vec<String>,
    /// Only bugs that nothing has noticed in this arena so far.
    #[arg(long)]
    unnoticed: bool,
    /// Most seeds, or campaigns, for a bug.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Hunts at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Hunt in processes: the command that runs a campaign, built with the feature fault-points.
    #[arg(long, value_name = "FILE", requires = "binary")]
    campaign: Option<PathBuf>,
    /// The binary under test, built with the feature fault-points.
    #[arg(long, value_name = "FILE", requires = "campaign")]
    binary: Option<PathBuf>,
    /// Only so many bugs, of those that must be noticed: in rotation, so that in time all have their turn.
    #[arg(long, value_name = "COUNT", requires = "rotation")]
    rotate: Option<usize>,
    /// Whose turn it is.
    #[arg(long, value_name = "NUMBER", requires = "rotate")]
    rotation: Option<usize>,
    /// Where the matrix is kept, made if it is not there; by default with this package's sources.
    #[arg(long, value_name = "DIR")]
    matrix: Option<PathBuf>,
    /// Only run the seeds that have killed so far, without any bug.
    #[arg(long)]
    green: bool,
    /// Hunt nothing, keep nothing: run the first seed here, and say what was red: this is how a kill is replayed.
    #[arg(long)]
    worker: bool,
}

/// Where the matrix is kept.
fn home(arguments: &Arguments) -> &Path {
    let given = arguments.matrix.as_deref();
    given.unwrap_or(Path::new(env!("CARGO_MANIFEST_DIR")))
}

/// The bugs to hunt.
fn hunted(arguments: &Arguments, before: &Matrix, arena: Arena) -> Vec<&'static str> {
    if arguments.green {
        return Vec::new();
    }
    let noticed = |bug| before.hunt(bug, arena).is_some_and(Hunt::killed);
    let named = |name| arguments.bug.is_empty() || arguments.bug.iter().any(|wanted| wanted == name);
    // Campaigns on processes have no doors.
    let arises = |bug: &PlantedBug| !bug.checkout || arena == Arena::Simulation;
    let bugs = PLANTED_BUGS
        .iter()
        .filter(|bug| arises(bug) && named(bug.name) && !(arguments.unnoticed && noticed(bug.name)));
    let (Some(count), Some(rotation)) = (arguments.rotate, arguments.rotation) else {
        return bugs.map(|bug| bug.name).collect();
    };
    let must_die: Vec<&str> = bugs
        .filter(|bug| bug.survives.is_empty())
        .map(|bug| bug.name)
        .collect();
    let turn = must_die
        .iter()
        .cycle()
        .skip(rotation % must_die.len().max(1) * count);
    turn.take(count.min(must_die.len())).copied().collect()
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = if arguments.worker {
        work(&arguments).map(|()| true)
    } else {
        matrix(&arguments)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("planted: {error}");
            ExitCode::from(3)
        }
    }
}

fn work(arguments: &Arguments) -> io::Result<()> {
    let bug = arguments.bug.first();
    fault_points::plant(bug.map(String::as_str)).map_err(io::Error::other)?;
    worker::die_with_parent();
    hunt::work(arguments.first);
    Ok(())
}

fn matrix(arguments: &Arguments) -> io::Result<bool> {
    for name in &arguments.bug {
        fault_points::plant(Some(name)).map_err(io::Error::other)?;
    }
    fault_points::plant(None).map_err(io::Error::other)?;
    let arena = match arguments.campaign {
        Some(_) => Arena::Processes,
        None => Arena::Simulation,
    };
    for program in arguments.campaign.iter().chain(&arguments.binary) {
        hunt::require_fault_points(program)?;
    }
    let home = home(arguments);
    std::fs::create_dir_all(home)?;
    let before = Matrix::load(home)?;
    let hunted = hunted(arguments, &before, arena);
    let queue = Mutex::new(hunted.iter().copied());
    let matrix = Mutex::new(before);
    let bars = MultiProgress::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.jobs)
            .map(|_| {
                scope.spawn(|| -> io::Result<()> {
                    loop {
                        let next = queue.lock().expect("nothing panics while holding it").next();
                        let Some(bug) = next else { return Ok(()) };
                        let hunt = hunt_one(arguments, bug, &bars)?;
                        // Kept at once: what was found survives an interrupted hunt.
                        let mut matrix = matrix.lock().expect("nothing panics while holding it");
                        matrix
                            .hunts
                            .entry(bug.to_owned())
                            .or_default()
                            .insert(arena, hunt);
                        matrix.store(home)?;
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("a hunter's own mistake"))
    })?;
    let mut matrix = matrix.into_inner().expect("nothing panics while holding it");
    let green = arena == Arena::Processes || all_green(&mut matrix)?;
    matrix.store(home)?;
    println!("{}", home.join(TABLE_NAME).display());
    let explained = |name: &str| {
        let bug = PLANTED_BUGS.iter().find(|bug| bug.name == name);
        bug.is_some_and(|bug| !bug.survives.is_empty())
    };
    let survivors: Vec<&str> = hunted
        .into_iter()
        .filter(|name| !matrix.killed(name) && !explained(name))
        .collect();
    if !survivors.is_empty() {
        println!("not noticed: {}", survivors.join(", "));
    }
    Ok(green && survivors.is_empty())
}

fn hunt_one(arguments: &Arguments, bug: &str, bars: &MultiProgress) -> io::Result<Hunt> {
    let bar = bars.add(ProgressBar::new(arguments.seeds).with_message(bug.to_owned()));
    let style = ProgressStyle::with_template("{msg:32} {bar:30} {pos}/{len} {elapsed}");
    bar.set_style(style.expect("a template of ours"));
    bar.enable_steady_tick(Duration::from_millis(500));
    let hunt = match (&arguments.campaign, &arguments.binary) {
        (Some(campaign), Some(binary)) => {
            let campaigns = Campaigns {
                campaign: campaign.clone(),
                binary: binary.clone(),
            };
            hunt::in_processes(&campaigns, bug, arguments.first, arguments.seeds, || bar.inc(1))?
        }
        _ => {
            let program = std::env::current_exe()?;
            let worker = |seed| worker_of(&program, Some(bug), seed);
            let only_checkouts = PLANTED_BUGS
                .iter()
                .any(|known| known.name == bug && known.checkout);
            let from = if only_checkouts { CHECKOUT_SEEDS_FROM } else { 0 };
            hunt::in_simulation(worker, from + arguments.first, arguments.seeds, || bar.inc(1))?
        }
    };
    bar.finish_and_clear();
    let verdict = match hunt.wrong.first() {
        Some(wrong) => format!("killed by {} at seed {}", wrong.property, hunt.last()),
        None => format!("survived {} seeds", hunt.seeds),
    };
    bars.suspend(|| println!("{bug}: {verdict}, {:.1} s", hunt.seconds));
    Ok(hunt)
}

/// This program again, for one seed.
fn worker_of(program: &Path, bug: Option<&str>, seed: u64) -> Command {
    let mut worker = Command::new(program);
    worker.args(["--worker", "--first", &seed.to_string()]);
    if let Some(bug) = bug {
        worker.args(["--bug", bug]);
    }
    worker
}

/// Runs the seeds that have killed without any bug.
fn all_green(matrix: &mut Matrix) -> io::Result<bool> {
    let seeds = matrix.killing_seeds();
    matrix.green.retain(|seed, _| seeds.contains(seed));
    let bar = ProgressBar::new(seeds.len() as u64).with_message("without any bug");
    let program = std::env::current_exe()?;
    for seed in seeds {
        let told = worker::seen(worker_of(&program, None, seed), seed, false)?;
        bar.inc(1);
        for wrong in &told.wrong {
            println!(
                "seed {seed} is red without any bug: {}: {}",
                wrong.property, wrong.said
            );
        }
        matrix.green.insert(seed, told.wrong.is_empty());
    }
    bar.finish_and_clear();
    Ok(matrix.green.values().all(|green| *green))
}

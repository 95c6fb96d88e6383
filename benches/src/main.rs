//! One harness for every load on Holdfast, with the machine's limits beside it.
//!
//! `cargo run --release -p benches -- <scenario>` starts a cluster of three real processes (this same
//! executable with a hidden command), loads it through the `client` crate or over HTTP from this
//! process, checks that the replicas have exactly what the callers were told, and prints a table; it
//! writes the same for programs, and as a page with plots. In every run, in the same minute, on the same disk and
//! loopback, it measures what the machine allows at most: a bare disk,
//! bare raft, bare connections, a bare gRPC stream, a bare HTTP server; those that the scenario's figures are shown beside.
//!
//! - Every operation has a user and a key of its own, made when it is used; nothing is encoded ahead.
//! - Data lies on a real disk and fsync is on: a directory in memory is refused.
//! - A figure whose answers do not add up with the replicas is not shown: the run fails.
//!
//! - Other stores (`peers`) do the same work, and are held against the same rules, before their figures stand beside ours.
//!
//! Left out: loads over a real network.

mod children;
mod cluster;
mod failure;
mod limits;
mod load;
mod machine;
mod names;
mod process;
mod procfs;
mod report;
mod scenarios;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    cluster::Shape,
    failure::{Doing, Failure},
    limits::Limit,
    report::{Report, Run},
    scenarios::{GROWTH_CLAIMS, SOAK_MINUTES, Scenario},
};

/// The same as the `holdfast` binary's, so that what is measured is what ships.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Holdfast on this machine, beside what its disk, loopback, raft, gRPC and HTTP themselves allow.
#[derive(Parser)]
#[command(name = "benches")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Claims granted and refused: in bulk, by one to 1,024 single callers, by many processes.
    Claims(Settings),
    /// Claims spread over 100 and 10,000 sales.
    Sales(Settings),
    /// Claims granted by a cluster of five nodes, beside one of three.
    FiveNodes(Settings),
    /// Claims granted and refused with certificates on every connection, beside none.
    Tls(Settings),
    /// Claims asked for again with the same key.
    Retries(Settings),
    /// Held claims confirmed.
    Confirm(Settings),
    /// Held claims given back.
    Release(Settings),
    /// Claims final at once, by 64 single callers.
    Decrement(Settings),
    /// A sale read while it sells: linearizable, and from any node as it has it.
    Reads(Settings),
    /// A sale's changes heard by 1, 100 and 1,000 watchers while callers claim.
    Watch(Settings),
    /// Claims granted and refused through one HTTP door, and a sale's page looked at.
    Http(Settings),
    /// Checkouts at 100, 250 and 500 a second through one door, with a provider that answers at once: our side's time.
    Checkout(Settings),
    /// 10,000 checkouts with faults in 5% of the provider's calls; takes minutes, however long the window.
    CheckoutFaults(Settings),
    /// The leader killed, and leadership handed over, five times each; longer than the window.
    Failover(Settings),
    /// A follower killed and started again on a million live claims, idle and at a light load; longer than the window.
    Restart(Settings),
    /// A million holds that end while 64 single callers claim; longer than the window.
    Expiry(Settings),
    /// Half of a sold-out sale's holds released, and claimed again by a second crowd.
    SecondWave(Settings),
    /// One sale from 10k to 10M live claims: what a claim costs there, memory, disk, a restart, a snapshot and a new node
    /// under load; takes minutes, however long the window, and some 15 GB of disk.
    Growth {
        #[command(flatten)]
        settings: Settings,
        /// Live claims in the end; fewer are for a quick look.
        #[arg(long, default_value_t = GROWTH_CLAIMS, value_parser = clap::value_parser!(u64).range(10_000..=50_000_000))]
        claims: u64,
    },
    /// A paced load for a long time: whether memory, descriptors, disk or latency grow. Knows no window.
    Soak {
        #[command(flatten)]
        settings: Settings,
        /// How long both of its loads take together.
        #[arg(long, default_value_t = SOAK_MINUTES, value_parser = clap::value_parser!(u64).range(1..=10_080))]
        minutes: u64,
    },
    /// Claims and refusals by etcd, Redis and PostgreSQL, as far as they are installed, and by us.
    Peers(Settings),
    /// The limits alone: bare disk, loopback, raft, gRPC stream and HTTP server.
    Limits(Settings),
    /// Everything but the checkouts with faults, other stores, growth and soak.
    All(Settings),
    /// A node of the cluster under load.
    #[command(hide = true)]
    Node {
        #[arg(long)]
        id: u64,
        #[arg(long)]
        listen: String,
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        election_ms_max: u64,
        #[arg(long)]
        certificates: Option<PathBuf>,
    },
    /// The HTTP door under load.
    #[command(hide = true)]
    Api {
        #[arg(long = "endpoint")]
        endpoints: Vec<String>,
        #[arg(long)]
        secret: String,
        #[arg(long)]
        payment_url: Option<String>,
    },
    /// The payment provider behind that door.
    #[command(hide = true)]
    Psp {
        #[arg(long)]
        webhook_secret: String,
        /// As in decline_rate=0.05
        #[arg(long = "fault")]
        faults: Vec<String>,
    },
    /// A caller in a process of its own.
    #[command(hide = true)]
    Callers(children::callers::Arguments),
    /// A node of bare raft.
    #[command(hide = true)]
    BareRaft {
        #[arg(long)]
        id: u64,
        #[arg(long)]
        dir: PathBuf,
    },
    /// A TCP server that answers bytes with bytes.
    #[command(hide = true)]
    BareTcp,
    /// A gRPC server whose streams answer every frame with the same bytes.
    #[command(hide = true)]
    BareGrpc,
    /// An HTTP server that answers every request with the same bytes.
    #[command(hide = true)]
    BareHttp,
}

/// Name of what is written where nobody says otherwise.
const JSON_FILE: &str = "benches.json";

#[derive(Args)]
struct Settings {
    /// How often everything is measured; shown are the medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    runs: u64,
    /// Measures only this figure, by its name in JSON, and no limits beside it; may be repeated.
    #[arg(long, value_name = "FIGURE", value_parser = report::figure_ids())]
    only: Vec<String>,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Longest election timeout of the nodes, in ms, which is a leader's lease as well; the shortest is half of it, and a
    /// leader shows itself ten times as often. Whoever is elected without need is noted.
    #[arg(long, default_value_t = Shape::USUAL.election_ms_max, value_parser = clap::value_parser!(u64).range(100..=10_000))]
    election_ms_max: u64,
    /// Where the data lies while measuring, on a disk; by default beside this executable.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where every figure of every run is written, with a page to look at beside it; by default benches.json where the
    /// data lies.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes our main rates as a picture for a README as well.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Claims(settings) => measure(&settings, &[Scenario::Claims]),
        Command::Sales(settings) => measure(&settings, &[Scenario::Sales]),
        Command::FiveNodes(settings) => measure(&settings, &[Scenario::FiveNodes]),
        Command::Tls(settings) => measure(&settings, &[Scenario::Tls]),
        Command::Retries(settings) => measure(&settings, &[Scenario::Retries]),
        Command::Confirm(settings) => measure(&settings, &[Scenario::Confirm]),
        Command::Release(settings) => measure(&settings, &[Scenario::Release]),
        Command::Decrement(settings) => measure(&settings, &[Scenario::Decrement]),
        Command::Reads(settings) => measure(&settings, &[Scenario::Reads]),
        Command::Watch(settings) => measure(&settings, &[Scenario::Watch]),
        Command::Http(settings) => measure(&settings, &[Scenario::Http]),
        Command::Checkout(settings) => measure(&settings, &[Scenario::Checkout]),
        Command::CheckoutFaults(settings) => measure(&settings, &[Scenario::CheckoutFaults]),
        Command::Failover(settings) => measure(&settings, &[Scenario::Failover]),
        Command::Restart(settings) => measure(&settings, &[Scenario::Restart]),
        Command::Expiry(settings) => measure(&settings, &[Scenario::Expiry]),
        Command::SecondWave(settings) => measure(&settings, &[Scenario::SecondWave]),
        Command::Growth { settings, claims } => measure(&settings, &[Scenario::Growth { claims }]),
        Command::Soak { settings, minutes } => measure(&settings, &[Scenario::Soak { minutes }]),
        Command::Peers(settings) => measure(&settings, &[Scenario::Peers]),
        Command::Limits(settings) => measure(&settings, &[]),
        Command::All(settings) => measure(&settings, &Scenario::ALL),
        Command::Node {
            id,
            listen,
            dir,
            election_ms_max,
            certificates,
        } => children::node::run(id, listen, dir, election_ms_max, certificates),
        Command::Api {
            endpoints,
            secret,
            payment_url,
        } => children::api::run(endpoints, secret, payment_url),
        Command::Psp {
            webhook_secret,
            faults,
        } => children::psp::run(webhook_secret, faults),
        Command::Callers(arguments) => children::callers::run(arguments),
        Command::BareRaft { id, dir } => children::bare_raft::run(id, dir),
        Command::BareTcp => children::bare_tcp::run(),
        Command::BareGrpc => children::bare_grpc::run(),
        Command::BareHttp => children::bare_http::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure(settings: &Settings, scenarios: &[Scenario]) -> Result<(), Failure> {
    let place = match &settings.dir {
        Some(dir) => dir.clone(),
        None => beside_executable()?,
    };
    std::fs::create_dir_all(&place).doing(&format!("making {}", place.display()))?;
    machine::check_durable(&place)?;
    if let Some(plot) = &settings.plot {
        plottable(settings, scenarios, plot)?;
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder
        .worker_threads(raft_store::config::worker_threads_default())
        .enable_all()
        .build();
    let runs = runtime.doing("starting a runtime")?.block_on(async {
        tokio::select! {
            runs = all_runs(settings, scenarios, &place) => runs,
            _ = tokio::signal::ctrl_c() => Err(Failure::new("measuring", "interrupted")),
        }
    })?;
    let report = Report::new(&runs, &place, Duration::from_secs(settings.seconds));
    println!("{}", report.table());
    let json = match &settings.json {
        Some(json) => json.clone(),
        None => place.join(JSON_FILE),
    };
    let page = report.write(&json)?;
    eprintln!("{} for programs, {} to look at", json.display(), page.display());
    if let Some(plot) = &settings.plot {
        report.write_picture(plot)?;
        eprintln!("{} for a README", plot.display());
    }
    Ok(())
}

/// Fails where a picture is asked for that would show nothing: better now than after the last run.
fn plottable(settings: &Settings, scenarios: &[Scenario], plot: &Path) -> Result<(), Failure> {
    let figures = scenarios.iter().flat_map(|scenario| scenario.figures());
    let mut measured =
        figures.filter(|id| settings.only.is_empty() || settings.only.iter().any(|only| only == id));
    if measured.any(report::shows) {
        return Ok(());
    }
    Err(Failure::new(
        format!("preparing {}", plot.display()),
        "it shows rates, and none of those would be measured",
    ))
}

async fn all_runs(settings: &Settings, scenarios: &[Scenario], place: &Path) -> Result<Vec<Run>, Failure> {
    let window = Duration::from_secs(settings.seconds);
    let limits = if !settings.only.is_empty() {
        Vec::new()
    } else if scenarios.is_empty() {
        Limit::ALL.to_vec()
    } else {
        let figures = scenarios.iter().flat_map(|scenario| scenario.figures());
        Limit::beside(figures)
    };
    let usual = Shape {
        election_ms_max: settings.election_ms_max,
        ..Shape::USUAL
    };
    let mut runs = Vec::new();
    for number in 1..=settings.runs {
        eprintln!("run {number} of {}", settings.runs);
        let mut run = Run::default();
        for limit in &limits {
            limit.measure(place, window, &mut run).await?;
        }
        for scenario in scenarios {
            scenario
                .measure(usual, place, window, &settings.only, &mut run)
                .await?;
        }
        runs.push(run);
    }
    Ok(runs)
}

/// The directory of this executable: what was built on a disk can be measured on it.
fn beside_executable() -> Result<PathBuf, Failure> {
    let looking = "looking for this executable";
    let executable = std::env::current_exe().doing(looking)?;
    executable
        .parent()
        .map(Path::to_path_buf)
        .ok_or_else(|| Failure::new(looking, format!("{} is in no directory", executable.display())))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}

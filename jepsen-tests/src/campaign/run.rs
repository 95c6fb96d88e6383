//! One run: a fresh cluster, one workload, faults one after the other, and the final phase.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use client::{Client, Connector, Error};
use futures::FutureExt;
use indicatif::ProgressBar;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    fleet::{Fleet, Trouble},
    history::{Call, Phase, Recorder},
    nemeses::{
        self, Fired, RECOVERY_MAX,
        deck::{Coverage, Deck},
    },
    properties::{Observations, Run, SeenFeed, SeenHash},
    workloads::{
        Workload, caller,
        finale::{Bounds, Finale},
        plan::Plan,
        shop::{PRINCIPAL, Shop},
        watch::{LastChanges, follow},
    },
};

/// How long a client goes on with one call, in ms, each in turn. The patient ones outlast most failovers inside
/// one call; the others give up in the middle, and leave unknowns.
const CALL_MS_MAX: [u64; 4] = [4_000, 300, 4_000, 1_000];

/// Peace before the first fault, and the longest between two, in ms.
const PEACE_MS: std::ops::Range<u64> = 200..1_000;

/// How often units are added to a run's sales.
const RESTOCKS: u32 = 4;

/// Callers: enough that those stuck at a node that does not answer do not stop the run, and that what is asked while
/// all goes well makes up for the time in which nobody leads: that is a third of it, or more.
const CALLERS: u64 = 96;

/// How long things may take once all faults are healed. Generous for a loaded machine, and far from never: an
/// election and a stuck connection that is given up; the entry that ends a hold, a second after it at most.
const BOUNDS: Bounds = Bounds {
    serving_ms_max: 20_000,
    holds_slack_ms: 20_000,
    recovery_ms_max: 60_000,
    // Long runs leave thousands.
    resolves_at_once: 64,
};

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// The binary under test.
    pub binary: PathBuf,
    /// The fault library.
    pub fault_library: PathBuf,
    /// Where its nodes' files go; empty.
    pub dir: PathBuf,
    /// Where the faults are written down.
    pub faults: PathBuf,
    /// Where it is written down how far each watcher came.
    pub feeds: PathBuf,
    /// Nodes at the beginning.
    pub nodes: u64,
    /// How long there is load.
    pub load: Duration,
    /// What clients do.
    pub workload: Workload,
    /// Requests and faults are drawn from it.
    pub seed: u64,
}

/// What came of a run.
pub struct Record {
    /// History and observations.
    pub run: Run,
    /// What the store did that it must not, beside what the properties say.
    pub trouble: Option<String>,
    /// What breaks the run: answers that no caller deserved, or a harness that failed.
    pub broken: Vec<String>,
}

/// A running run's shared parts.
struct Stage {
    fleet: Fleet,
    shop: Shop,
    plan: Arc<Plan>,
    hashes: Vec<SeenHash>,
}

/// Makes clients over the links that faults hit.
#[derive(Clone)]
struct Clients {
    endpoints: Vec<String>,
    connector: Connector,
}

impl Clients {
    fn of(fleet: &Fleet) -> Clients {
        Clients {
            endpoints: fleet.endpoints(),
            connector: fleet.connector(),
        }
    }

    fn client(&self, number: usize) -> Result<Client, Error> {
        let call_ms_max = CALL_MS_MAX[number % CALL_MS_MAX.len()];
        Client::builder()
            .endpoints(self.endpoints.clone())
            .connector(self.connector.clone())
            .timeout(Duration::from_millis(call_ms_max))
            .principal(PRINCIPAL)
            .build()
    }
}

/// Runs it.
///
/// # Errors
/// There was no cluster to run on.
pub async fn run(
    options: &Options,
    deck: &mut Deck,
    coverage: &mut Coverage,
    progress: &ProgressBar,
) -> io::Result<Record> {
    let plan = Arc::new(Plan {
        callers: CALLERS,
        ..Plan::of(options.workload).with_latecomers()
    });
    progress.set_message("founding a cluster");
    let fleet = Fleet::found(
        &options.binary,
        &options.fault_library,
        &options.dir,
        options.nodes,
    )
    .await?;
    for sale in &plan.sales {
        let key = format!("create-{}", sale.new.sale_id);
        let create = async || {
            fleet
                .operator
                .create_sale(sale.new.clone())
                .key(&key)
                .send()
                .await
        };
        let created = fleet.patiently("creating a sale", create).await;
        created.map_err(io::Error::other)?;
    }
    let begun = Instant::now();
    let now_ns: Arc<dyn Fn() -> u64 + Send + Sync> = Arc::new(move || begun.elapsed().as_nanos() as u64);
    let clock = now_ns.clone();
    let recorder = Recorder::new(plan.header(), move || clock());
    let shop = Shop::new(recorder, now_ns);
    let mut stage = Stage {
        fleet,
        shop,
        plan,
        hashes: Vec::new(),
    };

    let (last_changes, last) = watch::channel(None);
    let watchers = watchers(&stage, &last).map_err(io::Error::other)?;
    let (stop, stopped) = watch::channel(false);
    let load = start_load(&stage, options.seed, stopped);
    let tormented = torment(&mut stage, options, deck, coverage, progress).await;
    stop.send_replace(true);
    progress.set_message("callers finish");
    load.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
    if let Err(trouble) = tormented {
        // What was heard until then still counts, and helps to see what happened.
        let run = Run::new(stage.shop.recorder.finish(), Observations::default());
        let (trouble, broken) = match trouble {
            Trouble::Store(why) => (Some(why), Vec::new()),
            Trouble::Harness(error) => (None, vec![error.to_string()]),
        };
        return Ok(Record { run, trouble, broken });
    }

    progress.set_message("healing, resolving, comparing");
    stage.fleet.links.heal();
    let members = stage.fleet.nodes.iter();
    let finale = Finale {
        client: &stage.fleet.operator,
        shop: &stage.shop,
        plan: &stage.plan,
        members: members
            .map(|(id, node)| (format!("n{id}"), node.process.endpoint.clone()))
            .collect(),
        bounds: BOUNDS,
        last_changes,
        watchers,
        short_feeds: Vec::new(),
        stragglers: std::future::ready(()).boxed(),
        hashes: stage.hashes,
    };
    let run = finale.play().await;
    std::fs::write(&options.feeds, words(&run.observations.feeds))?;
    let broken = std::mem::take(&mut stage.shop.notes().oddities);
    Ok(Record {
        run,
        trouble: None,
        broken,
    })
}

/// Watches everything from the first entry on, and parts of it from elsewhere if the plan asks for more.
fn watchers(stage: &Stage, last: &watch::Receiver<LastChanges>) -> Result<Vec<JoinHandle<SeenFeed>>, Error> {
    let sales = &stage.plan.sales;
    let sale = |number: usize| sales[number % sales.len()].new.sale_id.clone();
    let mut watchers = Vec::new();
    for number in 0..=stage.plan.watchers {
        let watched = (number % 3 == 1).then(|| sale(number / 3));
        let name = match &watched {
            None => format!("watcher {number}"),
            Some(sale) => format!("watcher {number} of {sale}"),
        };
        // The first one's connections suffer nothing, so that it misses as little as can be.
        let client = if number == 0 {
            stage.fleet.operator.clone()
        } else {
            Clients::of(&stage.fleet).client(0)?
        };
        let follow = follow(name, client, stage.shop.clone(), watched, 1, last.clone());
        watchers.push(tokio::spawn(follow));
    }
    Ok(watchers)
}

fn start_load(stage: &Stage, seed: u64, stopped: watch::Receiver<bool>) -> JoinHandle<Result<(), Error>> {
    let (plan, shop) = (stage.plan.clone(), stage.shop.clone());
    let clients = Clients::of(&stage.fleet);
    tokio::spawn(async move {
        let made = AtomicUsize::new(0);
        let client = || clients.client(made.fetch_add(1, Ordering::Relaxed));
        caller::run(&plan, &shop, seed, client, stopped).await
    })
}

/// How far each watcher came, and where history was gone.
fn words(feeds: &[SeenFeed]) -> String {
    let line = |feed: &SeenFeed| {
        format!(
            "{}: {} changes from log index {} to {}; went on at {:?} where history was gone\n",
            feed.name,
            feed.events.len(),
            feed.from_index,
            feed.reached,
            feed.resumed
        )
    };
    feeds.iter().map(line).collect()
}

/// Faults until the load's time is over. What came about is written down as it comes: which, to whom, with what
/// evidence.
async fn torment(
    stage: &mut Stage,
    options: &Options,
    deck: &mut Deck,
    coverage: &mut Coverage,
    progress: &ProgressBar,
) -> Result<(), Trouble> {
    let mut faults = File::create(&options.faults)?;
    let mut chance = SmallRng::seed_from_u64(options.seed);
    let begun = Instant::now();
    let mut restocks = 0;
    while begun.elapsed() < options.load {
        sleep(Duration::from_millis(chance.random_range(PEACE_MS))).await;
        if begun.elapsed() * (RESTOCKS + 1) > options.load * (restocks + 1) {
            restocks += 1;
            restock(stage, restocks);
        }
        stage.fleet.check_running()?;
        let leader = stage.fleet.await_leader(RECOVERY_MAX).await?;
        sample_hash(stage, &mut chance).await;
        let kind = deck.deal(&mut chance);
        let victim = coverage.victim(kind, leader, &stage.fleet.ids(), &mut chance);
        let whom = if kind.hits_all() {
            "all".to_owned()
        } else {
            format!("n{victim}")
        };
        let operations = stage.shop.recorder.operations();
        progress.set_position(begun.elapsed().as_secs().min(options.load.as_secs()));
        progress.set_message(format!("{operations} operations · {} {whom}", kind.name()));
        stage.shop.recorder.fault(&kind.name(), &whom, Phase::Start);
        let at = begun.elapsed();
        let fired = nemeses::strike(&mut stage.fleet, kind, victim, &mut chance)
            .await
            .map_err(|trouble| match trouble {
                Trouble::Store(why) => Trouble::Store(format!("after {} to {whom}: {why}", kind.name())),
                harness => harness,
            })?;
        stage.shop.recorder.fault(&kind.name(), &whom, Phase::End);
        let hit_leader = kind.hits_all() || victim == leader;
        coverage.note(kind, hit_leader, &fired);
        let leading = if hit_leader { " (leader)" } else { "" };
        let (Fired::Yes(evidence) | Fired::No(evidence)) = &fired;
        let took = begun.elapsed() - at;
        let missed = if matches!(fired, Fired::No(_)) {
            "MISSED: "
        } else {
            ""
        };
        writeln!(
            faults,
            "{:7.2} s  {:5.2} s  {} {whom}{leading}: {missed}{evidence}",
            at.as_secs_f64(),
            took.as_secs_f64(),
            kind.name()
        )?;
    }
    Ok(())
}

/// Adds units to every sale that has a next wave, beside everything else.
fn restock(stage: &Stage, wave: u32) {
    let Ok(client) = Clients::of(&stage.fleet).client(0) else {
        return;
    };
    let (shop, plan) = (stage.shop.clone(), stage.plan.clone());
    tokio::spawn(async move {
        let mut process = shop.process(client);
        for sale in plan.sales.iter().filter(|sale| sale.restock_units > 0) {
            let call = Call::Restock {
                units: sale.restock_units.into(),
                key: format!("restock-{}-{wave}", sale.new.sale_id),
            };
            process.call(&sale.new.sale_id, &call, 0).await;
        }
    });
}

/// Takes the state hash of one node, as it is.
async fn sample_hash(stage: &mut Stage, chance: &mut SmallRng) {
    let ids = stage.fleet.ids();
    let id = ids[chance.random_range(0..ids.len())];
    let endpoint = stage.fleet.node(id).process.endpoint.clone();
    // One that does not answer now is asked at the end.
    if let Ok(hash) = stage.fleet.operator.cluster().state_hash(&endpoint, 0).await {
        stage.hashes.push(SeenHash {
            node: format!("n{id}"),
            log_index: hash.log_index,
            digest: hash.digest.to_vec(),
            sales_wrong: hash.sales_wrong,
        });
    }
}

/// The nodes' logs, moved together to where the results are.
///
/// # Errors
/// A file cannot be copied.
pub fn keep_logs(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let log = entry.path().join("log.txt");
        if log.exists() {
            let name = format!("{}.log", entry.file_name().to_string_lossy());
            std::fs::copy(log, to.join(name))?;
        }
    }
    Ok(())
}

//! The demo: a real flash sale on this machine, and its verdict.
//!
//! Nodes and the HTTP door are processes of this same binary, with directories and ports of their own. A
//! crowd claims over real HTTP, part of it never pays, and the leader is killed in the middle. Afterwards
//! [`verdict`] compares what shoppers were told with what every replica holds.
//!
//! Left out: the network between machines, and power cuts. All processes share this machine's disk.

mod door;
mod evidence;
mod journal;
mod live;
mod processes;
mod report;
mod sabotage;
mod shoppers;
mod strike;
mod verdict;

use std::{path::Path, sync::Arc, time::Duration};

use api::Role;
use client::{Client, NewSale};
use futures::future::try_join_all;
use tempfile::TempDir;
use tokio::{sync::Semaphore, time::Instant};

use self::{
    door::Door,
    journal::Journal,
    live::Live,
    processes::Process,
    shoppers::{Crowd, Tally},
    verdict::Evidence,
};
use crate::{exit::Failure, lifetime, output::grouped};

/// The demo's sale.
const SALE: &str = "demo";
/// A second sale for people to try with `--keep`.
const ENCORE: &str = "encore";

/// Holds are this short so that units which nobody pays for return while one watches.
const HOLD: Duration = Duration::from_secs(5);

/// The leader is killed when this many out of a hundred units are granted.
const STRIKE_PERCENT: u32 = 40;

/// Claims a shopper may make in a minute: with holds of 5 s people come back oftener than the usual limit
/// of 10 allows.
const CLAIMS_PER_MINUTE: u32 = 120;

/// Longest the whole sale may take before something is wrong.
const SALE_MAX: Duration = Duration::from_secs(180);

/// Longest the first leader may take to be found.
const CALL_MAX: Duration = Duration::from_secs(10);

/// What to play.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Nodes.
    pub nodes: u32,
    /// Units for sale.
    pub units: u32,
    /// Shoppers.
    pub users: u32,
    /// Draws every choice.
    pub seed: u64,
    /// Spoil the evidence.
    pub sabotage: bool,
    /// Leave it running.
    pub keep: bool,
}

/// The processes, so that they can be stopped however the demo ends.
#[derive(Default)]
struct Fleet {
    nodes: Vec<Process>,
    door: Option<Process>,
}

impl Fleet {
    fn endpoints(&self) -> Vec<(u64, String)> {
        (1..)
            .zip(&self.nodes)
            .map(|(id, node)| (id, node.address().to_owned()))
            .collect()
    }

    async fn stop(&mut self) {
        if let Some(door) = &mut self.door {
            door.stop().await;
        }
        futures::future::join_all(self.nodes.iter_mut().map(Process::stop)).await;
    }
}

/// What is left of a demo that was played to its end.
struct Played {
    passed: bool,
    client: Client,
    secret: Vec<u8>,
}

/// Plays the demo. Stops every process at the end, and removes the directory unless there is something in it
/// to look at.
pub async fn run(options: Options) -> Result<(), Failure> {
    let dir = tempfile::Builder::new().prefix("holdfast-demo-").tempdir()?;
    let mut fleet = Fleet::default();
    let mut outcome = tokio::select! {
        outcome = play(&options, dir.path(), &mut fleet) => Some(outcome),
        _ = lifetime::asked_to_stop(false) => None,
    };
    if let (true, Some(Ok(played))) = (options.keep, &outcome) {
        if let Err(failure) = invite(&fleet, played).await {
            outcome = Some(Err(failure));
        } else {
            lifetime::asked_to_stop(false).await;
        }
    }
    fleet.stop().await;
    match outcome {
        None => Err(Failure::Failed(
            "interrupted; every process is stopped and the directory removed".into(),
        )),
        Some(Ok(played)) if played.passed => Ok(()),
        Some(Ok(_)) => {
            if !options.sabotage {
                keep_directory(dir);
            }
            Err(Failure::Violated(
                "the verdict is red: what was observed breaks a promise".into(),
            ))
        }
        Some(Err(failure)) => {
            keep_directory(dir);
            Err(failure)
        }
    }
}

fn keep_directory(dir: TempDir) {
    eprintln!(
        "logs, data and the shoppers' journal are in {}",
        dir.keep().display()
    );
}

async fn play(options: &Options, dir: &Path, fleet: &mut Fleet) -> Result<Played, Failure> {
    let Options {
        nodes,
        units,
        users,
        seed,
        ..
    } = *options;
    let started = Instant::now();
    println!(
        "{nodes} nodes, one HTTP door, {} shoppers, {} units, holds of {} s (usually 3 min), seed {seed}",
        grouped(users.into()),
        grouped(units.into()),
        HOLD.as_secs()
    );
    let secret = rand::random::<[u8; 32]>().to_vec();
    let client = start(options, dir, fleet, &secret).await?;
    client
        .create_sale(NewSale {
            sale_id: SALE.into(),
            name: "Demo".into(),
            units_total: units,
            hold_ms: HOLD.as_millis() as u64,
            open: true,
            ..NewSale::default()
        })
        .key("demo-create")
        .send()
        .await
        .map_err(|error| Failure::Failed(format!("create the sale: {error}")))?;
    println!(
        "ready after {:.1} s; the sale is open",
        started.elapsed().as_secs_f64()
    );

    let journal = sell(options, dir, fleet, &client, secret.clone()).await?;
    let took = started.elapsed();

    let mut evidence = Evidence {
        units: units.into(),
        per_user_units_max: 1,
        replicas_expected: nodes as usize,
        journal,
        replicas: evidence::gather(&client, &fleet.endpoints(), SALE).await?,
    };
    println!(
        "sold out after {:.1} s and {} HTTP answers",
        took.as_secs_f64(),
        grouped(evidence.journal.len() as u64)
    );
    println!("the verdict, from the shoppers' journal and every replica's claims:");
    if options.sabotage {
        let done = sabotage::spoil(&mut evidence)
            .ok_or_else(|| Failure::Failed("--sabotage: there are not two sold units to spoil".into()))?;
        println!("  sabotaged: {done}");
    }
    let verdict = verdict::judge(&evidence);
    for line in report::lines(&verdict, report::colour()) {
        println!("{line}");
    }
    Ok(Played {
        passed: verdict.passed(),
        client,
        secret,
    })
}

/// Starts nodes, makes the cluster, starts the door.
async fn start(options: &Options, dir: &Path, fleet: &mut Fleet, secret: &[u8]) -> Result<Client, Failure> {
    let text = |path: &Path| path.display().to_string();
    fleet.nodes = try_join_all((1..=options.nodes).map(|id| {
        let data_dir = text(&dir.join(format!("node-{id}")));
        let args = ["node", "--id", &id.to_string(), "--data-dir", &data_dir]
            .map(String::from)
            .to_vec();
        async move { Process::start(dir, &format!("node-{id}"), args).await }
    }))
    .await?;
    let endpoints = fleet.endpoints();
    let addresses: Vec<String> = endpoints.iter().map(|(_, address)| address.clone()).collect();
    for ((id, address), node) in endpoints.iter().zip(&fleet.nodes) {
        println!(
            "  node {id}  {address:<16}  pid {}",
            node.pid().unwrap_or_default()
        );
    }
    let client = Client::builder()
        .endpoints(addresses.clone())
        .timeout(CALL_MAX)
        .principal("demo")
        .build()
        .map_err(|error| Failure::Failed(format!("client: {error}")))?;
    client
        .cluster()
        .init(endpoints)
        .await
        .map_err(|error| Failure::Failed(format!("make the cluster: {error}")))?;

    let secret_file = dir.join("door.secret");
    std::fs::write(
        &secret_file,
        secret
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>(),
    )?;
    let rate = format!("api.claims_per_user_minute={CLAIMS_PER_MINUTE}");
    let args = [
        "api",
        "--endpoints",
        &addresses.join(","),
        "--hs256-secret-file",
        &text(&secret_file),
        "--set",
        &rate,
    ];
    let door = Process::start(dir, "door", args.map(String::from).to_vec()).await?;
    println!(
        "  door    {:<16}  pid {}",
        door.address(),
        door.pid().unwrap_or_default()
    );
    fleet.door = Some(door);
    Ok(client)
}

/// The sale: the crowd, the strike, the live line. Gives the journal.
async fn sell(
    options: &Options,
    dir: &Path,
    fleet: &mut Fleet,
    client: &Client,
    secret: Vec<u8>,
) -> Result<Vec<journal::Entry>, Failure> {
    let door = fleet
        .door
        .as_ref()
        .map(|door| door.address().to_owned())
        .unwrap_or_default();
    let tally = Arc::new(Tally::new(
        u64::from(options.units * STRIKE_PERCENT).div_ceil(100).max(1),
    ));
    let crowd = Arc::new(Crowd {
        door: Door::new(
            &door,
            SALE,
            shoppers::CALLERS_MAX + shoppers::PLATFORM_CALLERS_MAX,
        )?,
        journal: Journal::create(&dir.join("journal.jsonl"))?,
        tally: Arc::clone(&tally),
        platform: shoppers::bearer(&secret, "demo-platform", Role::Platform),
        secret,
        seed: options.seed,
        gate: Semaphore::new(shoppers::CALLERS_MAX),
        platform_gate: Semaphore::new(shoppers::PLATFORM_CALLERS_MAX),
    });
    let live = Live::new(SALE, options.units);
    let outcome = tokio::select! {
        outcome = async {
            tokio::try_join!(
                shoppers::run(Arc::clone(&crowd), options.users),
                strike::run(&mut fleet.nodes, client, &tally, &live),
            )
        } => outcome,
        () = live.run(client, &tally) => Err(Failure::Failed("the live line ended".into())),
        () = tokio::time::sleep(SALE_MAX) => {
            Err(Failure::Failed(format!("the sale did not end within {} s", SALE_MAX.as_secs())))
        }
    };
    live.end();
    outcome?;
    let crowd = Arc::into_inner(crowd).ok_or_else(|| Failure::Failed("a shopper is still out".into()))?;
    Ok(crowd.journal.finish()?)
}

/// Says what can be tried while everything goes on running.
async fn invite(fleet: &Fleet, played: &Played) -> Result<(), Failure> {
    let sale = NewSale {
        sale_id: ENCORE.into(),
        units_total: 10,
        open: true,
        ..NewSale::default()
    };
    played
        .client
        .create_sale(sale)
        .key("demo-encore")
        .send()
        .await
        .map_err(|error| Failure::Failed(format!("create a sale to try: {error}")))?;
    let door = fleet
        .door
        .as_ref()
        .map(|door| door.address().to_owned())
        .unwrap_or_default();
    let endpoints: Vec<String> = fleet
        .endpoints()
        .into_iter()
        .map(|(_, address)| address)
        .collect();
    let holdfast = std::env::current_exe().map_or("holdfast".into(), |path| path.display().to_string());
    let token = shoppers::bearer(&played.secret, "you", Role::Shopper);
    println!(
        "
everything goes on running, with a sale `{ENCORE}` of 10 units; try:

curl -s -X POST http://{door}/v1/sales/{ENCORE}/claims \\
  -H 'Idempotency-Key: first-try' -H 'Authorization: {token}'

export HOLDFAST_ENDPOINTS={}
{holdfast} cluster status
{holdfast} claim create {ENCORE} somebody-else
{holdfast} claim list {ENCORE}

Ctrl-C stops and removes everything.",
        endpoints.join(",")
    );
    Ok(())
}

//! The demo: a real flash sale on this machine, and its verdict.
//!
//! Nodes, two HTTP doors and a payment provider are processes of this same binary, with directories and ports of
//! their own. A crowd claims and pays over real HTTP, part of it never pays, cards are declined, the provider hangs
//! and repeats itself; the leader is killed in the middle, and then a door with payments under way. Afterwards
//! [`verdict`] compares what shoppers were told with what every replica holds, and both with the provider's books.
//! A door's page shows it all meanwhile; with `--keep` its buttons ([`control`]) are people's afterwards.
//!
//! With [`chaos`] every kind of process is killed at random instead, for as long as asked.
//!
//! Left out: the network between machines, and power cuts. All processes share this machine's disk.

mod breakage;
mod chaos;
mod control;
mod door;
mod encore;
mod evidence;
mod journal;
mod live;
mod money;
mod processes;
mod report;
mod sabotage;
mod shoppers;
mod strike;
mod verdict;

use std::{path::Path, sync::Arc, time::Duration};

use client::{Client, Consistency, NewSale};
use futures::future::try_join_all;
use tempfile::TempDir;
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

pub use self::chaos::USERS_PER_SECOND;
use self::{
    chaos::OpenCheckouts,
    control::{Asked, Control, Stage},
    door::Doors,
    journal::Journal,
    live::Live,
    processes::Process,
    shoppers::{Crowd, Tally},
    verdict::Evidence,
};
use crate::{exit::Failure, lifetime, output::grouped};

/// The demo's sale.
const SALE: &str = "demo";

/// Holds are this short so that units which nobody pays for return while one watches.
const HOLD: Duration = Duration::from_secs(5);

/// The leader is killed when this many out of a hundred units are granted.
const STRIKE_PERCENT: u32 = 40;

/// A door is killed when this many out of a hundred units are granted: the leader is back by then.
const DOOR_STRIKE_PERCENT: u32 = 75;

/// Doors.
const DOORS: usize = 2;

/// What a unit costs, in minor units, and of which currency.
const PRICE_MINOR: u64 = 4_900;
const CURRENCY: &str = "EUR";

/// How far beyond its deadline a checkout may carry a hold: short, like the holds.
const CHECKOUT_MAX: Duration = Duration::from_secs(6);

/// Longest a door waits for the provider (usually 10 s), in ms: what hangs must be found out within the hold.
const PAYMENT_CALL_MS_MAX: u64 = 2_000;

/// Lease of a checkout's owner (usually 20 s), in ms: what a dead door leaves is taken over after this.
const LEASE_MS: u64 = 5_000;

/// Longest a door's checkout waits for the store (usually 5 s), in ms: longer than an election, shorter than the lease.
const STORE_CALL_MS_MAX: u64 = 4_000;

/// What goes wrong at the provider.
const PROVIDER_FAULTS: [&str; 16] = [
    "--decline-rate",
    "10%",
    "--challenge-rate",
    "5%",
    "--capture-decline-rate",
    "1%",
    "--hang-rate",
    "1%",
    "--lost-answer-rate",
    "2%",
    "--error-after-rate",
    "2%",
    "--webhook-twice-rate",
    "20%",
    "--delay-ms",
    "30",
];

/// The delay among them, to go back to.
const PROVIDER_DELAY_MS: u64 = 30;

/// Claims a shopper may make in a minute: with holds of 5 s people come back oftener than the usual limit
/// of 10 allows.
const CLAIMS_PER_MINUTE: u32 = 120;

/// Longest the whole sale may take before something is wrong.
const SALE_MAX: Duration = Duration::from_secs(300);

/// How often more shoppers pass by for units that came back late.
const LATE_CROWDS_MAX: u32 = 5;

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
    /// Kill at random for so long.
    pub chaos: Option<Duration>,
}

/// The processes, so that they can be stopped however the demo ends.
#[derive(Default)]
struct Fleet {
    /// The address that they listen at.
    host: String,
    nodes: Vec<Process>,
    doors: Vec<Process>,
    provider: Option<Process>,
}

/// The door whose page is shown: not the first, which is struck.
const PAGE_DOOR: usize = 1;

impl Fleet {
    fn endpoints(&self) -> Vec<(u64, String)> {
        (1..)
            .zip(&self.nodes)
            .map(|(id, node)| (id, node.address().to_owned()))
            .collect()
    }

    /// A node by its id.
    fn node(&mut self, id: u64) -> Result<&mut Process, Failure> {
        let index = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        index
            .and_then(|index| self.nodes.get_mut(index))
            .ok_or_else(|| Failure::Failed(format!("node {id} leads, but it is none of ours")))
    }

    /// Where people look.
    fn page(&self) -> String {
        let door = self
            .doors
            .get(PAGE_DOOR)
            .map(Process::address)
            .unwrap_or_default();
        format!("http://{door}/")
    }

    fn provider_address(&self) -> &str {
        self.provider.as_ref().map(Process::address).unwrap_or_default()
    }

    async fn stop(&mut self) {
        let around = self.doors.iter_mut().chain(&mut self.provider);
        futures::future::join_all(around.map(Process::stop)).await;
        futures::future::join_all(self.nodes.iter_mut().map(Process::stop)).await;
    }
}

/// What is left of a demo that was played to its end.
struct Played {
    passed: bool,
    client: Client,
    secret: Vec<u8>,
    stage: Stage,
    asked: mpsc::Receiver<Asked>,
}

/// Plays the demo. Stops every process at the end, and removes the directory unless there is something in it
/// to look at.
pub async fn run(options: Options) -> Result<(), Failure> {
    let dir = tempfile::Builder::new().prefix("holdfast-demo-").tempdir()?;
    let mut fleet = Fleet {
        host: match options.chaos {
            Some(_) => chaos::host(&mut rand::rng()),
            None => "127.0.0.1".into(),
        },
        ..Fleet::default()
    };
    let outcome = tokio::select! {
        outcome = play(&options, dir.path(), &mut fleet) => Some(outcome),
        _ = lifetime::asked_to_stop(false) => None,
    };
    let outcome = match outcome {
        Some(Ok(played)) if options.keep => Some(encore::keep(&mut fleet, played).await),
        Some(played) => Some(played.map(|played| played.passed)),
        None => None,
    };
    fleet.stop().await;
    match outcome {
        None => Err(Failure::Failed(
            "interrupted; every process is stopped and the directory removed".into(),
        )),
        Some(Ok(true)) => Ok(()),
        Some(Ok(false)) => {
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
    let hold = options.chaos.map_or(HOLD, |_| chaos::HOLD);
    println!(
        "{nodes} nodes, {DOORS} HTTP doors, a payment provider with bad days, {} shoppers, {} units, holds of {} s (usually \
         3 min), seed {seed}",
        grouped(users.into()),
        grouped(units.into()),
        hold.as_secs()
    );
    let secret = rand::random::<[u8; 32]>().to_vec();
    let (client, stage, asked) = start(options, dir, fleet, &secret).await?;
    client
        .create_sale(NewSale {
            sale_id: SALE.into(),
            name: "Demo".into(),
            units_total: units,
            hold_ms: hold.as_millis() as u64,
            checkout_max_ms: CHECKOUT_MAX.as_millis() as u64,
            // Zero: as usual.
            claims_max: options
                .chaos
                .map_or(0, |_| units.saturating_mul(chaos::CLAIMS_PER_UNIT)),
            price_minor: PRICE_MINOR,
            currency: CURRENCY.into(),
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

    let (journal, chaos) = sell(options, dir, fleet, &client, secret.clone()).await?;
    let took = started.elapsed();

    let money = money::gather(&client, fleet.provider_address(), PRICE_MINOR).await?;
    let mut evidence = Evidence {
        units: units.into(),
        per_user_units_max: 1,
        replicas_expected: nodes as usize,
        journal,
        replicas: evidence::gather(&client, &fleet.endpoints(), SALE).await?,
        money,
        chaos,
    };
    println!(
        "over after {:.1} s and {} HTTP answers",
        took.as_secs_f64(),
        grouped(evidence.journal.len() as u64)
    );
    println!("the verdict, from the shoppers' journal, every replica's claims and the provider's books:");
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
        stage,
        asked,
    })
}

/// Starts nodes, makes the cluster, starts the door.
async fn start(
    options: &Options,
    dir: &Path,
    fleet: &mut Fleet,
    secret: &[u8],
) -> Result<(Client, Stage, mpsc::Receiver<Asked>), Failure> {
    let text = |path: &Path| path.display().to_string();
    fleet.nodes = try_join_all((1..=options.nodes).map(|id| {
        let data_dir = text(&dir.join(format!("node-{id}")));
        let args = ["node", "--id", &id.to_string(), "--data-dir", &data_dir]
            .map(String::from)
            .to_vec();
        let host = &fleet.host;
        async move { Process::start(dir, &format!("node-{id}"), host, args).await }
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

    let (control, asked) = Control::open(secret, SALE).await?;
    start_doors(dir, fleet, &addresses, secret, options.seed, &control.origin()).await?;
    let doors: Vec<String> = fleet.doors.iter().map(|door| door.address().to_owned()).collect();
    println!("  page    {}  (the sale as it goes)", fleet.page());
    Ok((client, control.serve(&doors), asked))
}

/// Starts the payment provider, and the doors that it sends its webhooks to.
async fn start_doors(
    dir: &Path,
    fleet: &mut Fleet,
    nodes: &[String],
    secret: &[u8],
    seed: u64,
    control: &str,
) -> Result<(), Failure> {
    let file = |name: &str, content: &str| -> std::io::Result<String> {
        let path = dir.join(name);
        std::fs::write(&path, content)?;
        Ok(path.display().to_string())
    };
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let token_secret = file("door.secret", &hex)?;
    let webhook_secret = file("webhook.secret", &format!("whsec_{hex}"))?;
    let payment_key = file("payment.key", "sk_test_demo")?;
    let state = dir.join("provider.journal").display().to_string();

    // Either side has to know the other's address: the provider begins without webhooks, and begins again
    // with them where it was.
    let seed = seed.to_string();
    let mut args = vec!["psp", "--seed", &seed, "--api-key-file", &payment_key];
    args.extend(PROVIDER_FAULTS);
    let text = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    let mut provider = Process::start(dir, "provider", &fleet.host, text(&args)).await?;
    let payment_url = format!("http://{}", provider.address());
    let settings = [
        format!("api.claims_per_user_minute={CLAIMS_PER_MINUTE}"),
        format!("api.payment_call_ms_max={PAYMENT_CALL_MS_MAX}"),
        format!("api.checkout_store_call_ms_max={STORE_CALL_MS_MAX}"),
        format!("api.checkout_lease_ms={LEASE_MS}"),
        format!("api.demo_control={control}"),
    ];
    let nodes = nodes.join(",");
    for number in 1..=DOORS {
        let mut door = vec!["api", "--endpoints", &nodes, "--hs256-secret-file", &token_secret];
        door.extend(["--payment-url", &payment_url, "--payment-key-file", &payment_key]);
        door.extend(["--webhook-secret-file", &webhook_secret]);
        door.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        fleet
            .doors
            .push(Process::start(dir, &format!("door-{number}"), &fleet.host, text(&door)).await?);
    }
    let hooks: Vec<String> = fleet
        .doors
        .iter()
        .map(|door| format!("http://{}/v1/webhooks/stripe", door.address()))
        .collect();
    args.extend(["--state", &state, "--webhook-secret-file", &webhook_secret]);
    args.extend(hooks.iter().flat_map(|hook| ["--webhook-url", hook.as_str()]));
    provider.stop().await;
    provider.restart_with(text(&args)).await?;
    for (name, process) in [
        ("door", &fleet.doors[..]),
        ("psp", std::slice::from_ref(&provider)),
    ]
    .into_iter()
    .flat_map(|(name, processes)| processes.iter().map(move |process| (name, process)))
    {
        println!(
            "  {name:<7} {:<16}  pid {}",
            process.address(),
            process.pid().unwrap_or_default()
        );
    }
    fleet.provider = Some(provider);
    Ok(())
}

/// The sale: the crowd, the strikes, the live line. Gives the journal, and what chaos there was.
async fn sell(
    options: &Options,
    dir: &Path,
    fleet: &mut Fleet,
    client: &Client,
    secret: Vec<u8>,
) -> Result<(Vec<journal::Entry>, Option<verdict::Chaos>), Failure> {
    let doors: Vec<String> = fleet.doors.iter().map(|door| door.address().to_owned()).collect();
    let mark = |percent: u32| u64::from(options.units * percent).div_ceil(100).max(1);
    let tally = Arc::new(Tally::new(mark(STRIKE_PERCENT), mark(DOOR_STRIKE_PERCENT)));
    let crowd = Arc::new(Crowd {
        doors: Doors::new(doors, SALE, shoppers::CALLERS_MAX + shoppers::PAYERS_MAX)?,
        journal: Journal::create(&dir.join("journal.jsonl"))?,
        tally: Arc::clone(&tally),
        secret,
        seed: options.seed,
        gate: Semaphore::new(shoppers::CALLERS_MAX),
        payers: Semaphore::new(shoppers::PAYERS_MAX),
    });
    let live = Live::new(SALE, options.units);
    let open = OpenCheckouts::default();
    let sale_max = SALE_MAX + options.chaos.unwrap_or_default();
    let outcome = tokio::select! {
        outcome = async {
            let everybody = 0..options.users;
            if let Some(length) = options.chaos {
                let arrival = |share| length.mul_f64(share);
                let ((), kills) = tokio::try_join!(
                    shoppers::run(&crowd, everybody, arrival),
                    chaos::strike(fleet, options.seed, length, &live),
                )?;
                chaos::calm(client).await?;
                return Ok(Some(open.told(kills)));
            }
            tokio::try_join!(
                shoppers::run(&crowd, everybody, shoppers::growing),
                strike::leader(&mut fleet.nodes, client, &tally, &live),
                strike::door(&mut fleet.doors[0], &tally, &live),
            )?;
            latecomers(client, &crowd, options.users, &live).await?;
            Ok(None)
        } => outcome,
        () = live.run(client, &tally) => Err(Failure::Failed("the live line ended".into())),
        () = open.watch(client), if options.chaos.is_some() => Err(Failure::Failed("the watch ended".into())),
        () = tokio::time::sleep(sale_max) => {
            Err(Failure::Failed(format!("the sale did not end within {} s", sale_max.as_secs())))
        }
    };
    live.end();
    let chaos = outcome?;
    let crowd = Arc::into_inner(crowd).ok_or_else(|| Failure::Failed("a shopper is still out".into()))?;
    Ok((crowd.journal.finish()?, chaos))
}

/// A payment that fails after its claim was confirmed gives a unit back when everybody was told that nothing will
/// return: whoever passes by later may have it.
async fn latecomers(client: &Client, crowd: &Arc<Crowd>, users: u32, live: &Live) -> Result<(), Failure> {
    let mut users = users..users;
    for _ in 0..LATE_CROWDS_MAX {
        money::settled(client).await?;
        let (sale, _) = client
            .get_sale(SALE, Consistency::Linearizable)
            .await
            .map_err(|error| Failure::Failed(format!("read the sale: {error}")))?;
        let left = sale.units_available + sale.units_held;
        if left == 0 {
            break;
        }
        live.say(&format!(
            "  {left} units came back late; some more shoppers pass by"
        ));
        // Enough of them, although some never pay.
        users = users.end..users.end + left * 2 + 20;
        shoppers::run(crowd, users.clone(), shoppers::growing).await?;
    }
    Ok(())
}

//! What happens on the callers' host: the cluster is founded, shoppers shop, and in the end all is brought to rest and
//! the books are read.

use std::{sync::Arc, time::Duration};

use api::payment::simulator::{Faults, Ledger};
use axum::{body::Bytes, http::Request};
use client::Client;
use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{Notes, bank, plan::CheckoutPlan, road::Http, shopper::Shopper};
use crate::{
    properties::{Observations, Run, SeenHash, checkout::Settling},
    simulation::{Trace, load, net::SimNet, operator, stage::Stage},
    workloads::books::{self, Unread},
};

/// How long a call of those who set up and read in the end is tried.
const CALL_MAX: Duration = Duration::from_secs(3);

/// Pause between two looks.
const AGAIN: Duration = Duration::from_millis(250);

/// How long a checkout may take beyond the shopper's patience once all is healed, in ms.
const SETTLE_MS: u64 = 60_000;

/// How long news of refunds may take after that: webhooks that were not taken come again within 30 s.
const NEWS_MAX: Duration = Duration::from_secs(75);

/// How long reading may take.
const READING_MAX: Duration = Duration::from_secs(20);

/// The whole load of one run.
pub(super) async fn load(
    plan: Arc<CheckoutPlan>,
    stage: Stage,
    notes: Notes,
    trace: Trace,
) -> turmoil::Result {
    let client = load::client(&stage, CALL_MAX)?;
    load::found(&plan.cluster, &stage, &client, &trace).await?;
    stage.begin(turmoil::sim_elapsed().unwrap_or_default());
    let orders = tokio::spawn(operator::work(stage.clone(), client.clone(), trace.clone()));
    let http = Http::over(Arc::new(SimNet));
    let (stop, stopped) = watch::channel(false);
    let shoppers: Vec<_> = (1..=plan.shoppers)
        .map(|number| {
            let shopper = Shopper {
                number,
                chance: SmallRng::seed_from_u64(plan.cluster.seed ^ (number << 32) ^ 0x5409_9e55),
                plan: plan.clone(),
                notes: notes.clone(),
                client: load::client(&stage, CALL_MAX)?,
                http: http.clone(),
                trace: trace.clone(),
                stopped: stopped.clone(),
                bought: Vec::new(),
            };
            Ok(tokio::spawn(shopper.shop()))
        })
        .collect::<Result<_, client::Error>>()?;
    sleep(Duration::from_millis(plan.cluster.load_ms)).await;
    stop.send_replace(true);
    let mut customers = Vec::new();
    for shopper in shoppers {
        customers.push(shopper.await?);
    }
    stage.set_over();
    while !stage.is_healed() {
        sleep(Duration::from_millis(1)).await;
    }
    orders.await?;
    trace.note("the shoppers have gone home");
    let healed = Instant::now();
    behave(&http).await?;
    for customer in &mut customers {
        customer.ask_again().await;
    }
    let mut settling = Settling {
        took_ms: None,
        took_ms_max: plan.options.budget_ms_max + SETTLE_MS,
        left: Vec::new(),
    };
    settle(&client, &http, healed, &mut settling).await?;
    trace.note(format_args!("settled: {settling:?}"));

    let provider = ledger(&http).await?;
    let sales: Vec<String> = (plan.cluster.shop.sales.iter())
        .map(|sale| sale.new.sale_id.clone())
        .collect();
    let mut books = read(&client, &sales, &provider).await?;
    trace.note(format_args!("{:?}", books.balances));
    books.settling = settling;
    books.answers = std::mem::take(&mut notes.get().answers);
    notes.get().books = Some(books);
    stage.set_run(Run::new(
        stage.recorder().finish(),
        Observations {
            hashes: hashes(&stage, &client).await,
            ..Observations::default()
        },
    ));
    trace.note("the end");
    Ok(())
}

/// From now on the provider does as it is told.
async fn behave(http: &Http) -> turmoil::Result {
    let faults = serde_json::to_value(Faults::default())?;
    let fields = faults.as_object().expect("faults are plain data");
    let form: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let form = form.join("&");
    let began = Instant::now();
    loop {
        let request = Request::post(format!("{}/_/faults", bank::url()))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(form.clone()))?;
        match timeout(CALL_MAX, http.ask(request)).await {
            Ok(Ok(answer)) if answer.status().is_success() => return Ok(()),
            _ if began.elapsed() > READING_MAX => return Err("the provider does not answer".into()),
            _ => sleep(AGAIN).await,
        }
    }
}

/// The provider's own books.
async fn ledger(http: &Http) -> Result<Ledger, Box<dyn std::error::Error>> {
    let began = Instant::now();
    loop {
        let request = Request::get(format!("{}/_/ledger", bank::url())).body(Bytes::new())?;
        match timeout(CALL_MAX, http.ask(request)).await {
            Ok(Ok(answer)) if answer.status().is_success() => {
                return Ok(serde_json::from_slice(answer.body())?);
            }
            _ if began.elapsed() > READING_MAX => return Err("the provider's books cannot be read".into()),
            _ => sleep(AGAIN).await,
        }
    }
}

/// Waits until no checkout is open, and then until there is no more news to come.
async fn settle(client: &Client, http: &Http, healed: Instant, settling: &mut Settling) -> turmoil::Result {
    let open_max = Duration::from_millis(settling.took_ms_max);
    loop {
        let (open, events) = match books::under_way(client).await {
            Ok(found) => found,
            Err(error) if healed.elapsed() > open_max => return Err(error.into()),
            Err(_) => {
                sleep(AGAIN).await;
                continue;
            }
        };
        let passed = healed.elapsed();
        if open.is_empty() && settling.took_ms.is_none() {
            settling.took_ms = Some(passed.as_millis() as u64);
        }
        if settling.took_ms.is_none() && passed < open_max {
            sleep(AGAIN).await;
            continue;
        }
        let provider = ledger(http).await?;
        let pending = provider
            .payments
            .iter()
            .any(|payment| payment.refund_pending_minor > 0);
        let news = !events.is_empty() || provider.webhooks.waiting > 0 || pending;
        if (!news && open.is_empty()) || passed > open_max + NEWS_MAX {
            settling.left = open.into_iter().chain(events).collect();
            return Ok(());
        }
        sleep(AGAIN).await;
    }
}

async fn read(
    client: &Client,
    sales: &[String],
    provider: &Ledger,
) -> Result<crate::properties::checkout::Books, Unread> {
    let began = Instant::now();
    loop {
        match books::read(client, sales, provider.clone()).await {
            Err(Unread::Store(_)) if began.elapsed() < READING_MAX => sleep(AGAIN).await,
            read => return read,
        }
    }
}

/// Every member's state, at one index where that can be had.
async fn hashes(stage: &Stage, client: &Client) -> Vec<SeenHash> {
    let members = load::members(stage, client).await;
    let cluster = client.cluster();
    let mut log_index = 0;
    for (_, endpoint) in &members {
        if let Ok(Ok(status)) = timeout(CALL_MAX, cluster.status(endpoint)).await {
            log_index = log_index.max(status.applied_index);
        }
    }
    let mut hashes = Vec::new();
    for (node, endpoint) in members {
        if let Ok(Ok(hash)) = timeout(CALL_MAX, cluster.state_hash(&endpoint, log_index)).await {
            hashes.push(SeenHash {
                node,
                log_index: hash.log_index,
                digest: hash.digest.to_vec(),
                sales_wrong: hash.sales_wrong,
            });
        }
    }
    hashes
}

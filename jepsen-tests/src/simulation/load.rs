//! What happens on the callers' host: the cluster is founded, watched, called, looked at from every side, and in
//! the end brought to rest.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use client::{Client, Error};
use futures::FutureExt;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use super::{Trace, cluster::Machine, net::connector, operator, plan::Plan, stage::Stage};
use crate::{
    properties::{Counters, SeenFeed, SeenHash, SeenRead},
    workloads::{
        caller,
        finale::{Bounds, Finale},
        keeper::Keeper,
        shop::{PRINCIPAL, Shop},
        watch::{LastChanges, follow},
    },
};

/// How long things may take once all is healed. Elections last at most a second here; the rest is connections
/// that have died unnoticed.
const BOUNDS: Bounds = Bounds {
    serving_ms_max: 10_000,
    holds_slack_ms: 5_000,
    recovery_ms_max: 20_000,
    resolves_at_once: 1,
};

/// How long founding may take, in tries of a few hundred ms.
const FOUNDING_TRIES_MAX: u32 = 60;

/// Pause between two tries.
const AGAIN: Duration = Duration::from_millis(100);

/// How long an observer waits for a node, and how often it looks at one.
const OBSERVER_TIMEOUT: Duration = Duration::from_millis(400);
const OBSERVER_PAUSE_MS: std::ops::Range<u64> = 60..240;

/// How often one looks for nodes to watch: before they are caught up by a snapshot.
const LOOK_FOR_NEWCOMERS: Duration = Duration::from_millis(10);

/// The whole load of one run.
pub(super) async fn load(plan: Arc<Plan>, stage: Stage, shop: Shop, trace: Trace) -> turmoil::Result {
    let operator = client(&stage, Duration::from_secs(3))?;
    found(&plan, &stage, &operator, &trace).await?;
    stage.begin(turmoil::sim_elapsed().unwrap_or_default());

    let (last_changes, last) = watch::channel(None);
    let watchers = watchers(&plan, &stage, &shop, &last)?;
    let orders = tokio::spawn(operator::work(stage.clone(), operator.clone(), trace.clone()));
    let observing = tokio::spawn(observe(plan.clone(), stage.clone(), shop.clone()));
    let newcomers = tokio::spawn(watch_newcomers(plan.clone(), stage.clone(), shop.clone()));
    let keeper = Keeper {
        plan: Arc::new(plan.shop.clone()),
        shop: shop.clone(),
        chance: SmallRng::seed_from_u64(plan.seed ^ 0x6ee9_e4a1),
    };
    let keeping = tokio::spawn(keeper.run(caller_client(&plan, &stage)?, plan.load_ms));
    let (stop, stopped) = watch::channel(false);
    let calling = {
        let (plan, stage, shop) = (plan.clone(), stage.clone(), shop.clone());
        tokio::spawn(async move {
            let shop_plan = Arc::new(plan.shop.clone());
            let client = || caller_client(&plan, &stage);
            caller::run(&shop_plan, &shop, plan.seed, client, stopped).await
        })
    };
    sleep(Duration::from_millis(plan.load_ms)).await;
    stop.send_replace(true);
    calling.await??;
    keeping.await?;
    stage.set_over();
    while !stage.is_healed() {
        sleep(Duration::from_millis(1)).await;
    }
    let hashes = observing.await?;
    let short_feeds = newcomers.await??;
    orders.await?;
    trace.note("the callers have finished");
    Keeper::last_wave(&shop, &plan.shop, caller_client(&plan, &stage)?).await;

    let finale = Finale {
        client: &operator,
        shop: &shop,
        plan: &plan.shop,
        members: members(&stage, &operator).await,
        bounds: BOUNDS,
        last_changes,
        watchers,
        short_feeds,
        stragglers: stragglers(stage.clone()).boxed(),
        hashes,
    };
    stage.set_run(finale.play().await);
    trace.note("the end");
    Ok(())
}

pub(super) fn client(stage: &Stage, timeout: Duration) -> Result<Client, Error> {
    Client::builder()
        .endpoints(stage.machines().iter().map(Machine::endpoint))
        .connector(connector())
        .timeout(timeout)
        .principal(PRINCIPAL)
        .build()
}

/// A client whose connections may be late.
fn caller_client(plan: &Plan, stage: &Stage) -> Result<Client, Error> {
    let mut builder = Client::builder()
        .endpoints(stage.machines().iter().map(Machine::endpoint))
        .connector(stage.wires().connector())
        .timeout(Duration::from_millis(plan.call_ms_max))
        .principal(PRINCIPAL);
    if let Some(life_ms) = plan.command_life_ms {
        builder = builder.command_life(Duration::from_millis(life_ms));
    }
    builder.build()
}

pub(super) async fn found(plan: &Plan, stage: &Stage, client: &Client, trace: &Trace) -> Result<(), Error> {
    let members = stage
        .machines()
        .iter()
        .map(|machine| (machine.id, machine.endpoint()))
        .collect();
    let cluster = client.cluster();
    let cluster_id = patiently(|| cluster.init(Vec::clone(&members))).await?;
    trace.note(format_args!("founded {cluster_id}"));
    for sale in &plan.shop.sales {
        let key = format!("create-{}", sale.new.sale_id);
        patiently(|| client.create_sale(sale.new.clone()).key(&key).send()).await?;
    }
    Ok(())
}

/// Repeats what is unavailable or unknown: these calls are idempotent, and nothing is wrong yet.
async fn patiently<T, F: Future<Output = Result<T, Error>>>(call: impl Fn() -> F) -> Result<T, Error> {
    let mut tries = 0;
    loop {
        match call().await {
            Err(Error::Unavailable { .. } | Error::Unknown { .. }) if tries < FOUNDING_TRIES_MAX => {
                tries += 1;
                sleep(AGAIN).await;
            }
            result => return result,
        }
    }
}

/// One watcher sees everything from the first entry on; a plan may ask for more, of one sale or of all.
fn watchers(
    plan: &Plan,
    stage: &Stage,
    shop: &Shop,
    last: &watch::Receiver<LastChanges>,
) -> Result<Vec<JoinHandle<SeenFeed>>, Error> {
    let sales = &plan.shop.sales;
    (0..=plan.shop.watchers)
        .map(|number| {
            let sale = (number % 2 == 1).then(|| sales[number % sales.len()].new.sale_id.clone());
            let client = caller_client(plan, stage)?;
            let follow = follow(
                format!("watcher {number}"),
                client,
                shop.clone(),
                sale,
                1,
                last.clone(),
            );
            Ok(tokio::spawn(follow))
        })
        .collect()
}

/// Looks at nodes one by one while the callers call: at counters as they have them, and at their state's hash.
async fn observe(plan: Arc<Plan>, stage: Stage, shop: Shop) -> Vec<SeenHash> {
    let mut chance = SmallRng::seed_from_u64(plan.seed ^ 0x0b5e_77e7);
    let mut hashes = Vec::new();
    let Ok(client) = client(&stage, OBSERVER_TIMEOUT) else {
        return hashes;
    };
    let cluster = client.cluster();
    while !stage.is_over() {
        sleep(Duration::from_millis(chance.random_range(OBSERVER_PAUSE_MS))).await;
        let members = stage.members();
        let machine = stage.machine(members[chance.random_range(0..members.len())]);
        if chance.random_bool(0.4) {
            let endpoint = machine.endpoint();
            let hash = cluster.state_hash(&endpoint, 0);
            if let Ok(Ok(hash)) = tokio::time::timeout(OBSERVER_TIMEOUT, hash).await {
                hashes.push(SeenHash {
                    node: machine.name(),
                    log_index: hash.log_index,
                    digest: hash.digest.to_vec(),
                    sales_wrong: hash.sales_wrong,
                });
            }
            continue;
        }
        let sale = &plan.shop.sales[chance.random_range(0..plan.shop.sales.len())]
            .new
            .sale_id;
        let invoked_ns = shop.now_ns();
        if let Ok((found, position)) = cluster.sale_at(&machine.endpoint(), sale).await {
            shop.notes().reads.push(SeenRead {
                node: machine.name(),
                age_ms_max: None,
                invoked_ns,
                returned_ns: shop.now_ns(),
                sale: sale.clone(),
                counters: Counters::from(&found),
                log_index: position.applied_index,
                lt: position.log_time_ms,
            });
        }
    }
    hashes
}

/// Watches every node that is hired, on that very node and no other, for as long as the callers call: whatever it is
/// told of history before its time, it says where that is gone.
async fn watch_newcomers(plan: Arc<Plan>, stage: Stage, shop: Shop) -> Result<Vec<SeenFeed>, Error> {
    let (stop, stopped) = watch::channel(None);
    let mut watching = Vec::new();
    let mut known = plan.nodes;
    while !stage.is_over() {
        sleep(LOOK_FOR_NEWCOMERS).await;
        for machine in stage.machines().into_iter().filter(|machine| machine.id > known) {
            let client = Client::builder()
                .endpoints([machine.endpoint()])
                .connector(connector())
                .timeout(OBSERVER_TIMEOUT)
                .build()?;
            let name = format!("watcher at {}", machine.name());
            let follow = follow(name, client, shop.clone(), None, 1, stopped.clone());
            watching.push(tokio::spawn(follow));
        }
        known = stage.machines().len() as u64;
    }
    // Whoever waits for its node waits no more.
    stop.send_replace(Some(BTreeMap::new()));
    let mut feeds = Vec::new();
    for feed in watching {
        let mut feed = feed.await.expect("a watcher's own mistake");
        feed.ends_early = true;
        feeds.push(feed);
    }
    Ok(feeds)
}

/// Until all that callers have sent has arrived, or never will.
async fn stragglers(stage: Stage) {
    while stage.wires().settled() > turmoil::sim_elapsed().unwrap_or_default() {
        sleep(AGAIN).await;
    }
    // And was carried out.
    sleep(AGAIN).await;
}

/// The members as the cluster has them, but for those whose disk is lost.
pub(super) async fn members(stage: &Stage, client: &Client) -> Vec<(String, String)> {
    let mut tries = 0;
    loop {
        let statuses = client.cluster().status_all().await;
        let leader = statuses
            .into_iter()
            .filter_map(|(_, status)| status.ok())
            .filter(|status| status.role == "leader")
            .max_by_key(|status| status.term);
        if let Some(leader) = leader {
            return leader
                .members
                .into_iter()
                .filter(|member| !stage.is_gone(member.node_id))
                .map(|member| (format!("n{}", member.node_id), member.endpoint))
                .collect();
        }
        tries += 1;
        if tries > FOUNDING_TRIES_MAX {
            // Nobody leads: the properties will say so.
            let ids = stage.members().into_iter().filter(|&id| !stage.is_gone(id));
            return ids
                .map(|id| (format!("n{id}"), stage.machine(id).endpoint()))
                .collect();
        }
        sleep(AGAIN).await;
    }
}

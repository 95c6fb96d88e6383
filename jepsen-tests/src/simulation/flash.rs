//! A small flash sale under faults, and what must be true of it.

use std::{collections::BTreeMap, time::Duration};

use client::{Claim, ClaimStatus, Client, Consistency, Error, Grant, NewSale, Operation, Reason, Resolution};
use futures::{StreamExt, stream};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    Trace,
    cluster::{Machine, simulation},
    net::connector,
};

/// One run's size and faults.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// Units for sale.
    pub units: u32,
    /// Users who want one.
    pub users: u32,
    /// Power cuts and partitions, one after the other.
    pub faults: u32,
}

/// Pause between two users.
const ARRIVAL: Duration = Duration::from_millis(100);

/// What a user heard.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Granted(Claim),
    SoldOut,
    Unknown,
}

/// Runs a plan. The trace says what happened.
///
/// # Errors
/// A promise was broken, or the simulation did not come to an end; the text says which, and how to run the
/// seed again.
pub fn run(plan: Plan) -> Result<Trace, String> {
    let trace = Trace::default();
    let mut chance = SmallRng::seed_from_u64(plan.seed);
    let mut sim = simulation(plan.seed, Duration::from_secs(600));
    // One wall clock an hour off: it may change nothing.
    let machines: Vec<Machine> = (1..=3)
        .map(|id| Machine::new(id, if id == 2 { 3_600_000 } else { 0 }))
        .collect();
    for machine in &machines {
        let (machine, trace) = (machine.clone(), trace.clone());
        sim.host(machine.name(), move || machine.clone().run(trace.clone(), 200));
    }
    let (load_machines, load_trace) = (machines.clone(), trace.clone());
    sim.client(
        "load",
        async move { load(plan, &load_machines, &load_trace).await },
    );

    let again = format!(
        "run it again: HOLDFAST_SEED={} cargo test -p jepsen-tests",
        plan.seed
    );
    let mut fault = Faults {
        machines: &machines,
        trace: &trace,
        left: plan.faults,
        healing: None,
    };
    loop {
        match sim.step() {
            Ok(true) => return Ok(trace),
            Ok(false) => {
                fault.step(&mut sim, &mut chance);
            }
            Err(error) => return Err(format!("seed {}: {error}; {again}\n{}", plan.seed, trace.text())),
        }
    }
}

/// The nemesis: one fault at a time, each healed before the next.
struct Faults<'a> {
    machines: &'a [Machine],
    trace: &'a Trace,
    left: u32,
    healing: Option<Healing>,
}

struct Healing {
    at: Duration,
    victim: usize,
    /// The power is off; else the network is cut.
    down: bool,
}

impl Faults<'_> {
    fn step(&mut self, sim: &mut turmoil::Sim<'_>, chance: &mut SmallRng) {
        if let Some(Healing { at, victim, down }) = self.healing {
            if sim.elapsed() < at {
                return;
            }
            self.healing = None;
            let machine = &self.machines[victim];
            if down {
                machine.cut_power(chance.random());
                sim.bounce(machine.name());
            } else {
                for other in self.others(victim) {
                    sim.repair(machine.name(), other);
                }
            }
            self.trace
                .note_at(sim.elapsed(), format_args!("heal {}", machine.name()));
            return;
        }
        // The cluster is given a second to be founded; then there is a fault about every one.
        if self.left == 0 || sim.elapsed() < Duration::from_secs(1) || !chance.random_ratio(1, 1_000) {
            return;
        }
        self.left -= 1;
        let victim = chance.random_range(0..self.machines.len());
        let machine = &self.machines[victim];
        let down = chance.random_bool(0.5);
        if down {
            sim.crash(machine.name());
        } else {
            for other in self.others(victim) {
                sim.partition(machine.name(), other);
            }
        }
        self.trace.note(format_args!(
            "{} {}",
            if down { "power cut" } else { "partition" },
            machine.name()
        ));
        let at = sim.elapsed() + Duration::from_millis(chance.random_range(200..4_000));
        self.healing = Some(Healing { at, victim, down });
    }

    /// A cut-off node still reaches the client, so that a leader without a quorum has callers.
    fn others(&self, victim: usize) -> impl Iterator<Item = String> {
        self.machines
            .iter()
            .enumerate()
            .filter(move |&(place, _)| place != victim)
            .map(|(_, other)| other.name())
    }
}

async fn load(plan: Plan, machines: &[Machine], trace: &Trace) -> turmoil::Result {
    let endpoints: Vec<String> = machines.iter().map(Machine::endpoint).collect();
    let client = Client::builder()
        .endpoints(endpoints.clone())
        .connector(connector())
        .timeout(Duration::from_secs(10))
        .build()?;
    let members = machines
        .iter()
        .map(|machine| (machine.id, machine.endpoint()))
        .collect();
    let cluster = client.cluster();
    let cluster_id = patiently(|| cluster.init(Vec::clone(&members))).await?;
    trace.note(format_args!("founded {cluster_id}"));
    let sale = NewSale {
        sale_id: "hot".into(),
        units_total: plan.units,
        hold_ms: 5_000,
        open: true,
        ..NewSale::default()
    };
    patiently(|| client.create_sale(sale.clone()).key("create").send()).await?;

    let heard: Vec<(u32, Heard)> = stream::iter(0..plan.users)
        .map(|user| {
            let client = client.clone();
            async move { (user, shop(&client, plan, user, trace).await) }
        })
        .buffer_unordered(plan.users as usize)
        .collect()
        .await;
    let heard = resolve_unknowns(&client, heard, trace).await?;
    settle_and_compare(&client, &endpoints, plan, heard, trace).await
}

/// Repeats what is unavailable or unknown: these calls are idempotent.
async fn patiently<T, F: Future<Output = Result<T, Error>>>(call: impl Fn() -> F) -> Result<T, Error> {
    let mut tries = 0;
    loop {
        match call().await {
            Err(Error::Unavailable { .. } | Error::Unknown { .. }) if tries < 60 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            result => return result,
        }
    }
}

/// One user: claims a unit, and two of three confirm it.
async fn shop(client: &Client, plan: Plan, user: u32, trace: &Trace) -> Heard {
    let name = format!("user-{user}");
    // Users come one after the other, so that faults find somebody at every step.
    tokio::time::sleep(ARRIVAL * user).await;
    let mut tries = 0;
    let claimed = loop {
        match client
            .claim("hot", &name)
            .key(format!("claim-{user}"))
            .send()
            .await
        {
            Ok(claimed) => break claimed,
            Err(Error::Rejected(why)) if why.reason == Reason::SoldOut => return Heard::SoldOut,
            Err(Error::Unknown { .. }) => {
                trace.note(format_args!("{name} unknown"));
                return Heard::Unknown;
            }
            Err(Error::Unavailable { .. }) if tries < 60 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{name}: {error}"),
        }
    };
    assert_ne!(claimed.grant, Grant::Already, "{name} has one key and one claim");
    let claim = claimed.claim;
    trace.note(format_args!(
        "{name} granted rank {} index {}",
        claim.rank, claim.receipt.log_index
    ));
    if (u64::from(user) + plan.seed).is_multiple_of(3) {
        return Heard::Granted(claim);
    }
    let confirm = || {
        client
            .confirm(claim.claim_id.clone(), claim.fencing_token)
            .principal(name.clone())
            .key(format!("confirm-{user}"))
            .send()
    };
    match patiently(confirm).await {
        Ok((claim, _)) => {
            trace.note(format_args!("{name} confirmed"));
            Heard::Granted(claim)
        }
        // The hold ended while nobody could be reached for longer than it lasts, in log time.
        Err(Error::Rejected(why)) if why.reason == Reason::ClaimGone => Heard::Granted(claim),
        Err(error) => panic!("{name} confirming: {error}"),
    }
}

/// Turns every unknown into a fact.
async fn resolve_unknowns(
    client: &Client,
    heard: Vec<(u32, Heard)>,
    trace: &Trace,
) -> Result<BTreeMap<u32, Heard>, Error> {
    let mut facts = BTreeMap::new();
    for (user, heard) in heard {
        let fact = if heard == Heard::Unknown {
            let (key, name) = (format!("claim-{user}"), format!("user-{user}"));
            match patiently(|| client.resolve("hot", Operation::Claim, &key, &name)).await? {
                Resolution::Claim(claim) => Heard::Granted(claim),
                Resolution::Abandoned { .. } => Heard::SoldOut,
                Resolution::Effect(_) => panic!("a claim's key has the effect of a claim"),
            }
        } else {
            heard
        };
        if let Heard::Granted(claim) = &fact {
            trace.note(format_args!(
                "fact user-{user} {} {:?}",
                claim.claim_id, claim.status
            ));
        }
        facts.insert(user, fact);
    }
    Ok(facts)
}

/// Waits until all holds are over, and compares what users heard with what every replica has.
async fn settle_and_compare(
    client: &Client,
    endpoints: &[String],
    plan: Plan,
    heard: BTreeMap<u32, Heard>,
    trace: &Trace,
) -> turmoil::Result {
    // The leader's word: a replica that lags must catch up to it before it is compared.
    let (sale, index) = loop {
        let (sale, position) = patiently(|| client.get_sale("hot", Consistency::Linearizable)).await?;
        if sale.units_held == 0 {
            break (sale, position.applied_index);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert_eq!(
        sale.units_available + sale.units_confirmed,
        plan.units,
        "units are conserved"
    );
    let cluster = client.cluster();
    let mut digests = Vec::new();
    for endpoint in endpoints {
        let hash = patiently(|| cluster.state_hash(endpoint, index)).await?;
        assert!(
            hash.sales_wrong.is_empty(),
            "{endpoint} counts wrong: {:?}",
            hash.sales_wrong
        );
        digests.push(hash.digest);
        let claims = patiently(|| cluster.claims_at(endpoint, "hot", 1, 10_000)).await?;
        compare(endpoint, &claims, &heard, sale.units_confirmed);
    }
    assert!(
        digests.windows(2).all(|pair| pair[0] == pair[1]),
        "replicas differ at index {index}"
    );
    trace.note(format_args!(
        "end index {index} sold {} digest {:02x?}",
        sale.units_confirmed, digests[0]
    ));
    Ok(())
}

fn compare(endpoint: &str, claims: &[Claim], heard: &BTreeMap<u32, Heard>, units_confirmed: u32) {
    let by_id: BTreeMap<&str, &Claim> = claims
        .iter()
        .map(|claim| (claim.claim_id.as_str(), claim))
        .collect();
    assert_eq!(by_id.len(), claims.len(), "{endpoint}: a claim id is there twice");
    let mut granted = 0;
    for (user, fact) in heard {
        let Heard::Granted(told) = fact else { continue };
        granted += 1;
        let claim = by_id
            .get(told.claim_id.as_str())
            .unwrap_or_else(|| panic!("{endpoint} lost the claim that user-{user} was told of"));
        assert_eq!(
            claim.receipt, told.receipt,
            "{endpoint}: the receipt of user-{user} changed"
        );
        if told.status == ClaimStatus::Confirmed {
            assert_eq!(
                claim.status,
                ClaimStatus::Confirmed,
                "{endpoint} lost the purchase of user-{user}"
            );
        }
    }
    assert_eq!(
        granted,
        claims.len(),
        "{endpoint} has claims that nobody was told of"
    );
    let confirmed = claims
        .iter()
        .filter(|claim| claim.status == ClaimStatus::Confirmed);
    let sold: u32 = confirmed.map(|claim| claim.quantity).sum();
    assert_eq!(sold, units_confirmed, "{endpoint}: counter and claims disagree");
}

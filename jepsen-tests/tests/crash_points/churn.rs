//! A cluster that is busy with everything at once: claims, confirms and releases, holds that expire,
//! snapshots, purges, members that come and go, the lead handed over, a network that is cut.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use client::{Claim, ClaimStatus, Client, Consistency, Error, NewSale, Operation, Reason, Resolution};
use futures::future::join_all;
use jepsen_tests::simulation::{
    Trace,
    cluster::{Machine, simulation},
    crash_points::CrashPoints,
    net::connector,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// Where a run crashes.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    pub point: &'static str,
    pub passing: u32,
}

/// What a run that kept its promises has to tell.
#[derive(Debug)]
pub struct Ended {
    pub passed: BTreeMap<&'static str, u32>,
    pub crashed: Vec<(u64, &'static str)>,
    pub trace: String,
}

const SALE: &str = "hot";
const UNITS: u32 = 100_000;
/// Callers at once, each one call after the other.
const SHOPPERS: u64 = 6;
/// Short, so that segments are filled, snapshots built and logs purged all the time.
const SNAPSHOT_ENTRIES: u64 = 60;
/// How long the power stays away.
const OUTAGE: Duration = Duration::from_millis(700);
/// How long each cut of the network lasts: beyond an election, so that an old leader's entries are truncated.
const CUT: Duration = Duration::from_millis(2_500);

/// What the shoppers know to be true.
#[derive(Default)]
struct Known {
    claims: RefCell<BTreeMap<String, Claim>>,
    unknown: RefCell<Vec<(String, String)>>,
    removed: RefCell<BTreeSet<u64>>,
    over: Cell<bool>,
}

/// Runs one seed.
///
/// # Errors
/// A promise was broken, or the run did not come to its end.
pub fn run(seed: u64, crash: Option<Crash>) -> Result<Ended, String> {
    let (trace, known) = (Trace::default(), Rc::new(Known::default()));
    let crash_points = CrashPoints::new();
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut sim = simulation(seed, Duration::from_secs(300));
    let machines: Vec<Machine> = (1..=5).map(|id| Machine::new(id, 0)).collect();
    for machine in &machines {
        let (machine, trace, known) = (machine.clone(), trace.clone(), known.clone());
        sim.host(machine.name(), move || {
            let (machine, trace, known) = (machine.clone(), trace.clone(), known.clone());
            async move {
                let id = machine.id;
                match machine.run(trace, SNAPSHOT_ENTRIES).await {
                    // Who was removed ends, and should.
                    Err(_) if known.removed.borrow().contains(&id) => Ok(()),
                    ended => ended,
                }
            }
        });
    }
    if let Some(Crash { point, passing }) = crash {
        crash_points.arm(point, passing, Duration::ZERO..Duration::MAX);
    }
    let (load_machines, load_known, load_trace) = (machines.clone(), known.clone(), trace.clone());
    sim.client("load", async move {
        let ended = load(seed, &load_machines, &load_known, &load_trace).await;
        load_known.over.set(true);
        ended
    });

    let mut crashed = Vec::new();
    let mut outages: Vec<(Duration, Machine)> = Vec::new();
    let mut cuts = Cuts::new(&mut chance);
    loop {
        match sim.step() {
            Ok(false) => {}
            Ok(true) => break,
            Err(error) => return Err(format!("{error}; crashed: {crashed:?}\n{}", trace.text())),
        }
        for (id, point) in crash_points.take_crashed() {
            let machine = machines[id as usize - 1].clone();
            sim.crash(machine.name());
            trace.note_at(sim.elapsed(), format_args!("n{id} lost its power at {point}"));
            crashed.push((id, point));
            outages.push((sim.elapsed() + OUTAGE, machine));
        }
        while let Some(place) = outages.iter().position(|(at, _)| sim.elapsed() >= *at) {
            let (_, machine) = outages.remove(place);
            machine.cut_power(chance.random());
            sim.bounce(machine.name());
            trace.note_at(sim.elapsed(), format_args!("{} has power again", machine.name()));
        }
        cuts.step(&mut sim, &trace);
    }
    Ok(Ended {
        passed: crash_points.passed(),
        crashed,
        trace: trace.text(),
    })
}

/// Cuts of one machine from the others; its callers still reach it.
struct Cuts {
    ahead: Vec<(Duration, usize)>,
    open: Option<(Duration, usize)>,
}

impl Cuts {
    /// One after the other, each long after the one before has healed; who it hits, chance says.
    fn new(chance: &mut SmallRng) -> Cuts {
        let at = |place: u64| Duration::from_millis(2_000 + place * 5_000);
        Cuts {
            ahead: (0..3)
                .rev()
                .map(|place| (at(place), chance.random_range(0..3)))
                .collect(),
            open: None,
        }
    }

    fn step(&mut self, sim: &mut turmoil::Sim<'_>, trace: &Trace) {
        let others = |victim: usize| {
            (1..=5)
                .filter(move |id| *id != victim + 1)
                .map(|id| format!("n{id}"))
        };
        if let Some((until, victim)) = self.open {
            if sim.elapsed() >= until {
                others(victim).for_each(|other| sim.repair(format!("n{}", victim + 1), other));
                trace.note_at(sim.elapsed(), format_args!("n{} is connected again", victim + 1));
                self.open = None;
            }
        } else if let Some(&(_, victim)) = self.ahead.last().filter(|(at, _)| sim.elapsed() >= *at) {
            others(victim).for_each(|other| sim.partition(format!("n{}", victim + 1), other));
            trace.note_at(sim.elapsed(), format_args!("n{} is cut off", victim + 1));
            self.open = Some((sim.elapsed() + CUT, victim));
            self.ahead.pop();
        }
    }
}

async fn load(seed: u64, machines: &[Machine], known: &Rc<Known>, trace: &Trace) -> turmoil::Result {
    let client = Client::builder()
        .endpoints(machines.iter().map(Machine::endpoint))
        .connector(connector())
        .timeout(Duration::from_secs(5))
        .build()?;
    found(&client, machines).await;
    trace.note("founded");
    let done = Rc::new(Cell::new(false));
    let shoppers = (0..SHOPPERS).map(|number| {
        let (client, known, done) = (client.clone(), known.clone(), done.clone());
        async move {
            let mut chance = SmallRng::seed_from_u64(seed ^ number << 32);
            let mut round = 0;
            while !done.get() {
                shop(&client, &known, format!("{number}-{round}"), &mut chance).await;
                round += 1;
                tokio::time::sleep(Duration::from_millis(chance.random_range(5..40))).await;
            }
        }
    });
    let operator = async {
        operate(&client, machines, known, trace).await;
        done.set(true);
    };
    futures::join!(join_all(shoppers), operator);
    settle(&client, known).await;
    compare(&client, known, trace).await
}

/// Repeats until it is done: whatever is in the way, a quorum comes back.
async fn surely<T, F: Future<Output = Result<T, Error>>>(what: &str, call: impl Fn() -> F) -> T {
    let mut last = None;
    for _ in 0..200 {
        match call().await {
            Ok(done) => return done,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{what} was never done: {last:?}");
}

async fn found(client: &Client, machines: &[Machine]) {
    let members: Vec<_> = machines[..3]
        .iter()
        .map(|machine| (machine.id, machine.endpoint()))
        .collect();
    let cluster = client.cluster();
    // A node that crashes while it founds a cluster may have done so all the same.
    surely("founding", || async {
        match cluster.init(members.clone()).await {
            Err(_)
                if cluster
                    .status(&members[0].1)
                    .await
                    .is_ok_and(|status| !status.cluster_id.is_empty()) =>
            {
                Ok(())
            }
            founded => founded.map(|_| ()),
        }
    })
    .await;
    let sale = NewSale {
        sale_id: SALE.into(),
        units_total: UNITS,
        hold_ms: 1_500,
        open: true,
        ..NewSale::default()
    };
    surely("the sale", || {
        client.create_sale(sale.clone()).key("create").send()
    })
    .await;
}

/// One shopper's round: a claim that is confirmed, released or left to expire.
async fn shop(client: &Client, known: &Known, user: String, chance: &mut SmallRng) {
    let key = format!("claim-{user}");
    let claim = match client.claim(SALE, &user).key(&key).send().await {
        Ok(claimed) => claimed.claim,
        Err(Error::Unknown { .. }) => return known.unknown.borrow_mut().push((key, user)),
        Err(Error::Unavailable { .. }) => return,
        Err(error) => panic!("{user}: {error}"),
    };
    let id = claim.claim_id.clone();
    known.claims.borrow_mut().insert(id.clone(), claim.clone());
    let wanted = chance.random_range(0..6);
    let settled = match wanted {
        0..4 => client.confirm(id.clone(), claim.fencing_token),
        4 => client.release(id.clone(), claim.fencing_token),
        _ => return,
    };
    match settled
        .principal(user.clone())
        .key(format!("settle-{user}"))
        .send()
        .await
    {
        Ok((claim, _)) => {
            known.claims.borrow_mut().insert(id, claim);
        }
        // What became of it shows in the end; only what was acknowledged must.
        Err(Error::Unknown { .. } | Error::Unavailable { .. }) => {}
        Err(Error::Rejected(why)) if why.reason == Reason::ClaimGone => {}
        Err(error) => panic!("{user} settling: {error}"),
    }
}

/// Members come and go, and the lead is handed over.
async fn operate(client: &Client, machines: &[Machine], known: &Known, trace: &Trace) {
    let cluster = client.cluster();
    let pause = || tokio::time::sleep(Duration::from_millis(1_500));
    for (joins, leaves) in [(4, 3), (5, 4)] {
        pause().await;
        let endpoint = machines[joins - 1].endpoint();
        surely("adding", || cluster.add_learner(joins as u64, &endpoint)).await;
        surely("promoting", || cluster.promote(vec![joins as u64])).await;
        trace.note(format_args!("n{joins} votes"));
        pause().await;
        // It may be refused for good reasons, and is only tried.
        let _ = cluster.transfer_leader(0).await;
        pause().await;
        known.removed.borrow_mut().insert(leaves);
        surely("removing", || cluster.remove(leaves, false)).await;
        trace.note(format_args!("n{leaves} was removed"));
    }
    pause().await;
}

/// Turns unknowns into facts, and waits until no hold is left.
async fn settle(client: &Client, known: &Known) {
    for (key, user) in known.unknown.take() {
        let (resolved, _) = surely("resolving", || {
            client.resolve(SALE, Operation::Claim, &key, &user)
        })
        .await;
        if let Resolution::Claim(claim) = resolved {
            known.claims.borrow_mut().insert(claim.claim_id.clone(), claim);
        }
    }
    loop {
        let (sale, _) = surely("reading", || client.get_sale(SALE, Consistency::Linearizable)).await;
        assert_eq!(
            sale.units_available + sale.units_held + sale.units_confirmed,
            UNITS,
            "units are conserved"
        );
        if sale.units_held == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Every member has what was acknowledged, and all have the same.
async fn compare(client: &Client, known: &Known, trace: &Trace) -> turmoil::Result {
    let (_, position) = surely("reading", || client.get_sale(SALE, Consistency::Linearizable)).await;
    let cluster = client.cluster();
    let members: Vec<String> = surely("asking for the members", || async {
        let statuses = cluster.status_all().await;
        let leader = statuses.into_iter().filter_map(|(_, status)| status.ok());
        leader
            .into_iter()
            .find(|status| status.role == "leader")
            .map(|status| status.members.into_iter().map(|member| member.endpoint).collect())
            .ok_or_else(|| Error::Unavailable {
                message: "no leader".into(),
                retry_after_ms: 1,
            })
    })
    .await;
    let mut digests = BTreeSet::new();
    for endpoint in &members {
        let hash = surely(endpoint, || cluster.state_hash(endpoint, position.applied_index)).await;
        assert!(
            hash.sales_wrong.is_empty(),
            "{endpoint} counts wrong: {:?}",
            hash.sales_wrong
        );
        digests.insert(hash.digest);
        let mut there = BTreeMap::new();
        loop {
            let from = there.len() as u32 + 1;
            let claims = surely(endpoint, || cluster.claims_at(endpoint, SALE, from, 1_000)).await;
            if claims.is_empty() {
                break;
            }
            there.extend(claims.into_iter().map(|claim| (claim.claim_id.clone(), claim)));
        }
        for told in known.claims.borrow().values() {
            let claim = there.get(&told.claim_id);
            let claim = claim.unwrap_or_else(|| panic!("{endpoint} has lost {told:?}"));
            assert_eq!(claim.receipt, told.receipt, "{endpoint}");
            if told.status != ClaimStatus::Held {
                assert_eq!(claim.status, told.status, "{endpoint}: {told:?}");
            }
        }
    }
    assert_eq!(
        digests.len(),
        1,
        "replicas differ at index {}",
        position.applied_index
    );
    assert_eq!(members.len(), 3);
    trace.note(format_args!(
        "end at index {}, {} claims, digest {:02x?}",
        position.applied_index,
        known.claims.borrow().len(),
        digests.first()
    ));
    Ok(())
}

//! A read of a bounded age is never older than asked for, whoever answers it: neither a leader that is cut off and
//! does not know it, nor a follower that is cut off with it and hears it report every second.

use std::time::Duration;

use client::{Client, Consistency, Error, NewSale};
use jepsen_tests::simulation::{
    Trace,
    cluster::{Machine, simulation},
    net::connector,
};

/// The bound, in ms: longer than reports are apart, so that followers can keep it.
const AGE_MS_MAX: u64 = 2_000;

#[test]
fn a_minority_does_not_take_itself_for_fresh() {
    for seed in [1, 2] {
        let mut sim = simulation(seed, Duration::from_secs(120));
        let machines: Vec<Machine> = (1..=5).map(|id| Machine::new(id, 0)).collect();
        for machine in &machines {
            let machine = machine.clone();
            sim.host(machine.name(), move || {
                machine.clone().run(Trace::default(), 10_000)
            });
        }
        sim.client("test", async move {
            story(&machines).await;
            Ok(())
        });
        sim.run().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// A client of these and no others.
fn client(machines: &[&Machine]) -> Client {
    let endpoints = machines.iter().map(|machine| machine.endpoint());
    Client::builder()
        .endpoints(endpoints)
        .connector(connector())
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}

/// What one machine says of a bounded age: the index it reflects, if it dares.
async fn bounded(machine: &Machine) -> Option<u64> {
    // Asked once: a client would go on until the answer is fresh enough.
    let alone = Client::builder()
        .endpoints([machine.endpoint()])
        .connector(connector())
        .timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    match alone.get_sale("hot", Consistency::Bounded(AGE_MS_MAX)).await {
        Ok((_, position)) => Some(position.applied_index),
        Err(Error::Unavailable { .. }) => None,
        Err(error) => panic!("{error:?}"),
    }
}

async fn story(machines: &[Machine]) {
    let all: Vec<&Machine> = machines.iter().collect();
    let operator = client(&all);
    let members = machines.iter().map(|machine| (machine.id, machine.endpoint()));
    operator.cluster().init(members.collect()).await.unwrap();
    let sale = NewSale {
        sale_id: "hot".into(),
        units_total: 10,
        open: true,
        ..NewSale::default()
    };
    operator.create_sale(sale).key("create").send().await.unwrap();

    let leads = |machine: &&Machine| machine.leads();
    let leader = *all.iter().find(|machine| leads(machine)).expect("somebody leads");
    let (cut_off, majority): (Vec<&Machine>, Vec<&Machine>) = {
        let companion = all.iter().find(|machine| machine.id != leader.id).unwrap().id;
        let is_cut_off = |machine: &&Machine| machine.id == leader.id || machine.id == companion;
        all.iter().copied().partition(is_cut_off)
    };
    // In peace, everybody is fresh.
    for machine in &all {
        while bounded(machine).await.is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    for (one, other) in cut_off
        .iter()
        .flat_map(|one| majority.iter().map(move |other| (one, other)))
    {
        turmoil::partition(one.name(), other.name());
    }

    let claim = client(&majority)
        .claim("hot", "alice")
        .key("k")
        .send()
        .await
        .unwrap();
    let sold_at = claim.claim.receipt.log_index;
    tokio::time::sleep(Duration::from_millis(AGE_MS_MAX)).await;
    for _ in 0..30 {
        for machine in &all {
            let seen = bounded(machine).await;
            assert!(
                seen.is_none_or(|seen| seen >= sold_at),
                "{} says that {seen:?} is at most {AGE_MS_MAX} ms old; {sold_at} was acknowledged before",
                machine.name()
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(
        leader.leads(),
        "nobody told it that it leads no more: that is what was to be seen"
    );

    for (one, other) in cut_off
        .iter()
        .flat_map(|one| majority.iter().map(move |other| (one, other)))
    {
        turmoil::repair(one.name(), other.name());
    }
    for machine in &all {
        while bounded(machine).await.is_none_or(|seen| seen < sold_at) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

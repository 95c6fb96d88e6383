//! A member that is down holds nothing up, not even where everybody else has started again since it was heard: what the
//! log has needed before, it may need again. In simulation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use client::Client;
use jepsen_tests::simulation::{
    Trace,
    cluster::{Machine, simulation},
    net::connector,
};

/// Entries between two snapshots: more than there are here.
const SNAPSHOT_ENTRIES: u64 = 1_000;

#[test]
fn commands_of_a_newer_version_go_on_without_a_member_that_nobody_has_heard() {
    let mut sim = simulation(5, Duration::from_secs(120));
    let machines: Vec<Machine> = (1..=3).map(|id| Machine::new(id, 0)).collect();
    for machine in &machines {
        let machine = machine.clone();
        sim.host(machine.name(), move || {
            machine.clone().run(Trace::default(), SNAPSHOT_ENTRIES)
        });
    }
    let all_fall = Arc::new(AtomicBool::new(false));
    let (members, falling) = (machines.clone(), all_fall.clone());
    sim.client("test", async move {
        let client = Client::builder()
            .endpoints(members.iter().map(Machine::endpoint))
            .connector(connector())
            .timeout(Duration::from_secs(30))
            .build()?;
        let ids = members.iter().map(|machine| (machine.id, machine.endpoint()));
        client.cluster().init(ids.collect()).await?;
        // The first may have to wait until the members have told one another what they know.
        while chained(&client, "before").await.is_err() {}

        falling.store(true, Ordering::Relaxed);
        chained(&client, "after").await?;
        Ok(())
    });
    while !sim.step().unwrap() {
        if all_fall.swap(false, Ordering::Relaxed) {
            machines.iter().for_each(|machine| sim.crash(machine.name()));
            machines[..2]
                .iter()
                .for_each(|machine| sim.bounce(machine.name()));
        }
    }
}

/// A chain: nothing that came with the first version does it.
async fn chained(client: &Client, name: &str) -> Result<(), client::Error> {
    let chain = client
        .chain()
        .then(
            client
                .put_document(name.to_owned(), name.to_owned(), 0)
                .key(format!("{name}.first")),
        )
        .then(
            client
                .put_document(format!("{name}/next"), name.to_owned(), 0)
                .key(format!("{name}.next")),
        );
    chain.send().await.end
}

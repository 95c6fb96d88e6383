//! A node id is used once: refused for ever after, by whoever leads, also when nothing but a snapshot knows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use client::{Client, Consistency, Error, NewSale};
use jepsen_tests::simulation::{
    Trace,
    cluster::{Machine, simulation},
    net::connector,
};

/// Entries between two snapshots: so few that the log soon begins behind the membership's entries.
const SNAPSHOT_ENTRIES: u64 = 10;

#[test]
fn an_id_that_a_member_had_is_refused_for_ever() {
    let mut sim = simulation(5, Duration::from_secs(300));
    let machines: Vec<Machine> = (1..=5).map(|id| Machine::new(id, 0)).collect();
    for machine in &machines {
        let machine = machine.clone();
        sim.host(machine.name(), move || {
            let machine = machine.clone();
            async move {
                let id = machine.id;
                let ended = machine.run(Trace::default(), SNAPSHOT_ENTRIES).await;
                // The fourth is removed, and stops.
                if id == 4 { Ok(()) } else { ended }
            }
        });
    }
    let restart = Arc::new(AtomicBool::new(false));
    let (members, asked) = (machines.clone(), restart.clone());
    sim.client("test", async move {
        story(&members, &asked).await;
        Ok(())
    });
    while !sim.step().unwrap() {
        if restart.swap(false, Ordering::Relaxed) {
            for machine in &machines[..3] {
                sim.crash(machine.name());
                machine.cut_power(1);
                sim.bounce(machine.name());
            }
        }
    }
}

async fn story(machines: &[Machine], restart: &AtomicBool) {
    let voters = &machines[..3];
    let client = Client::builder()
        .endpoints(voters.iter().map(Machine::endpoint))
        .connector(connector())
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let cluster = client.cluster();
    let members = voters.iter().map(|machine| (machine.id, machine.endpoint()));
    cluster.init(members.collect()).await.unwrap();
    let again = async || cluster.add_learner(4, &machines[3].endpoint()).await;

    again().await.expect("added for the first time");
    cluster.remove(4, false).await.expect("removed");
    refused(again().await);

    // Until every log begins behind all of that: from then on only snapshots know.
    let (_, position) = client
        .list_sales(None, 1, Consistency::Linearizable)
        .await
        .unwrap();
    for number in 0_u32.. {
        let sale = NewSale {
            sale_id: format!("sale-{number}"),
            units_total: 1,
            ..NewSale::default()
        };
        client.create_sale(sale).send().await.unwrap();
        let mut purged = Vec::new();
        for voter in voters {
            purged.push(cluster.status(&voter.endpoint()).await.unwrap().purged_index);
        }
        if purged.iter().all(|index| *index > position.applied_index) {
            break;
        }
    }
    refused(again().await);

    // All of them start from what their disks hold, and elect another leader.
    restart.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    refused(again().await);

    cluster
        .add_learner(5, &machines[4].endpoint())
        .await
        .expect("a new id is taken in");
}

#[track_caller]
fn refused(answer: Result<Vec<client::Member>, Error>) {
    let Err(Error::Rejected(refused)) = answer else {
        panic!("{answer:?}")
    };
    assert!(refused.message.contains("ids only grow"), "{}", refused.message);
    assert!(refused.message.contains("id 5 or above"), "{}", refused.message);
}

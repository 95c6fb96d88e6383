//! A voter that lost its directory and comes back under its old id and address counts for nothing: it has
//! forgotten its votes and what it acknowledged. In simulation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use client::{Client, Consistency, NewSale};
use jepsen_tests::simulation::{
    Trace,
    cluster::{Machine, simulation},
    net::connector,
};

/// Entries between two snapshots: more than there are here.
const SNAPSHOT_ENTRIES: u64 = 1_000;

/// What the story asks of the machines, one after the other.
#[derive(Clone, Default)]
struct Stage(Arc<AtomicU64>);

impl Stage {
    const DIRECTORY_LOST: u64 = 1;
    const ALONE_WITH_IT: u64 = 2;
    const HEALED: u64 = 3;

    async fn reach(&self, stage: u64) {
        self.0.store(stage, Ordering::Relaxed);
        while self.0.load(Ordering::Relaxed) != 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[test]
fn a_voter_without_its_directory_neither_votes_nor_acknowledges() {
    let mut sim = simulation(7, Duration::from_secs(300));
    let machines: Vec<Machine> = (1..=3).map(|id| Machine::new(id, 0)).collect();
    for machine in &machines {
        let machine = machine.clone();
        sim.host(machine.name(), move || {
            machine.clone().run(Trace::default(), SNAPSHOT_ENTRIES)
        });
    }
    let stage = Stage::default();
    let (members, asked) = (machines.clone(), stage.clone());
    sim.client("test", async move {
        story(&members, &asked).await;
        Ok(())
    });
    let [_, second, third] = machines.as_slice() else {
        unreachable!("there are three")
    };
    while !sim.step().unwrap() {
        match stage.0.swap(0, Ordering::Relaxed) {
            Stage::DIRECTORY_LOST => {
                sim.crash(third.name());
                third.lose_directory();
                sim.bounce(third.name());
            }
            Stage::ALONE_WITH_IT => sim.crash(second.name()),
            Stage::HEALED => {
                second.cut_power(1);
                sim.bounce(second.name());
            }
            _ => {}
        }
    }
}

async fn story(machines: &[Machine], stage: &Stage) {
    let client = |patience_s| {
        Client::builder()
            .endpoints(machines.iter().map(Machine::endpoint))
            .connector(connector())
            .timeout(Duration::from_secs(patience_s))
            .build()
            .unwrap()
    };
    let patient = client(60);
    let cluster = patient.cluster();
    let members = machines.iter().map(|machine| (machine.id, machine.endpoint()));
    cluster.init(members.collect()).await.unwrap();
    let sale = NewSale {
        sale_id: "hot".into(),
        units_total: 9,
        open: true,
        ..NewSale::default()
    };
    patient.create_sale(sale).send().await.unwrap();
    patient.claim("hot", "ada").key("a").send().await.unwrap();

    // Two of three are left, and that is enough.
    stage.reach(Stage::DIRECTORY_LOST).await;
    patient.claim("hot", "bob").key("b").send().await.unwrap();
    let empty = cluster.status(&machines[2].endpoint()).await.unwrap();
    assert_eq!(
        (empty.applied_index, empty.cluster_id.as_str()),
        (0, ""),
        "{empty:?}"
    );

    // One is left that remembers. With the empty one it would be a majority, and could lead and grant; the
    // time is that of many elections.
    stage.reach(Stage::ALONE_WITH_IT).await;
    let answer = client(20).claim("hot", "carol").key("c").send().await;
    assert!(answer.is_err(), "granted by one of three: {answer:?}");
    let empty = cluster.status(&machines[2].endpoint()).await.unwrap();
    assert_eq!(
        (empty.applied_index, empty.term, empty.cluster_id.as_str()),
        (0, 0, "")
    );

    // It heals without anything lost; the same key finds out.
    stage.reach(Stage::HEALED).await;
    patient.claim("hot", "carol").key("c").send().await.unwrap();
    let (sale, _) = patient.get_sale("hot", Consistency::Linearizable).await.unwrap();
    assert_eq!(sale.units_held, 3, "{sale:?}");
}

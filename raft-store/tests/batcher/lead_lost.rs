//! When the lead is lost, what was proposed and is not known to have been applied is unknown, and what was
//! not proposed is not: the difference is whether it may yet happen.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use jepsen_tests::simulation::{
    Trace,
    cluster::{Machine, simulation},
    net::{SimNet, connector},
};
use proto::v1::{inventory_client::InventoryClient, outcome::Kind, unsubmitted::Cause};
use raft_store::{limits::ENTRIES_IN_FLIGHT_MAX, seams::Net};
use tonic::transport::Endpoint;

use crate::calls::{Caller, claim};

/// Frames of one claim each.
const FRAMES: usize = 40;

/// How the leader is cut off from the others.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// They hear it and it does not hear them, for a while: what it proposes reaches them.
    OneWayAtFirst,
    /// Neither hears the other.
    BothWays,
}

type Users = BTreeSet<usize>;

/// A leader, the others, and a caller of the leader's.
struct Scene<'a> {
    client: client::Client,
    leader: &'a Machine,
    others: Vec<&'a Machine>,
    caller: Caller,
}

/// Who was told what, and whose claims there are at the end.
#[derive(Debug, Default)]
struct Told {
    granted: Users,
    unknown: Users,
    unsubmitted: Users,
    happened: Users,
}

/// Runs a story on a cluster of three.
fn simulate<T: 'static>(seed: u64, story: impl AsyncFnOnce(Scene<'_>) -> T + 'static) -> T {
    let mut sim = simulation(seed, Duration::from_secs(120));
    let machines: Vec<Machine> = (1..=3).map(|id| Machine::new(id, 0)).collect();
    for machine in &machines {
        let machine = machine.clone();
        sim.host(machine.name(), move || {
            machine.clone().run(Trace::default(), 10_000)
        });
    }
    let told = Arc::new(Mutex::new(None));
    let result = told.clone();
    sim.client("test", async move {
        let scene = set_up(&machines).await;
        *result.lock().unwrap() = Some(story(scene).await);
        Ok(())
    });
    sim.run().unwrap();
    let told = told.lock().unwrap().take();
    told.expect("the story was told")
}

#[test]
fn what_was_not_proposed_never_happens_and_the_rest_is_told_as_it_is() {
    let told = simulate(7, async |scene| lose_the_lead(scene, Cut::OneWayAtFirst).await);
    assert!(told.granted.is_subset(&told.happened), "{told:?}");
    assert!(told.unsubmitted.is_disjoint(&told.happened), "{told:?}");
    let proposed = told.granted.len() + told.unknown.len();
    assert!(proposed >= ENTRIES_IN_FLIGHT_MAX, "{told:?}");
    assert!(
        !told.unsubmitted.is_empty() && !told.happened.is_empty(),
        "{told:?}"
    );
}

#[test]
fn what_was_proposed_and_superseded_is_unknown() {
    let told = simulate(8, async |scene| lose_the_lead(scene, Cut::BothWays).await);
    assert!(told.unknown.len() >= ENTRIES_IN_FLIGHT_MAX, "{told:?}");
    assert!(!told.unsubmitted.is_empty(), "{told:?}");
    assert!(told.granted.is_empty() && told.happened.is_empty(), "{told:?}");
    assert_eq!(told.unknown.len() + told.unsubmitted.len(), FRAMES);
}

#[test]
fn what_a_leader_without_a_quorum_may_not_append_was_never_submitted() {
    let outcome = simulate(9, async |scene| {
        for other in &scene.others {
            turmoil::partition(other.name(), scene.leader.name());
        }
        // Its lease is over, and nobody has told it so.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (mut outcomes, _) = scene.caller.execute(vec![claim("hot", "late", "k", 1)]).await;
        for other in &scene.others {
            turmoil::repair(other.name(), scene.leader.name());
        }
        let claims = scene
            .client
            .list_user_claims("hot", "late", 10, client::Consistency::Linearizable);
        assert!(claims.await.unwrap().0.is_empty());
        outcomes.remove(0)
    });
    match outcome {
        Kind::Unsubmitted(refused) => assert_eq!(refused.cause(), Cause::Starting, "{refused:?}"),
        other => panic!("{other:?}"),
    }
}

async fn set_up(machines: &[Machine]) -> Scene<'_> {
    let client = client::Client::builder()
        .endpoints(machines.iter().map(Machine::endpoint))
        .connector(connector())
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let members = machines.iter().map(|machine| (machine.id, machine.endpoint()));
    client.cluster().init(members.collect()).await.unwrap();
    let sale = client::NewSale {
        sale_id: "hot".into(),
        units_total: 1_000,
        hold_ms: 3_600_000,
        open: true,
        ..client::NewSale::default()
    };
    client.create_sale(sale).send().await.unwrap();
    let leader = client
        .cluster()
        .status(&machines[0].endpoint())
        .await
        .unwrap()
        .leader_id;
    let (leader, others): (Vec<_>, Vec<_>) = machines.iter().partition(|machine| machine.id == leader);
    let leader: &Machine = leader[0];

    let address = leader.endpoint();
    let connect = tower::service_fn(move |_| {
        let address = address.clone();
        async move { SimNet.connect(&address).await.map(hyper_util::rt::TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://leader").connect_with_connector_lazy(connect);
    let caller = Caller(InventoryClient::new(channel));
    // Connects, and holds nothing: for a hold, the leader proposes time whenever it likes, and an entry that hangs
    // keeps the answers to later ones waiting.
    caller.execute(vec![claim("no-sale", "warm-up", "k", 1)]).await;
    Scene {
        client,
        leader,
        others,
        caller,
    }
}

async fn lose_the_lead(scene: Scene<'_>, cut: Cut) -> Told {
    let Scene {
        client,
        leader,
        others,
        caller,
    } = scene;
    for other in &others {
        match cut {
            Cut::OneWayAtFirst => turmoil::partition_oneway(other.name(), leader.name()),
            Cut::BothWays => turmoil::partition(other.name(), leader.name()),
        }
    }
    let mut frames = Vec::new();
    for user in 0..FRAMES {
        frames.push(caller.send(vec![claim("hot", &format!("user-{user}"), "k", 1)]));
        // Each in an entry of its own, until as many are in flight as may be.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for other in &others {
        turmoil::partition(other.name(), leader.name());
    }
    loop {
        let status = client.cluster().status(&others[0].endpoint()).await.unwrap();
        if status.leader_id != 0 && status.leader_id != leader.id {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for other in &others {
        turmoil::repair(other.name(), leader.name());
    }

    let mut told = Told::default();
    for (user, frame) in frames.into_iter().enumerate() {
        match &frame.await.unwrap().0[0] {
            Kind::Claim(_) => told.granted.insert(user),
            Kind::Unknown(_) => told.unknown.insert(user),
            Kind::Unsubmitted(_) => told.unsubmitted.insert(user),
            other => panic!("user {user} was told {other:?}"),
        };
        let name = format!("user-{user}");
        let (claims, _) = client
            .list_user_claims("hot", &name, 10, client::Consistency::Linearizable)
            .await
            .unwrap();
        if !claims.is_empty() {
            told.happened.insert(user);
        }
    }
    told
}

//! An address is used again by a node of another cluster: a client that knew the first one neither believes what it
//! hears there nor changes anything, on real sockets, over connections there were and new ones.

use std::{sync::Arc, time::Duration};

use client::{Claimed, Client, Consistency, Cursor, Error, NewSale, Reason, Sale};
use futures::StreamExt;
use raft_store::{
    config::NodeConfig,
    net_tcp::TcpNet,
    node::Node,
    seams::{Seams, SystemWallClock, Workers},
    storage::disk_sim::SimDisk,
};

/// A call's time: a call of a client whose cluster is gone takes it all.
const TIMEOUT: Duration = Duration::from_secs(1);

async fn node(disk: &SimDisk, listen: &str) -> Node {
    let config = NodeConfig {
        node_id: 1,
        listen: listen.to_owned(),
        data_dir: "/data".into(),
        log_segment_bytes: raft_store::config::LOG_SEGMENT_BYTES_MIN,
        disk_reserve_bytes: raft_store::config::DISK_RESERVE_BYTES_MIN,
        ..NodeConfig::default()
    };
    let seams = Seams {
        disk: Arc::new(disk.clone()),
        net: Arc::new(TcpNet),
        wall_clock: Arc::new(SystemWallClock),
        workers: Workers::Tasks,
        image_dir: None,
    };
    Node::start(config, seams).await.expect("a node starts")
}

fn client(address: &str) -> Client {
    let client = Client::builder().endpoints([address]).timeout(TIMEOUT);
    client.build().expect("a good endpoint")
}

/// Makes this node a cluster of its own with one sale of ten units.
async fn found(address: &str) -> Client {
    let client = Client::builder().endpoints([address]).build().unwrap();
    let members = vec![(1, address.to_owned())];
    client.cluster().init(members).await.expect("a new cluster");
    let sale = NewSale {
        sale_id: "hot".into(),
        units_total: 10,
        open: true,
        ..NewSale::default()
    };
    client.create_sale(sale).key("create").send().await.unwrap();
    client
}

async fn claim(client: &Client) -> Result<Claimed, Error> {
    client.claim("hot", "alice").key("alice-1").send().await
}

async fn sale(client: &Client) -> Sale {
    client.get_sale("hot", Consistency::Linearizable).await.unwrap().0
}

fn assert_refused<T: std::fmt::Debug>(what: &str, answer: Result<T, Error>) {
    match answer {
        Err(Error::Rejected(why)) if why.reason == Reason::WrongCluster => {
            assert!(why.message.contains("Correct the endpoints"), "{what}: {why:?}");
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_takes_no_answer_from_another_cluster_at_the_same_address() {
    let (ours, theirs) = (SimDisk::new(), SimDisk::new());
    let first = node(&ours, "127.0.0.1:0").await;
    let address = first.address().to_string();
    found(&address).await;
    let old = client(&address);
    let granted = claim(&old).await.expect("ten units");
    first.stop().await;

    // Another cluster where the first one was, with a sale of the same name.
    let second = node(&theirs, &address).await;
    let owner = found(&address).await;
    assert_refused("claim", claim(&old).await);
    assert_refused("confirm", {
        let claim = &granted.claim;
        old.confirm(&claim.claim_id, claim.fencing_token).send().await
    });
    for consistency in [Consistency::Linearizable, Consistency::Local] {
        assert_refused("read", old.get_sale("hot", consistency).await);
    }
    assert_refused("resolve", {
        old.resolve("hot", client::Operation::Claim, "alice-1", "alice")
            .await
    });
    assert_refused("status", old.cluster().status(&address).await);
    assert_refused("state hash", old.cluster().state_hash(&address, 0).await);
    let watched = old.watch(Cursor::default(), Some("hot")).next().await;
    assert_refused("watch", watched.expect("it goes on"));
    assert_eq!(
        (sale(&owner).await.units_available, sale(&owner).await.claims_made),
        (10, 0)
    );
    // Whoever comes anew belongs to the second cluster.
    claim(&client(&address)).await.expect("ten units there, too");
    second.stop().await;

    // The first one is back: the same client goes on, and its key tells its own claim.
    let first = node(&ours, &address).await;
    let again = loop {
        match claim(&old).await {
            Err(Error::Unavailable { .. }) => {}
            answer => break answer.expect("its own claim"),
        }
    };
    assert_eq!(again.claim.claim_id, granted.claim.claim_id);
    first.stop().await;
}

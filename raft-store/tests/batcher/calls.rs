//! A node of its own cluster, and how to ask it.

use std::{sync::Arc, time::Duration};

use openraft::async_runtime::watch::WatchReceiver;
use proto::v1::{self, command::Body, inventory_client::InventoryClient, outcome::Kind};
use raft_store::{
    config::NodeConfig,
    net_tcp::TcpNet,
    node::Node,
    seams::{Seams, SystemWallClock, Workers},
};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::stalling_disk::StallingDisk;

/// Most units that a user of the tests' sales may have.
pub const PER_USER_UNITS_MAX: u32 = 65_535;

/// A cluster of one node.
pub struct Single {
    pub node: Node,
    pub disk: StallingDisk,
    _dir: TempDir,
}

impl Single {
    /// Starts and founds it.
    pub async fn found() -> Single {
        let dir = tempfile::tempdir().unwrap();
        let disk = StallingDisk::default();
        let config = NodeConfig {
            listen: "127.0.0.1:0".to_owned(),
            data_dir: dir.path().to_path_buf(),
            disk_reserve_bytes: raft_store::config::DISK_RESERVE_BYTES_MIN,
            log_segment_bytes: 8 << 20,
            ..NodeConfig::default()
        };
        let seams = Seams {
            disk: Arc::new(disk.clone()),
            net: Arc::new(TcpNet),
            wall_clock: Arc::new(SystemWallClock),
            workers: Workers::Threads,
            image_dir: None,
        };
        let node = Node::start(config, seams).await.unwrap();
        let members = vec![v1::Member {
            node_id: 1,
            endpoint: node.address().to_string(),
            ..v1::Member::default()
        }];
        let channel = Endpoint::from_shared(format!("http://{}", node.address())).unwrap();
        let mut cluster = v1::cluster_client::ClusterClient::new(channel.connect().await.unwrap());
        cluster.init(v1::InitRequest { members }).await.unwrap();
        Single {
            node,
            disk,
            _dir: dir,
        }
    }

    /// A connection of its own.
    pub async fn connect(&self) -> Caller {
        let channel = Endpoint::from_shared(format!("http://{}", self.node.address())).unwrap();
        Caller(InventoryClient::new(channel.connect().await.unwrap()))
    }

    /// Index of the last entry that was proposed.
    pub fn proposed(&self) -> u64 {
        let metrics = self.node.raft().metrics();
        metrics.borrow_watched().last_log_index.unwrap_or(0)
    }

    /// Waits until so many entries are proposed.
    pub async fn wait_proposed(&self, index: u64) {
        while self.proposed() < index {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        // The disk's threads must come to an end.
        self.disk.resume();
    }
}

/// One connection to a node.
#[derive(Clone)]
pub struct Caller(pub InventoryClient<Channel>);

/// One frame's outcomes and what they reflect.
pub type Answered = (Vec<Kind>, v1::Position);

impl Caller {
    /// Sends one frame.
    pub async fn execute(&self, commands: Vec<v1::Command>) -> Answered {
        let request = v1::SubmitRequest {
            frame_id: 1,
            commands,
            traces: Vec::new(),
        };
        let answer = self.0.clone().execute(request).await.unwrap().into_inner();
        let outcomes = answer.outcomes.into_iter().map(|outcome| outcome.kind.unwrap());
        (outcomes.collect(), answer.position.unwrap())
    }

    /// Sends one frame of one command that must be a claim and be granted.
    pub async fn granted(&self, command: v1::Command) -> v1::Claim {
        let (mut outcomes, _) = self.execute(vec![command]).await;
        expect_claim(outcomes.remove(0), v1::Grant::Granted)
    }

    /// Sends one frame of its own task.
    pub fn send(&self, commands: Vec<v1::Command>) -> tokio::task::JoinHandle<Answered> {
        let caller = self.clone();
        tokio::spawn(async move { caller.execute(commands).await })
    }

    /// An open sale.
    pub async fn create(&self, sale_id: &str, units_total: u32, per_user_units_max: u32) {
        let sale = v1::CreateSale {
            sale_id: sale_id.into(),
            name: sale_id.into(),
            units_total,
            per_user_units_max,
            claims_max: units_total.max(1_000_000),
            open: true,
            ..v1::CreateSale::default()
        };
        loop {
            let create = command("op", "create", Body::CreateSale(sale.clone()));
            match self.execute(vec![create]).await.0.remove(0) {
                Kind::Done(_) => return,
                // Founded a moment ago: the leader is about to notice.
                Kind::Unsubmitted(_) => tokio::task::yield_now().await,
                other => panic!("{other:?}"),
            }
        }
    }

    /// How a sale stands.
    pub async fn sale(&self, sale_id: &str) -> v1::Sale {
        let request = v1::GetSaleRequest {
            sale_id: sale_id.into(),
            consistency: None,
        };
        self.0
            .clone()
            .get_sale(request)
            .await
            .unwrap()
            .into_inner()
            .sale
            .unwrap()
    }
}

pub fn command(principal: &str, key: &str, body: Body) -> v1::Command {
    v1::Command {
        key: key.into(),
        principal: principal.into(),
        not_after_ms: 0,
        body: Some(body),
    }
}

/// A claim of a user for himself.
pub fn claim(sale_id: &str, user: &str, key: &str, quantity: u32) -> v1::Command {
    claim_by("", sale_id, user, key, quantity)
}

/// A claim for a user by somebody else.
pub fn claim_by(principal: &str, sale_id: &str, user: &str, key: &str, quantity: u32) -> v1::Command {
    let take = v1::Take {
        sale_id: sale_id.into(),
        user: user.into(),
        quantity,
    };
    command(principal, key, Body::Claim(take))
}

/// Gives a claim back.
pub fn release(claim: &v1::Claim) -> v1::Command {
    let settle = v1::Settle {
        claim_id: claim.claim_id.clone(),
        fencing_token: claim.fencing_token,
    };
    command("op", "release", Body::Release(settle))
}

#[track_caller]
pub fn expect_claim(outcome: Kind, grant: v1::Grant) -> v1::Claim {
    match outcome {
        Kind::Claim(granted) if granted.grant() == grant => granted.claim.unwrap(),
        other => panic!("wanted {grant:?}, got {other:?}"),
    }
}

#[track_caller]
pub fn expect_rejected(outcome: &Kind, reason: v1::Reason) {
    match outcome {
        Kind::Rejected(rejected) if rejected.reason() == reason => {}
        other => panic!("wanted {reason:?}, got {other:?}"),
    }
}

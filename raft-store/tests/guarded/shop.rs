//! Guarded nodes, and callers of every kind.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::{path::Path, sync::Arc, time::Duration};

use client::Client;
use proto::v1::{self, cluster_client::ClusterClient};
use raft_store::{
    config::{DISK_RESERVE_BYTES_MIN, NodeConfig},
    net_tcp::TcpNet,
    node::{Node, StartError},
    seams::{Seams, SystemWallClock, Workers},
    storage::disk_real::RealDisk,
};
use security::{
    Expect, Guard, Kind, Name, Tls,
    issue::{Authority, Validity},
    tls::Callers,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tonic::{
    Code, Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

/// Longest any of these calls may wait for what will not come.
const PATIENCE: Duration = Duration::from_secs(2);

/// What every certificate here is good for, unless a test is about that.
pub const DAYS: Validity = Validity {
    from_days: -1,
    to_days: 30,
};

/// A cluster's authority, and a place for files.
pub struct Shop {
    authority: Authority,
    pub dir: TempDir,
}

impl Shop {
    pub fn new() -> Shop {
        let shop = Shop {
            authority: Authority::new("shop", DAYS).unwrap(),
            dir: tempfile::tempdir().unwrap(),
        };
        shop.authority.keep(shop.dir.path()).unwrap();
        shop
    }

    /// A certificate of this authority.
    pub fn issue(&self, name: &Name, validity: Validity) -> Arc<Tls> {
        self.issue_for(name, validity, Callers::Certified)
    }

    fn issue_for(&self, name: &Name, validity: Validity, callers: Callers) -> Arc<Tls> {
        let issued = self.authority.issue(name, &[], validity).unwrap();
        let stem = format!("{}-{}-{}", name.cluster(), name.kind(), name.id());
        Tls::load(issued.keep(self.dir.path(), &stem).unwrap(), callers).unwrap()
    }

    pub fn node(&self, id: u64) -> Arc<Tls> {
        self.issue(&name(Kind::Node, &id.to_string()), DAYS)
    }

    /// Somebody of a kind; a node among them is node 9.
    pub fn caller(&self, kind: Kind) -> Arc<Tls> {
        self.issue(&name(kind, "9"), DAYS)
    }

    pub fn guard(&self, id: u64) -> Guard {
        Guard {
            tls: Some(self.node(id)),
            tokens: None,
        }
    }

    /// As [`Shop::guard`], for a node that takes tokens.
    pub fn guard_with_tokens(&self, id: u64, tokens: &str) -> Guard {
        let path = self.dir.path().join("tokens.toml");
        std::fs::write(&path, tokens).unwrap();
        let name = name(Kind::Node, &id.to_string());
        Guard {
            tls: Some(self.issue_for(&name, DAYS, Callers::CertifiedOrToken)),
            tokens: Some(security::Tokens::load(&path).unwrap()),
        }
    }

    pub async fn start(&self, id: u64, guard: Guard) -> Result<Node, StartError> {
        start(&self.dir.path().join(format!("data-{id}")), id, guard).await
    }

    /// A client that shows this certificate.
    pub fn client(&self, tls: Arc<Tls>, nodes: &[Node]) -> Client {
        let endpoints = nodes.iter().map(|node| node.address().to_string());
        Client::builder().endpoints(endpoints).tls(tls).build().unwrap()
    }
}

pub fn name(kind: Kind, id: &str) -> Name {
    Name::new("shop", kind, id).unwrap()
}

pub async fn start(dir: &Path, id: u64, guard: Guard) -> Result<Node, StartError> {
    let config = NodeConfig {
        node_id: id,
        listen: "127.0.0.1:0".to_owned(),
        data_dir: dir.to_owned(),
        disk_reserve_bytes: DISK_RESERVE_BYTES_MIN,
        log_segment_bytes: 1 << 20,
        ..NodeConfig::default()
    };
    let seams = Seams {
        disk: Arc::new(RealDisk),
        net: Arc::new(TcpNet),
        wall_clock: Arc::new(SystemWallClock),
        workers: Workers::Threads,
        image_dir: None,
    };
    Node::start_guarded(config, seams, guard).await
}

/// A bare channel to a node, protected or not.
pub fn channel(address: String, tls: Option<Arc<Tls>>) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let (address, tls) = (address.clone(), tls.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            let stream: Box<dyn client::Io> = match tls {
                Some(tls) => Box::new(tls.connect(stream, Expect::AnyNode).await?),
                None => Box::new(stream),
            };
            std::io::Result::Ok(hyper_util::rt::TokioIo::new(stream))
        }
    }))
}

/// Makes one cluster of these nodes.
pub async fn found(nodes: &[Node], operator: Arc<Tls>) {
    let members = (1..)
        .zip(nodes)
        .map(|(node_id, node)| v1::Member {
            node_id,
            endpoint: node.address().to_string(),
            ..v1::Member::default()
        })
        .collect();
    let first = channel(nodes[0].address().to_string(), Some(operator));
    ClusterClient::new(first)
        .init(v1::InitRequest { members })
        .await
        .unwrap();
}

/// Makes a call with an empty message; `None` when it was let through, whatever became of it then.
pub async fn refusal(channel: &Channel, call: &str, metadata: &MetadataMap) -> Option<tonic::Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::try_from(call).unwrap();
    let mut request = Request::new(futures::stream::iter([()]));
    *request.metadata_mut() = metadata.clone();
    request.set_timeout(PATIENCE);
    let answer = grpc
        .streaming(request, path, ProstCodec::<(), ()>::default())
        .await;
    answer
        .err()
        .filter(|status| matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated))
}

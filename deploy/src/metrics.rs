//! `GET /metrics`, `/livez` and `/readyz` of a node: a plain HTTP listener of its own, because the node's port
//! speaks gRPC only, and orchestrators' probes carry no certificate.
//!
//! Whoever reaches the address may read: it shows counters and sale ids, never a user. Off unless
//! `node.metrics_listen` is set; then nothing is recorded either.

use std::{net::SocketAddr, time::Duration};

use api::{Connections, ServeError, serve_router};
use axum::{Router, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use raft_store::node::readiness::Readiness;
use tokio::net::TcpListener;

use crate::exit::Failure;

/// Upper bounds of the histogram of commands an entry: powers of two up to the most there can be.
const BATCH_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Upper bounds of a sync's duration, in s: from a good NVMe to a disk that is about to fail.
const FSYNC_BUCKETS_S: [f64; 12] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0,
];

/// How often samples are folded into their buckets; without that they pile up until somebody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Probes and scrapers are few and ask at once. Whoever else comes waits until a silent one is sent away; and nobody
/// waits for those that are still reading when the process ends.
const LIMITS: Connections = Connections {
    connections_max: 64,
    header_read_ms_max: 2_000,
    drain_ms_max: 0,
};

/// The recorder of this process, and the listener that shows it.
pub struct Exporter {
    handle: PrometheusHandle,
    listener: TcpListener,
    address: SocketAddr,
}

impl Exporter {
    /// Installs the recorder and takes the address. Before the node starts: what it counts from its first
    /// moment would be lost.
    pub async fn open(listen: &str) -> Result<Exporter, Failure> {
        let failed = |what: &dyn std::fmt::Display| {
            Failure::Failed(format!(
                "metrics at {listen}: {what}; free the port or set node.metrics_listen"
            ))
        };
        let listener = TcpListener::bind(listen).await.map_err(|error| failed(&error))?;
        let address = listener.local_addr().map_err(|error| failed(&error))?;
        let bounded = |name: &str| Matcher::Full(name.to_owned());
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(bounded("holdfast_batch_commands"), &BATCH_BUCKETS)
            .and_then(|builder| {
                builder
                    .set_buckets_for_metric(bounded("holdfast_wal_fsync_duration_seconds"), &FSYNC_BUCKETS_S)
            })
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|error| failed(&error))?;
        Ok(Exporter {
            handle,
            listener,
            address,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until dropped; `readiness` is of the node whose metrics these are.
    pub async fn serve(self, readiness: Readiness) -> Result<(), ServeError> {
        let handle = self.handle.clone();
        let upkeep = async {
            loop {
                tokio::time::sleep(UPKEEP).await;
                handle.run_upkeep();
            }
        };
        let render = self.handle;
        // The version of the text format that Prometheus asks for.
        let headers = [("content-type", "text/plain; version=0.0.4")];
        let router = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(async move || ready(&readiness)))
            .route("/metrics", get(async move || (headers, render.render())));
        tokio::select! {
            served = serve_router(self.listener, router, &LIMITS, std::future::pending(), || ()) => served,
            () = upkeep => Ok(()),
        }
    }
}

/// Whether orchestrators should count on this node, and why not.
fn ready(readiness: &Readiness) -> (StatusCode, String) {
    match readiness.check() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(not_ready) => (StatusCode::SERVICE_UNAVAILABLE, format!("{not_ready}\n")),
    }
}

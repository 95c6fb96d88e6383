//! `node`: one node of a cluster. Beside `backup`, the only command that knows the raft store.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use figment::value::Value;
use raft_store::{
    net_tcp::TcpNet,
    node::{Node, StartError, StopReason},
    seams::{Seams, SystemWallClock, Workers},
    storage::disk_real::RealDisk,
};

use super::ready::Ready;
use crate::{
    context::Context, exit::Failure, lifetime, logging::Filter, metrics::Exporter, reload, traces::Traces,
};

/// What it takes beside the settings.
#[derive(Args, Debug)]
pub struct NodeArgs {
    /// This node's id, from 1: unique in the cluster, never reused [env: HOLDFAST_NODE_ID] [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    id: Option<u64>,
    /// Where to take gRPC; port 0 takes a free one [env: HOLDFAST_NODE_LISTEN] [default: 127.0.0.1:7401]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where others reach this node [env: HOLDFAST_NODE_ADVERTISE] [default: the address it listens on]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Where log, vote, image and snapshots live [env: HOLDFAST_NODE_DATA_DIR] [default: .holdfast]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// API tokens to take: file of name, role and sha256 of each [env: HOLDFAST_SECURITY_TOKENS_FILE]
    #[arg(long, value_name = "FILE")]
    tokens_file: Option<PathBuf>,
    /// Serve without TLS also where other machines can reach it
    #[arg(long)]
    allow_plain_text: bool,
    /// Write the address to this file once it serves
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Stop when stdin ends, for programs that start this one
    #[arg(long)]
    stop_with_stdin: bool,
}

impl NodeArgs {
    /// The flags that are settings.
    pub fn settings(&self) -> Vec<(&'static str, Value)> {
        let mut flags = Vec::new();
        if let Some(id) = self.id {
            flags.push(("node.node_id", Value::from(id)));
        }
        if let Some(listen) = &self.listen {
            flags.push(("node.listen", Value::from(listen.as_str())));
        }
        if let Some(advertise) = &self.advertise {
            flags.push(("node.advertise", Value::from(advertise.as_str())));
        }
        if let Some(data_dir) = &self.data_dir {
            flags.push(("node.data_dir", Value::from(data_dir.display().to_string())));
        }
        if let Some(tokens) = &self.tokens_file {
            flags.push(("security.tokens_file", Value::from(tokens.display().to_string())));
        }
        if self.allow_plain_text {
            flags.push(("security.allow_plain_text", Value::from(true)));
        }
        flags
    }
}

/// Serves until asked to stop, or until the node can no longer serve.
pub async fn run(args: NodeArgs, context: Context, filter: Filter) -> Result<(), Failure> {
    let security = context.settings.security;
    let guard = security.guard()?;
    let config = context.settings.node;
    if guard.tls.is_none() {
        let next_step =
            "make certificates with `holdfast certs dev DIR` and give this node its own with --certificate";
        security.check_plain_text("node.listen", &config.listen, next_step)?;
    }
    if context.dry_run {
        let dir = config.data_dir.display();
        eprintln!(
            "would run node {} at {} from {dir}; nothing done (--dry-run)",
            config.node_id, config.listen
        );
        return Ok(());
    }
    let seams = Seams {
        disk: Arc::new(RealDisk),
        net: Arc::new(TcpNet),
        wall_clock: Arc::new(SystemWallClock),
        workers: Workers::Threads,
        image_dir: Some(config.data_dir.join("image")),
    };
    let exporter = match config.metrics_listen.as_str() {
        "" => None,
        listen => Some(Exporter::open(listen).await?),
    };
    let traces = Traces::start(&context.settings.log, "holdfast-node", config.node_id.to_string())?;
    let (id, listen, dir) = (config.node_id, config.listen.clone(), config.data_dir.clone());
    let node = Node::start_guarded(config, seams, guard).await.map_err(|error| {
        let message = format!("node {id} at {listen}, {}: {error}", dir.display());
        match error {
            StartError::Config(_) | StartError::Certificate { .. } => Failure::Usage(message),
            _ => Failure::Failed(message),
        }
    })?;
    if let Some(path) = &args.ready_file {
        Ready::write(path, node.address(), exporter.as_ref().map(Exporter::address))?;
    }
    let readiness = node.readiness();
    let exporting = async {
        match exporter {
            Some(exporter) => exporter.serve(readiness).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        reason = lifetime::asked_to_stop(args.stop_with_stdin) => {
            tracing::info!(reason, "stopping");
            None
        }
        reason = node.stopped() => Some(reason),
        () = reload::follow(context.loaded, filter, |_| Ok(())) => {
            unreachable!("signals are followed until the process ends")
        }
        // A node that cannot be watched still serves; but this listener ends only with its runtime.
        Err(error) = exporting => {
            tracing::error!(%error, "the metrics' listener ended");
            Some(node.stopped().await)
        }
    };
    node.stop().await;
    traces.stop().await;
    ended.map_or(Ok(()), |reason| {
        let message = format!("node {id} ended: {reason}");
        Err(match reason {
            StopReason::Differs { .. } | StopReason::Damaged { .. } => Failure::Violated(message),
            _ => Failure::Failed(message),
        })
    })
}

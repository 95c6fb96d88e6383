//! `snapshot`: what each node keeps of its state beside its log.

use clap::Subcommand;
use client::NodeSnapshots;
use serde::Serialize;
use serde_json::json;

use crate::{
    ask,
    context::{Connection, Context},
    exit::{Failure, Subject},
    output,
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Write a snapshot on every node that answers, one after the other
    Take(Nodes),
    /// Show every node's snapshots
    List(Nodes),
    /// Have every node read its snapshots again, byte by byte, and load the state in them
    Verify(Nodes),
}

/// Which nodes.
#[derive(clap::Args, Debug)]
pub struct Nodes {
    /// Only this node
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "ID")]
    node: Option<u64>,
}

/// One snapshot, as it is printed.
#[derive(Debug, Serialize)]
struct SnapshotView {
    node_id: u64,
    log_index: u64,
    term: u64,
    bytes: u64,
    rows: u64,
    state_hash: String,
    damage: Option<String>,
}

/// Runs it.
pub async fn run(command: SnapshotCommand, context: Context) -> Result<(), Failure> {
    let connection = context.connect()?;
    let (nodes, take, verify) = match &command {
        SnapshotCommand::Take(nodes) => (nodes, true, false),
        SnapshotCommand::List(nodes) => (nodes, false, false),
        SnapshotCommand::Verify(nodes) => (nodes, false, true),
    };
    let endpoints = endpoints(&connection, nodes.node).await?;
    if take
        && ask::dry(
            &context,
            &format!("write a snapshot on {} nodes", endpoints.len()),
        )
    {
        return Ok(());
    }
    let mut views = Vec::new();
    for (node_id, endpoint) in endpoints {
        let cluster = connection.client.cluster();
        let (what, answer) = match take {
            true => ("take a snapshot of", cluster.take_snapshot(&endpoint).await),
            false => ("see the snapshots of", cluster.snapshots(&endpoint, verify).await),
        };
        let subject = Subject::membership(format!("{what} node {node_id}"));
        views.extend(seen(connection.told(subject, answer).await?));
    }
    output::print(context.format, &json!({ "snapshots": views }), |_| table(&views))?;
    let damaged = views.iter().find_map(|view| Some((view, view.damage.as_ref()?)));
    match damaged {
        None => Ok(()),
        Some((view, damage)) => Err(Failure::Refused(format!(
            "node {}: {damage}; start that node again: it sets the file aside and writes another from what it has",
            view.node_id
        ))),
    }
}

/// The nodes that answer, or the one asked for.
async fn endpoints(connection: &Connection, only: Option<u64>) -> Result<Vec<(u64, String)>, Failure> {
    let mut endpoints = Vec::new();
    for (endpoint, answer) in connection.client.cluster().status_all().await {
        match answer {
            Ok(status) if only.is_none_or(|only| only == status.node_id) => {
                endpoints.push((status.node_id, endpoint));
            }
            Ok(_) => {}
            Err(error) => eprintln!("{endpoint}: {error}"),
        }
    }
    endpoints.sort();
    if endpoints.is_empty() {
        let whom = only.map_or("no node answers".to_owned(), |id| {
            format!("node {id} does not answer")
        });
        return Err(Failure::Unreachable(format!(
            "{whom} at {}; start it there or name others with --endpoints",
            connection.endpoints.join(", ")
        )));
    }
    Ok(endpoints)
}

fn seen(node: NodeSnapshots) -> Vec<SnapshotView> {
    let node_id = node.node_id;
    let views = node.snapshots.into_iter().map(|snapshot| SnapshotView {
        node_id,
        log_index: snapshot.log_index,
        term: snapshot.term,
        bytes: snapshot.bytes,
        rows: snapshot.rows,
        state_hash: snapshot.digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        damage: Some(snapshot.damage).filter(|damage| !damage.is_empty()),
    });
    views.collect()
}

fn table(views: &[SnapshotView]) -> comfy_table::Table {
    let mut table = output::table(&["NODE", "INDEX", "TERM", "BYTES", "ROWS", "STATE HASH", "DAMAGE"]);
    for view in views {
        table.add_row(vec![
            comfy_table::Cell::new(view.node_id),
            output::number(view.log_index),
            output::number(view.term),
            output::number(view.bytes),
            output::number(view.rows),
            comfy_table::Cell::new(&view.state_hash),
            comfy_table::Cell::new(view.damage.as_deref().unwrap_or("-")),
        ]);
    }
    table
}

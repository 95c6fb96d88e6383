//! `cluster`: make a cluster, see how it is.

use std::time::Duration;

use clap::Subcommand;
use client::NodeStatus;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{health, values};
use crate::{
    ask,
    context::{Connection, Context},
    exit::{Failure, Subject},
    output,
    views::{MemberView, NodeView},
};

/// How often a node that does not answer yet is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(100);

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make a new cluster of running, empty nodes; once
    Init {
        /// A member as id=host:port, repeated [default: the nodes at --endpoints, which say their own ids]
        #[arg(long = "member", value_parser = values::member, value_name = "ID=HOST:PORT")]
        members: Vec<(u64, String)>,
    },
    /// Show every node's own view and the members
    Status,
    /// Check what a failure would meet; exit 0: healthy, 1: it serves, but survives less than it should
    Health,
}

/// Runs it.
pub async fn run(command: ClusterCommand, context: Context) -> Result<(), Failure> {
    let connection = context.connect()?;
    match command {
        ClusterCommand::Init { members } => init(&context, &connection, members).await,
        ClusterCommand::Status => status(&context, &connection).await,
        ClusterCommand::Health => health::run(&context, &connection).await,
    }
}

async fn init(
    context: &Context,
    connection: &Connection,
    members: Vec<(u64, String)>,
) -> Result<(), Failure> {
    let members = if members.is_empty() {
        ask_ids(context, connection).await?
    } else {
        members
    };
    check_distinct(&members)?;
    let plan: Vec<String> = std::iter::once(format!("a new cluster of {} voters:", members.len()))
        .chain(
            members
                .iter()
                .map(|(id, endpoint)| format!("  node {id} at {endpoint}")),
        )
        .collect();
    if members.len() == 1 {
        let mut plan = plan;
        plan.push("a cluster of one survives no failure; name all nodes with --endpoints or --member".into());
        if !ask::proceed(context, &plan)? {
            return Ok(());
        }
    } else {
        plan.iter().for_each(|line| eprintln!("{line}"));
        if ask::dry(context, "make it") {
            return Ok(());
        }
    }
    let answer = connection.client.cluster().init(members.clone()).await;
    let cluster_id = connection
        .told(Subject::membership("make a cluster"), answer)
        .await?;
    let members: Vec<_> = members
        .iter()
        .map(|(id, endpoint)| json!({"node_id": id, "endpoint": endpoint}))
        .collect();
    output::print(
        context.format,
        &json!({"cluster_id": cluster_id, "members": members}),
        |_| {
            output::fields([
                ("cluster", cluster_id.clone()),
                ("voters", members.len().to_string()),
            ])
        },
    )
}

/// The members at the endpoints given, by their own account. A node that has just been started may still be
/// preparing its log, so each is asked until the time for a call is over.
async fn ask_ids(context: &Context, connection: &Connection) -> Result<Vec<(u64, String)>, Failure> {
    let deadline = Instant::now() + context.settings.timeout();
    let mut members = Vec::new();
    for endpoint in &connection.endpoints {
        let status = loop {
            match connection.client.cluster().status(endpoint).await {
                Ok(status) => break status,
                Err(_) if Instant::now() < deadline => sleep(ASK_PAUSE).await,
                Err(error) => {
                    return Err(Failure::Unreachable(format!(
                        "the node at {endpoint} does not answer ({error}); every member must run before a cluster \
                         is made"
                    )));
                }
            }
        };
        members.push((status.node_id, status.endpoint));
    }
    Ok(members)
}

fn check_distinct(members: &[(u64, String)]) -> Result<(), Failure> {
    for (place, (id, endpoint)) in members.iter().enumerate() {
        if let Some((other, same)) = members[..place].iter().find(|(a, b)| a == id || b == endpoint) {
            return Err(Failure::Usage(format!(
                "node {id} at {endpoint} and node {other} at {same} share an id or an address; each needs its own"
            )));
        }
    }
    Ok(())
}

async fn status(context: &Context, connection: &Connection) -> Result<(), Failure> {
    let views = connection.client.cluster().status_all().await;
    let leader = leader_view(&views);
    let nodes: Vec<NodeView> = views
        .iter()
        .map(|(endpoint, answer)| NodeView::new(endpoint, answer))
        .collect();
    let members: Vec<MemberView> = leader
        .or_else(|| views.iter().find_map(|(_, answer)| answer.as_ref().ok()))
        .map(|status| {
            status
                .members
                .iter()
                .map(|member| MemberView::new(member, status))
                .collect()
        })
        .unwrap_or_default();
    output::print(
        context.format,
        &json!({"nodes": nodes, "members": members}),
        |_| nodes_table(&nodes, &members),
    )?;
    for (endpoint, error) in nodes
        .iter()
        .filter_map(|node| Some((&node.endpoint, node.error.as_ref()?)))
    {
        eprintln!("{endpoint}: {error}");
    }
    leading(&views, connection).map(|_| ())
}

/// The leader's own view, or why nobody can be asked.
pub fn leading<'a>(
    views: &'a [(String, Result<NodeStatus, client::Error>)],
    connection: &Connection,
) -> Result<&'a NodeStatus, Failure> {
    if views.iter().all(|(_, answer)| answer.is_err()) {
        return Err(connection.unanswered());
    }
    leader_view(views).ok_or_else(|| {
        Failure::NoQuorum(
            "nodes answer, but none leads: bring a majority of the voters back, or run `holdfast cluster init` if \
             this cluster is new"
                .into(),
        )
    })
}

/// The leader's own view: of those that say they lead, the newest term's.
pub fn leader_view(views: &[(String, Result<NodeStatus, client::Error>)]) -> Option<&NodeStatus> {
    views
        .iter()
        .filter_map(|(_, answer)| answer.as_ref().ok())
        .filter(|status| status.role == "leader")
        .max_by_key(|status| status.term)
}

fn nodes_table(nodes: &[NodeView], members: &[MemberView]) -> comfy_table::Table {
    let mut table = output::table(&[
        "NODE", "ENDPOINT", "ROLE", "VOTER", "TERM", "APPLIED", "LAST", "SNAPSHOT", "CLAIMS", "MACHINE",
        "NEEDED",
    ]);
    for node in nodes {
        if node.error.is_some() {
            table.add_row(["-", &node.endpoint, "no answer"]);
            continue;
        }
        let voter = members
            .iter()
            .find(|member| member.node_id == node.node_id)
            .is_some_and(|member| member.voter);
        table.add_row(vec![
            comfy_table::Cell::new(node.node_id),
            comfy_table::Cell::new(&node.endpoint),
            comfy_table::Cell::new(&node.role),
            comfy_table::Cell::new(if voter { "yes" } else { "no" }),
            output::number(node.term),
            output::number(node.applied_index),
            output::number(node.last_log_index),
            output::number(node.snapshot_index),
            output::number(node.claims_total),
            output::number(node.machine_version.unwrap_or(0)),
            output::number(node.machine_version_needed.unwrap_or(0)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_distinct() {
        let member = |id: u64, endpoint: &str| (id, endpoint.to_owned());
        assert!(check_distinct(&[member(1, "a:1"), member(2, "b:1")]).is_ok());
        for wrong in [
            [member(1, "a:1"), member(1, "b:1")],
            [member(1, "a:1"), member(2, "a:1")],
        ] {
            assert_eq!(check_distinct(&wrong).unwrap_err().code(), 2);
        }
    }

    #[test]
    fn the_newest_term_leads() {
        let node = |role: &str, term| {
            (
                String::new(),
                Ok(NodeStatus {
                    role: role.into(),
                    term,
                    ..NodeStatus::default()
                }),
            )
        };
        let down = (
            String::new(),
            Err(client::Error::Unavailable {
                message: String::new(),
                retry_after_ms: 0,
            }),
        );
        let views = [node("leader", 3), node("follower", 5), down, node("leader", 4)];
        assert_eq!(leader_view(&views).map(|status| status.term), Some(4));
        assert!(leader_view(&views[1..3]).is_none());
    }
}

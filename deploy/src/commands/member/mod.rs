//! `member`: change who is in the cluster. Steps that touch the quorum show their plan first and ask.

mod plan;

use std::time::Duration;

use clap::Subcommand;
use client::{Member, NodeStatus};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{cluster::leader_view, values};
use crate::{
    ask,
    context::{Connection, Context},
    exit::{Failure, Subject},
    output,
    views::MemberView,
};

/// How often a learner's progress is read: often enough to look alive, rarely enough to cost nothing.
const POLL: Duration = Duration::from_millis(250);

/// A learner this many entries behind a busy leader counts as caught up; the rest arrives while it is promoted.
const BEHIND_ENTRIES_MAX: u64 = 200;

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Show the members as the leader knows them
    List,
    /// Add a running, empty node as learner and wait until it has caught up; repeatable
    Add {
        /// Its id, as it was started with
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        node_id: u64,
        /// Where it is reached
        #[arg(value_parser = values::endpoint, value_name = "HOST:PORT")]
        endpoint: String,
        /// How long to wait for it to catch up
        #[arg(long, default_value = "10m", value_name = "DURATION")]
        wait: humantime::Duration,
    },
    /// Make a learner that has caught up a voter; repeatable
    Promote {
        /// The learner
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        node_id: u64,
    },
    /// Remove a voter or learner; its id is never used again
    Remove {
        /// The member
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        node_id: u64,
        /// Even if the voters that remain and answer are no majority
        #[arg(long)]
        force: bool,
    },
    /// Hand leadership to a voter
    TransferLeader {
        /// The next leader
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        node_id: u64,
    },
}

/// Runs it.
pub async fn run(command: MemberCommand, context: Context) -> Result<(), Failure> {
    let connection = context.connect()?;
    let (leader, answering) = see(&connection).await?;
    match command {
        MemberCommand::List => print(&context, &leader.members, &leader),
        MemberCommand::Add {
            node_id,
            endpoint,
            wait,
        } => {
            if ask::dry(&context, &format!("add node {node_id} at {endpoint} as learner")) {
                return Ok(());
            }
            answers(&context, &connection, &endpoint).await?;
            let answer = connection.client.cluster().add_learner(node_id, &endpoint).await;
            let subject = Subject::membership(format!("add node {node_id} at {endpoint}"));
            connection.told(subject, answer).await?;
            let leader = caught_up(&connection, node_id, *wait).await?;
            eprintln!(
                "node {node_id} has caught up; make it a voter with `holdfast member promote {node_id}`"
            );
            print(&context, &leader.members, &leader)
        }
        MemberCommand::Promote { node_id } => {
            let plan = plan::promote(&leader.members, &answering, node_id)?;
            if plan.already || !ask::proceed(&context, &plan.lines)? {
                return unchanged(&context, &leader, &plan);
            }
            let answer = connection.client.cluster().promote(vec![node_id]).await;
            let members = connection
                .told(Subject::membership(format!("promote node {node_id}")), answer)
                .await?;
            print(&context, &members, &leader)
        }
        MemberCommand::Remove { node_id, force } => {
            let plan = plan::remove(&leader.members, &answering, leader.node_id, node_id)?;
            if let (Some(danger), false) = (&plan.danger, force) {
                plan.lines.iter().for_each(|line| eprintln!("{line}"));
                return Err(Failure::Refused(format!(
                    "{danger}; nothing changed: bring them back, or use --force"
                )));
            }
            if plan.already || !ask::proceed(&context, &plan.lines)? {
                return unchanged(&context, &leader, &plan);
            }
            let answer = connection.client.cluster().remove(node_id, force).await;
            let members = connection
                .told(Subject::membership(format!("remove node {node_id}")), answer)
                .await?;
            print(&context, &members, &leader)
        }
        MemberCommand::TransferLeader { node_id } => {
            plan::transfer(&leader.members, &answering, node_id)?;
            if ask::dry(
                &context,
                &format!("hand leadership from node {} to node {node_id}", leader.node_id),
            ) {
                return Ok(());
            }
            let answer = connection.client.cluster().transfer_leader(node_id).await;
            let subject = Subject::membership(format!("hand leadership to node {node_id}"));
            let term = connection.told(subject, answer).await?;
            output::print(
                context.format,
                &json!({"leader_id": node_id, "term": term}),
                |_| output::fields([("leader", format!("node {node_id}")), ("term", term.to_string())]),
            )
        }
    }
}

fn unchanged(context: &Context, leader: &NodeStatus, plan: &plan::Plan) -> Result<(), Failure> {
    if plan.already {
        plan.lines.iter().for_each(|line| eprintln!("{line}"));
    }
    print(context, &leader.members, leader)
}

/// The leader's view, and the ids of all nodes that answer.
async fn see(connection: &Connection) -> Result<(NodeStatus, Vec<u64>), Failure> {
    let views = connection.client.cluster().status_all().await;
    let answering: Vec<u64> = views
        .iter()
        .filter_map(|(_, answer)| answer.as_ref().ok())
        .map(|status| status.node_id)
        .collect();
    match leader_view(&views) {
        Some(leader) => Ok((leader.clone(), answering)),
        None if answering.is_empty() => Err(Failure::Unreachable(format!(
            "no node answers at {}; start one there or name others with --endpoints",
            connection.endpoints.join(", ")
        ))),
        None => Err(Failure::NoQuorum(format!(
            "{} nodes answer, but none leads; nothing changed: bring a majority of the voters back",
            answering.len()
        ))),
    }
}

/// Waits until the node answers: one that has just been started may still be preparing its log.
async fn answers(context: &Context, connection: &Connection, endpoint: &str) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + context.settings.timeout();
    loop {
        match connection.client.cluster().status(endpoint).await {
            Ok(_) => return Ok(()),
            Err(_) if tokio::time::Instant::now() < deadline => tokio::time::sleep(POLL).await,
            Err(error) => {
                return Err(Failure::Unreachable(format!(
                    "the node at {endpoint} does not answer ({error}); start it there, then repeat"
                )));
            }
        }
    }
}

/// Waits until the leader says that the learner holds nearly all of the log.
async fn caught_up(connection: &Connection, node_id: u64, wait: Duration) -> Result<NodeStatus, Failure> {
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("catching up {wide_bar} {pos}/{len} entries, {eta} left")
            .expect("the template is a constant")
            .progress_chars("━━─"),
    );
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        if let Ok((leader, _)) = see(connection).await {
            let matched = matched_index(&leader, node_id).unwrap_or(0);
            bar.set_length(leader.last_log_index);
            bar.set_position(matched.min(leader.last_log_index));
            if matched > 0 && matched + BEHIND_ENTRIES_MAX >= leader.last_log_index {
                bar.finish_and_clear();
                return Ok(leader);
            }
        }
        let stays = "it stays a learner and goes on catching up: run the same command again to wait for it";
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = tokio::signal::ctrl_c() => {
                output::leave_standing(&bar);
                return Err(Failure::Failed(format!("stopped waiting for node {node_id}; {stays}")));
            }
        }
        if tokio::time::Instant::now() >= deadline {
            output::leave_standing(&bar);
            let wait = humantime::format_duration(wait);
            return Err(Failure::Failed(format!(
                "node {node_id} has not caught up within {wait}; {stays}"
            )));
        }
    }
}

fn matched_index(leader: &NodeStatus, node_id: u64) -> Option<u64> {
    leader
        .members
        .iter()
        .find(|member| member.node_id == node_id)?
        .matched_index
}

fn print(context: &Context, members: &[Member], leader: &NodeStatus) -> Result<(), Failure> {
    let views: Vec<MemberView> = members
        .iter()
        .map(|member| MemberView::new(member, leader))
        .collect();
    output::print(context.format, &json!({ "members": views }), |_| {
        let mut table = output::table(&["NODE", "ENDPOINT", "ROLE", "BEHIND", "HEARD"]);
        for member in &views {
            let role = match (member.leader, member.voter) {
                (true, _) => "leader",
                (false, true) => "voter",
                (false, false) => "learner",
            };
            let behind = member.behind_entries.map_or("-".into(), |entries| {
                format!("{} entries", output::grouped(entries))
            });
            let heard = member
                .heard_ms_ago
                .map_or("-".into(), |ms| format!("{} ms ago", output::grouped(ms)));
            table.add_row([
                &member.node_id.to_string(),
                &member.endpoint,
                role,
                &behind,
                &heard,
            ]);
        }
        table
    })
}

//! `member`: change who is in the cluster. Every change shows its plan first; one that touches the quorum asks.
//!
//! A change is planned from what the cluster is now and taken step by step; each step may be repeated. So a
//! command that was interrupted is simply run again.

mod plan;

use std::time::Duration;

use clap::Subcommand;
use client::{Error, Member, NodeStatus};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::time::{Instant, sleep};

use self::plan::{BEHIND_ENTRIES_MAX, Plan, Seen, Step};
use super::{cluster::leader_view, values};
use crate::{
    ask,
    context::{Connection, Context},
    exit::{Failure, Subject},
    output,
    views::MemberView,
};

/// How often a learner's progress is read: often enough to look alive, rarely enough to cost nothing.
pub const POLL: Duration = Duration::from_millis(250);

/// How long a leader is looked for: a failover and a half on a loaded machine.
pub const LEADERLESS_MAX: Duration = Duration::from_secs(3);

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
    /// Put a new node in the place of another, dead or alive: learner, catch-up, promote, remove; repeatable
    Replace {
        /// The member that goes
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        old_id: u64,
        /// The id that the new node was started with
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        new_id: u64,
        /// Where the new node is reached
        #[arg(value_parser = values::endpoint, value_name = "HOST:PORT")]
        endpoint: String,
        /// How long to wait for it to catch up
        #[arg(long, default_value = "10m", value_name = "DURATION")]
        wait: humantime::Duration,
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
    let seen = see(&connection).await?;
    let mut forced = false;
    let mut patience = Duration::ZERO;
    let plan = match command {
        MemberCommand::List => return print(&context, &seen.leader.members, &seen.leader),
        MemberCommand::Add {
            node_id,
            endpoint,
            wait,
        } => {
            patience = *wait;
            plan::add(&seen, node_id, &endpoint)?
        }
        MemberCommand::Promote { node_id } => plan::promote(&seen, node_id)?,
        MemberCommand::Remove { node_id, force } => {
            forced = force;
            plan::remove(&seen, node_id)?
        }
        MemberCommand::Replace {
            old_id,
            new_id,
            endpoint,
            wait,
        } => {
            patience = *wait;
            plan::replace(&seen, old_id, new_id, &endpoint)?
        }
        MemberCommand::TransferLeader { node_id } => plan::transfer(&seen, node_id)?,
    };
    if agreed(&context, &seen, &plan, forced)? {
        let steps = Steps {
            context: &context,
            connection: &connection,
            forced,
            patience,
        };
        steps.take(&plan).await?;
    }
    let seen = see(&connection).await?;
    print(&context, &seen.leader.members, &seen.leader)
}

/// Shows the plan, and asks where a step is hard to undo. Gives whether to go on.
fn agreed(context: &Context, seen: &Seen, plan: &Plan, forced: bool) -> Result<bool, Failure> {
    let lines = plan.lines(seen);
    if let (Some(danger), false) = (&plan.danger, forced) {
        lines.iter().for_each(|line| eprintln!("{line}"));
        return Err(Failure::Refused(format!(
            "{danger}; nothing changed: bring them back, or wait until they have caught up{}",
            match plan.steps.as_slice() {
                [Step::Remove { .. }] => ", or use --force",
                _ => "",
            }
        )));
    }
    let grave = |step: &Step| matches!(step, Step::Promote { .. } | Step::Remove { .. });
    if plan.steps.iter().any(grave) {
        return ask::proceed(context, &lines);
    }
    lines.iter().for_each(|line| eprintln!("{line}"));
    if context.dry_run {
        eprintln!("nothing done (--dry-run)");
    }
    Ok(!context.dry_run && !plan.is_done())
}

/// Takes the steps of a plan.
struct Steps<'a> {
    context: &'a Context,
    connection: &'a Connection,
    forced: bool,
    patience: Duration,
}

impl Steps<'_> {
    async fn take(&self, plan: &Plan) -> Result<(), Failure> {
        for step in &plan.steps {
            self.step(step).await?;
            if plan.steps.len() > 1 {
                eprintln!("done: {}", step.words());
            }
        }
        if let Some(Step::CatchUp { node_id }) = plan.steps.last() {
            eprintln!(
                "node {node_id} has caught up; make it a voter with `holdfast member promote {node_id}`"
            );
        }
        Ok(())
    }

    async fn step(&self, step: &Step) -> Result<(), Failure> {
        let cluster = self.connection.client.cluster();
        let answer = match step {
            Step::Add { node_id, endpoint } => {
                answers(self.context, self.connection, endpoint).await?;
                cluster.add_learner(*node_id, endpoint).await.map(drop)
            }
            Step::CatchUp { node_id } => return caught_up(self.connection, *node_id, self.patience).await,
            Step::Promote { node_id } => cluster.promote(vec![*node_id]).await.map(drop),
            Step::Remove { node_id } => cluster.remove(*node_id, self.forced).await.map(drop),
            Step::Lead { node_id } => cluster.transfer_leader(*node_id).await.map(drop),
        };
        let subject = Subject::membership(step.words());
        self.connection.told(subject, answer).await
    }
}

/// The leader's view, and the ids of all nodes that answer. In a failover it looks again for a while: until
/// somebody leads, and knows how far the others are.
async fn see(connection: &Connection) -> Result<Seen, Failure> {
    let deadline = Instant::now() + LEADERLESS_MAX;
    loop {
        let views = connection.client.cluster().status_all().await;
        let answering: Vec<u64> = views
            .iter()
            .filter_map(|(_, answer)| answer.as_ref().ok())
            .map(|status| status.node_id)
            .collect();
        if answering.is_empty() {
            return Err(connection.unanswered());
        }
        let late = Instant::now() >= deadline;
        if let Some(leader) = leader_view(&views) {
            let seen = Seen {
                leader: leader.clone(),
                answering,
            };
            if late || seen.knows_all() {
                return Ok(seen);
            }
        } else if late {
            return Err(Failure::NoQuorum(format!(
                "{} nodes answer, but none leads; nothing changed: bring a majority of the voters back",
                answering.len()
            )));
        }
        sleep(POLL).await;
    }
}

/// Waits until the node answers: one that has just been started may still be preparing its log.
async fn answers(context: &Context, connection: &Connection, endpoint: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + context.settings.timeout();
    loop {
        match connection.client.cluster().status(endpoint).await {
            Ok(_) => return Ok(()),
            // It answers: it is of another cluster, and waiting makes it no member of this one.
            Err(why @ Error::Rejected(_)) => {
                return Err(Failure::Refused(format!(
                    "{why}; nothing changed: a node joins with an empty directory"
                )));
            }
            Err(_) if Instant::now() < deadline => sleep(POLL).await,
            Err(error) => {
                return Err(Failure::Unreachable(format!(
                    "the node at {endpoint} does not answer ({error}); start it there, then repeat"
                )));
            }
        }
    }
}

/// Waits until the leader says that the learner holds nearly all of the log.
async fn caught_up(connection: &Connection, node_id: u64, wait: Duration) -> Result<(), Failure> {
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("catching up {wide_bar} {pos}/{len} entries, {eta} left")
            .expect("the template is a constant")
            .progress_chars("━━─"),
    );
    let deadline = Instant::now() + wait;
    loop {
        // Nobody leads for a moment when the leader has died: the next one will know.
        if let Ok(seen) = see(connection).await
            && let Some(member) = seen.member(node_id)
        {
            let last = seen.leader.last_log_index;
            bar.set_length(last);
            bar.set_position(member.matched_index.unwrap_or(0).min(last));
            if seen
                .behind(member)
                .is_some_and(|behind| behind <= BEHIND_ENTRIES_MAX)
            {
                bar.finish_and_clear();
                return Ok(());
            }
        }
        let stays = "it stays a learner and goes on catching up: run the same command again to wait for it";
        tokio::select! {
            () = sleep(POLL) => {}
            _ = tokio::signal::ctrl_c() => {
                output::leave_standing(&bar);
                return Err(Failure::Failed(format!("stopped waiting for node {node_id}; {stays}")));
            }
        }
        if Instant::now() >= deadline {
            output::leave_standing(&bar);
            let wait = humantime::format_duration(wait);
            return Err(Failure::Failed(format!(
                "node {node_id} has not caught up within {wait}; {stays}"
            )));
        }
    }
}

fn print(context: &Context, members: &[Member], leader: &NodeStatus) -> Result<(), Failure> {
    let views: Vec<MemberView> = members
        .iter()
        .map(|member| MemberView::new(member, leader))
        .collect();
    output::print(context.format, &json!({ "members": views }), |_| {
        let mut table = output::table(&[
            "NODE", "ENDPOINT", "ROLE", "MATCHED", "BEHIND", "HEARD", "MACHINE",
        ]);
        for member in &views {
            let role = match (member.leader, member.voter) {
                (true, _) => "leader",
                (false, true) => "voter",
                (false, false) => "learner",
            };
            let matched = member.matched_index.map_or("-".into(), output::grouped);
            let behind = member.behind_entries.map_or("-".into(), |entries| {
                format!("{} entries", output::grouped(entries))
            });
            let heard = member
                .heard_ms_ago
                .map_or("-".into(), |ms| format!("{} ms ago", output::grouped(ms)));
            let machine = member
                .machine_version
                .map_or("-".into(), |version| version.to_string());
            table.add_row([
                &member.node_id.to_string(),
                &member.endpoint,
                role,
                &matched,
                &behind,
                &heard,
                &machine,
            ]);
        }
        table
    })
}

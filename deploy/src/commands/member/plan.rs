//! What a change of members would do to the quorum: pure, so that every case can be tested.
//!
//! A plan is made from what the cluster is now, never from what an earlier run meant to do: so a change that
//! was interrupted goes on where it stopped when it is planned again, and one that is done plans nothing.
//! The cluster checks each step again before it acts; this is for people to see it coming.

use std::collections::BTreeMap;

use client::{Member, NodeStatus};
use comfy_table::Table;

use crate::{exit::Failure, output};

/// A voter at most this many entries behind counts as caught up. The cluster's own bound: at its own speed
/// that is a few milliseconds of work.
pub const BEHIND_ENTRIES_MAX: u64 = 1_000;

/// The cluster as it is seen now.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The leader's view.
    pub leader: NodeStatus,
    /// Nodes that answer.
    pub answering: Vec<u64>,
}

impl Seen {
    /// A member, if it is one.
    pub fn member(&self, node_id: u64) -> Option<&Member> {
        self.leader
            .members
            .iter()
            .find(|member| member.node_id == node_id)
    }

    /// How many entries a member lacks; `None`: the leader does not know yet.
    pub fn behind(&self, member: &Member) -> Option<u64> {
        let matched = member.matched_index?;
        Some(self.leader.last_log_index.saturating_sub(matched))
    }

    /// Whether the leader knows how far every member is that answers: a new one takes a moment to.
    pub fn knows_all(&self) -> bool {
        let mut answering = self.leader.members.iter().filter(|m| self.answers(m.node_id));
        answering.all(|member| member.matched_index.is_some())
    }

    fn answers(&self, node_id: u64) -> bool {
        self.answering.contains(&node_id)
    }

    fn leads(&self, node_id: u64) -> bool {
        self.leader.node_id == node_id
    }

    fn voters(&self) -> Vec<u64> {
        let voters = self.leader.members.iter().filter(|member| member.voter);
        sorted(voters.map(|member| member.node_id))
    }

    /// A member that must be there, or a refusal.
    fn expect(&self, node_id: u64, instead: &str) -> Result<&Member, Failure> {
        self.member(node_id)
            .ok_or_else(|| Failure::Refused(format!("node {node_id} is no member; {instead}")))
    }

    /// Why these voters could not commit anything at once, if they could not; `joined` will have caught up
    /// by then.
    fn danger(&self, voters: &[u64], joined: Option<u64>) -> Option<String> {
        let needed = majority(voters.len());
        let others = voters
            .iter()
            .copied()
            .filter(|id| Some(*id) != joined && !self.leads(*id));
        let (mut silent, mut behind) = (Vec::new(), Vec::new());
        for id in others {
            let lag = self.member(id).and_then(|member| self.behind(member));
            if !self.answers(id) {
                silent.push(id);
            } else if lag.is_none_or(|lag| lag > BEHIND_ENTRIES_MAX) {
                behind.push(id);
            }
        }
        let ready = voters.len() - silent.len() - behind.len();
        (ready < needed).then(|| {
            format!(
                "of the voters {} only {ready} would answer and be caught up, and {needed} are needed; silent: {}, \
                 behind: {}",
                list(voters),
                list(&silent),
                list(&behind)
            )
        })
    }
}

/// One step. Each may be repeated: what is done already is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make a running, empty node a learner.
    Add { node_id: u64, endpoint: String },
    /// Wait until it has caught up.
    CatchUp { node_id: u64 },
    /// Make it a voter.
    Promote { node_id: u64 },
    /// Remove it.
    Remove { node_id: u64 },
    /// Make it the leader.
    Lead { node_id: u64 },
}

impl Step {
    /// In words.
    pub fn words(&self) -> String {
        match self {
            Step::Add { node_id, endpoint } => format!("add node {node_id} at {endpoint} as learner"),
            Step::CatchUp { node_id } => format!("wait until node {node_id} has caught up"),
            Step::Promote { node_id } => format!("promote node {node_id}"),
            Step::Remove { node_id } => format!("remove node {node_id}"),
            Step::Lead { node_id } => format!("hand leadership to node {node_id}"),
        }
    }
}

/// A change: what is left to do, and what it leads to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order; empty when nothing is left to do.
    pub steps: Vec<Step>,
    /// Worth knowing.
    pub notes: Vec<String>,
    /// Why a step endangers the quorum, if one does.
    pub danger: Option<String>,
}

impl Plan {
    fn already(note: String) -> Plan {
        Plan {
            notes: vec![note],
            ..Plan::default()
        }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.steps.is_empty()
    }

    /// To show before asking.
    pub fn lines(&self, seen: &Seen) -> Vec<String> {
        let mut lines = Vec::new();
        match self.steps.as_slice() {
            [] => return self.notes.clone(),
            [step] => lines.push(step.words()),
            steps => {
                let numbered = (1..).zip(steps);
                lines.extend(numbered.map(|(place, step)| format!("{place}. {}", step.words())));
            }
        }
        if seen.leader.joint {
            lines.push("first, a change of voters that was left half-way is completed".into());
        }
        lines.extend(self.notes.iter().cloned());
        let after = self.after(seen);
        lines.extend(output::text(&table(seen, &after)).lines().map(str::to_owned));
        let voters = after.iter().filter(|(_, (_, role))| role.votes());
        let voters: Vec<u64> = voters.map(|(id, _)| *id).collect();
        lines.push(compare(&seen.voters(), &voters));
        lines
    }

    /// The members once all steps are done; those that go, too.
    fn after(&self, seen: &Seen) -> BTreeMap<u64, (String, Role)> {
        let members = seen.leader.members.iter();
        let mut after: BTreeMap<_, _> = members
            .map(|member| {
                let role = Role::of(member, seen);
                (member.node_id, (member.endpoint.clone(), role))
            })
            .collect();
        for step in &self.steps {
            let roles: &[(u64, Role)] = match step {
                Step::CatchUp { .. } => &[],
                Step::Add { node_id, endpoint } => {
                    after.insert(*node_id, (endpoint.clone(), Role::Learner));
                    &[]
                }
                Step::Promote { node_id } => &[(*node_id, Role::Voter)],
                Step::Remove { node_id } => &[(*node_id, Role::Gone)],
                Step::Lead { node_id } => &[(seen.leader.node_id, Role::Voter), (*node_id, Role::Leader)],
            };
            for (node_id, role) in roles {
                if let Some((_, now)) = after.get_mut(node_id) {
                    *now = *role;
                }
            }
        }
        after
    }
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    Leader,
    Voter,
    Learner,
    Gone,
}

impl Role {
    fn of(member: &Member, seen: &Seen) -> Role {
        match member.voter {
            _ if seen.leads(member.node_id) => Role::Leader,
            true => Role::Voter,
            false => Role::Learner,
        }
    }

    fn votes(self) -> bool {
        matches!(self, Role::Leader | Role::Voter)
    }

    fn word(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Voter => "voter",
            Role::Learner => "learner",
            Role::Gone => "-",
        }
    }
}

/// Plans to add a learner.
pub fn add(seen: &Seen, node_id: u64, endpoint: &str) -> Result<Plan, Failure> {
    let steps = joining(seen, node_id, endpoint)?;
    if steps.is_empty() {
        return Ok(Plan::already(format!("node {node_id} is a voter already")));
    }
    Ok(Plan {
        steps,
        ..Plan::default()
    })
}

/// Plans to make a learner a voter.
pub fn promote(seen: &Seen, node_id: u64) -> Result<Plan, Failure> {
    let member = seen.expect(
        node_id,
        &format!("add it first: `holdfast member add {node_id} HOST:PORT`"),
    )?;
    if member.voter {
        return Ok(Plan::already(format!("node {node_id} is a voter already")));
    }
    if !seen.answers(node_id) {
        return Err(Failure::Refused(format!(
            "node {node_id} at {} does not answer; a voter that is down only weakens the quorum: start it first",
            member.endpoint
        )));
    }
    Ok(Plan {
        steps: vec![Step::Promote { node_id }],
        danger: seen.danger(&sorted(seen.voters().into_iter().chain([node_id])), Some(node_id)),
        ..Plan::default()
    })
}

/// Plans to remove a voter or learner.
pub fn remove(seen: &Seen, node_id: u64) -> Result<Plan, Failure> {
    let Some(member) = seen.member(node_id) else {
        return Ok(Plan::already(format!(
            "node {node_id} is no member: nothing to remove"
        )));
    };
    let mut plan = Plan {
        steps: vec![Step::Remove { node_id }],
        ..Plan::default()
    };
    if member.voter {
        let remaining = without(&seen.voters(), node_id);
        if remaining.is_empty() {
            return Err(Failure::Refused(format!(
                "node {node_id} is the only voter; a cluster without one holds nothing: add and promote another \
                 first"
            )));
        }
        plan.notes.extend(hand_over(seen, node_id));
        plan.danger = seen.danger(&remaining, None);
    }
    Ok(plan)
}

/// Plans to put a new node in the place of another, dead or alive.
pub fn replace(seen: &Seen, old_id: u64, new_id: u64, endpoint: &str) -> Result<Plan, Failure> {
    if new_id <= old_id {
        return Err(Failure::Refused(format!(
            "node {new_id} cannot replace node {old_id}: ids only grow and are never reused; start the new node with \
             an id above all there were"
        )));
    }
    let Some(old) = seen.member(old_id) else {
        let new_votes = seen.member(new_id).is_some_and(|member| member.voter);
        return match new_votes {
            true => Ok(Plan::already(format!("node {new_id} has replaced node {old_id}"))),
            false => Err(Failure::Refused(format!(
                "node {old_id} is no member: there is nothing to replace; `holdfast member list` shows the \
                 members, `holdfast member add {new_id} {endpoint}` adds one more"
            ))),
        };
    };
    let mut steps = joining(seen, new_id, endpoint)?;
    let joins = !steps.is_empty();
    let mut plan = Plan::default();
    if old.voter {
        let grown = sorted(seen.voters().into_iter().chain(joins.then_some(new_id)));
        match joins {
            true => steps.push(Step::Promote { node_id: new_id }),
            false => plan.notes.push(format!(
                "node {new_id} is a voter already: only the removal is left"
            )),
        }
        let joined = joins.then_some(new_id);
        plan.notes.extend(hand_over(seen, old_id));
        plan.danger = seen
            .danger(&grown, joined)
            .or_else(|| seen.danger(&without(&grown, old_id), joined));
    }
    steps.push(Step::Remove { node_id: old_id });
    plan.steps = steps;
    Ok(plan)
}

/// Plans to hand leadership over.
pub fn transfer(seen: &Seen, node_id: u64) -> Result<Plan, Failure> {
    let member = seen.expect(node_id, "`holdfast member list` shows them")?;
    if seen.leads(node_id) {
        return Ok(Plan::already(format!("node {node_id} leads already")));
    }
    if !member.voter {
        return Err(Failure::Refused(format!(
            "node {node_id} is a learner; only voters lead: promote it first"
        )));
    }
    if !seen.answers(node_id) {
        return Err(Failure::Refused(format!(
            "node {node_id} does not answer; handing it leadership would stop all writes until the next election: \
             start it, or choose another"
        )));
    }
    Ok(Plan {
        steps: vec![Step::Lead { node_id }],
        ..Plan::default()
    })
}

/// What it takes until a node is a member that has caught up: nothing when it is a voter.
fn joining(seen: &Seen, node_id: u64, endpoint: &str) -> Result<Vec<Step>, Failure> {
    let catch_up = Step::CatchUp { node_id };
    match seen.member(node_id) {
        Some(member) if member.endpoint != endpoint => Err(Failure::Refused(format!(
            "node id {node_id} is that of the member at {}; ids are never reused: start the new node with another",
            member.endpoint
        ))),
        Some(member) if member.voter => Ok(Vec::new()),
        Some(_) => Ok(vec![catch_up]),
        None => Ok(vec![
            Step::Add {
                node_id,
                endpoint: endpoint.to_owned(),
            },
            catch_up,
        ]),
    }
}

fn hand_over(seen: &Seen, node_id: u64) -> Option<String> {
    seen.leads(node_id)
        .then(|| format!("node {node_id} leads now: it hands leadership over first"))
}

fn sorted(ids: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut ids: Vec<u64> = ids.collect();
    ids.sort_unstable();
    ids
}

fn without(ids: &[u64], node_id: u64) -> Vec<u64> {
    ids.iter().copied().filter(|id| *id != node_id).collect()
}

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// What the voters are and can lose, before and after.
fn compare(before: &[u64], after: &[u64]) -> String {
    let may_fail = |voters: &[u64]| voters.len().saturating_sub(majority(voters.len()));
    format!(
        "voters {} -> {}; quorum {} -> {}; may fail at once: {} -> {}",
        list(before),
        list(after),
        majority(before.len()),
        majority(after.len()),
        may_fail(before),
        may_fail(after),
    )
}

fn list(ids: &[u64]) -> String {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    format!("[{}]", ids.join(" "))
}

/// Who is what, before and after, and how each is.
fn table(seen: &Seen, after: &BTreeMap<u64, (String, Role)>) -> Table {
    let mut table = output::table(&[
        "NODE", "ENDPOINT", "NOW", "THEN", "ANSWERS", "MATCHED", "BEHIND", "HEARD",
    ]);
    for (node_id, (endpoint, then)) in after {
        let member = seen.member(*node_id);
        let number = |value: Option<u64>| value.map_or("-".to_owned(), output::grouped);
        let answers = match member {
            Some(_) if seen.answers(*node_id) => "yes",
            Some(_) => "NO",
            None => "-",
        };
        let heard = member.and_then(|member| member.heard_ms_ago);
        table.add_row([
            node_id.to_string(),
            endpoint.clone(),
            member
                .map_or("-", |member| Role::of(member, seen).word())
                .to_owned(),
            then.word().to_owned(),
            answers.to_owned(),
            number(member.and_then(|member| member.matched_index)),
            number(member.and_then(|member| seen.behind(member))),
            heard.map_or("-".to_owned(), |ms| format!("{} ms ago", output::grouped(ms))),
        ]);
    }
    table
}

#[cfg(test)]
mod tests;

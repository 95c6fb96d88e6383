//! `cluster health`: one line a check, and an exit code for scripts and container probes.
//!
//! It judges what the nodes say of themselves, as `cluster status` shows it. Whether every replica holds the same
//! is another question, and costs more: `holdfast verify`.

use client::NodeStatus;
use serde::Serialize;
use serde_json::json;

use super::cluster::leader_view;
use crate::{
    context::{Connection, Context},
    exit::Failure,
    output,
    views::machine_version,
};

/// A voter this many entries behind the leader is not of much use when the leader fails: it must catch up first.
const BEHIND_ENTRIES_MAX: u64 = 20_000;

/// Wall clocks further apart than this make `opens_at` and `closes_at` jump at a change of leader. Well-kept NTP
/// stays within a tenth of it.
const WALL_SPREAD_MS_MAX: u64 = 500;

/// One thing looked at.
#[derive(Debug, PartialEq, Serialize)]
pub struct Check {
    pub check: &'static str,
    pub ok: bool,
    pub detail: String,
    pub wanted: String,
    /// What to do where it is not so.
    pub action: &'static str,
}

/// What the nodes say: by endpoint, its view or the error.
pub type Views = [(String, Result<NodeStatus, client::Error>)];

/// Looks, prints, and fails with what is worst.
pub async fn run(context: &Context, connection: &Connection) -> Result<(), Failure> {
    let views = connection.client.cluster().status_all().await;
    let checks = look(&views);
    let healthy = checks.iter().all(|check| check.ok);
    output::print(
        context.format,
        &json!({"healthy": healthy, "checks": checks}),
        |_| {
            let mut table = output::table(&["CHECK", "OK", "DETAIL"]);
            for check in &checks {
                table.add_row([check.check, if check.ok { "yes" } else { "NO" }, &check.detail]);
            }
            table
        },
    )?;
    if views.iter().all(|(_, answer)| answer.is_err()) {
        return Err(connection.unanswered());
    }
    if leader_view(&views).is_none() {
        return Err(Failure::NoQuorum(
            "nodes answer, but none leads: bring a majority of the voters back".into(),
        ));
    }
    if !healthy {
        return Err(Failure::Failed(
            "it serves, but survives less than it should: see the checks that say NO".into(),
        ));
    }
    Ok(())
}

/// Every check, in the order of how bad its failure is.
pub fn look(views: &Views) -> Vec<Check> {
    let leader = leader_view(views);
    let mut checks = vec![Check {
        check: "leader",
        ok: leader.is_some(),
        detail: leader.map_or("none".into(), |leader| {
            format!("node {} in term {}", leader.node_id, leader.term)
        }),
        wanted: "one".into(),
        action: "bring a majority of the voters back",
    }];
    let Some(leader) = leader else {
        return checks;
    };
    let answers: Vec<&NodeStatus> = views
        .iter()
        .filter_map(|(_, answer)| answer.as_ref().ok())
        .collect();
    let voters: Vec<_> = leader.members.iter().filter(|member| member.voter).collect();
    let answers_of = |node_id: u64| answers.iter().copied().find(|node| node.node_id == node_id);

    checks.push(named(
        "voters answer",
        voters
            .iter()
            .filter(|voter| answers_of(voter.node_id).is_none())
            .map(|voter| format!("node {} at {} does not answer", voter.node_id, voter.endpoint)),
        format!("{} of {}", voters.len(), voters.len()),
        "every voter".into(),
        "start it again, or put another in its place with `holdfast member replace`",
    ));
    let answering = voters
        .iter()
        .filter(|voter| answers_of(voter.node_id).is_some())
        .count();
    let quorum = voters.len() / 2 + 1;
    checks.push(Check {
        check: "survives a failure",
        ok: answering > quorum,
        detail: format!(
            "{answering} of {} voters answer, {quorum} are needed",
            voters.len()
        ),
        wanted: "a voter more than the quorum needs: 3 survive one failure, 5 survive two".into(),
        action: "start the silent ones again, or `holdfast member add` others, then `promote`",
    });
    checks.push(named(
        "one leader",
        answers
            .iter()
            .filter(|node| node.leader_id != leader.node_id || node.term != leader.term)
            .map(|node| {
                format!(
                    "node {} follows node {} in term {}",
                    node.node_id, node.leader_id, node.term
                )
            }),
        "everybody agrees".into(),
        "one leader, in one term".into(),
        "look at the network between the nodes named, then again",
    ));
    checks.push(named(
        "replicas keep up",
        answers.iter().filter_map(|node| {
            let behind = leader.committed_index.saturating_sub(node.applied_index);
            (behind > BEHIND_ENTRIES_MAX).then(|| format!("node {} is {behind} entries behind", node.node_id))
        }),
        format!("within {BEHIND_ENTRIES_MAX} entries"),
        format!("at most {BEHIND_ENTRIES_MAX} entries behind"),
        "is its disk slow (holdfast_wal_fsync_duration_seconds), or its network?",
    ));
    let offsets = answers.iter().map(|node| node.wall_offset_ms);
    let spread_ms = match (offsets.clone().min(), offsets.max()) {
        (Some(least), Some(most)) => most.abs_diff(least),
        _ => 0,
    };
    checks.push(Check {
        check: "clocks agree",
        ok: spread_ms <= WALL_SPREAD_MS_MAX,
        detail: format!("within {spread_ms} ms (at most {WALL_SPREAD_MS_MAX})"),
        wanted: format!("within {WALL_SPREAD_MS_MAX} ms"),
        action: "repair the time service of the node that is off",
    });
    checks.push(named(
        "one version",
        answers
            .iter()
            .filter(|node| versions(node) != versions(leader))
            .map(|node| format!("node {} runs {}", node.node_id, versions(node))),
        versions(leader),
        "the leader's on every node".into(),
        "finish the upgrade, or take it back",
    ));
    checks
}

/// What a node runs: the program, and the newest commands that it can apply.
fn versions(node: &NodeStatus) -> String {
    format!(
        "{}, machine version {}",
        node.version,
        machine_version(node.machine_version)
    )
}

/// A check that names what is wrong, and says `fine` when nothing is.
fn named(
    check: &'static str,
    wrong: impl Iterator<Item = String>,
    fine: String,
    wanted: String,
    action: &'static str,
) -> Check {
    let wrong: Vec<String> = wrong.collect();
    Check {
        check,
        ok: wrong.is_empty(),
        detail: if wrong.is_empty() { fine } else { wrong.join("; ") },
        wanted,
        action,
    }
}

#[cfg(test)]
mod tests {
    use client::Member;

    use super::*;

    fn cluster() -> Vec<(String, Result<NodeStatus, client::Error>)> {
        let members: Vec<Member> = (1..=3)
            .map(|node_id| Member {
                node_id,
                endpoint: format!("host-{node_id}:7401"),
                voter: true,
                ..Member::default()
            })
            .collect();
        (1..=3)
            .map(|node_id| {
                let status = NodeStatus {
                    node_id,
                    role: if node_id == 2 { "leader" } else { "follower" }.into(),
                    leader_id: 2,
                    term: 4,
                    committed_index: 50_000,
                    applied_index: 50_000,
                    version: "1.0.0".into(),
                    members: members.clone(),
                    ..NodeStatus::default()
                };
                (format!("host-{node_id}:7401"), Ok(status))
            })
            .collect()
    }

    /// The checks that fail after one change.
    fn failing(change: impl FnOnce(&mut NodeStatus)) -> Vec<&'static str> {
        let mut views = cluster();
        change(views[2].1.as_mut().unwrap());
        look(&views)
            .into_iter()
            .filter(|check| !check.ok)
            .map(|check| check.check)
            .collect()
    }

    #[test]
    fn each_check_fails_for_its_reason_and_for_no_other() {
        assert!(failing(|_| ()).is_empty());
        assert_eq!(failing(|node| node.applied_index = 29_999), ["replicas keep up"]);
        assert_eq!(failing(|node| node.wall_offset_ms = -501), ["clocks agree"]);
        assert_eq!(failing(|node| node.version = "1.1.0".into()), ["one version"]);
        assert_eq!(failing(|node| node.machine_version = 2), ["one version"]);
        assert!(
            failing(|node| node.machine_version = 1).is_empty(),
            "not told is the first"
        );
        assert_eq!(failing(|node| node.leader_id = 0), ["one leader"]);
        assert_eq!(failing(|node| node.term = 3), ["one leader"]);
    }

    #[test]
    fn a_voter_that_is_down_is_named() {
        let mut views = cluster();
        views[0].1 = Err(client::Error::Unavailable {
            message: String::new(),
            retry_after_ms: 0,
        });
        let checks = look(&views);
        let wrong = checks
            .iter()
            .filter(|check| !check.ok)
            .map(|check| &*check.detail);
        let wrong: Vec<&str> = wrong.collect();
        assert_eq!(
            wrong,
            [
                "node 1 at host-1:7401 does not answer",
                "2 of 3 voters answer, 2 are needed"
            ]
        );
    }

    #[test]
    fn two_voters_survive_nothing() {
        let mut views = cluster();
        for (_, answer) in &mut views {
            answer.as_mut().unwrap().members.truncate(2);
        }
        assert!(
            look(&views)
                .iter()
                .any(|check| check.check == "survives a failure" && !check.ok)
        );
    }

    #[test]
    fn without_a_leader_nothing_else_is_said() {
        let mut views = cluster();
        views[1].1.as_mut().unwrap().role = "candidate".into();
        let checks = look(&views);
        assert_eq!(checks.len(), 1);
        assert!(!checks[0].ok);
    }
}

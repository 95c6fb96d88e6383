//! What a change of members would do to the quorum: pure, so that every case can be tested.
//!
//! The cluster checks again before it acts; this is for people to see it coming.

use client::Member;

use crate::exit::Failure;

/// A change, in words.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// To show before asking.
    pub lines: Vec<String>,
    /// Why the change endangers the quorum, if it does.
    pub danger: Option<String>,
    /// Nothing is left to do.
    pub already: bool,
}

/// Plans to make a learner a voter.
pub fn promote(members: &[Member], answering: &[u64], node_id: u64) -> Result<Plan, Failure> {
    let before = voters(members);
    let Some(member) = members.iter().find(|member| member.node_id == node_id) else {
        return Err(Failure::Refused(format!(
            "node {node_id} is no member; add it first: `holdfast member add {node_id} HOST:PORT`"
        )));
    };
    if member.voter {
        return Ok(Plan {
            lines: vec![format!("node {node_id} is a voter already")],
            danger: None,
            already: true,
        });
    }
    if !answering.contains(&node_id) {
        return Err(Failure::Refused(format!(
            "node {node_id} at {} does not answer; a voter that is down only weakens the quorum",
            member.endpoint
        )));
    }
    let mut after = before.clone();
    after.push(node_id);
    after.sort_unstable();
    Ok(Plan {
        lines: vec![
            format!("promote node {node_id} at {}", member.endpoint),
            compare(&before, &after),
        ],
        danger: None,
        already: false,
    })
}

/// Plans to remove a voter or learner.
pub fn remove(members: &[Member], answering: &[u64], leader_id: u64, node_id: u64) -> Result<Plan, Failure> {
    let Some(member) = members.iter().find(|member| member.node_id == node_id) else {
        let lines = vec![format!("node {node_id} is no member: nothing to remove")];
        return Ok(Plan {
            lines,
            danger: None,
            already: true,
        });
    };
    if !member.voter {
        let lines = vec![format!(
            "remove learner {node_id} at {}; the quorum does not change",
            member.endpoint
        )];
        return Ok(Plan {
            lines,
            danger: None,
            already: false,
        });
    }
    let before = voters(members);
    let after: Vec<u64> = before.iter().copied().filter(|id| *id != node_id).collect();
    if after.is_empty() {
        return Err(Failure::Refused(format!(
            "node {node_id} is the only voter; a cluster without one holds nothing"
        )));
    }
    let alive: Vec<u64> = after
        .iter()
        .copied()
        .filter(|id| answering.contains(id))
        .collect();
    let mut lines = vec![
        format!("remove voter {node_id} at {}", member.endpoint),
        compare(&before, &after),
    ];
    if node_id == leader_id {
        lines.push("it leads now: leadership moves to another voter".into());
    }
    let silent: Vec<u64> = after.iter().copied().filter(|id| !alive.contains(id)).collect();
    let danger = (alive.len() < majority(after.len())).then(|| {
        format!(
            "of the voters that would remain, only {} answer and {} are needed; silent: {}",
            alive.len(),
            majority(after.len()),
            list(&silent)
        )
    });
    Ok(Plan {
        lines,
        danger,
        already: false,
    })
}

/// Whether leadership can go there.
pub fn transfer(members: &[Member], answering: &[u64], node_id: u64) -> Result<(), Failure> {
    match members.iter().find(|member| member.node_id == node_id) {
        None => Err(Failure::Refused(format!(
            "node {node_id} is no member; `holdfast member list` shows them"
        ))),
        Some(member) if !member.voter => Err(Failure::Refused(format!(
            "node {node_id} is a learner; only voters lead: promote it first"
        ))),
        Some(_) if !answering.contains(&node_id) => Err(Failure::Refused(format!(
            "node {node_id} does not answer; handing it leadership would stop all writes until the next election"
        ))),
        Some(_) => Ok(()),
    }
}

fn voters(members: &[Member]) -> Vec<u64> {
    let mut ids: Vec<u64> = members
        .iter()
        .filter(|member| member.voter)
        .map(|member| member.node_id)
        .collect();
    ids.sort_unstable();
    ids
}

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

fn compare(before: &[u64], after: &[u64]) -> String {
    format!(
        "voters {} -> {}; may fail at once: {} -> {}",
        list(before),
        list(after),
        before.len().saturating_sub(majority(before.len())),
        after.len().saturating_sub(majority(after.len())),
    )
}

fn list(ids: &[u64]) -> String {
    format!(
        "[{}]",
        ids.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(voters: &[u64], learners: &[u64]) -> Vec<Member> {
        let member = |node_id: u64, voter| Member {
            node_id,
            endpoint: format!("n{node_id}:1"),
            voter,
            ..Member::default()
        };
        voters
            .iter()
            .map(|id| member(*id, true))
            .chain(learners.iter().map(|id| member(*id, false)))
            .collect()
    }

    #[test]
    fn promote_shows_what_the_quorum_gains() {
        let plan = promote(&members(&[3, 1, 2], &[4]), &[1, 2, 3, 4], 4).unwrap();
        assert_eq!(
            plan.lines[1],
            "voters [1 2 3] -> [1 2 3 4]; may fail at once: 1 -> 1"
        );
        assert!(promote(&members(&[1, 2, 3], &[]), &[1, 2, 3], 2).unwrap().already);
        for (answering, node) in [(vec![1, 2, 3], 4), (vec![1, 2, 3, 9], 9)] {
            assert_eq!(
                promote(&members(&[1, 2, 3], &[4]), &answering, node)
                    .unwrap_err()
                    .code(),
                5,
                "{node}"
            );
        }
    }

    #[test]
    fn remove_refuses_to_lose_the_quorum() {
        let safe = remove(&members(&[1, 2, 3, 4], &[]), &[1, 2, 3, 4], 1, 4).unwrap();
        assert_eq!(safe.danger, None);
        assert_eq!(
            safe.lines[1],
            "voters [1 2 3 4] -> [1 2 3]; may fail at once: 1 -> 1"
        );
        // Of [1 2 3] only 1 answers once 2 is gone: [1 3] needs both.
        let unsafe_ = remove(&members(&[1, 2, 3], &[]), &[1, 2], 1, 2).unwrap();
        let danger = unsafe_.danger.expect("no majority of [1 3] answers");
        assert!(
            danger.contains("only 1 answer and 2 are needed; silent: [3]"),
            "{danger}"
        );
        // Removing the silent one is what an operator wants.
        assert_eq!(
            remove(&members(&[1, 2, 3], &[]), &[1, 2], 1, 3).unwrap().danger,
            None
        );
        assert_eq!(remove(&members(&[1], &[]), &[1], 1, 1).unwrap_err().code(), 5);
    }

    #[test]
    fn remove_knows_learners_strangers_and_the_leader() {
        let all = members(&[1, 2, 3], &[4]);
        assert_eq!(remove(&all, &[1], 1, 4).unwrap().danger, None);
        assert!(remove(&all, &[1, 2, 3], 1, 9).unwrap().already);
        assert!(
            remove(&all, &[1, 2, 3], 2, 2)
                .unwrap()
                .lines
                .iter()
                .any(|line| line.contains("leads now"))
        );
    }

    #[test]
    fn leadership_goes_to_live_voters_only() {
        let all = members(&[1, 2, 3], &[4]);
        assert!(transfer(&all, &[1, 2, 3, 4], 2).is_ok());
        for (answering, node) in [(vec![1, 2, 3, 4], 4), (vec![1, 3], 2), (vec![1], 9)] {
            assert_eq!(transfer(&all, &answering, node).unwrap_err().code(), 5, "{node}");
        }
    }
}

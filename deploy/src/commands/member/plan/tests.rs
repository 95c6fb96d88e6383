use super::*;

const LAST_INDEX: u64 = 50_000;

/// Node 1 leads; everybody has everything.
fn seen(voters: &[u64], learners: &[u64], answering: &[u64]) -> Seen {
    let member = |node_id: u64, voter| Member {
        node_id,
        endpoint: format!("n{node_id}:1"),
        voter,
        matched_index: Some(LAST_INDEX),
        heard_ms_ago: Some(3),
        machine_version: Some(1),
    };
    let voters = voters.iter().map(|id| member(*id, true));
    Seen {
        leader: NodeStatus {
            node_id: 1,
            leader_id: 1,
            last_log_index: LAST_INDEX,
            members: voters
                .chain(learners.iter().map(|id| member(*id, false)))
                .collect(),
            ..NodeStatus::default()
        },
        answering: answering.to_vec(),
    }
}

fn lagging(mut seen: Seen, node_id: u64, behind: u64) -> Seen {
    for member in &mut seen.leader.members {
        if member.node_id == node_id {
            member.matched_index = Some(LAST_INDEX - behind);
        }
    }
    seen
}

fn words(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(Step::words).collect()
}

fn code(plan: Result<Plan, Failure>) -> u8 {
    plan.expect_err("refused").code()
}

#[test]
fn a_plan_shows_members_and_quorum_before_and_after() {
    let seen = seen(&[3, 1, 2], &[4], &[1, 2, 4]);
    let lines = promote(&seen, 4).unwrap().lines(&seen);
    let expected = "\
promote node 4
NODE  ENDPOINT  NOW      THEN    ANSWERS  MATCHED  BEHIND  HEARD
1     n1:1      leader   leader  yes      50,000   0       3 ms ago
2     n2:1      voter    voter   yes      50,000   0       3 ms ago
3     n3:1      voter    voter   NO       50,000   0       3 ms ago
4     n4:1      learner  voter   yes      50,000   0       3 ms ago
voters [1 2 3] -> [1 2 3 4]; quorum 2 -> 3; may fail at once: 1 -> 1";
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn a_node_is_added_once() {
    let seen = seen(&[1, 2, 3], &[4], &[1, 2, 3, 4]);
    assert_eq!(
        words(&add(&seen, 5, "n5:1").unwrap()),
        ["add node 5 at n5:1 as learner", "wait until node 5 has caught up"]
    );
    assert_eq!(
        words(&add(&seen, 4, "n4:1").unwrap()),
        ["wait until node 4 has caught up"]
    );
    assert!(add(&seen, 3, "n3:1").unwrap().is_done());
    assert_eq!(code(add(&seen, 3, "elsewhere:1")), 5);
}

#[test]
fn promote_wants_a_learner_that_answers() {
    let whole = seen(&[1, 2, 3], &[4], &[1, 2, 3, 4]);
    assert_eq!(promote(&whole, 4).unwrap().danger, None);
    assert!(promote(&whole, 2).unwrap().is_done());
    assert_eq!(code(promote(&whole, 9)), 5);
    assert_eq!(code(promote(&seen(&[1, 2, 3], &[4], &[1, 2, 3]), 4)), 5);
}

#[test]
fn remove_refuses_to_lose_the_quorum() {
    assert_eq!(
        remove(&seen(&[1, 2, 3, 4], &[], &[1, 2, 3, 4]), 4)
            .unwrap()
            .danger,
        None
    );
    // Of [1 2 3] only 1 answers once 2 is gone: [1 3] needs both.
    let down = seen(&[1, 2, 3], &[], &[1, 2]);
    let danger = remove(&down, 2)
        .unwrap()
        .danger
        .expect("no majority of [1 3] answers");
    assert!(
        danger.contains("of the voters [1 3] only 1 would answer") && danger.contains("silent: [3]"),
        "{danger}"
    );
    // Removing the silent one is what an operator wants.
    assert_eq!(remove(&down, 3).unwrap().danger, None);
    // Node 3 answers, and would hold up every commit until it has caught up.
    let late = lagging(seen(&[1, 2, 3], &[], &[1, 2, 3]), 3, BEHIND_ENTRIES_MAX + 1);
    let danger = remove(&late, 2).unwrap().danger.expect("3 is behind");
    assert!(danger.contains("behind: [3]"), "{danger}");
    let near = lagging(late, 3, BEHIND_ENTRIES_MAX);
    assert_eq!(remove(&near, 2).unwrap().danger, None);
    assert_eq!(code(remove(&seen(&[1], &[], &[1]), 1)), 5);
}

#[test]
fn remove_knows_learners_strangers_and_the_leader() {
    let all = seen(&[1, 2, 3], &[4], &[1]);
    assert_eq!(remove(&all, 4).unwrap().danger, None, "a learner has no vote");
    assert!(remove(&all, 9).unwrap().is_done());
    let leads = remove(&seen(&[1, 2, 3], &[], &[1, 2, 3]), 1).unwrap();
    assert!(
        leads.notes[0].contains("hands leadership over first"),
        "{leads:?}"
    );
}

#[test]
fn replace_goes_on_where_it_stopped() {
    let all = [1, 2, 3, 4];
    let steps = |voters: &[u64], learners: &[u64]| {
        let plan = replace(&seen(voters, learners, &all), 3, 4, "n4:1").unwrap();
        assert_eq!(plan.danger, None);
        words(&plan)
    };
    let whole = [
        "add node 4 at n4:1 as learner",
        "wait until node 4 has caught up",
        "promote node 4",
        "remove node 3",
    ];
    assert_eq!(steps(&[1, 2, 3], &[]), whole);
    assert_eq!(steps(&[1, 2, 3], &[4]), whole[1..]);
    assert_eq!(steps(&[1, 2, 3, 4], &[]), whole[3..]);
    assert!(steps(&[1, 2, 4], &[]).is_empty());
    // A learner's place is a learner's.
    assert_eq!(steps(&[1, 2], &[3]), [whole[0], whole[1], whole[3]]);
}

#[test]
fn replace_takes_dead_nodes_out_and_refuses_what_is_none() {
    // The dead one is who is replaced: what remains is whole.
    let plan = replace(&seen(&[1, 2, 3], &[], &[1, 2]), 3, 4, "n4:1").unwrap();
    assert_eq!(plan.danger, None);
    // Two of three are dead: a fourth voter cannot be agreed on.
    let plan = replace(&seen(&[1, 2, 3], &[], &[1]), 3, 4, "n4:1").unwrap();
    assert!(plan.danger.is_some(), "{plan:?}");
    let all = seen(&[1, 2, 3], &[], &[1, 2, 3]);
    for (old, new, endpoint) in [(3, 3, "n3:1"), (9, 4, "n4:1"), (3, 2, "elsewhere:1")] {
        assert_eq!(code(replace(&all, old, new, endpoint)), 5, "{old} by {new}");
    }
}

#[test]
fn leadership_goes_to_live_voters_only() {
    let all = seen(&[1, 2, 3], &[4], &[1, 2, 3, 4]);
    assert_eq!(words(&transfer(&all, 2).unwrap()), ["hand leadership to node 2"]);
    assert!(transfer(&all, 1).unwrap().is_done());
    let down = seen(&[1, 2, 3], &[4], &[1, 3]);
    for (seen, node) in [(&all, 4), (&down, 2), (&all, 9)] {
        assert_eq!(code(transfer(seen, node)), 5, "{node}");
    }
}

#[test]
fn a_change_left_half_way_is_announced() {
    let mut joint = seen(&[1, 2, 3], &[], &[1, 2, 3]);
    joint.leader.joint = true;
    let lines = remove(&joint, 3).unwrap().lines(&joint);
    assert!(lines[1].contains("half-way"), "{lines:?}");
}

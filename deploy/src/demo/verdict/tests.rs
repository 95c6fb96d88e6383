//! Each check, with evidence that is right and evidence that is wrong in one way.

use super::*;
use crate::demo::{
    journal::{Ordered, Step, ToldReceipt},
    sabotage,
};

const UNITS: u32 = 3;

fn claim(rank: u32, user: u8, status: ClaimStatus) -> Claim {
    Claim {
        claim_id: format!("c{rank}"),
        status,
        quantity: 1,
        rank,
        deadline_ms: 0,
        fencing_token: 10 + u64::from(rank),
        receipt: Receipt {
            log_index: 10 + u64::from(rank) / 2,
            position: rank,
            term: 1,
            log_time_ms: 100,
        },
        user_hash: vec![user; 16],
    }
}

fn told(claim: &Claim, status: &str) -> Told {
    let Receipt {
        log_index,
        position,
        term,
        log_time_ms,
    } = claim.receipt;
    Told {
        claim_id: claim.claim_id.clone(),
        status: status.into(),
        quantity: claim.quantity,
        rank: claim.rank,
        fencing_token: claim.fencing_token,
        receipt: ToldReceipt {
            log_index,
            position,
            term,
            log_time_ms,
        },
    }
}

fn ordered(claim_id: &str) -> Ordered {
    Ordered {
        order_id: claim_id.replace('c', "o"),
        claim_id: claim_id.into(),
    }
}

fn entry(user: u32, answer: Answer) -> Entry {
    let step = if matches!(answer, Answer::Paid(_)) {
        Step::Pay
    } else {
        Step::Claim
    };
    Entry {
        at_us: 0,
        user,
        step,
        key: format!("k{user}"),
        status: 200,
        answer,
    }
}

/// Everybody who has a unit has paid 100 for it; 2's card was declined; 4 was charged for another claim first, and
/// got that back.
fn good_money() -> Money {
    let charge = |claim_id: &str, attempt: u32, captured_minor, refunded_minor| Charge {
        payment_id: format!("p-{claim_id}-{attempt}"),
        claim_id: claim_id.into(),
        authorized_minor: 0,
        captured_minor,
        refunded_minor,
    };
    let order = |claim_id: &str| Order {
        order_id: ordered(claim_id).order_id,
        claim_id: claim_id.into(),
        payment_id: format!("p-{claim_id}-1"),
        quantity: 1,
        paid: true,
    };
    Money {
        price_minor: 100,
        charges: vec![
            charge("c1", 1, 100, 0),
            charge("c2", 1, 0, 0),
            charge("c3", 1, 100, 0),
            charge("c4", 0, 100, 100),
            charge("c4", 1, 100, 0),
        ],
        orders: vec![order("c1"), order("c3"), order("c4")],
        accounts: vec![("provider_clearing", 300), ("revenue", -400), ("refunds", 100)],
    }
}

/// Shoppers 1 to 4 were granted; 2 abandoned and his unit went to 4; all three units are sold.
fn good() -> Evidence {
    use ClaimStatus::{Confirmed, Expired};
    let claims = vec![
        claim(1, 1, Confirmed),
        claim(2, 2, Expired),
        claim(3, 3, Confirmed),
        claim(4, 4, Confirmed),
    ];
    let mut journal = vec![
        entry(5, Answer::SoldOut { more_until: None }),
        entry(1, Answer::Unknown { retry_after_s: 1 }),
    ];
    for (claim, user) in claims.iter().zip(1..) {
        journal.push(entry(user, Answer::Claim(told(claim, "held"))));
        if claim.status == Confirmed {
            journal.push(entry(user, Answer::Paid(ordered(&claim.claim_id))));
        }
    }
    let replica = |node_id| Replica {
        node_id,
        log_index: 20,
        digest: vec![7; 16],
        units_available: 0,
        units_held: 0,
        units_confirmed: UNITS.into(),
        claims: claims.clone(),
    };
    Evidence {
        units: UNITS.into(),
        per_user_units_max: 1,
        replicas_expected: 3,
        journal,
        replicas: vec![replica(1), replica(2), replica(3)],
        money: good_money(),
        chaos: None,
    }
}

/// As [`good`], but shoppers had no time for the fourth unit, and everybody was killed.
fn chaotic() -> Evidence {
    let kills = Kills {
        processes: 5,
        all_at_once: 1,
    };
    let mut evidence = good();
    evidence.units += 1;
    for replica in &mut evidence.replicas {
        replica.units_available += 1;
    }
    evidence.chaos = Some(Chaos {
        nodes: kills,
        doors: kills,
        provider: kills,
        open_longest: Duration::from_secs(9),
        open_max: Duration::from_secs(85),
    });
    evidence
}

#[test]
fn chaos_has_to_strike_everybody_and_to_leave_nobody_waiting() {
    assert_eq!(failed(&chaotic()), [""; 0]);
    let spoilt = |name, spoil: fn(&mut Chaos)| {
        let mut evidence = chaotic();
        spoil(evidence.chaos.as_mut().unwrap());
        assert_eq!(failed(&evidence), [name]);
    };
    spoilt(name::KILLED, |chaos| chaos.nodes.all_at_once = 0);
    spoilt(name::KILLED, |chaos| chaos.doors.all_at_once = 0);
    spoilt(name::KILLED, |chaos| chaos.provider.all_at_once = 0);
    spoilt(name::STUCK, |chaos| chaos.open_longest = Duration::from_secs(86));
    // Without chaos the same sale should have sold out.
    let mut evidence = chaotic();
    evidence.chaos = None;
    assert_eq!(failed(&evidence), [name::SOLD]);
}

fn failed(evidence: &Evidence) -> Vec<&'static str> {
    judge(evidence)
        .checks
        .into_iter()
        .filter(|check| !check.passed)
        .map(|check| check.name)
        .collect()
}

/// The evidence, made wrong in one way, must fail this check.
fn fails(name: &str, spoil: impl FnOnce(&mut Evidence)) {
    let mut evidence = good();
    spoil(&mut evidence);
    let failed = failed(&evidence);
    assert!(
        failed.contains(&name),
        "`{name}` did not fail; failed: {failed:?}"
    );
}

#[test]
fn right_evidence_passes_every_check() {
    let verdict = judge(&good());
    assert!(verdict.passed(), "{verdict:?}");
    assert_eq!(verdict.checks.len(), 19);
    let (first, last) = verdict.sold.unwrap();
    assert_eq!((first.position, last.position), (1, 4));
}

#[test]
fn a_replica_that_was_not_heard_proves_nothing() {
    fails(name::HEARD, |evidence| {
        evidence.replicas.pop();
    });
    fails(name::HEARD, |evidence| evidence.replicas[2].node_id = 1);
    fails(name::HEARD, |evidence| evidence.journal.clear());
}

#[test]
fn no_evidence_passes_nothing_of_the_replicas() {
    let evidence = Evidence {
        replicas: Vec::new(),
        ..good()
    };
    let failed = failed(&evidence);
    for name in [
        name::HEARD,
        name::SOLD,
        name::CONSERVED,
        name::ORDER,
        name::EQUAL,
        name::HASHES,
    ] {
        assert!(failed.contains(&name), "{name}");
    }
}

#[test]
fn overselling_is_seen_in_listings_and_in_the_journal() {
    fails(name::OVERSOLD, |evidence| {
        evidence.replicas[1].claims.push(claim(5, 5, ClaimStatus::Held))
    });
    fails(name::OVERSOLD, |evidence| {
        evidence.journal.push(entry(5, Answer::Paid(ordered("c5"))));
    });
}

#[test]
fn more_than_a_share_is_seen_in_listings_and_in_the_journal() {
    fails(name::PER_USER, |evidence| {
        evidence.replicas[2].claims[3].user_hash = vec![1; 16]
    });
    fails(name::PER_USER, |evidence| {
        evidence.journal.push(entry(4, Answer::Paid(ordered("c9"))));
    });
}

#[test]
fn a_claim_of_two_shoppers_or_two_lines_is_seen() {
    fails(name::PER_CLAIM, |evidence| {
        let same = told(&claim(1, 1, ClaimStatus::Held), "held");
        evidence.journal.push(entry(9, Answer::Claim(same)));
    });
    fails(name::PER_CLAIM, |evidence| {
        let twice = evidence.replicas[0].claims[3].clone();
        evidence.replicas[0].claims.push(twice);
    });
}

#[test]
fn a_claim_that_went_to_somebody_else_is_seen() {
    // Shopper 2 is told of a second claim, which is listed under another user.
    fails(name::OWNER, |evidence| {
        let other = told(&claim(4, 4, ClaimStatus::Held), "held");
        evidence.journal.retain(|entry| entry.user != 4);
        evidence.journal.push(entry(2, Answer::Claim(other)));
    });
    // Shoppers 1 and 3 are listed as one.
    fails(name::OWNER, |evidence| {
        evidence.replicas[0].claims[2].user_hash = vec![1; 16]
    });
}

#[test]
fn a_lost_or_changed_grant_is_seen_on_any_replica() {
    fails(name::GRANTS, |evidence| {
        evidence.replicas[2].claims.remove(1);
    });
    fails(name::GRANTS, |evidence| {
        evidence.replicas[1].claims[0].receipt.log_index += 1
    });
    fails(name::GRANTS, |evidence| {
        evidence.replicas[1].claims[0].quantity = 2
    });
}

#[test]
fn a_lost_confirm_is_seen_on_any_replica() {
    fails(name::CONFIRMS, |evidence| {
        evidence.replicas[1].claims[0].status = ClaimStatus::Expired
    });
    // Being told of a confirmed claim is an acknowledgement as well.
    fails(name::CONFIRMS, |evidence| {
        let claim = claim(2, 2, ClaimStatus::Expired);
        evidence
            .journal
            .push(entry(2, Answer::Claim(told(&claim, "confirmed"))));
    });
}

#[test]
fn selling_less_than_everything_is_seen() {
    fails(name::SOLD, |evidence| {
        for replica in &mut evidence.replicas {
            replica.claims[3].status = ClaimStatus::Expired;
        }
    });
}

#[test]
fn units_that_vanish_are_seen() {
    fails(name::CONSERVED, |evidence| {
        evidence.replicas[0].units_available = 1
    });
    // The counters agree with each other, but not with the claims.
    fails(name::CONSERVED, |evidence| {
        evidence.replicas[0].units_held = 1;
        evidence.replicas[0].units_confirmed = 2;
    });
}

#[test]
fn gaps_and_steps_back_are_seen() {
    fails(name::ORDER, |evidence| evidence.replicas[0].claims[3].rank = 5);
    fails(name::ORDER, |evidence| {
        let before = evidence.replicas[0].claims[2].receipt;
        evidence.replicas[0].claims[3].receipt = before;
    });
    fails(name::ORDER, |evidence| {
        evidence.replicas[0].claims[3].receipt.log_time_ms = 99
    });
    fails(name::ORDER, |evidence| {
        evidence.replicas[0].claims[3].receipt.term = 0
    });
    fails(name::ORDER, |evidence| evidence.replicas[0].claims.swap(0, 1));
}

#[test]
fn replicas_that_differ_are_seen() {
    fails(name::EQUAL, |evidence| {
        evidence.replicas[2].claims[1].fencing_token += 1
    });
    fails(name::HASHES, |evidence| evidence.replicas[2].digest[0] ^= 1);
    fails(name::HASHES, |evidence| evidence.replicas[2].log_index += 1);
    fails(name::HASHES, |evidence| {
        evidence
            .replicas
            .iter_mut()
            .for_each(|replica| replica.digest.clear())
    });
}

#[test]
fn money_and_units_that_do_not_belong_together_are_seen() {
    fails(name::BOUGHT, |evidence| {
        evidence.money.orders.remove(0);
    });
    fails(name::BOUGHT, |evidence| {
        evidence.money.charges[0].refunded_minor = 100
    });
    // As many as there should be, but of another claim.
    fails(name::BOUGHT, |evidence| {
        evidence.money.orders[0].claim_id = "c2".into()
    });
    fails(name::NO_ORDER, |evidence| {
        evidence.money.charges[1].captured_minor = 100
    });
    fails(name::NO_ORDER, |evidence| evidence.money.orders[2].paid = false);
    fails(name::NO_PAYMENT, |evidence| {
        evidence.money.charges.remove(0);
    });
    fails(name::NO_PAYMENT, |evidence| {
        evidence.money.charges[2].captured_minor = 99
    });
    fails(name::NO_PAYMENT, |evidence| {
        evidence.money.orders[0].payment_id = "p-c3-1".into()
    });
}

#[test]
fn a_second_charge_or_too_large_a_one_is_seen() {
    fails(name::DOUBLE, |evidence| {
        evidence.money.charges[3].refunded_minor = 0
    });
    fails(name::DOUBLE, |evidence| {
        evidence.money.charges[0].captured_minor = 101
    });
}

#[test]
fn money_left_on_hold_is_seen() {
    fails(name::HELD_MONEY, |evidence| {
        evidence.money.charges[1].authorized_minor = 100
    });
}

#[test]
fn a_lost_order_is_seen() {
    fails(name::ORDERS, |evidence| {
        evidence.money.orders[1].order_id = "o9".into()
    });
}

#[test]
fn a_ledger_that_tells_another_story_is_seen() {
    fails(name::LEDGER, |evidence| evidence.money.accounts[1].1 += 1);
    // Balanced, but of another world.
    fails(name::LEDGER, |evidence| {
        evidence.money.accounts = vec![("provider_clearing", 200), ("revenue", -200)]
    });
    fails(name::LEDGER, |evidence| {
        evidence
            .money
            .accounts
            .extend([("provider_hold", 100), ("shopper_hold", -100)])
    });
}

#[test]
fn sabotage_turns_it_red() {
    let mut evidence = good();
    let done = sabotage::spoil(&mut evidence).unwrap();
    assert!(done.contains("c1") && done.contains("c3"), "{done}");
    let failed = failed(&evidence);
    for name in [
        name::PER_USER,
        name::PER_CLAIM,
        name::GRANTS,
        name::CONFIRMS,
        name::ORDER,
        name::NO_ORDER,
        name::ORDERS,
    ] {
        assert!(failed.contains(&name), "{name} did not fail: {failed:?}");
    }
}

#[test]
fn sabotage_needs_something_to_spoil() {
    let mut evidence = good();
    evidence.journal.clear();
    assert!(sabotage::spoil(&mut evidence).is_none());
}

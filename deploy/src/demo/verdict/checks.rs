//! The single checks. Each counts what breaks it and shows one example.

use std::collections::{BTreeSet, HashMap, HashSet};

use client::{Claim, ClaimStatus, Receipt};

use super::{Acknowledged, Chaos, Check, Evidence, Replica, money, name};
use crate::demo::journal::{Told, ToldReceipt};

/// All of them, in the order they are shown.
pub fn all(evidence: &Evidence, told: &Acknowledged) -> Vec<Check> {
    [
        heard(evidence, told),
        oversold(evidence, told),
        per_user(evidence, told),
        per_claim(evidence, told),
        owner(evidence, told),
        grants(evidence, told),
        confirms(evidence, told),
        sold(evidence, told),
        conserved(evidence),
        order(evidence),
        equal(evidence),
        hashes(evidence),
    ]
    .into_iter()
    .chain(money::all(evidence, told))
    .chain(
        evidence
            .chaos
            .iter()
            .flat_map(|chaos| [killed(chaos), stuck(chaos)]),
    )
    .collect()
}

/// Nothing is proven by chaos that spared somebody.
fn killed(chaos: &Chaos) -> Check {
    let kinds = [
        ("nodes", chaos.nodes),
        ("doors", chaos.doors),
        ("provider", chaos.provider),
    ];
    let spared = kinds.iter().find(|(_, kills)| kills.all_at_once == 0);
    let found = kinds.map(|(name, kills)| format!("{name} {} ({}× all)", kills.processes, kills.all_at_once));
    Check {
        name: name::KILLED,
        passed: spared.is_none(),
        found: found.join(", "),
        example: spared.map(|(name, _)| format!("{name}: never all at once")),
    }
}

fn stuck(chaos: &Chaos) -> Check {
    Check {
        name: name::STUCK,
        passed: chaos.open_longest <= chaos.open_max,
        found: format!(
            "{:.1} s of {} s allowed",
            chaos.open_longest.as_secs_f64(),
            chaos.open_max.as_secs()
        ),
        example: None,
    }
}

/// A check that counts offenders: none may be found.
pub(super) fn none(name: &'static str, offenders: BTreeSet<String>) -> Check {
    Check {
        name,
        passed: offenders.is_empty(),
        found: offenders.len().to_string(),
        example: offenders.into_iter().next(),
    }
}

/// A check of each replica for itself: `wrong` says what is wrong with one. There must be one to ask.
fn everywhere(name: &'static str, evidence: &Evidence, wrong: impl Fn(&Replica) -> Option<String>) -> Check {
    let of = evidence.replicas.len();
    let mut complaints = evidence
        .replicas
        .iter()
        .filter_map(|replica| Some(format!("node {}: {}", replica.node_id, wrong(replica)?)))
        .peekable();
    let example = complaints.peek().cloned();
    let right = of - complaints.count();
    Check {
        name,
        passed: right == of && of > 0,
        found: format!("{right} of {of}"),
        example,
    }
}

/// Nothing is proven by a replica that was not asked, or by a sale in which nobody got anything.
fn heard(evidence: &Evidence, told: &Acknowledged) -> Check {
    let expected = evidence.replicas_expected;
    let nodes: HashSet<u64> = evidence.replicas.iter().map(|replica| replica.node_id).collect();
    let each_once = nodes.len() == expected && evidence.replicas.len() == expected;
    let found = format!(
        "{} of {expected}; {} grants acknowledged",
        nodes.len(),
        told.claims.len()
    );
    Check {
        name: name::HEARD,
        passed: each_once && !told.claims.is_empty(),
        found,
        example: None,
    }
}

fn units(claims: &[Claim], wanted: impl Fn(ClaimStatus) -> bool) -> u64 {
    claims
        .iter()
        .filter(|claim| wanted(claim.status))
        .map(|claim| u64::from(claim.quantity))
        .sum()
}

fn is_live(status: ClaimStatus) -> bool {
    matches!(status, ClaimStatus::Held | ClaimStatus::Confirmed)
}

fn oversold(evidence: &Evidence, told: &Acknowledged) -> Check {
    let told = told
        .confirmed
        .values()
        .map(|(_, quantity)| u64::from(*quantity))
        .sum();
    let listed = evidence
        .replicas
        .iter()
        .map(|replica| units(&replica.claims, is_live))
        .max();
    let over = listed.unwrap_or(0).max(told).saturating_sub(evidence.units);
    Check {
        name: name::OVERSOLD,
        passed: over == 0,
        found: over.to_string(),
        example: None,
    }
}

fn per_user(evidence: &Evidence, told: &Acknowledged) -> Check {
    let mut offenders = BTreeSet::new();
    let mut by_user: HashMap<u32, u64> = HashMap::new();
    for (user, quantity) in told.confirmed.values() {
        *by_user.entry(*user).or_default() += u64::from(*quantity);
    }
    for (user, units) in by_user {
        if units > evidence.per_user_units_max {
            offenders.insert(format!("shopper {user} was told of {units} units"));
        }
    }
    for replica in &evidence.replicas {
        let mut by_hash: HashMap<&[u8], u64> = HashMap::new();
        for claim in replica.claims.iter().filter(|claim| is_live(claim.status)) {
            *by_hash.entry(&claim.user_hash).or_default() += u64::from(claim.quantity);
        }
        for (user, units) in by_hash {
            if units > evidence.per_user_units_max {
                offenders.insert(format!(
                    "node {}: user {} has {units} units",
                    replica.node_id,
                    hex(user)
                ));
            }
        }
    }
    none(name::PER_USER, offenders)
}

fn per_claim(evidence: &Evidence, told: &Acknowledged) -> Check {
    let mut offenders = BTreeSet::new();
    for (claim_id, tellings) in &told.claims {
        let users: BTreeSet<u32> = tellings.iter().map(|(user, _)| *user).collect();
        if users.len() > 1 {
            offenders.insert(format!("{claim_id} was told to shoppers {users:?}"));
        }
    }
    for replica in &evidence.replicas {
        let mut seen = HashSet::new();
        for Claim { claim_id, .. } in &replica.claims {
            if !seen.insert(claim_id) {
                offenders.insert(format!("node {}: {claim_id} is listed twice", replica.node_id));
            }
        }
    }
    none(name::PER_CLAIM, offenders)
}

/// Users are listed as keyed hashes that only the cluster can compute; but one user has one hash, and one
/// hash one user.
fn owner(evidence: &Evidence, told: &Acknowledged) -> Check {
    let mut offenders = BTreeSet::new();
    for replica in &evidence.replicas {
        let mut hash_of: HashMap<u32, &[u8]> = HashMap::new();
        let mut user_of: HashMap<&[u8], u32> = HashMap::new();
        for claim in &replica.claims {
            for (user, _) in told.claims.get(claim.claim_id.as_str()).into_iter().flatten() {
                let hash = *hash_of.entry(*user).or_insert(&claim.user_hash);
                let owner = *user_of.entry(&claim.user_hash).or_insert(*user);
                if hash != claim.user_hash || owner != *user {
                    offenders.insert(format!(
                        "node {}: {} of shopper {user}",
                        replica.node_id, claim.claim_id
                    ));
                }
            }
        }
    }
    none(name::OWNER, offenders)
}

fn grants(evidence: &Evidence, told: &Acknowledged) -> Check {
    let mut offenders = BTreeSet::new();
    for replica in &evidence.replicas {
        let listed = by_id(&replica.claims);
        for (claim_id, tellings) in &told.claims {
            match listed.get(claim_id) {
                None => {
                    offenders.insert(format!("node {}: {claim_id} is missing", replica.node_id));
                }
                Some(claim) if tellings.iter().any(|(_, told)| !same_grant(told, claim)) => {
                    offenders.insert(format!("node {}: {claim_id} is another grant", replica.node_id));
                }
                Some(_) => {}
            }
        }
    }
    none(name::GRANTS, offenders)
}

fn same_grant(told: &Told, listed: &Claim) -> bool {
    let Receipt {
        log_index,
        position,
        term,
        log_time_ms,
    } = listed.receipt;
    told.rank == listed.rank
        && told.quantity == listed.quantity
        && told.receipt
            == ToldReceipt {
                log_index,
                position,
                term,
                log_time_ms,
            }
}

fn confirms(evidence: &Evidence, told: &Acknowledged) -> Check {
    let mut offenders = BTreeSet::new();
    for replica in &evidence.replicas {
        let listed = by_id(&replica.claims);
        for claim_id in told.confirmed.keys() {
            let claim = listed.get(claim_id);
            if claim.is_none_or(|claim| claim.status != ClaimStatus::Confirmed) {
                offenders.insert(format!("node {}: {claim_id} is not sold", replica.node_id));
            }
        }
    }
    none(name::CONFIRMS, offenders)
}

fn sold(evidence: &Evidence, told: &Acknowledged) -> Check {
    let confirmed = |replica: &Replica| units(&replica.claims, |status| status == ClaimStatus::Confirmed);
    let sold: BTreeSet<u64> = evidence.replicas.iter().map(confirmed).collect();
    let shown = sold.iter().map(u64::to_string).collect::<Vec<_>>().join(" or ");
    let found = format!(
        "{shown} of {}; {} acknowledged",
        evidence.units,
        told.confirmed.len()
    );
    // Chaos leaves shoppers no time to buy everything; they must have bought something.
    let passed = match evidence.chaos {
        None => sold == BTreeSet::from([evidence.units]),
        Some(_) => sold.len() == 1 && !sold.contains(&0),
    };
    Check {
        name: name::SOLD,
        passed,
        found,
        example: None,
    }
}

fn conserved(evidence: &Evidence) -> Check {
    everywhere(name::CONSERVED, evidence, |replica| {
        let held = units(&replica.claims, |status| status == ClaimStatus::Held);
        let confirmed = units(&replica.claims, |status| status == ClaimStatus::Confirmed);
        let available = replica.units_available;
        let (held_counted, confirmed_counted) = (replica.units_held, replica.units_confirmed);
        let right = available + held + confirmed == evidence.units
            && (held, confirmed) == (held_counted, confirmed_counted);
        (!right).then(|| {
            format!(
                "{available} + {held} + {confirmed} listed, {available} + {held_counted} + {confirmed_counted} \
                 counted"
            )
        })
    })
}

fn order(evidence: &Evidence) -> Check {
    everywhere(name::ORDER, evidence, |replica| {
        let mut last = Receipt::default();
        for (claim, rank) in replica.claims.iter().zip(1..) {
            let receipt = claim.receipt;
            let increasing = (receipt.log_index, receipt.position) > (last.log_index, last.position)
                && receipt.log_time_ms >= last.log_time_ms
                && receipt.term >= last.term;
            if claim.rank != rank || !increasing {
                return Some(format!(
                    "rank {} at place {rank}, {receipt:?} after {last:?}",
                    claim.rank
                ));
            }
            last = receipt;
        }
        None
    })
}

fn equal(evidence: &Evidence) -> Check {
    let first = evidence.replicas.first().map(|replica| &replica.claims);
    everywhere(name::EQUAL, evidence, |replica| {
        (Some(&replica.claims) != first).then(|| "lists other claims than the first".to_owned())
    })
}

fn hashes(evidence: &Evidence) -> Check {
    let of = |replica: &Replica| (replica.log_index, replica.digest.clone());
    let first = evidence.replicas.first().map(of);
    let mut check = everywhere(name::HASHES, evidence, |replica| {
        let other = replica.digest.is_empty() || Some(of(replica)) != first;
        other.then(|| format!("{} at index {}", hex(&replica.digest), replica.log_index))
    });
    if let Some((index, digest)) = first {
        let start: String = hex(&digest).chars().take(DIGITS_SHOWN).collect();
        check.found.push_str(&format!("; {start} at index {index}"));
    }
    check
}

/// Digits of a hash that are shown: enough to compare by eye.
const DIGITS_SHOWN: usize = 12;

fn by_id(claims: &[Claim]) -> HashMap<&str, &Claim> {
    claims
        .iter()
        .map(|claim| (claim.claim_id.as_str(), claim))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

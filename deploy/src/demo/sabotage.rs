//! `--sabotage`: spoils the evidence after a good run, to show that the verdict would have noticed.
//!
//! Only what was observed is touched, never the cluster.

use client::ClaimStatus;

use super::{
    journal::Answer,
    verdict::{Evidence, Replica},
};

/// Drops one acknowledged grant from every replica's listing, lists another claim twice, and forgets an order.
/// Gives what was done, in words; `None` when there is too little evidence to spoil.
pub fn spoil(evidence: &mut Evidence) -> Option<String> {
    let told = |claim_id: &str| {
        evidence
            .journal
            .iter()
            .any(|entry| matches!(&entry.answer, Answer::Claim(told) if told.claim_id == claim_id))
    };
    let sold: Vec<String> = evidence
        .replicas
        .first()?
        .claims
        .iter()
        .filter(|claim| claim.status == ClaimStatus::Confirmed && told(&claim.claim_id))
        .map(|claim| claim.claim_id.clone())
        .collect();
    let (dropped, doubled) = (sold.first()?.clone(), sold.get(1)?.clone());
    for Replica { claims, .. } in &mut evidence.replicas {
        claims.retain(|claim| claim.claim_id != dropped);
        if let Some(place) = claims.iter().position(|claim| claim.claim_id == doubled) {
            claims.insert(place, claims[place].clone());
        }
    }
    let order = evidence.money.orders.pop()?.order_id;
    Some(format!(
        "dropped {dropped} and doubled\n  {doubled} in what the replicas listed,\n  and forgot order {order}"
    ))
}

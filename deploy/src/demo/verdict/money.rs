//! The checks of the money: orders, the provider's charges, units sold and the ledger, each against the others.

use std::collections::{BTreeMap, BTreeSet};

use client::ClaimStatus;

use super::{Acknowledged, Charge, Check, Evidence, Money, Order, checks::none, name};

/// All of them, in the order they are shown.
pub fn all(evidence: &Evidence, told: &Acknowledged) -> [Check; 7] {
    let money = &evidence.money;
    [
        bought(evidence),
        double(money),
        no_order(money),
        no_payment(money),
        held_money(money),
        orders(money, told),
        ledger(money),
    ]
}

fn paid(money: &Money) -> impl Iterator<Item = &Order> {
    money.orders.iter().filter(|order| order.paid)
}

fn charged(money: &Money) -> impl Iterator<Item = &Charge> {
    money.charges.iter().filter(|charge| charge.net_minor() > 0)
}

/// The three are of the same claims, not only as many.
fn bought(evidence: &Evidence) -> Check {
    let ordered: BTreeSet<&str> = paid(&evidence.money)
        .map(|order| order.claim_id.as_str())
        .collect();
    let charged: BTreeSet<&str> = charged(&evidence.money)
        .map(|charge| charge.claim_id.as_str())
        .collect();
    let sold: BTreeSet<&str> = evidence
        .replicas
        .iter()
        .flat_map(|replica| &replica.claims)
        .filter(|claim| claim.status == ClaimStatus::Confirmed)
        .map(|claim| claim.claim_id.as_str())
        .collect();
    let odd = ordered
        .union(&charged)
        .chain(&sold)
        .find(|claim| !(ordered.contains(*claim) && charged.contains(*claim) && sold.contains(*claim)));
    Check {
        name: name::BOUGHT,
        passed: odd.is_none(),
        found: format!("{} = {} = {}", ordered.len(), charged.len(), sold.len()),
        example: odd.map(|claim_id| {
            let has = |set: &BTreeSet<&str>| if set.contains(claim_id) { "yes" } else { "no" };
            format!(
                "{claim_id}: order {}, charge {}, sold {}",
                has(&ordered),
                has(&charged),
                has(&sold)
            )
        }),
    }
}

/// Charged twice for one claim, or more than it costs.
fn double(money: &Money) -> Check {
    let mut by_claim: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for charge in charged(money) {
        let (charges, minor) = by_claim.entry(&charge.claim_id).or_default();
        *charges += 1;
        *minor += charge.net_minor();
    }
    let wrong = by_claim
        .into_iter()
        .filter(|(_, (charges, minor))| *charges > 1 || *minor > money.price_minor)
        .map(|(claim_id, (charges, minor))| format!("{claim_id}: {minor} in {charges} charges"));
    none(name::DOUBLE, wrong.collect())
}

fn no_order(money: &Money) -> Check {
    let ordered: BTreeSet<&str> = paid(money).map(|order| order.payment_id.as_str()).collect();
    let wrong = charged(money)
        .filter(|charge| !ordered.contains(charge.payment_id.as_str()))
        .map(|charge| format!("{} for {}", charge.payment_id, charge.claim_id));
    none(name::NO_ORDER, wrong.collect())
}

/// Its own payment, in full.
fn no_payment(money: &Money) -> Check {
    let charges: BTreeMap<&str, &Charge> = money
        .charges
        .iter()
        .map(|charge| (charge.payment_id.as_str(), charge))
        .collect();
    let wrong = paid(money)
        .filter(|order| {
            charges.get(order.payment_id.as_str()).is_none_or(|charge| {
                charge.claim_id != order.claim_id
                    || charge.net_minor() != money.price_minor * u64::from(order.quantity)
            })
        })
        .map(|order| format!("{} names {}", order.order_id, order.payment_id));
    none(name::NO_PAYMENT, wrong.collect())
}

fn held_money(money: &Money) -> Check {
    let wrong = money
        .charges
        .iter()
        .filter(|charge| charge.authorized_minor > 0)
        .map(|charge| format!("{} for {}", charge.payment_id, charge.claim_id));
    none(name::HELD_MONEY, wrong.collect())
}

fn orders(money: &Money, told: &Acknowledged) -> Check {
    let there: BTreeSet<(&str, &str)> = paid(money)
        .map(|order| (order.order_id.as_str(), order.claim_id.as_str()))
        .collect();
    let wrong = told
        .orders
        .iter()
        .filter(|(order_id, claim_id)| !there.contains(&(**order_id, **claim_id)))
        .map(|(order_id, claim_id)| format!("{order_id} for {claim_id}"));
    none(name::ORDERS, wrong.collect())
}

/// Every account against what the provider says; their sum is zero.
fn ledger(money: &Money) -> Check {
    let on = |name: &str| -> i128 {
        let account = money.accounts.iter().find(|(account, _)| *account == name);
        account.map_or(0, |(_, minor)| *minor)
    };
    let total =
        |of: fn(&Charge) -> u64| -> i128 { money.charges.iter().map(|charge| i128::from(of(charge))).sum() };
    let sum: i128 = money.accounts.iter().map(|(_, minor)| minor).sum();
    let expected = [
        ("provider_clearing", total(Charge::net_minor)),
        ("revenue", -total(|charge| charge.captured_minor)),
        ("refunds", total(|charge| charge.refunded_minor)),
        ("provider_hold", 0),
        ("shopper_hold", 0),
        ("chargebacks", 0),
    ];
    let odd = expected.iter().find(|(account, minor)| on(account) != *minor);
    Check {
        name: name::LEDGER,
        passed: sum == 0 && odd.is_none(),
        found: format!("{sum}; {} charged", on("provider_clearing")),
        example: odd.map(|(account, minor)| format!("{account} is {}, and should be {minor}", on(account))),
    }
}

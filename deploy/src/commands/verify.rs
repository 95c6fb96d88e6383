//! `verify`: whether every replica has the same state, and every sale's records add up to its units.
//!
//! All while the cluster runs: each node gives its state's hash at one index that all have applied, and counts
//! its records anew. A difference is exit code 6; a node that could not be asked is exit code 3, because
//! nothing is known of it.

use std::collections::BTreeMap;

use client::{Error, Reason, StateHash};
use futures::future::join_all;
use serde::Serialize;

use super::cluster::leading;
use crate::{
    context::{Connection, Context},
    exit::Failure,
    output,
};

/// How often replicas are asked at a newer index, when some no longer know their hash at the one asked for:
/// they remember a second or more of entries at full speed.
const ASKS_MAX: usize = 5;

/// What a check found.
#[derive(Debug, Serialize)]
pub struct VerifyView {
    /// Nothing differs, and everybody was asked.
    pub sound: bool,
    /// Index of the hashes.
    pub log_index: u64,
    pub replicas: Vec<ReplicaView>,
    pub sales: Vec<SaleBooksView>,
}

/// One replica.
#[derive(Clone, Debug, Serialize)]
pub struct ReplicaView {
    pub node_id: u64,
    pub endpoint: String,
    /// Why it was not compared.
    pub error: Option<String>,
    /// Its state's hash, in hex.
    pub digest: Option<String>,
    /// Whether most replicas have the same.
    pub equal: bool,
    /// Whether every record is what commands made of it.
    pub intact: bool,
    /// Index of the state whose records it counted.
    pub recount_index: u64,
}

/// One sale, as the first of the replicas counted it whose books are wrong, or as the first of all.
#[derive(Clone, Debug, Serialize)]
pub struct SaleBooksView {
    pub sale_id: String,
    pub units_total: u32,
    pub units_available: u32,
    pub units_held: u32,
    pub units_confirmed: u32,
    pub held_counted: u64,
    pub confirmed_counted: u64,
    pub balanced: bool,
    /// Nodes whose books are wrong.
    pub wrong_on: Vec<u64>,
}

/// Checks everything.
pub async fn run(context: Context) -> Result<(), Failure> {
    let connection = context.connect()?;
    let view = check(&connection, None).await?;
    output::print(context.format, &view, table)?;
    conclude(&view)
}

/// Asks every member; one sale's books, or all.
pub async fn check(connection: &Connection, sale_id: Option<&str>) -> Result<VerifyView, Failure> {
    let cluster = connection.client.cluster();
    let mut asks = 1;
    loop {
        let views = cluster.status_all().await;
        let leader = leading(&views, connection)?;
        let answers = join_all(leader.members.iter().map(|member| async {
            let answer = cluster.state_hash(&member.endpoint, leader.applied_index).await;
            (member.node_id, member.endpoint.clone(), answer)
        }))
        .await;
        let too_old =
            |error: &Error| matches!(error, Error::Rejected(why) if why.reason == Reason::OutOfRange);
        if asks < ASKS_MAX
            && answers
                .iter()
                .any(|(_, _, answer)| answer.as_ref().is_err_and(too_old))
        {
            asks += 1;
            continue;
        }
        return Ok(VerifyView::new(leader.applied_index, &answers, sale_id));
    }
}

/// How the command ends.
pub fn conclude(view: &VerifyView) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for replica in view.replicas.iter().filter(|replica| replica.error.is_none()) {
        if !replica.equal {
            wrong.push(format!(
                "node {} has another state than the others at log index {}",
                replica.node_id, view.log_index
            ));
        }
        if !replica.intact {
            wrong.push(format!(
                "node {} holds records that no command made",
                replica.node_id
            ));
        }
    }
    for sale in view.sales.iter().filter(|sale| !sale.balanced) {
        wrong.push(format!(
            "units of sale `{}` are not conserved on nodes {:?}",
            sale.sale_id, sale.wrong_on
        ));
    }
    if !wrong.is_empty() {
        return Err(Failure::Violated(format!(
            "{}; pause what is being sold, and keep every node's directory",
            wrong.join("; ")
        )));
    }
    let missing: Vec<String> = view
        .replicas
        .iter()
        .filter_map(|replica| Some(format!("node {}: {}", replica.node_id, replica.error.as_ref()?)))
        .collect();
    if !missing.is_empty() {
        return Err(Failure::Unreachable(format!(
            "not everybody was compared ({}); those that were agree",
            missing.join("; ")
        )));
    }
    Ok(())
}

pub(super) type Answer = (u64, String, Result<StateHash, Error>);

impl VerifyView {
    pub(super) fn new(log_index: u64, answers: &[Answer], sale_id: Option<&str>) -> VerifyView {
        let hashes = || answers.iter().filter_map(|(_, _, answer)| answer.as_ref().ok());
        let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
        for hash in hashes() {
            *counts.entry(&hash.digest).or_default() += 1;
        }
        // Where two have as many, nobody knows who is right: neither is equal to most.
        let most = counts.values().max().copied().unwrap_or(0);
        let leading: Vec<&[u8]> = counts
            .iter()
            .filter(|(_, count)| **count == most)
            .map(|(digest, _)| *digest)
            .collect();
        let usual = (leading.len() == 1).then(|| leading[0]);
        let replicas: Vec<ReplicaView> = answers
            .iter()
            .map(|(node_id, endpoint, answer)| {
                let hash = answer.as_ref().ok();
                ReplicaView {
                    node_id: *node_id,
                    endpoint: endpoint.clone(),
                    error: answer.as_ref().err().map(Error::to_string),
                    digest: hash.map(|hash| hash.digest.iter().map(|byte| format!("{byte:02x}")).collect()),
                    equal: hash.is_some_and(|hash| usual == Some(&hash.digest[..])),
                    intact: hash.is_some_and(|hash| hash.intact),
                    recount_index: hash.map_or(0, |hash| hash.recount_index),
                }
            })
            .collect();
        let sales = sales(answers, sale_id);
        let sound = replicas.iter().all(|replica| replica.equal && replica.intact)
            && sales.iter().all(|sale| sale.balanced);
        VerifyView {
            sound,
            log_index,
            replicas,
            sales,
        }
    }

    /// One with every field.
    #[cfg(test)]
    pub fn example() -> VerifyView {
        let hash = StateHash {
            sales: vec![client::SaleBooks::default()],
            ..StateHash::default()
        };
        VerifyView::new(1, &[(1, String::new(), Ok(hash))], None)
    }
}

fn sales(answers: &[Answer], sale_id: Option<&str>) -> Vec<SaleBooksView> {
    let mut sales: BTreeMap<&str, SaleBooksView> = BTreeMap::new();
    for (node_id, _, answer) in answers {
        let books = answer.as_ref().map(|hash| &hash.sales[..]).unwrap_or_default();
        for sale in books
            .iter()
            .filter(|sale| sale_id.is_none_or(|wanted| wanted == sale.sale_id))
        {
            // Added up here once more: a node's own word is not taken for it.
            let counted = u64::from(sale.units_available) + sale.held_counted + sale.confirmed_counted;
            let balanced = counted == u64::from(sale.units_total)
                && sale.held_counted == u64::from(sale.units_held)
                && sale.confirmed_counted == u64::from(sale.units_confirmed);
            let mut view = SaleBooksView {
                sale_id: sale.sale_id.clone(),
                units_total: sale.units_total,
                units_available: sale.units_available,
                units_held: sale.units_held,
                units_confirmed: sale.units_confirmed,
                held_counted: sale.held_counted,
                confirmed_counted: sale.confirmed_counted,
                balanced,
                wrong_on: if balanced { Vec::new() } else { vec![*node_id] },
            };
            match sales.get_mut(&*sale.sale_id) {
                None => {
                    sales.insert(&sale.sale_id, view);
                }
                Some(known) if !balanced => {
                    view.wrong_on.splice(0..0, known.wrong_on.iter().copied());
                    *known = view;
                }
                Some(_) => {}
            }
        }
    }
    sales.into_values().collect()
}

/// The replicas, and below them the sales.
pub fn table(view: &VerifyView) -> comfy_table::Table {
    let mut table = output::table(&[
        "NODE / SALE",
        "ENDPOINT / UNITS",
        "HASH / COUNTED",
        "AT INDEX",
        "VERDICT",
    ]);
    for replica in &view.replicas {
        let verdict = match (&replica.error, replica.equal, replica.intact) {
            (Some(_), ..) => "NOT COMPARED",
            (None, false, _) => "DIFFERS",
            (None, true, false) => "DAMAGED",
            (None, true, true) => "equal, intact",
        };
        table.add_row(vec![
            comfy_table::Cell::new(format!("node {}", replica.node_id)),
            comfy_table::Cell::new(&replica.endpoint),
            comfy_table::Cell::new(replica.digest.as_deref().unwrap_or("-")),
            comfy_table::Cell::new(view.log_index),
            comfy_table::Cell::new(verdict),
        ]);
    }
    for sale in &view.sales {
        let grouped = |units: u64| output::grouped(units);
        table.add_row(vec![
            comfy_table::Cell::new(&sale.sale_id),
            comfy_table::Cell::new(format!(
                "{} = {} free + {} held + {} sold",
                grouped(sale.units_total.into()),
                grouped(sale.units_available.into()),
                grouped(sale.units_held.into()),
                grouped(sale.units_confirmed.into())
            )),
            comfy_table::Cell::new(format!(
                "{} held, {} sold",
                grouped(sale.held_counted),
                grouped(sale.confirmed_counted)
            )),
            comfy_table::Cell::new(""),
            comfy_table::Cell::new(if sale.balanced {
                "conserved".to_owned()
            } else {
                format!("WRONG on {:?}", sale.wrong_on)
            }),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(digest: u8) -> StateHash {
        StateHash {
            log_index: 9,
            digest: vec![digest; 16].into(),
            intact: true,
            recount_index: 9,
            sales: vec![client::SaleBooks {
                sale_id: "hot".into(),
                units_total: 10,
                units_available: 5,
                units_held: 2,
                units_confirmed: 3,
                held_counted: 2,
                confirmed_counted: 3,
                claims_made: 5,
            }],
            ..StateHash::default()
        }
    }

    fn view(hashes: Vec<Result<StateHash, Error>>) -> VerifyView {
        let answers: Vec<Answer> = (1..)
            .zip(hashes)
            .map(|(id, hash)| (id, format!("n{id}"), hash))
            .collect();
        VerifyView::new(9, &answers, None)
    }

    #[test]
    fn equal_replicas_are_sound() {
        let view = view(vec![Ok(hash(1)), Ok(hash(1)), Ok(hash(1))]);
        assert!(view.sound && conclude(&view).is_ok(), "{view:?}");
        assert_eq!(view.sales.len(), 1);
    }

    #[test]
    fn whatever_differs_is_named_and_exits_6() {
        let mut damaged = hash(1);
        damaged.intact = false;
        let mut lost = hash(1);
        lost.sales[0].held_counted = 1;
        let mut oversold = hash(1);
        (
            oversold.sales[0].units_confirmed,
            oversold.sales[0].confirmed_counted,
        ) = (9, 9);
        for (odd, word) in [
            (hash(2), "node 2 has another state"),
            (damaged, "node 2 holds records"),
            (lost, "`hot` are not conserved on nodes [2]"),
            (oversold, "`hot` are not conserved on nodes [2]"),
        ] {
            let view = view(vec![Ok(hash(1)), Ok(odd), Ok(hash(1))]);
            let failure = conclude(&view).unwrap_err();
            assert_eq!(failure.code(), 6);
            assert!(failure.to_string().contains(word), "{failure}");
            assert!(!view.sound);
        }
        // Of two, nobody knows which is right.
        let view = view(vec![Ok(hash(1)), Ok(hash(2))]);
        let said = conclude(&view).unwrap_err().to_string();
        assert!(said.contains("node 1") && said.contains("node 2"), "{said}");
    }

    #[test]
    fn who_was_not_asked_is_no_success() {
        let down = Error::Unavailable {
            message: "connection refused".into(),
            retry_after_ms: 0,
        };
        let missing = view(vec![Ok(hash(1)), Ok(hash(1)), Err(down.clone())]);
        let failure = conclude(&missing).unwrap_err();
        assert_eq!(failure.code(), 3);
        assert!(failure.to_string().contains("node 3"), "{failure}");
        // A difference is worse than a missing node.
        let both = view(vec![Ok(hash(1)), Ok(hash(2)), Err(down)]);
        assert_eq!(conclude(&both).unwrap_err().code(), 6);
    }
}

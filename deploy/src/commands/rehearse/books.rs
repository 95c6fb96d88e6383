//! After the crowd: every claim that somebody was told of, against every record there is; then the end of the sale.

use std::collections::HashMap;

use client::{Claim, ClaimStatus, Client, Consistency, Error};
use futures::{StreamExt, stream};
use serde::Serialize;

use super::visit::{Fate, Told};
use crate::{
    commands::sale::verify,
    context::{Connection, fresh_key},
    exit::{Failure, Subject},
};

/// Calls under way at one time while claims are ended: a window of frames.
const CALLS_MAX: usize = 4_096;

/// How often the records are read when holds expire under the reader.
const READS_MAX: usize = 5;

/// Faults told: the first are enough to see what kind they are.
const FAULTS_MAX: usize = 5;

/// What the records say, compared with what was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// Records there are.
    pub claims: u64,
    pub held: u64,
    pub confirmed: u64,
    pub released: u64,
    pub expired: u64,
    /// What is wrong, in words.
    pub faults: Vec<String>,
}

/// Gives back what was left, so that nothing moves any more, and compares. `unresolved` claims may be there or not:
/// nobody was told. `None`: the sale never held still.
pub async fn compare(
    connection: &Connection,
    sale_id: &str,
    told: &mut [Told],
    unresolved: u64,
) -> Result<Option<Books>, Failure> {
    give_back(&connection.client, sale_id, told).await;
    for _ in 0..READS_MAX {
        let mut records = HashMap::new();
        let each = |claim: &Claim| {
            records.insert(claim.claim_id.clone(), claim.status);
        };
        if let Some(walk) = verify::read(connection, sale_id, each).await? {
            let mut books = judge(told, &records, unresolved);
            books.faults.extend(walk.faults);
            books.faults.truncate(FAULTS_MAX);
            return Ok(Some(books));
        }
    }
    Ok(None)
}

/// Ends the holds that nobody ended; one that expires first has ended, too.
async fn give_back(client: &Client, sale_id: &str, told: &mut [Told]) {
    let left = told
        .iter_mut()
        .enumerate()
        .filter(|(_, told)| told.fate == Fate::Left);
    stream::iter(left)
        .for_each_concurrent(CALLS_MAX, |(place, told)| async move {
            let key = format!("{sale_id}.r{place}");
            let release = client.release(&told.claim_id, told.fencing_token).key(key);
            match release.send().await {
                Ok(_) => told.fate = Fate::GivenBack,
                // Expired, most likely; the records will say.
                Err(Error::Rejected(_) | Error::Unavailable { .. }) => {}
                Err(Error::Unknown { .. }) => told.fate = Fate::Unresolved,
            }
        })
        .await;
}

/// Compares: pure.
fn judge(told: &[Told], records: &HashMap<String, ClaimStatus>, unresolved: u64) -> Books {
    let count = |status| records.values().filter(|found| **found == status).count() as u64;
    let mut books = Books {
        claims: records.len() as u64,
        held: count(ClaimStatus::Held),
        confirmed: count(ClaimStatus::Confirmed),
        released: count(ClaimStatus::Released),
        expired: count(ClaimStatus::Expired),
        faults: Vec::new(),
    };
    let mut fault = |text: String| {
        if books.faults.len() < FAULTS_MAX {
            books.faults.push(text);
        }
    };
    for told in told {
        let Some(found) = records.get(&told.claim_id) else {
            fault(format!("claim {} was granted and is not there", told.claim_id));
            continue;
        };
        let as_told = match told.fate {
            Fate::Paid => *found == ClaimStatus::Confirmed,
            Fate::GivenBack => *found == ClaimStatus::Released,
            Fate::Left => matches!(found, ClaimStatus::Held | ClaimStatus::Expired),
            Fate::Unresolved => true,
        };
        if !as_told {
            fault(format!(
                "claim {} is {}, its owner was told: {:?}",
                told.claim_id,
                crate::views::claim_status(*found),
                told.fate
            ));
        }
    }
    let untold = (records.len() as u64).saturating_sub(told.len() as u64);
    if untold > unresolved {
        fault(format!(
            "{untold} claims are there that nobody was told of, and only {unresolved} may be"
        ));
    }
    let ended = books.held + books.confirmed + books.released + books.expired;
    if ended != books.claims {
        books.faults.push(format!(
            "{} claims were granted, and {ended} are held, confirmed, released or expired",
            books.claims
        ));
    }
    books
}

/// Takes back what was sold, takes every unit out, and closes the sale: it stays, with no units in it.
pub async fn wind_down(connection: &Connection, sale_id: &str, told: &[Told]) -> Result<(), Failure> {
    let client = &connection.client;
    let paid = told
        .iter()
        .enumerate()
        .filter(|(_, told)| told.fate == Fate::Paid);
    stream::iter(paid)
        .for_each_concurrent(CALLS_MAX, |(place, told)| async move {
            // What cannot be taken back stays sold, in a sale that is closed.
            let key = format!("{sale_id}.x{place}");
            let cancel = client.cancel(&told.claim_id, told.fencing_token).key(key);
            if let Err(error) = cancel.send().await {
                tracing::debug!(claim_id = told.claim_id, %error, "not taken back");
            }
        })
        .await;
    let what = |what: &str| format!("{what} the rehearsal `{sale_id}`");
    let answer = client.get_sale(sale_id, Consistency::Linearizable).await;
    let (sale, _) = connection.told(Subject::read(what("read")), answer).await?;
    if sale.units_available > 0 {
        let key = fresh_key();
        let answer = client
            .withdraw(sale_id, sale.units_available)
            .key(&key)
            .send()
            .await;
        connection
            .told(Subject::write(what("take the units out of"), &key), answer)
            .await?;
    }
    let key = fresh_key();
    let answer = client.close_sale(sale_id).key(&key).send().await;
    connection
        .told(Subject::write(what("close"), &key), answer)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Vec<Told> {
        let told = |claim_id: &str, fate| Told {
            claim_id: claim_id.into(),
            fencing_token: 1,
            fate,
        };
        vec![
            told("a", Fate::Paid),
            told("b", Fate::GivenBack),
            told("c", Fate::Left),
            told("d", Fate::Unresolved),
        ]
    }

    fn records() -> HashMap<String, ClaimStatus> {
        HashMap::from([
            ("a".into(), ClaimStatus::Confirmed),
            ("b".into(), ClaimStatus::Released),
            ("c".into(), ClaimStatus::Expired),
            ("d".into(), ClaimStatus::Held),
        ])
    }

    #[test]
    fn books_that_agree_have_no_faults() {
        let books = judge(&told(), &records(), 0);
        assert_eq!(
            books,
            Books {
                claims: 4,
                held: 1,
                confirmed: 1,
                released: 1,
                expired: 1,
                faults: Vec::new()
            }
        );
    }

    #[test]
    fn whatever_was_told_otherwise_is_a_fault() {
        type Spoil = fn(&mut HashMap<String, ClaimStatus>);
        let spoils: [(Spoil, &str); 6] = [
            (
                |records| {
                    records.remove("a");
                },
                "a was granted and is not there",
            ),
            (
                |records| {
                    records.insert("a".into(), ClaimStatus::Held);
                },
                "a is held, its owner was told: Paid",
            ),
            (
                |records| {
                    records.insert("b".into(), ClaimStatus::Confirmed);
                },
                "b is confirmed",
            ),
            (
                |records| {
                    records.insert("c".into(), ClaimStatus::Confirmed);
                },
                "c is confirmed, its owner was told: Left",
            ),
            (
                |records| {
                    records.insert("x".into(), ClaimStatus::Held);
                },
                "1 claims are there that nobody was told of",
            ),
            (
                |records| {
                    records.insert("d".into(), ClaimStatus::Cancelled);
                },
                "and 3 are held, confirmed",
            ),
        ];
        for (spoil, says) in spoils {
            let mut records = records();
            spoil(&mut records);
            let books = judge(&told(), &records, 0);
            assert!(
                books.faults.iter().any(|fault| fault.contains(says)),
                "{says}: {books:?}"
            );
        }
        // One that nobody knows of may be there.
        let mut more = records();
        more.insert("x".into(), ClaimStatus::Held);
        assert_eq!(judge(&told(), &more, 1).faults, Vec::<String>::new());
    }
}

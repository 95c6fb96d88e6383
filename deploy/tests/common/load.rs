//! Callers that claim until they are told to stop, and what they were told.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use client::{BulkClaim, Claim, ClaimStatus, Client, Consistency, Error};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{self, MissedTickBehavior},
};

use super::WAIT_MAX;

/// Callers with one claim on its way each.
const SINGLE_CALLERS: usize = 4;

/// Callers with whole frames on their way.
const BULK_CALLERS: usize = 2;

/// Claims in one bulk call.
const BULK_CLAIMS: usize = 200;

/// Least time from one bulk call to the next one of its caller: what a test sells must not depend on how fast the
/// machine is, or a slow step of it meets a sale that is sold out, and ever more claims to count.
const BULK_PAUSE: Duration = Duration::from_millis(50);

/// Most claims read at once.
const LIST_LIMIT: u32 = 10_000;

/// A load that runs.
pub struct Load {
    stop: Arc<AtomicBool>,
    granted: watch::Receiver<usize>,
    callers: Vec<JoinHandle<Vec<Told>>>,
}

/// What one caller was told last about one user's claim.
pub type Told = (String, Result<Claim, Error>);

impl Load {
    /// Starts callers of both kinds on sale `hot`; `name` keeps their users apart from other loads'.
    pub fn start(client: &Client, name: &str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (grants, granted) = watch::channel(0);
        let mut callers = Vec::new();
        for caller in 0..SINGLE_CALLERS {
            let (client, stop, grants) = (client.clone(), stop.clone(), grants.clone());
            callers.push(tokio::spawn(one_by_one(
                client,
                format!("{name}-one-{caller}"),
                stop,
                grants,
            )));
        }
        for caller in 0..BULK_CALLERS {
            let (client, stop, grants) = (client.clone(), stop.clone(), grants.clone());
            callers.push(tokio::spawn(in_bulk(
                client,
                format!("{name}-bulk-{caller}"),
                stop,
                grants,
            )));
        }
        Load {
            stop,
            granted,
            callers,
        }
    }

    /// Claims granted so far.
    pub fn granted(&self) -> usize {
        *self.granted.borrow()
    }

    /// Returns when this many more claims have been granted: the cluster serves.
    pub async fn flows(&self, claims: usize) {
        let enough = self.granted() + claims;
        let mut granted = self.granted.clone();
        let flowed = time::timeout(WAIT_MAX, granted.wait_for(|granted| *granted >= enough)).await;
        let flowed = flowed.unwrap_or_else(|_| panic!("{claims} claims were not granted in {WAIT_MAX:?}"));
        flowed.expect("not every caller has ended");
    }

    /// Stops the callers; gives all that they were told.
    pub async fn stop(self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        let mut told = Vec::new();
        for caller in self.callers {
            told.extend(caller.await.expect("no caller panics"));
        }
        told
    }
}

/// Claims, and confirms every other claim.
async fn one_by_one(
    client: Client,
    name: String,
    stop: Arc<AtomicBool>,
    grants: watch::Sender<usize>,
) -> Vec<Told> {
    let mut told = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let user = format!("{name}-{number}");
        let claimed = client.claim("hot", &user).key(format!("key-{user}")).send().await;
        let answer = match claimed {
            Ok(claimed) if number % 2 == 0 => {
                let claim = claimed.claim;
                let confirm = client.confirm(claim.claim_id, claim.fencing_token);
                let confirmed = confirm.key(format!("pay-{user}")).send().await;
                confirmed.map(|(claim, _)| claim)
            }
            claimed => claimed.map(|claimed| claimed.claim),
        };
        grants.send_modify(|granted| *granted += usize::from(answer.is_ok()));
        told.push((user, answer));
        number += 1;
    }
    told
}

/// Claims in frames.
async fn in_bulk(
    client: Client,
    name: String,
    stop: Arc<AtomicBool>,
    grants: watch::Sender<usize>,
) -> Vec<Told> {
    let mut told = Vec::new();
    let mut frame = 0;
    let mut pace = time::interval(BULK_PAUSE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        let claims: Vec<BulkClaim> = (0..BULK_CLAIMS)
            .map(|number| {
                let user = format!("{name}-{frame}-{number}");
                BulkClaim {
                    key: format!("key-{user}"),
                    user,
                    quantity: 1,
                }
            })
            .collect();
        pace.tick().await;
        let answers = client.claim_many("hot", &claims).await;
        let answers = answers.into_iter().zip(claims);
        for (answer, claim) in answers {
            grants.send_modify(|granted| *granted += usize::from(answer.is_ok()));
            told.push((claim.user, answer.map(|claimed| claimed.claim)));
        }
        frame += 1;
    }
    told
}

/// Nobody was told of a failure, and the sale's records are what was told: no claim more, none less.
pub async fn nothing_failed_nothing_lost(client: &Client, told: &[Told]) {
    nothing_failed_nothing_lost_beside(client, told, 0).await;
}

/// [`nothing_failed_nothing_lost`], with so many claims that others made.
pub async fn nothing_failed_nothing_lost_beside(client: &Client, told: &[Told], others: usize) {
    let failed: Vec<_> = told.iter().filter(|(_, answer)| answer.is_err()).collect();
    assert!(
        failed.is_empty(),
        "{} of {} calls failed, such as {:?}",
        failed.len(),
        told.len(),
        failed.first()
    );
    let recorded = records(client).await;
    for (user, answer) in told {
        let claim = answer.as_ref().expect("checked above");
        let found = recorded.get(&claim.claim_id);
        let found = found.unwrap_or_else(|| panic!("lost: {user}'s {claim:?}"));
        assert_eq!(
            (found.receipt, found.status),
            (claim.receipt, claim.status),
            "{user}"
        );
    }
    assert_eq!(
        recorded.len(),
        told.len() + others,
        "there are claims nobody was told of"
    );
}

/// Every claim of sale `hot`, by its id.
pub async fn records(client: &Client) -> HashMap<String, Claim> {
    let mut recorded = HashMap::new();
    let mut rank = 1;
    loop {
        let (claims, _) = client
            .list_claims("hot", rank, LIST_LIMIT, Consistency::Linearizable)
            .await
            .expect("claims are listed");
        let Some(last) = claims.last() else {
            return recorded;
        };
        rank = last.rank + 1;
        recorded.extend(claims.into_iter().map(|claim| (claim.claim_id.clone(), claim)));
    }
}

/// How many of these claims are confirmed.
pub fn confirmed(told: &[Told]) -> usize {
    let confirmed = told
        .iter()
        .filter_map(|(_, answer)| answer.as_ref().ok())
        .filter(|claim| claim.status == ClaimStatus::Confirmed);
    confirmed.count()
}

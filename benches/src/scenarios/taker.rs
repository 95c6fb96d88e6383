//! One caller who reads a sale and claims in it in turn, while units come back to it: as long as a linearizable read
//! shows units, and nobody else claims, he must not be told that the sale is sold out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use client::{Client, Consistency, Error, Reason};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    failure::{Doing, Failure},
    names::CallerNames,
};

/// Pause of who reads and claims in turn.
const PAUSE: Duration = Duration::from_millis(5);

const TAKING: &str = "taking what came back";

/// One who takes what came back, a unit at a time, and nobody beside him.
pub(super) struct Taker {
    stopping: Arc<AtomicBool>,
    running: JoinHandle<Result<u64, Failure>>,
}

impl Taker {
    /// Begins to take units of a sale that nobody else claims in.
    pub fn start(client: Client, sale_id: &'static str, names: CallerNames) -> Taker {
        let stopping = Arc::new(AtomicBool::new(false));
        Taker {
            running: tokio::spawn(take(client, sale_id, names, stopping.clone())),
            stopping,
        }
    }

    /// Ends it. Gives how many units it was granted.
    ///
    /// # Errors
    /// It was told that the sale is sold out when it had just read that units are there.
    pub async fn stop(self) -> Result<u64, Failure> {
        self.stopping.store(true, Ordering::Relaxed);
        self.running.await.doing(TAKING)?
    }
}

async fn take(
    client: Client,
    sale_id: &'static str,
    names: CallerNames,
    stopping: Arc<AtomicBool>,
) -> Result<u64, Failure> {
    let mut granted = 0;
    for (user, key) in names {
        if stopping.load(Ordering::Relaxed) {
            break;
        }
        let sale = client.get_sale(sale_id, Consistency::Linearizable).await;
        let (sale, _) = sale.doing(TAKING)?;
        let answer = client.claim(sale_id, user).key(key).send().await;
        granted += u64::from(taken(answer.map(drop), sale.units_available)?);
        sleep(PAUSE).await;
    }
    Ok(granted)
}

/// Whether who was answered this has a unit, where so many were back when he asked and nobody else did.
fn taken(answer: Result<(), Error>, units_back: u32) -> Result<bool, Failure> {
    match answer {
        Ok(()) => Ok(true),
        Err(Error::Rejected(why)) if why.reason == Reason::SoldOut && units_back == 0 => Ok(false),
        Err(error) => Err(Failure::new(
            TAKING,
            format!("{units_back} units were back: {error}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use client::{ClaimStatus, Position, Rejected, SaleStatus};

    use super::*;

    #[test]
    fn nobody_may_hear_sold_out_when_units_are_back() {
        let refused = |reason| {
            Err(Error::Rejected(Box::new(Rejected {
                reason,
                message: String::new(),
                value: 0,
                until_ms: 0,
                opens_at_ms: 0,
                sale_status: SaleStatus::Unspecified,
                claim_status: ClaimStatus::Unspecified,
                position: Position::default(),
            })))
        };
        assert_eq!(taken(Ok(()), 0), Ok(true), "it came back meanwhile");
        assert_eq!(taken(refused(Reason::SoldOut), 0), Ok(false));
        assert!(taken(refused(Reason::SoldOut), 1).is_err());
        assert!(taken(refused(Reason::SaleNotOpen), 0).is_err());
    }
}

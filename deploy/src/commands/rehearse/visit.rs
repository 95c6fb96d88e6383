//! One person's visit: a claim, and what becomes of it.
//!
//! Every unknown outcome is resolved before the visit ends, so that the books can be compared to the last claim.

use client::{Claim, Client, Error, Grant, Operation, Reason, Resolution};
use tokio::time::{Duration, Instant};

use super::file::SaleLike;
use crate::context::PRINCIPAL;

/// The rehearsed sale, as its visitors see it.
pub struct Shop {
    pub client: Client,
    pub sale_id: String,
    pub like: SaleLike,
}

/// How a visit went.
pub struct Visit {
    /// When the claim was due, after the phase began.
    pub due: Duration,
    /// When it was sent: later than due where this process could not keep up.
    pub sent: Duration,
    /// When its answer came.
    pub answered: Duration,
    pub end: End,
}

/// What the visitor was told.
pub enum End {
    Granted(Told),
    /// He has as many as he may.
    Already,
    /// Sold out, for now.
    Refused,
    /// No answer, for certain without effect; or an answer that nobody should get.
    Unanswered(String),
    /// Nobody knows.
    Unresolved(String),
}

/// A claim that was granted, and what its owner was told last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub claim_id: String,
    pub fencing_token: u64,
    pub fate: Fate,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Paid,
    GivenBack,
    /// Nothing was done about it: it is held, or has expired.
    Left,
    /// Nobody knows whether its owner's wish was done.
    Unresolved,
}

/// What somebody who was granted a unit wants: by his number, so that a rehearsal is the same each time.
fn wish(like: &SaleLike, number: u64) -> Fate {
    // Fibonacci hashing: neighbours differ, and every percent gets its share.
    let chance = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 100;
    match chance {
        chance if chance < like.paying_percent => Fate::Paid,
        chance if chance % 2 == 0 => Fate::GivenBack,
        _ => Fate::Left,
    }
}

impl Shop {
    /// The visit of claim `number`, due then; `began` is when its phase did.
    pub async fn visit(&self, number: u64, began: Instant, due: Duration) -> Visit {
        let sent = began.elapsed();
        let user = format!("person-{}", number % self.like.people);
        let key = format!("{}.c{number}", self.sale_id);
        let answer = self.client.claim(&self.sale_id, &user).key(&key).send().await;
        let answered = began.elapsed();
        let end = match answer {
            Ok(claimed) if claimed.grant == Grant::Already => End::Already,
            Ok(claimed) => End::Granted(self.decide(number, claimed.claim).await),
            Err(Error::Rejected(why)) if matches!(why.reason, Reason::SoldOut | Reason::UserLimit) => {
                End::Refused
            }
            Err(error @ (Error::Rejected(_) | Error::Unavailable { .. })) => {
                End::Unanswered(error.to_string())
            }
            Err(Error::Unknown { message, .. }) => {
                let resolved = self
                    .client
                    .resolve(&self.sale_id, Operation::Claim, &key, &user)
                    .await;
                match resolved {
                    Ok((Resolution::Claim(claim), _)) => End::Granted(self.decide(number, claim).await),
                    Ok((Resolution::Abandoned { .. }, _)) => End::Unanswered(message),
                    Ok((Resolution::Effect(_), _)) => {
                        End::Unresolved("a claim's key had another effect".into())
                    }
                    Err(error) => End::Unresolved(error.to_string()),
                }
            }
        };
        Visit {
            due,
            sent,
            answered,
            end,
        }
    }

    /// Pays, gives back, or goes away.
    async fn decide(&self, number: u64, claim: Claim) -> Told {
        let wish = wish(&self.like, number);
        Told {
            fate: self.settle(number, &claim, wish).await,
            fencing_token: claim.fencing_token,
            claim_id: claim.claim_id,
        }
    }

    async fn settle(&self, number: u64, claim: &Claim, wish: Fate) -> Fate {
        let (request, operation) = match wish {
            Fate::Paid => (
                self.client.confirm(&claim.claim_id, claim.fencing_token),
                Operation::Confirm,
            ),
            Fate::GivenBack => (
                self.client.release(&claim.claim_id, claim.fencing_token),
                Operation::Release,
            ),
            Fate::Left | Fate::Unresolved => return Fate::Left,
        };
        let key = format!("{}.s{number}", self.sale_id);
        match request.key(&key).send().await {
            Ok(_) => wish,
            // It expired before, or nothing was done.
            Err(Error::Rejected(_) | Error::Unavailable { .. }) => Fate::Left,
            Err(Error::Unknown { .. }) => {
                let resolved = self
                    .client
                    .resolve(&self.sale_id, operation, &key, PRINCIPAL)
                    .await;
                match resolved {
                    Ok((Resolution::Claim(_), _)) => wish,
                    Ok((Resolution::Abandoned { .. }, _)) => Fate::Left,
                    Ok((Resolution::Effect(_), _)) | Err(_) => Fate::Unresolved,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wish_has_its_share() {
        let shares = |paying_percent| {
            let like = SaleLike {
                paying_percent,
                ..SaleLike::example()
            };
            let count = |fate| (0..10_000).filter(|number| wish(&like, *number) == fate).count();
            [Fate::Paid, Fate::GivenBack, Fate::Left].map(|fate| count(fate) as i64)
        };
        for (paying_percent, expected) in [
            (70, [7_000, 1_500, 1_500]),
            (0, [0, 5_000, 5_000]),
            (100, [10_000, 0, 0]),
        ] {
            let found = shares(paying_percent);
            for (found, expected) in found.into_iter().zip(expected) {
                assert!(
                    (found - expected).abs() <= 100,
                    "{paying_percent}: {found} for {expected}"
                );
            }
        }
    }
}

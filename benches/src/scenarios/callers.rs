//! The callers of the store's own protocol.

use client::{BulkClaim, Claimed, Client, Error, Grant, Reason};

use crate::{
    load::{Caller, Tally},
    names::{CallerNames, Names},
};

/// Claims in one bulk call: a frame's worth.
pub const FRAME_CLAIMS: usize = 512;

/// Callers in bulk: as many frames as a client has in flight, and as many again that are being filled.
pub const BULK_CALLERS: usize = 16;

/// What the next step of a claim needs.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its id.
    pub claim_id: String,
    /// Its current token.
    pub fencing_token: u64,
}

/// Claims many at a time, for users and keys from an iterator, until that ends.
pub struct BulkClaims<N> {
    client: Client,
    sale_id: String,
    names: N,
    claims_per_call: usize,
    kept: Option<Vec<Held>>,
}

impl<N> BulkClaims<N> {
    /// A caller that claims a frame's worth at a time.
    pub fn new(client: Client, sale_id: &str, names: N) -> Self {
        BulkClaims {
            client,
            sale_id: sale_id.to_owned(),
            names,
            claims_per_call: FRAME_CLAIMS,
            kept: None,
        }
    }

    /// Claims so many at a time instead.
    pub fn by(mut self, claims_per_call: usize) -> Self {
        self.claims_per_call = claims_per_call;
        self
    }

    /// Keeps what was granted.
    pub fn keeping(mut self) -> Self {
        self.kept = Some(Vec::new());
        self
    }

    /// What was kept.
    pub fn into_kept(self) -> Vec<Held> {
        self.kept.unwrap_or_default()
    }
}

impl<N: Iterator<Item = (String, String)> + Send + 'static> Caller for BulkClaims<N> {
    async fn call(&mut self) -> Option<Tally> {
        let next = self.names.by_ref().take(self.claims_per_call);
        let claims: Vec<BulkClaim> = next
            .map(|(user, key)| BulkClaim {
                user,
                key,
                quantity: 1,
            })
            .collect();
        if claims.is_empty() {
            return None;
        }
        let mut tally = Tally::default();
        for answer in self.client.claim_many(&self.sale_id, &claims).await {
            if let (Some(kept), Ok(Claimed { claim, .. })) = (&mut self.kept, &answer) {
                kept.push(Held {
                    claim_id: claim.claim_id.clone(),
                    fencing_token: claim.fencing_token,
                });
            }
            count_claim(answer, &mut tally);
        }
        Some(tally)
    }
}

/// Claims one at a time.
pub struct SingleClaims {
    client: Client,
    sale_id: String,
    names: CallerNames,
    at_once: bool,
}

impl SingleClaims {
    /// So many callers of one client.
    pub fn callers(count: usize, client: &Client, sale_id: &str, names: Names) -> Vec<SingleClaims> {
        (0..count)
            .map(|caller| SingleClaims::new(client.clone(), sale_id, names.of_caller(caller)))
            .collect()
    }

    /// One.
    pub fn new(client: Client, sale_id: &str, names: CallerNames) -> Self {
        SingleClaims {
            client,
            sale_id: sale_id.to_owned(),
            names,
            at_once: false,
        }
    }

    /// One call, for a user and a key.
    pub async fn claim(client: &Client, sale_id: &str, (user, key): (String, String)) -> Tally {
        let mut tally = Tally::default();
        count_claim(client.claim(sale_id, user).key(key).send().await, &mut tally);
        tally
    }

    /// Decrements instead: each claim is confirmed at once.
    pub fn at_once(mut self) -> Self {
        self.at_once = true;
        self
    }
}

impl Caller for SingleClaims {
    async fn call(&mut self) -> Option<Tally> {
        let (user, key) = self.names.next()?;
        if !self.at_once {
            return Some(SingleClaims::claim(&self.client, &self.sale_id, (user, key)).await);
        }
        let mut tally = Tally::default();
        let decrement = self.client.decrement(self.sale_id.as_str(), user);
        count_claim(decrement.key(key).send().await, &mut tally);
        tally.decremented = std::mem::take(&mut tally.granted);
        Some(tally)
    }
}

/// What becomes of held claims.
#[derive(Clone, Copy, Debug)]
pub enum Settling {
    /// They are made final.
    Confirm,
    /// They are given back.
    Release,
}

/// Settles held claims, one at a time, until none is left.
pub struct Settles {
    client: Client,
    settling: Settling,
    held: std::vec::IntoIter<Held>,
    names: CallerNames,
}

impl Settles {
    /// A caller for these claims.
    pub fn new(client: Client, settling: Settling, held: Vec<Held>, names: CallerNames) -> Self {
        Settles {
            client,
            settling,
            held: held.into_iter(),
            names,
        }
    }
}

impl Caller for Settles {
    async fn call(&mut self) -> Option<Tally> {
        let Held {
            claim_id,
            fencing_token,
        } = self.held.next()?;
        let (_, key) = self.names.next()?;
        let mut tally = Tally::default();
        let request = match self.settling {
            Settling::Confirm => self.client.confirm(claim_id, fencing_token),
            Settling::Release => self.client.release(claim_id, fencing_token),
        };
        match (request.key(key).send().await, self.settling) {
            (Ok(_), Settling::Confirm) => tally.confirmed = 1,
            (Ok(_), Settling::Release) => tally.released = 1,
            (Err(Error::Unknown { .. }), _) => tally.unknown = 1,
            (Err(error), _) => tally.fail(|| error.to_string()),
        }
        Some(tally)
    }
}

/// Counts what a claim by a new user, or with its own key again, was answered.
pub(super) fn count_claim(answer: Result<Claimed, Error>, tally: &mut Tally) {
    match answer {
        Ok(claimed) => match claimed.grant {
            Grant::Granted => tally.granted += 1,
            Grant::Repeated => tally.repeated += 1,
            other => tally.fail(|| format!("a new user was answered {other:?}")),
        },
        Err(Error::Rejected(rejected)) if rejected.reason == Reason::SoldOut => tally.sold_out += 1,
        Err(Error::Unknown { .. }) => tally.unknown += 1,
        Err(error) => tally.fail(|| format!("{error:?}")),
    }
}

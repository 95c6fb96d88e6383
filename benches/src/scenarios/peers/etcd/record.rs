//! A claim in etcd: a key for its user and one for its idempotency key, put together and only if neither is there.

use super::ops::{
    absent, count, found, get, put,
    v3::{Compare, RequestOp, ResponseOp},
    words,
};
use crate::{failure::Failure, scenarios::peers::rules::Answer};

/// What the users and the keys of a sale begin with.
pub fn users(sale: &str) -> String {
    format!("{sale}/u/")
}

/// See [`users`].
pub fn keys(sale: &str) -> String {
    format!("{sale}/k/")
}

/// What a claim puts and looks at.
pub struct Record<'a> {
    user: &'a str,
    key: &'a str,
    by_user: String,
    by_key: String,
}

impl<'a> Record<'a> {
    /// That of this user and key in a sale.
    pub fn of(sale: &str, (user, key): &'a (String, String)) -> Self {
        Record {
            user,
            key,
            by_user: users(sale) + user,
            by_key: keys(sale) + key,
        }
    }

    /// If there is none yet.
    pub fn absent(&self) -> [Compare; 2] {
        [absent(&self.by_user), absent(&self.by_key)]
    }

    /// Put it, with the unit that it got.
    pub fn put(&self, unit: u64) -> [RequestOp; 2] {
        [
            put(&self.by_user, self.key.to_owned()),
            put(&self.by_key, format!("{unit} {}", self.user)),
        ]
    }

    /// Look for what may be there instead.
    pub fn look(&self) -> [RequestOp; 2] {
        [get(&self.by_user), get(&self.by_key)]
    }

    /// What was found by that: the answer, unless there was nothing.
    pub fn found(&self, responses: &mut impl Iterator<Item = ResponseOp>) -> Result<Option<Answer>, Failure> {
        let (by_user, by_key) = (found(responses.next())?, found(responses.next())?);
        let Some(by_key) = by_key else {
            return Ok(by_user.map(|_| Answer::AlreadyClaimed));
        };
        let (unit, owner): (u64, String) = words(&by_key.value)?;
        Ok(Some(if owner == self.user {
            Answer::Repeated(unit)
        } else {
            Answer::KeyReused
        }))
    }
}

/// Count the users and the keys of a sale.
pub fn count_all(sale: &str) -> [RequestOp; 2] {
    [count(&users(sale)), count(&keys(sale))]
}

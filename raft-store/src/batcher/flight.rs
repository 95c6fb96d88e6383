//! Who has a claim in flight: proposed here and not yet applied.
//!
//! The applied state cannot speak for these users and keys, so their claims are never refused from it.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use inventory_machine::command::Body;

use super::frame::{PreparedBody, PreparedCommand};

/// Users and keys are keyed 128-bit hashes already: their low half is as good as any hash of them.
#[derive(Default)]
struct Already(u64);

impl Hasher for Already {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only 128-bit numbers are keys here");
    }
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

#[derive(Default)]
pub(super) struct InFlight {
    /// How many claims in flight carry this user or key.
    counts: HashMap<u128, u32, BuildHasherDefault<Already>>,
}

impl InFlight {
    pub fn knows(&self, user: u128, key: u128) -> bool {
        !self.counts.is_empty() && (self.counts.contains_key(&user) || self.counts.contains_key(&key))
    }

    pub fn add(&mut self, command: &PreparedCommand) {
        for hash in taker(command) {
            *self.counts.entry(hash).or_default() += 1;
        }
    }

    pub fn remove(&mut self, command: &PreparedCommand) {
        for hash in taker(command) {
            let count = self.counts.get_mut(&hash).expect("added when proposed");
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&hash);
            }
        }
    }
}

fn taker(command: &PreparedCommand) -> impl Iterator<Item = u128> {
    match &command.body {
        PreparedBody::Plain(Body::Claim(take) | Body::Decrement(take)) => Some([take.user, command.key]),
        _ => None,
    }
    .into_iter()
    .flatten()
}

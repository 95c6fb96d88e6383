//! Fingerprints of states: the sum of the hashes of all that a state is made of, so that a change of one thing
//! costs two hashes.

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::inventory::{Hold, Id, Status};
use crate::history::Outcome;

// What a hash is of.
pub(super) const COUNTERS: u64 = 0;
pub(super) const HOLD: u64 = 2;
pub(super) const KEY: u64 = 3;
pub(super) const USER: u64 = 4;
pub(super) const FENCE: u64 = 5;
pub(super) const DOCUMENT: u64 = 6;

/// Of one thing and its number.
pub(super) fn hash(of: u64, id: u32, words: [u64; 3]) -> u128 {
    let mut bytes = [0; 28];
    bytes[..4].copy_from_slice(&id.to_le_bytes());
    for (chunk, word) in bytes[4..].chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    xxh3_128_with_seed(&bytes, of)
}

/// Of a hold.
pub(super) fn hash_hold(id: Id, hold: &Hold) -> u128 {
    let status = hold.status as u64 | u64::from(hold.extended) << 8;
    // Who and how many never change; when a hold is over, nobody asks until when it lasted.
    let deadline = if hold.status == Status::Live {
        hold.deadline
    } else {
        0
    };
    hash(
        HOLD,
        id,
        [status, deadline, u64::from(hold.user.unwrap_or(Id::MAX))],
    )
}

/// Of what a key did.
pub(super) fn hash_key(id: Id, outcome: Option<&Outcome<Id>>, hold: Option<Id>) -> u128 {
    let hold = hold.map_or(u64::MAX, u64::from);
    let words = match outcome {
        None => return hash(KEY, id, [0, 0, 0]),
        Some(Outcome::Granted { deadline, .. }) => [1, *deadline, hold],
        Some(Outcome::Sold { .. }) => [2, 0, hold],
        Some(Outcome::Extended { deadline }) => [3, *deadline, hold],
        Some(Outcome::Confirmed) => [4, 0, hold],
        Some(Outcome::Released) => [5, 0, hold],
        Some(Outcome::Written { version }) => [7, *version, 0],
        Some(Outcome::Leased { token, until }) => [8, *token, *until],
        Some(_) => [6, 0, hold],
    };
    hash(KEY, id, words)
}

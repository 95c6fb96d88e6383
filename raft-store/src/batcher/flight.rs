//! Who has a claim in flight: proposed here and not yet applied.
//!
//! The applied state cannot speak for these users and keys, so their claims are never refused from it.
//!
//! Counted in a small table by a few bits of their hashes, not by name: who shares a place with somebody in
//! flight is proposed too, which costs him a log entry and is never wrong. A map of names took an eighth of a
//! leader's processor time under claims in bulk.

use inventory_machine::command::Body;

use super::frame::{PreparedBody, PreparedCommand};

/// Places: 128 KiB of counters, which stay in a core's own cache. The most that is ever in flight,
/// `ENTRIES_IN_FLIGHT_MAX` full entries with a user and a key a command, marks an eighth of them.
const PLACES: usize = 1 << 16;

/// Claims in flight, by user and by key.
pub(super) struct InFlight {
    counts: Box<[u16]>,
}

impl Default for InFlight {
    fn default() -> Self {
        InFlight {
            counts: vec![0; PLACES].into(),
        }
    }
}

/// Users and keys are keyed 128-bit hashes already: any of their bits are as good as any others.
fn place(hash: u128) -> usize {
    hash as usize % PLACES
}

impl InFlight {
    /// Whether a claim of this user or with this key may be in flight; false is certain.
    pub fn may_know(&self, user: u128, key: u128) -> bool {
        self.counts[place(user)] != 0 || self.counts[place(key)] != 0
    }

    /// A command was proposed.
    pub fn add(&mut self, command: &PreparedCommand) {
        for hash in taker(command) {
            self.counts[place(hash)] += 1;
        }
    }

    /// What became of a proposed command is applied, or will never be known here.
    pub fn remove(&mut self, command: &PreparedCommand) {
        for hash in taker(command) {
            self.counts[place(hash)] -= 1;
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

// Every counter holds all that can be in flight at once.
const _: () =
    assert!(2 * crate::limits::ENTRIES_IN_FLIGHT_MAX * crate::limits::ENTRY_COMMANDS_MAX < u16::MAX as usize);

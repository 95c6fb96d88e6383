//! Who has a claim in flight: proposed here and not yet applied.
//!
//! The applied state cannot speak for these users and keys, so their claims are never refused from it.
//!
//! Marked in a small table by a few bits of their hashes, not by name: who shares a place with somebody in
//! flight is proposed too, which costs him a log entry and is never wrong. A map of names took an eighth of a
//! leader's processor time under claims in bulk. Entries come home in the order in which they were proposed, so a
//! mark is the number of the last entry that a place was in, and nothing is unmarked.

use inventory_machine::command::Body;

use super::frame::{PreparedBody, PreparedCommand};

/// Places: 128 KiB of marks, which stay in a core's own cache. The most that is ever in flight,
/// `ENTRIES_IN_FLIGHT_MAX` full entries with a user and a key a command, marks an eighth of them.
const PLACES: usize = 1 << 16;

/// Claims in flight, by user and by key.
pub(super) struct InFlight {
    /// Low bits of the number of the last entry that each place was in. After 65,536 entries an old mark looks
    /// new again for a moment: it is then proposed, too.
    marks: Box<[u16]>,
    /// Number of the entry that is being filled.
    filling: u16,
    /// Entries proposed whose fate is not known yet.
    flying: u16,
}

impl Default for InFlight {
    fn default() -> Self {
        InFlight {
            marks: vec![0; PLACES].into(),
            // No mark that was never made looks as if it were in flight.
            filling: u16::MAX / 2,
            flying: 0,
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
        let flies = |hash| self.filling.wrapping_sub(self.marks[place(hash)]) <= self.flying;
        flies(user) || flies(key)
    }

    /// A command goes into the entry that is being filled.
    pub fn add(&mut self, command: &PreparedCommand) {
        for hash in taker(command) {
            self.marks[place(hash)] = self.filling;
        }
    }

    /// That entry was proposed, and the next is begun.
    pub fn propose(&mut self) {
        self.filling = self.filling.wrapping_add(1);
        self.flying += 1;
    }

    /// What became of the first entry that was proposed is applied, or will never be known here.
    pub fn land(&mut self) {
        self.flying -= 1;
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

// Marks of what can be in flight at once are far from meeting those before them.
const _: () = assert!(crate::limits::ENTRIES_IN_FLIGHT_MAX < u16::MAX as usize / 16);

#[cfg(test)]
mod tests {
    use inventory_machine::command::Take;

    use super::*;

    fn claim(user: u128) -> PreparedCommand {
        PreparedCommand {
            follows: false,
            principal: user,
            key: user + 1_000,
            not_after_ms: 0,
            body: PreparedBody::Plain(Body::Claim(Take {
                sale: 0,
                user,
                quantity: 1,
            })),
        }
    }

    #[test]
    fn claims_are_known_from_being_packed_until_their_entry_has_landed() {
        let mut flight = InFlight::default();
        let knows = |flight: &InFlight, user| flight.may_know(user, user + 1_000);
        // Longer than the numbers of entries last.
        for round in 0..100_000u128 {
            let (first, second) = (round * 2 % 1_000 + 1, round * 2 % 1_000 + 2);
            assert!(!knows(&flight, first) && !knows(&flight, second));
            flight.add(&claim(first));
            assert!(knows(&flight, first) && !knows(&flight, second));
            flight.propose();
            flight.add(&claim(second));
            flight.propose();
            assert!(knows(&flight, first) && knows(&flight, second));
            assert!(
                flight.may_know(second + 5_000, first + 1_000),
                "by its key as well"
            );
            flight.land();
            assert!(!knows(&flight, first) && knows(&flight, second));
            flight.land();
        }
    }
}

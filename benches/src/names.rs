//! Users and keys: a new one for every operation, made when it is used.
//!
//! The names look random, so that no index and no cache gains from their order; they are distinct
//! because the function that scatters them is a bijection.

use std::ops::Range;

/// Bits of an operation's number within its caller: a trillion operations each.
const OPERATION_BITS: u32 = 40;

/// Bits of a caller's number within its measurement.
const CALLER_BITS: u32 = 12;

/// The names of one measurement. Measurements of one cluster have different numbers.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    measurement: u64,
}

impl Names {
    /// Those of this measurement.
    ///
    /// # Panics
    /// From measurement 4,096 on.
    pub fn new(measurement: u64) -> Self {
        assert!(
            measurement < 1 << (64 - OPERATION_BITS - CALLER_BITS),
            "measurement {measurement}"
        );
        Names { measurement }
    }

    /// Names that no other caller of this measurement has.
    ///
    /// # Panics
    /// From caller 4,096 on.
    pub fn of_caller(&self, caller: usize) -> CallerNames {
        assert!(caller < 1 << CALLER_BITS, "caller {caller}");
        let first = (self.measurement << CALLER_BITS | caller as u64) << OPERATION_BITS;
        CallerNames {
            numbers: first..first + (1 << OPERATION_BITS),
        }
    }
}

/// The names of one caller, in the same order each time they are made.
#[derive(Clone, Debug)]
pub struct CallerNames {
    numbers: Range<u64>,
}

impl Iterator for CallerNames {
    /// A user and a key.
    type Item = (String, String);

    fn next(&mut self) -> Option<(String, String)> {
        let number = self.numbers.next()?;
        let mut user = String::with_capacity(18);
        user.push_str("u-");
        push_hex(scatter(number), &mut user);
        // As long as a random 128-bit key in hex: what clients make.
        let mut key = String::with_capacity(32);
        push_hex(scatter(!number), &mut key);
        push_hex(number, &mut key);
        Some((user, key))
    }
}

/// A bijection of the 64-bit numbers (the finalizer of splitmix64).
fn scatter(number: u64) -> u64 {
    let mixed = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn push_hex(number: u64, text: &mut String) {
    for shift in (0..16).rev() {
        text.push(char::from(
            b"0123456789abcdef"[(number >> (4 * shift)) as usize & 15],
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_operations_share_a_user_or_a_key() {
        let (mut users, mut keys) = (HashSet::new(), HashSet::new());
        for measurement in 0..3 {
            for caller in 0..3 {
                for (user, key) in Names::new(measurement).of_caller(caller).take(1_000) {
                    assert!(user.len() <= 64 && key.len() == 32);
                    assert!(users.insert(user) && keys.insert(key));
                }
            }
        }
    }

    #[test]
    fn the_same_caller_makes_the_same_names_again() {
        let names = |_| Names::new(7).of_caller(5).take(10).collect::<Vec<_>>();
        assert_eq!(names(()), names(()));
    }
}

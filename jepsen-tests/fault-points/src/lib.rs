//! Bugs planted on purpose, and places to crash at: how the tests prove that they would notice.
//!
//! The product says `planted!("name")` where a real engineer would make that mistake, and
//! `crash_point!("name")` before and after each step that a crash could split. Both are nothing, at
//! compile time, unless the feature `on` is enabled, which only test builds do.
//!
//! With it, one bug of [`registry::PLANTED_BUGS`] can be switched on per process, and a passing of one of
//! [`registry::CRASH_POINTS`] ends the process, or is told to whoever simulates this thread's machines
//! ([`simulate`]). A name that is not in the registry does not compile.
//!
//! Invariants: a check of a bug that is not planted is one load; names are resolved at compile time; the
//! registry and its marker are in no binary without the feature.
//!
//! Left out: what happens to a simulated machine. Its simulator knows.
#![no_std]

#[cfg(feature = "on")]
extern crate std;

#[cfg(feature = "on")]
mod points;
#[cfg(feature = "on")]
pub mod registry;
#[cfg(feature = "on")]
pub use points::*;

/// Whether this bug is planted: constant `false` in whatever is shipped.
#[cfg(not(feature = "on"))]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        false
    };
}

/// Whether this bug is planted in this process.
#[cfg(feature = "on")]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        $crate::is_planted(const { $crate::registry::bug($name) })
    };
}

/// A place to crash at: nothing in whatever is shipped.
#[cfg(not(feature = "on"))]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {{}};
}

/// A place to crash at.
#[cfg(feature = "on")]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        $crate::pass(const { $crate::registry::crash_point($name) })
    };
}

/// What this machine's own wall clock shows, in ms, for the bug that asks it where nobody may.
#[cfg(not(feature = "on"))]
pub const fn host_wall_ms() -> u64 {
    0
}

/// A number that differs from machine to machine, for the bug that lets one show in the state.
#[cfg(not(feature = "on"))]
pub const fn host_number() -> u32 {
    0
}

/// Variables of the environment that are read here: none.
#[cfg(not(feature = "on"))]
pub const VARIABLES: &[&str] = &[];

/// Takes `HOLDFAST_PLANTED_BUG` and `HOLDFAST_CRASH_POINT` from the environment: nothing to take here.
///
/// # Errors
/// None, without the feature.
#[cfg(not(feature = "on"))]
pub const fn from_environment() -> Result<(), core::convert::Infallible> {
    Ok(())
}

//! The inventory state machine: [`Machine::apply`] takes a batch and gives [`Applied`], and nothing
//! else moves it.
//!
//! Pure: no IO, no clock, no randomness, no threads, no floats; time comes in the batch.
#![no_std]
extern crate alloc;

mod apply;
mod bytes;
mod change;
mod claim;
pub mod codec;
pub mod command;
mod document;
mod effect;
mod expiry;
mod frozen;
pub mod hash;
mod index;
mod load;
mod machine;
pub mod reply;
mod rows;
mod sale;
mod sharded;
mod view;

pub use apply::{CHECKOUT_MAX_MS_MAX, SALES_MAX};
pub use document::{DOCUMENTS_BYTES_MAX, DOCUMENTS_MAX, LEASE_MS_MAX, TTL_MS_MAX};
pub use effect::{EFFECTS_MAX, FENCES_MAX, SALE_EFFECTS_MAX};
pub use frozen::Frozen;
pub use load::{LoadError, Loader};
pub use machine::{Applied, Machine};
pub use rows::{ROW_VERSION, RowKey};
pub use sale::{CLAIMS_MAX_DEFAULT_MIN, CLAIMS_MAX_MAX, CLAIMS_PER_UNIT_DEFAULT};

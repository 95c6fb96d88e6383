//! The inventory state machine: [`Machine::apply`] takes a batch and gives [`Applied`], and nothing
//! else moves it.
//!
//! Pure: no IO, no clock, no randomness, no threads, no floats; time comes in the batch. The crate is
//! `no_std`, so a clock would not even compile. The order of a hash map never shows: the only hash
//! tables are looked into, never walked.
//!
//! # What holds
//!
//! - Units are conserved: `units_available + units_held + units_confirmed == units_total` for every
//!   sale after every batch. Asserted; a failure stops the node, better absent than divergent.
//! - Entries are contiguous and neither time falls. Asserted.
//! - No command sees a hold that is past its deadline: a batch first returns what is due, all of it.
//! - One key has at most one effect. A refusal changes nothing and is not remembered.
//! - A confirmed claim stays confirmed until it is cancelled; status moves only
//!   `held → confirmed | released | expired` and `confirmed → cancelled`.
//! - Nothing that a caller can put into a command panics: it is answered with a
//!   [`reply::Rejection`], which is the same on every replica.
//! - The state and its digest depend on the batches alone, not on how often it was frozen, written
//!   out or loaded on the way.
//! - Machines of two versions give the same state for every batch that both know. A batch says which version it
//!   needs, the state remembers the newest that it has needed, and what is not known is refused, never guessed.
//!
//! # Where things are
//!
//! [`command`] and [`reply`] are all that goes in and comes out, [`event`] what is kept of what happened,
//! [`codec`] the bytes of a batch, `apply` how a batch moves the state. A sale (`sale`) owns its claims: their records (`claim`), two lookups
//! (`index`) and the queue of deadlines (`expiry`). Beside the sales are documents (`document`) and what is
//! remembered about keys (`effect`). [`Frozen`] is the state at one index for whoever writes it down,
//! `rows` its durable form, [`Loader`] the way back, [`Recount`] its books counted anew.
//!
//! # What is left out
//!
//! Who may do what (the door's business), retries (the client's), when to propose (the leader's), files
//! (the store's). There is no removal of old sales: a claim's record lives as long as its sale.
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
pub mod event;
mod expiry;
mod frozen;
pub mod hash;
mod index;
mod load;
mod machine;
mod recount;
pub mod reply;
mod rows;
mod sale;
mod shards;
mod view;

pub use apply::{CHECKOUT_MAX_MS_MAX, SALES_MAX};
pub use document::{DOCUMENTS_BYTES_MAX, DOCUMENTS_MAX, DocumentQuery, LEASE_MS_MAX, TTL_MS_MAX};
pub use effect::{EFFECTS_MAX, FENCES_MAX, SALE_EFFECTS_MAX};
pub use frozen::Frozen;
pub use load::{Halves, InTurn, LoadError, Loader};
pub use machine::{Applied, LOG_INDEX_END, Machine};
pub use recount::{Books, Recount, SaleBooks};
pub use rows::{ROW_VERSION, Row, RowKey};
pub use sale::{CLAIMS_MAX_DEFAULT_MIN, CLAIMS_MAX_MAX, CLAIMS_PER_UNIT_DEFAULT};

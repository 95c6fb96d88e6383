//! The shoppers' HTTP door: JSON over HTTP in front of the store.
//!
//! A request is checked for shape here, and decided there: this crate keeps no inventory, no claims
//! and no queue. It is stateless between requests but for caches that may be lost at any time
//! (verified tokens, rate-limit buckets, sales as of at most a second ago), so any number of these
//! processes can stand side by side.
//!
//! - Every refusal is an RFC 9457 problem, also those of the framework (unknown route, wrong method).
//! - A claim is never refused from memory: `sold-out` is always the leader's word.
//! - The caller's `Idempotency-Key` goes to the store as it is; a repeated request is recognised
//!   there, whichever of these processes it reaches.
//! - Everything that waits or grows has a limit in [`Options`].
//!
//! `routes/` has one file per resource; `error` alone knows status codes; [`Store`] is all that this
//! crate asks of the store, and [`payment::PaymentProvider`] all that it asks of whoever moves the money.
//! Left out: TLS (a proxy's work).

mod admission;
mod auth;
mod cache;
mod checkout;
mod documents;
mod door;
mod error;
mod extract;
#[cfg(test)]
mod fuzz_tests;
mod idempotency;
mod json;
pub mod ledger;
mod live;
#[cfg(test)]
mod machine_store;
mod options;
mod orders;
pub mod payment;
mod refusal;
mod routes;
mod serve;
mod store;
mod telemetry;
mod time;

pub use auth::{Auth, Keys, Role, mint_hs256};
pub use checkout::{CheckoutOptions, Payments, overview as checkouts};
pub use documents::{DocumentWrite, Documents};
pub use options::{Options, SALE_CACHE_MS_MAX, StartError, WhenFull};
pub use serve::{Connections, ServeError, router, serve, serve_router};
pub use store::{Link, NodeSeen, SaleChange, Settle, Step, Store, Take};

//! A payment provider to rehearse with: Stripe's published API, a pure machine, and faults on demand.
//!
//! [`Provider`] is the machine: calls and times go in, answers and webhooks come out. No clock, no sockets,
//! no randomness but what the seed says: the same options and the same calls give the same answers, so a
//! simulation can drive it in process and a journal of its calls brings it back after a crash.
//! [`serve`] puts it behind HTTP and sends its webhooks.
//!
//! - Money is exact: a payment is charged at most its amount, refunded and disputed at most what was
//!   captured. [`Provider::ledger`] is the truth that a rehearsal's verdict is held against.
//! - A fault happens to the road (an answer lost, late, doubled) or to the card (declined, challenged), as
//!   it does in the world; never to the books.
//! - What a fault left behind is told like Stripe tells it: a saved answer is replayed for 24 h, errors
//!   included; what was never begun is not saved.
//!
//! Left out: customers, stored cards, search, connected accounts, payouts, fees, TLS. A parameter that Stripe
//! knows and that has no bearing here is accepted; one that Stripe does not know is refused.

mod call;
mod control;
mod currency;
mod error;
mod event;
mod fault;
mod form;
mod help;
mod intent;
mod journal;
mod keys;
mod ledger;
mod list;
mod magic;
mod object;
mod options;
mod params;
mod provider;
mod refund;
mod sender;
mod server;
mod wire;

pub use call::{Answer, Method, Request};
pub use event::{Delivery, Event};
pub use fault::{Faults, Rate};
pub use help::help;
pub use journal::JournalError;
pub use ledger::{Ledger, PaymentRow, Reference, Totals, WebhookCounts};
pub use options::{EVENT_KINDS, Options};
pub use provider::Provider;
pub use sender::{Webhooks, signature};
pub use server::{Opened, ServerOptions, SimulatorError, open, router, serve};

//! The payment adapter against a server that misbehaves, and what stands before it.

mod answers;
mod guarded;
mod requests;
mod server;

//! The payment adapter against a server that misbehaves, what stands before it, and a
//! rehearsal's provider that was written without it.

mod answers;
mod guarded;
mod requests;
mod server;
mod simulator;

//! The inventory state machine: `Machine::apply(batch) -> Applied`, and nothing else moves it.
//!
//! Pure: no IO, no clock, no randomness, no threads, no floats; time comes in the batch.
#![no_std]
extern crate alloc;

pub mod codec;
pub mod command;
pub mod hash;
mod machine;
pub mod reply;

pub use machine::*;

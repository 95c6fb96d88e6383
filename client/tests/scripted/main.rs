//! The client against scripted nodes: every answer, loss and delay is chosen by the test.

mod calls;
mod chains;
mod fake;
mod frames;
mod leaders;
mod operators;
mod reads;
mod watches;

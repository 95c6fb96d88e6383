//! Payments.

pub mod simulator;

//! The durable log and vote: openraft's own suite, crashes at every operation, rot in every byte.

mod suite;
mod support;

//! The durable log and vote: openraft's own suite, crashes at every operation, rot in every byte.

mod crash;
mod failure;
mod rot;
mod suite;
mod support;

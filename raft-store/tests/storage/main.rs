//! Whole storage: log, state, snapshots, image and the opening procedure together, with real batches
//! of the machine, through crashes, damage and restarts.

mod backup;
mod crash;
mod image;
mod node;
mod raft;
mod snapshots;
mod suite;
mod versions;
mod workload;

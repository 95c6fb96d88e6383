//! The replicated inventory store: raft around the pure machine.
//!
//! The node's map, from the outside in: [`service`] takes gRPC in; [`batcher`] gathers commands,
//! stamps them with the [`log_clock`] and proposes; openraft replicates through [`network`] and appends
//! through [`storage`]; the state applies in memory, and its image follows on disk.

pub mod batcher;
pub mod clock;
pub mod config;
pub mod convert;
#[cfg(test)]
mod fuzz_tests;
pub mod limits;
pub mod log_clock;
pub mod machine_versions;
pub mod membership;
pub mod net_tcp;
pub mod network;
pub mod node;
pub mod raft_config;
pub mod reads;
mod rehearsals;
pub mod runtime;
pub mod seams;
pub mod service;
pub mod storage;
pub mod types;

/// openraft, with this store's types and state machine.
pub type HoldfastRaft = openraft::Raft<types::TypeConfig, storage::state::StateMachine>;

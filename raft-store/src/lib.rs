//! The replicated inventory store: raft around the pure machine.
//!
//! The node's map, from the outside in: the services takes gRPC in; the batcher gathers commands,
//! stamps them with the log clock and proposes; openraft replicates through the network and appends
//! through [`storage`]; the state applies in memory, and its image follows on disk.

pub mod batcher;
pub mod clock;
pub mod limits;
pub mod log_clock;
pub mod reads;
pub mod runtime;
pub mod seams;
pub mod service;
pub mod storage;
pub mod types;

/// openraft, with this store's types and state machine.
pub type HoldfastRaft = openraft::Raft<types::TypeConfig, storage::state::StateMachine>;

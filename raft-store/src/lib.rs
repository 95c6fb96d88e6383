//! The replicated inventory store: raft around the pure machine.
//!
//! The node's map, from the outside in: the services takes gRPC in; the batcher gathers commands,
//! stamps them with the log clock and proposes; openraft replicates through the network and appends
//! through [`storage`]; the state applies in memory, and its image follows on disk.

pub mod convert;
pub mod membership;
pub mod net_tcp;
pub mod network;
pub mod raft_config;
pub mod runtime;
pub mod seams;
pub mod service;
pub mod storage;
pub mod types;

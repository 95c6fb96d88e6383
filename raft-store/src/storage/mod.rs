//! The only code that touches files.

pub mod disk;
pub mod snapshot;
pub mod state;
pub mod disk_real;
pub mod disk_sim;
pub mod error;
pub mod log;
pub mod node_file;
pub mod vote;

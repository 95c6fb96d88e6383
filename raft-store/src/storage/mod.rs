//! The only code that touches files.

pub mod backup;
pub mod disk;
pub mod disk_real;
pub mod disk_sim;
pub mod error;
pub mod feed;
pub mod identity;
pub mod image;
mod load;
pub mod log;
pub mod node_file;
mod offload;
pub mod open;
pub mod rows;
pub mod snapshot;
pub mod state;
pub mod vote;

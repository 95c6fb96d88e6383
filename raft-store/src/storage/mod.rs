//! The only code that touches files.

pub mod disk;
pub mod snapshot;
pub mod state;

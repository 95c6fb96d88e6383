//! gRPC in: the wire's words become commands and reads, and their answers become the wire's words again.

pub mod inventory;
pub mod outcome;
pub mod prepare;
pub mod refusal;
pub mod watch;

//! The bytes of a batch: written once by the leader, and then the same bytes in the log, on the wire
//! and under `apply`, which decodes them in place.

use alloc::vec::Vec;

use crate::command::{Command, LogMs, Namespace, WallMs};

/// Version of the machine's commands. A batch of a newer version than the node knows stops the node.
pub const MACHINE_VERSION: u16 = 1;

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than they announce.
    Short,
    /// A value that no encoder writes, and where.
    Invalid {
        /// Offset in bytes.
        offset: usize,
    },
    /// Written by a newer machine.
    Newer {
        /// Its version.
        version: u16,
    },
}

/// Collects commands into the bytes of one batch; reusable, so that nothing is allocated per claim.
#[derive(Default)]
pub struct BatchEncoder {}

impl BatchEncoder {
    /// An empty encoder.
    pub fn new() -> Self {
        todo!()
    }
    /// Starts a batch over.
    pub fn clear(&mut self) {
        todo!()
    }
    /// The place of a sale's name in this batch's table; adds it when it is not there yet.
    pub fn sale(&mut self, namespace: Namespace, sale_id: &str) -> u16 {
        let _ = (namespace, sale_id);
        todo!()
    }
    /// Adds a command.
    pub fn push(&mut self, command: &Command<'_>) {
        let _ = command;
        todo!()
    }
    /// Commands so far.
    pub fn count(&self) -> usize {
        todo!()
    }
    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        todo!()
    }
    /// The batch, stamped; the encoder is empty again.
    pub fn finish(&mut self, log_time_ms: LogMs, wall_time_ms: WallMs) -> Vec<u8> {
        let _ = (log_time_ms, wall_time_ms);
        todo!()
    }
}

/// A batch in its bytes. Parsing checks the header and the sale table; commands are checked as they are read.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Log time it was stamped with.
    pub log_time_ms: LogMs,
    /// Wall time it was stamped with.
    pub wall_time_ms: WallMs,
    /// How many commands it has.
    pub count: u32,
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads the header.
    pub fn parse(bytes: &'a [u8]) -> Result<Batch<'a>, DecodeError> {
        let _ = bytes;
        todo!()
    }
    /// Its commands, in order.
    pub fn commands(&self) -> impl Iterator<Item = Result<Command<'a>, DecodeError>> + 'a {
        let _ = self.bytes;
        core::iter::empty()
    }
}

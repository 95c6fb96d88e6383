//! A register with write, read and compare-and-set.

use super::register::Register;

/// A value; none: empty, or not told.
pub type Value = Option<i64>;

/// The value that a register begins with, where it does not begin empty.
pub const INITIAL: i64 = 0;

/// What was done to a register and what was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It was read, and this was in it.
    Read(Value),
    /// It was read, and nobody heard what was in it.
    ReadAnything,
    /// It was written.
    Write(Value),
    /// From the first value to the second; whether it was the first is not known.
    Cas(Value, Value),
    /// From the first value to the second, and it was the first.
    CasDone(Value, Value),
    /// It was not the first value.
    CasRefused(Value, Value),
}

/// The operations on one register, and what is in it before the first.
pub struct CasRegister(pub Vec<Access>, pub Value);

impl Register for CasRegister {
    type Value = Value;

    fn start(&self) -> Value {
        self.1
    }

    fn known(&self, value: &Value, operation: usize) -> Option<Value> {
        match self.0[operation] {
            Access::Read(read) => (read == *value).then_some(read),
            Access::ReadAnything => Some(*value),
            Access::Write(new) => Some(new),
            Access::CasDone(old, new) => (old == *value).then_some(new),
            Access::CasRefused(old, _) => (old != *value).then_some(*value),
            Access::Cas(old, new) => Some(if old == *value { new } else { *value }),
        }
    }

    fn unknown(&self, value: &Value, operation: usize) -> Value {
        match self.0[operation] {
            Access::Write(new) => new,
            Access::Cas(old, new) | Access::CasDone(old, new) if old == *value => new,
            _ => *value,
        }
    }
}

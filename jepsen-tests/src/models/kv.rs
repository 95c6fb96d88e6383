//! One key of a key-value store of strings, at first empty: get, put, append.

use std::sync::Arc;

use super::register::Register;

/// What was done to a key and what was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// It was read, and this was in it.
    Get(Arc<str>),
    /// It was read, and nobody heard what was in it.
    GetAnything,
    /// It was replaced.
    Put(Arc<str>),
    /// This was added at its end.
    Append(Arc<str>),
}

/// The operations on one key.
pub struct Kv(pub Vec<Access>);

impl Kv {
    fn write(&self, value: &Arc<str>, operation: usize) -> Arc<str> {
        match &self.0[operation] {
            Access::Get(_) | Access::GetAnything => value.clone(),
            Access::Put(new) => new.clone(),
            Access::Append(more) => [&**value, &**more].concat().into(),
        }
    }
}

impl Register for Kv {
    type Value = Arc<str>;

    fn start(&self) -> Arc<str> {
        "".into()
    }

    fn known(&self, value: &Arc<str>, operation: usize) -> Option<Arc<str>> {
        match &self.0[operation] {
            Access::Get(read) if read != value => None,
            _ => Some(self.write(value, operation)),
        }
    }

    fn unknown(&self, value: &Arc<str>, operation: usize) -> Arc<str> {
        self.write(value, operation)
    }
}

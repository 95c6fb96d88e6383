//! Keyed hashes of outside texts, and claim ids.

use crate::command::{ClaimId, Namespace, Operation};

/// Keyed 128-bit hash of a user id or principal. Never zero.
pub fn user_hash(secret: u128, namespace: Namespace, user: &[u8]) -> u128 {
    let _ = (secret, namespace, user);
    todo!()
}

/// Keyed 128-bit hash of an idempotency key within its scope. Never zero.
pub fn key_hash(
    secret: u128,
    namespace: Namespace,
    sale_id: &[u8],
    principal: u128,
    operation: Operation,
    key: &[u8],
) -> u128 {
    let _ = (secret, namespace, sale_id, principal, operation, key);
    todo!()
}

impl ClaimId {
    /// Reads the text form; `None` when it is not one.
    pub fn parse(text: &str) -> Option<ClaimId> {
        let _ = text;
        todo!()
    }
}

impl core::fmt::Display for ClaimId {
    fn fmt(&self, _f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        todo!()
    }
}

impl core::fmt::Debug for ClaimId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

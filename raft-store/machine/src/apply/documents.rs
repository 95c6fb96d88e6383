//! Documents: written, deleted, leased, and ended by the clock.
//!
//! Whoever holds a document's lease is the only one who may write it; his token must be presented.
//! A token that is not the current one is refused even when the lease is over and the document free:
//! that is what stops an owner who was away too long. A leased document cannot be deleted; its owner
//! gives the lease back first. A write is a new version, a lease is not.

use alloc::{sync::Arc, vec::Vec};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Entry;
use crate::{
    bytes::Put,
    codec::MACHINE_VERSION_FIRST,
    command::{Body, Command, DOCUMENT_BODY_BYTES_MAX, DOCUMENT_KEY_BYTES_MAX, Operation, PutDocument},
    document::{Document, LEASE_MS_MAX, TTL_MS_MAX},
    effect::Outcome,
    event::Change,
    reply::{Field, Rejection, Reply},
};

impl Entry<'_> {
    /// Ends leases and documents that are due.
    pub(super) fn expire_documents(&mut self) {
        let now_ms = self.now_ms();
        while let Some(gone) = self.machine.documents.expire(now_ms) {
            if gone {
                self.event(0, Change::DocumentChanged(0));
            }
        }
    }

    /// Everything about documents.
    pub(super) fn change_document(&mut self, command: &Command<'_>) -> Result<Reply, Rejection> {
        let request = request_of(&command.body, &mut self.machine.scratch);
        if let Some(effect) = self.remembered(Operation::Document, command.key, request)?
            && let Some(answer) = self.machine.answer(&effect)
        {
            return Ok(answer);
        }
        self.in_time(command)?;
        let (key, after) = match &command.body {
            Body::PutDocument(put) => (put.document, After::Is(self.put(put)?)),
            Body::DeleteDocument {
                document,
                version_expected,
            } => {
                self.delete(document, *version_expected)?;
                (*document, After::Gone)
            }
            Body::LeaseDocument {
                document,
                fencing_token,
                lease_ms,
            } => (
                *document,
                After::Is(self.lease(document, *fencing_token, *lease_ms)?),
            ),
            Body::CheckDocument {
                document,
                version_expected,
            } => (*document, self.check(document, *version_expected)?),
            _ => unreachable!("not about a document: {command:?}"),
        };
        let (version, fencing_token, leased_until_ms) = match &after {
            After::Is(is) => (is.version, is.fencing_token, is.leased_until_ms),
            After::AsBefore(before) => *before,
            After::Gone => (0, 0, 0),
        };
        let outcome = Outcome::Document {
            version,
            fencing_token,
            leased_until_ms,
        };
        // A check, too: a chain that is sent again must not end where it went on before.
        self.remember(Operation::Document, command.key, request, outcome);
        let changed = match after {
            After::Is(document) => {
                self.machine.documents.put(document);
                true
            }
            After::Gone => {
                self.machine.documents.remove(key);
                true
            }
            After::AsBefore(_) => false,
        };
        if changed {
            self.event(0, Change::DocumentChanged(version));
        }
        Ok(Reply::Document {
            version,
            fencing_token,
            leased_until_ms,
        })
    }

    fn put(&self, put: &PutDocument<'_>) -> Result<Document, Rejection> {
        check_key(put.document)?;
        if put.body.len() > DOCUMENT_BODY_BYTES_MAX {
            return Err(Rejection::OutOfRange {
                field: Field::DocumentBody,
            });
        }
        if put.ttl_ms > TTL_MS_MAX {
            return Err(Rejection::OutOfRange { field: Field::TtlMs });
        }
        let before = self.machine.documents.get(put.document);
        let (version, fencing_token, leased_until_ms) = before.map_or((0, 0, 0), |before| {
            (before.version, before.fencing_token, before.leased_until_ms)
        });
        check_token(fencing_token, leased_until_ms, put.fencing_token)?;
        if version != put.version_expected {
            return Err(Rejection::VersionMismatch { version });
        }
        if !self
            .machine
            .documents
            .has_room(before.map(Arc::as_ref), put.document, put.body)
        {
            return Err(Rejection::DocumentQuota);
        }
        Ok(Document {
            key: before.map_or_else(|| put.document.into(), |before| before.key.clone()),
            body: put.body.into(),
            // An entry has fewer than 2^16 commands and a log index fewer than 48 bits.
            version: self.at.log_index << 16 | u64::from(self.at.position),
            fencing_token,
            leased_until_ms,
            expires_at_ms: if put.ttl_ms == 0 {
                0
            } else {
                self.now_ms() + put.ttl_ms
            },
        })
    }

    fn delete(&self, key: &[u8], version_expected: u64) -> Result<(), Rejection> {
        check_key(key)?;
        let Some(before) = self.machine.documents.get(key) else {
            return Err(Rejection::VersionMismatch { version: 0 });
        };
        check_token(before.fencing_token, before.leased_until_ms, 0)?;
        // In a batch of the first version, zero is a version that no document has.
        let any = cfg!(feature = "next-machine") && self.version > MACHINE_VERSION_FIRST;
        if before.version != version_expected && !(any && version_expected == 0) {
            return Err(Rejection::VersionMismatch {
                version: before.version,
            });
        }
        Ok(())
    }

    /// How a document is, if its version is the expected one.
    fn check(&self, key: &[u8], version_expected: u64) -> Result<After, Rejection> {
        check_key(key)?;
        let before = self.machine.documents.get(key);
        let is = before.map_or((0, 0, 0), |before| {
            (before.version, before.fencing_token, before.leased_until_ms)
        });
        if is.0 != version_expected {
            return Err(Rejection::VersionMismatch { version: is.0 });
        }
        Ok(After::AsBefore(is))
    }

    fn lease(&self, key: &[u8], fencing_token: u64, lease_ms: u64) -> Result<Document, Rejection> {
        check_key(key)?;
        let gives_back = lease_ms == 0;
        if lease_ms > LEASE_MS_MAX || gives_back && fencing_token == 0 {
            return Err(Rejection::OutOfRange {
                field: Field::LeaseMs,
            });
        }
        let Some(before) = self.machine.documents.get(key) else {
            return Err(Rejection::VersionMismatch { version: 0 });
        };
        check_token(before.fencing_token, before.leased_until_ms, fencing_token)?;
        let mut after = Document::clone(before);
        if gives_back {
            (after.fencing_token, after.leased_until_ms) = (0, 0);
        } else {
            // Renewing keeps the token: what its owner has under way stays valid. Taking makes a new
            // one. Two owners never share one, although it is the same for the whole entry: giving
            // back needs a token, which is unknown outside before its entry has been applied.
            if fencing_token == 0 {
                after.fencing_token = self.at.log_index;
            }
            after.leased_until_ms = self.now_ms() + lease_ms;
        }
        Ok(after)
    }
}

/// What a command leaves of its document.
enum After {
    /// This in its place.
    Is(Document),
    /// Nothing.
    Gone,
    /// What was there: version, fencing token and end of the lease.
    AsBefore((u64, u64, u64)),
}

fn check_key(key: &[u8]) -> Result<(), Rejection> {
    if (1..=DOCUMENT_KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    Err(Rejection::OutOfRange {
        field: Field::DocumentKey,
    })
}

/// Whether a token lets its bearer at a document: none for a free one, the current one for a leased one.
fn check_token(current: u64, leased_until_ms: u64, presented: u64) -> Result<(), Rejection> {
    match presented {
        _ if presented == current => Ok(()),
        0 => Err(Rejection::Leased { leased_until_ms }),
        _ => Err(Rejection::StaleToken {
            fencing_token: current,
        }),
    }
}

/// Hash of what a change of a document asks for.
fn request_of(body: &Body<'_>, bytes: &mut Vec<u8>) -> u64 {
    bytes.clear();
    match body {
        Body::PutDocument(put) => {
            bytes.push(b'p');
            bytes.put_field(put.document);
            bytes.put_field(put.body);
            bytes.put_u64(put.version_expected);
            bytes.put_u64(put.fencing_token);
            bytes.put_u64(put.ttl_ms);
        }
        Body::DeleteDocument {
            document,
            version_expected,
        } => {
            bytes.push(b'd');
            bytes.put_field(document);
            bytes.put_u64(*version_expected);
        }
        Body::LeaseDocument {
            document,
            fencing_token,
            lease_ms,
        } => {
            bytes.push(b'l');
            bytes.put_field(document);
            bytes.put_u64(*fencing_token);
            bytes.put_u64(*lease_ms);
        }
        Body::CheckDocument {
            document,
            version_expected,
        } => {
            bytes.push(b'c');
            bytes.put_field(document);
            bytes.put_u64(*version_expected);
        }
        _ => unreachable!("not about a document: {body:?}"),
    }
    xxh3_64_with_seed(bytes, u64::from(b'd'))
}

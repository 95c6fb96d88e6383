//! Calls on documents, each recorded like those on sales.
//!
//! A document that is not there is read from a list, whose answer says what it reflects: *there is none* on its own
//! does not.

use client::{Consistency, DocumentChanged, Error, Reason, Rejected};

use super::shop::{Process, at};
use crate::history::{Call, Outcome};

/// How a call on a document ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// With this answer.
    Answered(Outcome<String>),
    /// It did not happen, and may be tried again.
    Failed,
    /// Nobody knows.
    Unknown,
}

impl Process {
    /// Carries out one call on a document.
    ///
    /// # Panics
    /// On calls on sales.
    pub async fn document(&mut self, document: &str, call: &Call<String>) -> Heard {
        let id = self.invoke(document, call);
        if matches!(call, Call::Get) {
            return self.get(id, document).await;
        }
        match self.change(document, call).await {
            Ok(changed) => {
                let outcome = outcome(call, &changed);
                self.heard(id, &changed.position, outcome)
            }
            Err(Error::Rejected(why)) => self.document_refused(id, &why),
            Err(error) => match self.error(id, error) {
                super::shop::Heard::Unknown => Heard::Unknown,
                _ => Heard::Failed,
            },
        }
    }

    /// Sends a change, and records nothing.
    ///
    /// # Errors
    /// As the client's.
    pub async fn change(&self, document: &str, call: &Call<String>) -> Result<DocumentChanged, Error> {
        change(self.client(), document, call).await
    }

    async fn get(&mut self, id: u64, document: &str) -> Heard {
        let listed = self
            .client()
            .list_documents(document.to_owned(), "", 1, Consistency::Linearizable)
            .await;
        let list = match listed {
            Ok(list) => list,
            // A read that failed read nothing.
            Err(Error::Rejected(why)) => return self.document_refused(id, &why),
            Err(_) => {
                self.failed(id);
                return Heard::Failed;
            }
        };
        let found = list.documents.iter().find(|found| found.key == document);
        let outcome = match found {
            None => Outcome::Document {
                version: 0,
                body: None,
                token: 0,
                until: 0,
            },
            Some(found) => Outcome::Document {
                version: found.version,
                body: Some(String::from_utf8_lossy(&found.body).into_owned()),
                token: found.fencing_token,
                until: found.leased_until_ms,
            },
        };
        self.heard(id, &list.position, outcome)
    }

    fn document_refused(&mut self, id: u64, why: &Rejected) -> Heard {
        let outcome = match why.reason {
            Reason::VersionMismatch => Outcome::WrongVersion { version: why.value },
            Reason::Leased => Outcome::Busy { until: why.until_ms },
            Reason::StaleToken => Outcome::StaleToken { token: why.value },
            Reason::KeyReused => Outcome::KeyReused,
            // Given up, by a resolve of the client's own as well, or too late: nothing happened, and nothing will.
            Reason::KeyFenced | Reason::TooLate => {
                self.failed(id);
                return Heard::Failed;
            }
            _ => {
                self.odd_refusal(id, why);
                return Heard::Unknown;
            }
        };
        self.heard(id, &why.position, outcome)
    }

    fn heard(&mut self, id: u64, position: &client::Position, outcome: Outcome<String>) -> Heard {
        let lt = position.log_time_ms;
        match self.answered(id, at(position), lt, super::shop::told(&outcome)) {
            super::shop::Heard::Unknown => Heard::Unknown,
            _ => Heard::Answered(outcome),
        }
    }
}

/// Sends a change of a document.
///
/// # Errors
/// As the client's.
///
/// # Panics
/// The call changes no document.
pub async fn change(
    client: &client::Client,
    document: &str,
    call: &Call<String>,
) -> Result<DocumentChanged, Error> {
    let document = document.to_owned();
    let (request, key) = match call {
        Call::Put {
            body,
            version,
            token,
            ttl_ms,
            key,
        } => {
            let put = client.put_document(document, body.clone(), *version);
            (put.fencing_token(*token).ttl_ms(*ttl_ms), key)
        }
        Call::Delete { version, key } => (client.delete_document(document, *version), key),
        Call::Lease { token, lease_ms, key } => (client.lease_document(document, *token, *lease_ms), key),
        _ => panic!("it changes no document: {call:?}"),
    };
    // Named here, for not every client that tells a change again is a caller's: keys belong to their principal.
    request.principal(super::shop::PRINCIPAL).key(key).send().await
}

/// What the answer to a change says.
pub fn outcome(call: &Call<String>, changed: &DocumentChanged) -> Outcome<String> {
    match call {
        Call::Put { .. } => Outcome::Written {
            version: changed.version,
        },
        Call::Lease { .. } => Outcome::Leased {
            token: changed.fencing_token,
            until: changed.leased_until_ms,
        },
        _ => Outcome::Deleted,
    }
}

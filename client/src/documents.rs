//! Small keyed documents beside the inventory: compare-and-set, leases, time to live.
//!
//! A document has a version, higher with every write and never used again; a write names the version it
//! replaces, so two writers never overwrite each other unseen. Whoever holds a document's lease is the only one who may
//! write it, and presents its fencing token; leases and times to live are in log time, so a failover
//! eats none of either.
//!
//! ```no_run
//! use client::{Client, Consistency, Error};
//!
//! # async fn example(client: Client) -> Result<(), Error> {
//! let made = client.put_document("orders/4711", "{}", 0).key("order-4711-make").send().await?;
//! // Mine for ten seconds: nobody else writes it meanwhile.
//! let leased = client.lease_document("orders/4711", 0, 10_000).key("order-4711-lease").send().await?;
//! let paid = client
//!     .put_document("orders/4711", r#"{"paid":true}"#, made.version)
//!     .fencing_token(leased.fencing_token)
//!     .key("order-4711-paid")
//!     .send()
//!     .await?;
//! let found = client.get_document("orders/4711", Consistency::Linearizable).await?;
//! assert_eq!(found.map(|document| document.version), Some(paid.version));
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use bytes::Bytes;
use proto::v1::{
    CheckDocument, Command, DeleteDocument, GetDocumentRequest, LeaseDocument, ListDocumentsRequest,
    Operation, PutDocument, ResolveRequest, command::Body,
};
use tonic::{Code, Response};

use crate::{
    Client, Error,
    call::{Shared, inventory},
    convert,
    leader::timed,
    model::{Consistency, Document, DocumentChanged, DocumentList, Position, Resolution},
    request::Draft,
};

/// A change to a document being built.
#[must_use = "nothing is sent before send()"]
pub struct DocumentRequest {
    draft: Draft,
}

impl DocumentRequest {
    /// Idempotency key, 1..=64 bytes; save it before sending. Remembered for 24 hours of log time.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.draft.key = Some(key.into());
        self
    }

    /// Who asks; default the client's principal.
    pub fn principal(mut self, principal: impl Into<String>) -> Self {
        self.draft.principal = Some(principal.into());
        self
    }

    /// The lease's token: needed to write a document that is leased. Deleting takes none: a leased
    /// document is given back first.
    pub fn fencing_token(mut self, token: u64) -> Self {
        match &mut self.draft.body {
            Body::PutDocument(put) => put.fencing_token = token,
            Body::LeaseDocument(lease) => lease.fencing_token = token,
            _ => {}
        }
        self
    }

    /// Deleted by itself this long after the write, in ms of log time; without it, never. For writes.
    pub fn ttl_ms(mut self, ttl_ms: u64) -> Self {
        if let Body::PutDocument(put) = &mut self.draft.body {
            put.ttl_ms = ttl_ms;
        }
        self
    }

    /// Sends it; gives the document's version and lease as they are then.
    ///
    /// # Errors
    /// [`Error::Rejected`]: nothing changed; `VersionMismatch` and `StaleToken` carry the current one in
    /// `value`, `Leased` the lease's end in `until_ms`. Otherwise as [`crate::TakeRequest::send`].
    pub async fn send(self) -> Result<DocumentChanged, Error> {
        let (shared, command) = self.into_command();
        let (kind, position) = shared.carry_out(command).await?;
        convert::document_changed(kind, position)
    }

    pub(crate) fn into_command(self) -> (Arc<Shared>, Command) {
        self.draft.command(|shared| shared.principal.clone())
    }
}

impl Client {
    fn document(&self, body: Body) -> DocumentRequest {
        DocumentRequest {
            draft: Draft::new(self.shared.clone(), body),
        }
    }

    /// Writes a document (key 1..=128 bytes, body up to 16 KiB) in place of this version; zero: it must
    /// not exist yet.
    pub fn put_document(
        &self,
        document: impl Into<Bytes>,
        body: impl Into<Bytes>,
        version_expected: u64,
    ) -> DocumentRequest {
        self.document(Body::PutDocument(PutDocument {
            document: document.into(),
            body: body.into(),
            version_expected,
            fencing_token: 0,
            ttl_ms: 0,
        }))
    }

    /// Deletes this version of a document.
    pub fn delete_document(&self, document: impl Into<Bytes>, version_expected: u64) -> DocumentRequest {
        self.document(Body::DeleteDocument(DeleteDocument {
            document: document.into(),
            version_expected,
        }))
    }

    /// Leases an existing document for so many ms of log time: with token zero it must be free, with the
    /// lease's own it is renewed; for zero ms it is given back.
    pub fn lease_document(
        &self,
        document: impl Into<Bytes>,
        fencing_token: u64,
        lease_ms: u64,
    ) -> DocumentRequest {
        self.document(Body::LeaseDocument(LeaseDocument {
            document: document.into(),
            fencing_token,
            lease_ms,
        }))
    }

    /// Checks that a document has this version (zero: that there is none), and changes nothing: a condition for what
    /// follows it in a [chain](Client::chain). Its key is remembered like another's, so a chain that is sent again
    /// does not end where it went on before.
    pub fn check_document(&self, document: impl Into<Bytes>, version_expected: u64) -> DocumentRequest {
        self.document(Body::CheckDocument(CheckDocument {
            document: document.into(),
            version_expected,
        }))
    }

    /// One document; `None`: there is none of this key.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: no node could answer so freshly.
    pub async fn get_document(
        &self,
        document: impl Into<Bytes>,
        consistency: Consistency,
    ) -> Result<Option<Document>, Error> {
        let request = GetDocumentRequest {
            document: document.into(),
            consistency: Some(convert::consistency(consistency)),
        };
        let found = self
            .read(consistency, |channel, left| {
                let request = timed(request.clone(), left);
                async move {
                    match inventory(channel).get_document(request).await {
                        Ok(found) => Ok(Response::new(Some(found.into_inner()))),
                        Err(status) if status.code() == Code::NotFound => Ok(Response::new(None)),
                        Err(status) => Err(status),
                    }
                }
            })
            .await?;
        Ok(found.map(convert::document))
    }

    /// Documents whose keys begin with `prefix`, in order of keys, after the key `after` (empty: from the
    /// first), at most `limit` (zero: 100) and 1 MiB; [`DocumentList::more`] tells whether to ask again
    /// after the last of them. One answer is one state; between two answers documents may come and go.
    ///
    /// # Errors
    /// [`Error::Rejected`]: the limit is above 10,000. [`Error::Unavailable`]: no node could answer so
    /// freshly.
    pub async fn list_documents(
        &self,
        prefix: impl Into<Bytes>,
        after: impl Into<Bytes>,
        limit: u32,
        consistency: Consistency,
    ) -> Result<DocumentList, Error> {
        self.documents(prefix.into(), after.into(), limit, false, consistency)
            .await
    }

    /// Like [`Client::list_documents`], without their bodies.
    ///
    /// # Errors
    /// As there.
    pub async fn list_document_keys(
        &self,
        prefix: impl Into<Bytes>,
        after: impl Into<Bytes>,
        limit: u32,
        consistency: Consistency,
    ) -> Result<DocumentList, Error> {
        self.documents(prefix.into(), after.into(), limit, true, consistency)
            .await
    }

    async fn documents(
        &self,
        prefix: Bytes,
        after: Bytes,
        limit: u32,
        keys_only: bool,
        consistency: Consistency,
    ) -> Result<DocumentList, Error> {
        let request = ListDocumentsRequest {
            prefix,
            after,
            limit,
            keys_only,
            consistency: Some(convert::consistency(consistency)),
        };
        let response = self
            .read(consistency, |channel, left| {
                let request = timed(request.clone(), left);
                async move { inventory(channel).list_documents(request).await }
            })
            .await?;
        Ok(convert::document_list(response))
    }

    /// What became of a key used on a document, and what the answer reflects. Afterwards the key can have no effect any more, as with
    /// [`Client::resolve`].
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub async fn resolve_document(
        &self,
        document: impl Into<Bytes>,
        key: &str,
        principal: &str,
    ) -> Result<(Resolution, Position), Error> {
        let request = ResolveRequest {
            document: document.into(),
            operation: Operation::Document.into(),
            key: key.to_string(),
            principal: principal.to_string(),
            ..ResolveRequest::default()
        };
        let (kind, position) = self.shared.resolve(request, self.shared.deadline()).await?;
        Ok((convert::resolution(kind), position))
    }
}

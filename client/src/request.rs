//! Changes being built: what is asked, under which key, by whom.

use std::sync::Arc;

use proto::v1::{Command, Take, command::Body};

use crate::{
    Error,
    call::{Shared, random_key},
    convert,
    model::{Claim, Claimed, Position, Receipt},
};

/// A change, its key and who asks for it.
pub(crate) struct Draft {
    shared: Arc<Shared>,
    pub(crate) body: Body,
    pub(crate) key: Option<String>,
    pub(crate) principal: Option<String>,
}

impl Draft {
    pub(crate) fn new(shared: Arc<Shared>, body: Body) -> Draft {
        Draft {
            shared,
            body,
            key: None,
            principal: None,
        }
    }

    /// The command, and who carries it out. `principal` is who asks where nobody is named.
    pub(crate) fn command(self, principal: impl FnOnce(&Shared) -> String) -> (Arc<Shared>, Command) {
        let command = Command {
            key: self.key.unwrap_or_else(random_key),
            principal: self.principal.unwrap_or_else(|| principal(&self.shared)),
            // Set when it is carried out.
            not_after_ms: 0,
            body: Some(self.body),
        };
        (self.shared, command)
    }
}

/// A claim or decrement being built. Without a key a random one is made (and repeated on retries).
#[must_use = "nothing is sent before send()"]
pub struct TakeRequest {
    draft: Draft,
}

impl TakeRequest {
    pub(crate) fn new(shared: Arc<Shared>, body: Body) -> TakeRequest {
        TakeRequest {
            draft: Draft::new(shared, body),
        }
    }

    /// Idempotency key, 1..=64 bytes; save it before sending.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.draft.key = Some(key.into());
        self
    }

    /// Units; default one.
    pub fn quantity(mut self, quantity: u32) -> Self {
        if let Body::Claim(take) | Body::Decrement(take) = &mut self.draft.body {
            take.quantity = quantity;
        }
        self
    }

    /// Who asks; default the user himself.
    pub fn principal(mut self, principal: impl Into<String>) -> Self {
        self.draft.principal = Some(principal.into());
        self
    }

    /// Sends it, retrying with the same key what is safe to retry.
    ///
    /// # Errors
    /// [`Error::Rejected`]: not granted, and it will not be, unless tried again.
    /// [`Error::Unavailable`]: never proposed. [`Error::Unknown`]: it may yet be granted; send again
    /// with the same key, or resolve it.
    pub async fn send(self) -> Result<Claimed, Error> {
        let (shared, command) = self.into_command()?;
        let (kind, position) = shared.carry_out(command).await?;
        convert::claimed(kind, position)
    }

    pub(crate) fn into_command(self) -> Result<(Arc<Shared>, Command), Error> {
        if let Body::Claim(Take { quantity: 0, .. }) | Body::Decrement(Take { quantity: 0, .. }) =
            self.draft.body
        {
            return Err(no_units());
        }
        Ok(self.draft.command(|_| String::new()))
    }
}

/// On the wire zero stands for one; asked for here it is a mistake.
pub(crate) fn no_units() -> Error {
    Error::invalid("a claim of zero units: ask for at least one")
}

/// A confirm, release, extend or cancel being built.
#[must_use = "nothing is sent before send()"]
pub struct SettleRequest {
    draft: Draft,
}

impl SettleRequest {
    pub(crate) fn new(shared: Arc<Shared>, body: Body) -> SettleRequest {
        SettleRequest {
            draft: Draft::new(shared, body),
        }
    }

    /// Idempotency key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.draft.key = Some(key.into());
        self
    }

    /// Who asks; default the client's principal.
    pub fn principal(mut self, principal: impl Into<String>) -> Self {
        self.draft.principal = Some(principal.into());
        self
    }

    /// Sends it; gives the claim as it is then, and what the answer reflects.
    ///
    /// # Errors
    /// As [`TakeRequest::send`].
    pub async fn send(self) -> Result<(Claim, Position), Error> {
        let (shared, command) = self.into_command();
        let (kind, position) = shared.carry_out(command).await?;
        convert::settled(kind, position)
    }

    pub(crate) fn into_command(self) -> (Arc<Shared>, Command) {
        self.draft.command(|shared| shared.principal.clone())
    }
}

/// A change to a sale being built.
#[must_use = "nothing is sent before send()"]
pub struct SaleRequest {
    draft: Draft,
}

impl SaleRequest {
    pub(crate) fn new(shared: Arc<Shared>, body: Body) -> SaleRequest {
        SaleRequest {
            draft: Draft::new(shared, body),
        }
    }

    /// Idempotency key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.draft.key = Some(key.into());
        self
    }

    /// Who asks; default the client's principal.
    pub fn principal(mut self, principal: impl Into<String>) -> Self {
        self.draft.principal = Some(principal.into());
        self
    }

    /// Sends it; says when it took effect.
    ///
    /// # Errors
    /// As [`TakeRequest::send`].
    pub async fn send(self) -> Result<Receipt, Error> {
        let (shared, command) = self.into_command();
        let (kind, _) = shared.carry_out(command).await?;
        convert::done(kind)
    }

    pub(crate) fn into_command(self) -> (Arc<Shared>, Command) {
        self.draft.command(|shared| shared.principal.clone())
    }
}

//! What clients ask.

use super::Name;

/// What a client asked of a sale. `N` is [`Name`] in a history, `&str` when recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call<N = Name> {
    /// Hold units for a user. Schema 1: one unit.
    Claim {
        /// Who.
        user: N,
        /// Idempotency key.
        key: N,
        /// How many, all or nothing.
        quantity: u64,
    },
    /// Make a hold final.
    Confirm {
        /// Which.
        hold: N,
        /// Idempotency key.
        key: N,
    },
    /// Give a hold's units back.
    Release {
        /// Which.
        hold: N,
        /// Idempotency key.
        key: N,
    },
    /// Claim and confirm in one. Schema 1: one unit, nobody's.
    Decrement {
        /// Who, if the user's limit counts.
        user: Option<N>,
        /// Idempotency key.
        key: N,
        /// How many, all or nothing.
        quantity: u64,
    },
    /// The counters.
    Read,
    /// Add units. Schema 2.
    Restock {
        /// How many.
        units: u64,
        /// Idempotency key.
        key: N,
    },
    /// Take available units out. Schema 2.
    Withdraw {
        /// How many, all or nothing.
        units: u64,
        /// Idempotency key.
        key: N,
    },
    /// Move a hold's deadline, once. Schema 2.
    Extend {
        /// Which.
        hold: N,
        /// Idempotency key.
        key: N,
    },
    /// Take a confirmed hold back. Schema 2.
    Cancel {
        /// Which.
        hold: N,
        /// Idempotency key.
        key: N,
    },
    /// Take claims again. Schema 2.
    Open {
        /// Idempotency key.
        key: N,
    },
    /// Take no claims for now. Schema 2.
    Pause {
        /// Idempotency key.
        key: N,
    },
    /// Take no claims ever again. Schema 2.
    Close {
        /// Idempotency key.
        key: N,
    },
    /// What became of another operation's key? If nothing did, nothing will for a time. Schema 2.
    Resolve {
        /// The other's key.
        about: N,
        /// It was used for a document.
        document: bool,
    },
    /// Write a document. Schema 2, as all about documents.
    Put {
        /// What is written.
        body: N,
        /// Version it must have; zero: it must not exist.
        version: u64,
        /// Token of its lease; zero: it must be free.
        token: u64,
        /// It is gone this long after, in ms of log time; zero: never.
        ttl_ms: u64,
        /// Idempotency key.
        key: N,
    },
    /// Delete a document.
    Delete {
        /// Version it must have.
        version: u64,
        /// Idempotency key.
        key: N,
    },
    /// Take, renew or give back the lease on a document.
    Lease {
        /// Zero to take a free one; else the token of the one to renew or give back.
        token: u64,
        /// How long, in ms of log time; zero gives it back.
        lease_ms: u64,
        /// Idempotency key.
        key: N,
    },
    /// A document as it is.
    Get,
}

impl<N> Call<N> {
    /// A claim of one unit.
    pub fn claim(user: N, key: N) -> Call<N> {
        Call::Claim {
            user,
            key,
            quantity: 1,
        }
    }

    /// A decrement of one unit that counts against no user.
    pub fn decrement(key: N) -> Call<N> {
        Call::Decrement {
            user: None,
            key,
            quantity: 1,
        }
    }

    /// The word for it in a history: `f`.
    pub fn kind(&self) -> Kind {
        match self {
            Call::Claim { .. } => Kind::Claim,
            Call::Confirm { .. } => Kind::Confirm,
            Call::Release { .. } => Kind::Release,
            Call::Decrement { .. } => Kind::Decrement,
            Call::Read => Kind::Read,
            Call::Restock { .. } => Kind::Restock,
            Call::Withdraw { .. } => Kind::Withdraw,
            Call::Extend { .. } => Kind::Extend,
            Call::Cancel { .. } => Kind::Cancel,
            Call::Open { .. } => Kind::Open,
            Call::Pause { .. } => Kind::Pause,
            Call::Close { .. } => Kind::Close,
            Call::Resolve { .. } => Kind::Resolve,
            Call::Put { .. } => Kind::Put,
            Call::Delete { .. } => Kind::Delete,
            Call::Lease { .. } => Kind::Lease,
            Call::Get => Kind::Get,
        }
    }

    /// Whether it is about a document and not about a sale.
    pub fn is_document(&self) -> bool {
        match self {
            Call::Resolve { document, .. } => *document,
            call => call.kind().is_document(),
        }
    }

    /// Its idempotency key. Reads have none, nor has a resolve: asked again, it looks again.
    pub fn key(&self) -> Option<&N> {
        match self {
            Call::Read | Call::Get | Call::Resolve { .. } => None,
            Call::Claim { key, .. }
            | Call::Confirm { key, .. }
            | Call::Release { key, .. }
            | Call::Decrement { key, .. }
            | Call::Restock { key, .. }
            | Call::Withdraw { key, .. }
            | Call::Extend { key, .. }
            | Call::Cancel { key, .. }
            | Call::Open { key }
            | Call::Pause { key }
            | Call::Close { key }
            | Call::Put { key, .. }
            | Call::Delete { key, .. }
            | Call::Lease { key, .. } => Some(key),
        }
    }

    /// The hold it is about, if it is about one.
    pub fn hold(&self) -> Option<&N> {
        match self {
            Call::Confirm { hold, .. }
            | Call::Release { hold, .. }
            | Call::Extend { hold, .. }
            | Call::Cancel { hold, .. } => Some(hold),
            _ => None,
        }
    }

    /// The same call with other names.
    pub fn map<M>(self, mut name: impl FnMut(N) -> M) -> Call<M> {
        match self {
            Call::Claim { user, key, quantity } => Call::Claim {
                user: name(user),
                key: name(key),
                quantity,
            },
            Call::Confirm { hold, key } => Call::Confirm {
                hold: name(hold),
                key: name(key),
            },
            Call::Release { hold, key } => Call::Release {
                hold: name(hold),
                key: name(key),
            },
            Call::Decrement { user, key, quantity } => Call::Decrement {
                user: user.map(&mut name),
                key: name(key),
                quantity,
            },
            Call::Read => Call::Read,
            Call::Restock { units, key } => Call::Restock {
                units,
                key: name(key),
            },
            Call::Withdraw { units, key } => Call::Withdraw {
                units,
                key: name(key),
            },
            Call::Extend { hold, key } => Call::Extend {
                hold: name(hold),
                key: name(key),
            },
            Call::Cancel { hold, key } => Call::Cancel {
                hold: name(hold),
                key: name(key),
            },
            Call::Open { key } => Call::Open { key: name(key) },
            Call::Pause { key } => Call::Pause { key: name(key) },
            Call::Close { key } => Call::Close { key: name(key) },
            Call::Resolve { about, document } => Call::Resolve {
                about: name(about),
                document,
            },
            Call::Put {
                body,
                version,
                token,
                ttl_ms,
                key,
            } => Call::Put {
                body: name(body),
                version,
                token,
                ttl_ms,
                key: name(key),
            },
            Call::Delete { version, key } => Call::Delete {
                version,
                key: name(key),
            },
            Call::Lease { token, lease_ms, key } => Call::Lease {
                token,
                lease_ms,
                key: name(key),
            },
            Call::Get => Call::Get,
        }
    }
}

/// The operations by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// [`Call::Claim`]
    Claim,
    /// [`Call::Confirm`]
    Confirm,
    /// [`Call::Release`]
    Release,
    /// [`Call::Decrement`]
    Decrement,
    /// [`Call::Read`]
    Read,
    /// [`Call::Restock`]
    Restock,
    /// [`Call::Withdraw`]
    Withdraw,
    /// [`Call::Extend`]
    Extend,
    /// [`Call::Cancel`]
    Cancel,
    /// [`Call::Open`]
    Open,
    /// [`Call::Pause`]
    Pause,
    /// [`Call::Close`]
    Close,
    /// [`Call::Resolve`]
    Resolve,
    /// [`Call::Put`]
    Put,
    /// [`Call::Delete`]
    Delete,
    /// [`Call::Lease`]
    Lease,
    /// [`Call::Get`]
    Get,
}

impl Kind {
    /// All of them, the common ones first.
    pub const ALL: [Kind; 17] = [
        Kind::Claim,
        Kind::Confirm,
        Kind::Release,
        Kind::Read,
        Kind::Decrement,
        Kind::Restock,
        Kind::Withdraw,
        Kind::Extend,
        Kind::Cancel,
        Kind::Open,
        Kind::Pause,
        Kind::Close,
        Kind::Resolve,
        Kind::Put,
        Kind::Delete,
        Kind::Lease,
        Kind::Get,
    ];

    /// The word for it in a history: `f`.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Claim => "claim",
            Kind::Confirm => "confirm",
            Kind::Release => "release",
            Kind::Decrement => "decrement",
            Kind::Read => "read",
            Kind::Restock => "restock",
            Kind::Withdraw => "withdraw",
            Kind::Extend => "extend",
            Kind::Cancel => "cancel",
            Kind::Open => "open",
            Kind::Pause => "pause",
            Kind::Close => "close",
            Kind::Resolve => "resolve",
            Kind::Put => "put",
            Kind::Delete => "delete",
            Kind::Lease => "lease",
            Kind::Get => "get",
        }
    }

    /// Whether it is always about a document.
    pub fn is_document(self) -> bool {
        matches!(self, Kind::Put | Kind::Delete | Kind::Lease | Kind::Get)
    }

    /// Whether histories of schema 1 have it.
    pub fn is_of_schema_one(self) -> bool {
        matches!(
            self,
            Kind::Claim | Kind::Confirm | Kind::Release | Kind::Decrement | Kind::Read
        )
    }
}

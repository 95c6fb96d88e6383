//! What clients hear.

use super::{Kind, Name};

/// What a client heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<N = Name> {
    /// To claim: the units are held until the deadline, in ms of log time.
    Granted {
        /// The new hold, or the key's own when it is a repetition.
        hold: N,
        /// The hold ends at this log time, in ms.
        deadline: u64,
    },
    /// To claim, and to decrement by user: the user is at the limit and this is what he has.
    Already {
        /// A live or confirmed hold of his.
        hold: N,
    },
    /// To claim and decrement: too few units are available.
    SoldOut,
    /// To confirm.
    Confirmed,
    /// To release.
    Released,
    /// To confirm, release, extend, cancel: the hold is not in the state that this needs.
    Gone,
    /// To decrement.
    Sold {
        /// The confirmed hold that it made, if the history tells. Schema 2.
        hold: Option<N>,
    },
    /// To read.
    Counters {
        /// Units nobody has.
        available: u64,
        /// Units in live holds.
        held: u64,
        /// Units confirmed or decremented.
        sold: u64,
        /// All of them.
        total: u64,
    },
    /// To claim and decrement: more than the user may have, though he has room for some. Schema 2.
    UserLimit,
    /// To claim and decrement: the sale takes none now. To open, pause, close: it cannot. Schema 2.
    NotOpen,
    /// To restock, withdraw, cancel, open, pause, close: done. Schema 2.
    Done,
    /// To withdraw: fewer units are available. Schema 2.
    Short,
    /// To extend. Schema 2.
    Extended {
        /// The hold now ends at this log time, in ms.
        deadline: u64,
    },
    /// To resolve: the key had an effect. Schema 2.
    Found {
        /// The hold that it made or settled, if it did and the history tells.
        hold: Option<N>,
    },
    /// To resolve: the key had none, and can have none for a time. Schema 2.
    Abandoned {
        /// Up to this log time, itself included, in ms.
        until: u64,
    },
    /// To whatever has a key: the key was given up by a resolve. Schema 2.
    Fenced,
    /// To put. Schema 2, as all about documents.
    Written {
        /// The document's new version, higher than any it had.
        version: u64,
    },
    /// To delete.
    Deleted,
    /// To lease.
    Leased {
        /// The lease's token, higher than any before if it was taken; zero: given back.
        token: u64,
        /// It ends at this log time, in ms; zero: given back.
        until: u64,
    },
    /// To get.
    Document {
        /// Its version; zero: there is none, and all else is nothing.
        version: u64,
        /// What was written.
        body: Option<N>,
        /// Its lease's token; zero: it is free.
        token: u64,
        /// Its lease's end in log time, in ms; zero: it is free.
        until: u64,
    },
    /// To put, delete, lease: the document has another version than asked for, or is not there to be leased.
    WrongVersion {
        /// Its version; zero: there is none.
        version: u64,
    },
    /// To put, delete, lease: somebody has its lease.
    Busy {
        /// Up to this log time, in ms.
        until: u64,
    },
    /// To put, lease: the token is not the lease's.
    StaleToken {
        /// The lease's; zero: it is free.
        token: u64,
    },
    /// To put, delete, lease: the key had an effect, of another request.
    KeyReused,
}

impl<N> Outcome<N> {
    /// The word for it in a history: `res`. A read has none; its counters or version say it.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Granted { .. } => "granted",
            Outcome::Already { .. } => "already",
            Outcome::SoldOut => "sold_out",
            Outcome::Confirmed => "confirmed",
            Outcome::Released => "released",
            Outcome::Gone => "gone",
            Outcome::Sold { .. } => "sold",
            Outcome::Counters { .. } => "counters",
            Outcome::UserLimit => "user_limit",
            Outcome::NotOpen => "not_open",
            Outcome::Done => "done",
            Outcome::Short => "short",
            Outcome::Extended { .. } => "extended",
            Outcome::Found { .. } => "found",
            Outcome::Abandoned { .. } => "abandoned",
            Outcome::Fenced => "fenced",
            Outcome::Written { .. } => "written",
            Outcome::Deleted => "deleted",
            Outcome::Leased { .. } => "leased",
            Outcome::Document { .. } => "document",
            Outcome::WrongVersion { .. } => "wrong_version",
            Outcome::Busy { .. } => "busy",
            Outcome::StaleToken { .. } => "stale_token",
            Outcome::KeyReused => "key_reused",
        }
    }

    /// Whether it changed something when it was first given, so that its key remembers it.
    pub fn is_effect(&self) -> bool {
        matches!(
            self,
            Outcome::Granted { .. }
                | Outcome::Confirmed
                | Outcome::Released
                | Outcome::Sold { .. }
                | Outcome::Done
                | Outcome::Extended { .. }
                | Outcome::Written { .. }
                | Outcome::Deleted
                | Outcome::Leased { .. }
        )
    }

    /// Whether two answers to one key tell of the same effect: a claim is told as it is by then, with another deadline
    /// once it was extended.
    pub fn is_same_effect(&self, other: &Outcome<N>) -> bool
    where
        N: PartialEq,
    {
        match (self, other) {
            (Outcome::Granted { hold, .. }, Outcome::Granted { hold: other, .. }) => hold == other,
            (one, other) => one == other,
        }
    }

    /// Whether this can be an answer to such an operation at all.
    pub fn answers(&self, kind: Kind) -> bool {
        use Kind::{
            Cancel, Claim, Close, Confirm, Decrement, Delete, Extend, Get, Lease, Open, Pause, Put, Read,
            Release, Resolve, Restock, Withdraw,
        };
        match self {
            Outcome::Granted { .. } => kind == Claim,
            Outcome::Already { .. } | Outcome::UserLimit | Outcome::SoldOut => {
                matches!(kind, Claim | Decrement)
            }
            Outcome::Confirmed => kind == Confirm,
            Outcome::Released => kind == Release,
            Outcome::Gone => matches!(kind, Confirm | Release | Extend | Cancel),
            Outcome::Sold { .. } => kind == Decrement,
            Outcome::Counters { .. } => kind == Read,
            Outcome::NotOpen => matches!(kind, Claim | Decrement | Open | Pause | Close),
            Outcome::Done => matches!(kind, Restock | Withdraw | Cancel | Open | Pause | Close),
            Outcome::Short => kind == Withdraw,
            Outcome::Extended { .. } => kind == Extend,
            Outcome::Found { .. } | Outcome::Abandoned { .. } => kind == Resolve,
            Outcome::Fenced => !matches!(kind, Read | Get | Resolve),
            Outcome::Written { .. } => kind == Put,
            Outcome::Deleted => kind == Delete,
            Outcome::Leased { .. } => kind == Lease,
            Outcome::Document { .. } => kind == Get,
            Outcome::WrongVersion { .. } | Outcome::Busy { .. } | Outcome::KeyReused => {
                matches!(kind, Put | Delete | Lease)
            }
            Outcome::StaleToken { .. } => matches!(kind, Put | Lease),
        }
    }

    /// The same outcome with other names.
    pub fn map<M>(self, mut name: impl FnMut(N) -> M) -> Outcome<M> {
        match self {
            Outcome::Granted { hold, deadline } => Outcome::Granted {
                hold: name(hold),
                deadline,
            },
            Outcome::Already { hold } => Outcome::Already { hold: name(hold) },
            Outcome::SoldOut => Outcome::SoldOut,
            Outcome::Confirmed => Outcome::Confirmed,
            Outcome::Released => Outcome::Released,
            Outcome::Gone => Outcome::Gone,
            Outcome::Sold { hold } => Outcome::Sold { hold: hold.map(name) },
            Outcome::Counters {
                available,
                held,
                sold,
                total,
            } => Outcome::Counters {
                available,
                held,
                sold,
                total,
            },
            Outcome::UserLimit => Outcome::UserLimit,
            Outcome::NotOpen => Outcome::NotOpen,
            Outcome::Done => Outcome::Done,
            Outcome::Short => Outcome::Short,
            Outcome::Extended { deadline } => Outcome::Extended { deadline },
            Outcome::Found { hold } => Outcome::Found { hold: hold.map(name) },
            Outcome::Abandoned { until } => Outcome::Abandoned { until },
            Outcome::Fenced => Outcome::Fenced,
            Outcome::Written { version } => Outcome::Written { version },
            Outcome::Deleted => Outcome::Deleted,
            Outcome::Leased { token, until } => Outcome::Leased { token, until },
            Outcome::Document {
                version,
                body,
                token,
                until,
            } => Outcome::Document {
                version,
                body: body.map(name),
                token,
                until,
            },
            Outcome::WrongVersion { version } => Outcome::WrongVersion { version },
            Outcome::Busy { until } => Outcome::Busy { until },
            Outcome::StaleToken { token } => Outcome::StaleToken { token },
            Outcome::KeyReused => Outcome::KeyReused,
        }
    }
}

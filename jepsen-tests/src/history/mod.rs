//! Histories: what every client asked, when, and what it heard; written by [`record`], read by [`read`].
//!
//! The format is newline-delimited JSON, one event a line, in real-time order of one monotonic clock. The
//! order of the lines *is* the real-time order: two events of the same nanosecond happened in the order in
//! which they are written.
//!
//! Users, keys and holds are interned to a [`Name`] of four bytes, so that a history of a million operations
//! stays small and comparing is cheap; [`History::names`] turns them back. A number names the same as its
//! digits in quotes.
//!
//! Schema `inventory-history/1` has claims of one unit. `inventory-history/2` adds quantities, limits of a
//! user, decrements by user, restock, withdraw, extend, cancel, and open, pause, close. Left out: documents,
//! and resolve as an operation of its own.

mod ahead;
mod ids;
mod line;
mod names;
pub mod read;
pub mod record;
mod scan;
mod write;

use std::collections::BTreeMap;

pub(crate) use ids::ById;
pub use names::{Name, Names};
pub use read::{ReadError, Reader};
pub use record::Recorder;

/// The only unit of `t`.
pub const TIME_UNIT: &str = "ns";

/// Which operations a history may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Schema {
    /// `inventory-history/1`: claims of one unit.
    One,
    /// `inventory-history/2`: all that the machine can do with units.
    Two,
}

impl Schema {
    /// As the header says it.
    pub fn name(self) -> &'static str {
        match self {
            Schema::One => "inventory-history/1",
            Schema::Two => "inventory-history/2",
        }
    }
}

/// One sale as it was before the first operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sale {
    /// Units for sale.
    pub units: u64,
    /// How long a claim holds its units, in ms of log time.
    pub ttl_ms: u64,
    /// Most units a user may hold or have bought.
    pub per_user_units_max: u64,
    /// How far an extension may carry a hold beyond its deadline, in ms of log time.
    pub extend_ms: u64,
}

/// The first line of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which operations may follow.
    pub schema: Schema,
    /// Hold time of every sale that does not say otherwise, in ms of log time.
    pub ttl_ms: u64,
    /// The sales by id.
    pub sales: BTreeMap<String, Sale>,
}

impl Header {
    /// A header of schema 1: one hold time, one unit for a user, and the units of each sale.
    pub fn one<S: Into<String>>(ttl_ms: u64, sales: impl IntoIterator<Item = (S, u64)>) -> Header {
        let sale = |units| Sale {
            units,
            ttl_ms,
            per_user_units_max: 1,
            extend_ms: 0,
        };
        Header {
            schema: Schema::One,
            ttl_ms,
            sales: sales
                .into_iter()
                .map(|(id, units)| (id.into(), sale(units)))
                .collect(),
        }
    }

    /// A header of schema 2, where each sale has its own limits.
    pub fn two<S: Into<String>>(ttl_ms: u64, sales: impl IntoIterator<Item = (S, Sale)>) -> Header {
        Header {
            schema: Schema::Two,
            ttl_ms,
            sales: sales.into_iter().map(|(id, sale)| (id.into(), sale)).collect(),
        }
    }
}

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
        }
    }

    /// Its idempotency key; a read has none.
    pub fn key(&self) -> Option<&N> {
        match self {
            Call::Read => None,
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
            | Call::Close { key } => Some(key),
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
}

impl Kind {
    /// All of them, the common ones first.
    pub const ALL: [Kind; 12] = [
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
        }
    }
}

/// Where in the log an answer was given: `"idx":[log index, position]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index {
    /// Index of the log entry.
    pub log_index: u64,
    /// Position in the entry's batch; beyond all of its commands when the answer needed no entry.
    pub position: u64,
}

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
}

impl<N> Outcome<N> {
    /// The word for it in a history: `res`. A read has none; its counters say it.
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
        )
    }

    /// Whether this can be an answer to such an operation at all.
    pub fn answers(&self, kind: Kind) -> bool {
        use Kind::{
            Cancel, Claim, Close, Confirm, Decrement, Extend, Open, Pause, Read, Release, Restock, Withdraw,
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
        }
    }
}

/// An answer and where it stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<N = Name> {
    /// Where in the log. Histories of others may lack it: then only the search can judge them.
    pub idx: Option<Index>,
    /// Log time, in ms.
    pub lt: u64,
    /// What was said.
    pub outcome: Outcome<N>,
}

/// Start or end of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It begins.
    Start,
    /// It is healed.
    End,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in ns of the history's clock.
    pub t: u64,
    /// What.
    pub what: What,
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An operation starts.
    Invoke {
        /// The operation.
        id: u64,
        /// Who does it: a process does one thing at a time.
        p: u64,
        /// On which sale.
        sale: Name,
        /// What is asked.
        call: Call,
    },
    /// It returned.
    Ok {
        /// The operation.
        id: u64,
        /// What was heard.
        answer: Answer,
    },
    /// It definitely did not happen.
    Fail {
        /// The operation.
        id: u64,
    },
    /// Unknown: it may take effect at any later time, or never.
    Info {
        /// The operation.
        id: u64,
        /// Why nothing is known.
        err: Box<str>,
    },
    /// What became of an unknown, learned later.
    Resolve {
        /// The operation.
        id: u64,
        /// Its effect; none: it has none and never will.
        applied: Option<Answer>,
    },
    /// What the nemesis did.
    Fault {
        /// Which kind.
        name: Box<str>,
        /// To which node, or nodes.
        node: Box<str>,
        /// Start or end.
        phase: Phase,
    },
}

/// One whole run. Its events are well-formed: time never falls, an operation is invoked once and completed at
/// most once, after its invocation, and resolved only if nothing else is known of it.
#[derive(Clone, Debug)]
pub struct History {
    /// What was for sale.
    pub header: Header,
    /// What the names stand for.
    pub names: Names,
    /// What happened, in real-time order.
    pub events: Vec<Event>,
}

impl History {
    /// How many operations were begun.
    pub fn operations(&self) -> usize {
        self.events
            .iter()
            .filter(|event| matches!(event.what, What::Invoke { .. }))
            .count()
    }
}

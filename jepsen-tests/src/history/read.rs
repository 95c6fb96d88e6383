//! Reading a history: plain, gzip or zstd, told by its first bytes; a line at a time, so that only what is
//! kept costs memory, while a thread reads and unpacks ahead.
//!
//! A file that breaks the format gets an error with its line, never a history: time that falls, an answer
//! before its question, two answers, an answer that is none to that question. What a reader is free to
//! overlook is overlooked: fields that nobody knows, and who the process was.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use serde::Deserialize;

use super::{
    Answer, ById, Call, Event, Header, History, Index, Kind, Name, Names, Outcome, Sale, Schema, TIME_UNIT,
    What, ahead,
    line::{Line, Res, Text, Ty},
    scan,
};

/// Bytes taken from the file at a time: enough that the calls do not show.
const BUFFER_BYTES: usize = 256 * 1024;

/// Longest line that is read, in bytes: a hundred times what an event needs; more is some other file.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Most units of a sale, or of one operation: a million million, so that sums of billions of them still fit.
const UNITS_MAX: u64 = 1_000_000_000_000;

/// Latest log time or deadline, and longest hold, in ms: 2^53, some 285,000 years. More is a mistake, and
/// would not survive a reader of JSON that keeps its numbers as floats.
const MS_MAX: u64 = 1 << 53;

/// The file is not a history.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ReadError {
    /// Which line, from one.
    pub line: u64,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read, or its compression is broken off.
    #[error("cannot be read ({0}); the file may be cut off or damaged: get it again")]
    Unreadable(#[from] io::Error),
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Nothing happened in it.
    #[error("the history ends before its first operation; it may be cut off")]
    NoOperations,
    /// A line of more than [`LINE_BYTES_MAX`].
    #[error("longer than {LINE_BYTES_MAX} bytes; this is not a history of one event a line")]
    TooLong,
    /// No JSON, or not of the right form.
    #[error("not an event ({0}); the file may be cut off or of another format (see --format)")]
    Malformed(#[from] serde_json::Error),
    /// The first line is no header, or a bad one.
    #[error("not the header of an inventory history: {0}")]
    Header(String),
    /// A second header.
    #[error("a second header: two histories in one file")]
    SecondHeader,
    /// A field that this event must have is not there.
    #[error("{event} without `{field}`")]
    Missing {
        /// Which event.
        event: String,
        /// Which field.
        field: &'static str,
    },
    /// Time falls.
    #[error("time falls from {before} to {now} ns; lines must be in real-time order")]
    TimeFalls {
        /// Time of an earlier line.
        before: u64,
        /// Time of this one.
        now: u64,
    },
    /// The sale is not in the header.
    #[error("sale {0:?} is not in the header")]
    SaleUnknown(String),
    /// An operation of schema 2 in a history of schema 1.
    #[error("{0} needs schema {schema}", schema = Schema::Two.name())]
    NeedsSchemaTwo(&'static str),
    /// Two operations have one id.
    #[error("operation {0} is invoked a second time; a retry has a new id")]
    InvokedTwice(u64),
    /// An operation that never started has ended.
    #[error("operation {0} was never invoked")]
    NeverInvoked(u64),
    /// It ends a second time.
    #[error("operation {0} was completed before")]
    CompletedTwice(u64),
    /// It is not the operation that was invoked.
    #[error("operation {id} was invoked with {field} {invoked}, not {found}")]
    Changed {
        /// The operation.
        id: u64,
        /// Which field.
        field: &'static str,
        /// What the invocation said.
        invoked: String,
        /// What this line says.
        found: String,
    },
    /// No answer to such an operation.
    #[error("{outcome} is no answer to {kind}")]
    NoAnswer {
        /// What was heard.
        outcome: &'static str,
        /// What was asked.
        kind: &'static str,
    },
    /// Some answers have an index and some have none.
    #[error("{0} `idx`, unlike the answers before it; either all have one or none has")]
    IndexMixed(&'static str),
    /// A time that cannot be meant.
    #[error("`{field}` is {ms} ms; at most {MS_MAX} can be meant")]
    Time {
        /// Which field.
        field: &'static str,
        /// What it says.
        ms: u64,
    },
    /// A quantity of nothing, or of more than there can be.
    #[error("{0} units; at least one and at most {UNITS_MAX} can be meant")]
    Quantity(u64),
}

impl History {
    /// Reads a file.
    ///
    /// # Errors
    /// It is not a history.
    pub fn read_file(path: &Path) -> Result<History, ReadError> {
        let unreadable = |error: io::Error| ReadError {
            line: 1,
            problem: error.into(),
        };
        let file = File::open(path).map_err(unreadable)?;
        History::read(plain(file).map_err(unreadable)?)
    }

    /// Reads newline-delimited JSON.
    ///
    /// # Errors
    /// It is not a history.
    pub fn read(from: impl Read + Send) -> Result<History, ReadError> {
        let mut line = 0;
        let mut reader = None;
        let read = ahead::lines(from, |bytes| {
            line += 1;
            let outcome = match &mut reader {
                _ if bytes.len() > LINE_BYTES_MAX => Err(Problem::TooLong),
                _ if bytes.trim_ascii().is_empty() => Ok(()),
                None => Reader::new(bytes).map(|new| reader = Some(new)),
                Some(reader) => reader.line(bytes),
            };
            outcome.map_err(|problem| ReadError { line, problem })
        });
        match read {
            Ok(()) => {}
            Err(ahead::Stopped::Refused(error)) => return Err(error),
            Err(ahead::Stopped::Unreadable(error)) => {
                let problem = error.into();
                return Err(ReadError {
                    line: line + 1,
                    problem,
                });
            }
        }
        let reader = reader.ok_or(ReadError {
            line: 1,
            problem: Problem::Empty,
        })?;
        if reader.operations.is_empty() {
            return Err(ReadError {
                line: line + 1,
                problem: Problem::NoOperations,
            });
        }
        Ok(reader.history)
    }
}

/// The plain bytes of a file that may be compressed.
///
/// # Errors
/// It cannot be read.
pub fn plain(file: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
    let start = file.fill_buf()?;
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(file))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::Decoder::with_buffer(file)?)
    } else {
        Box::new(file)
    })
}

/// Takes a history a line at a time and refuses the first bad one.
pub struct Reader {
    history: History,
    operations: ById<Operation>,
    t_last: u64,
    indexed: Option<bool>,
}

struct Operation {
    p: u64,
    kind: Kind,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Unknown,
    Done,
}

#[derive(Deserialize)]
struct HeaderLine {
    ty: String,
    schema: String,
    ttl_ms: u64,
    sales: BTreeMap<String, SaleLine>,
    time_unit: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SaleLine {
    Units(u64),
    Limits {
        units: u64,
        ttl_ms: Option<u64>,
        per_user_units_max: Option<u64>,
        #[serde(default)]
        extend_ms: u64,
    },
}

fn header(line: &[u8]) -> Result<Header, String> {
    let HeaderLine {
        ty,
        schema,
        ttl_ms,
        sales,
        time_unit,
    } = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let known = [Schema::One, Schema::Two]
        .into_iter()
        .find(|known| known.name() == schema);
    let schema = known.ok_or_else(|| format!("schema {schema:?} is not known"))?;
    match time_unit.as_deref() {
        _ if ty != "header" => return Err(format!("its `ty` is {ty:?}")),
        None | Some(TIME_UNIT) => {}
        Some(other) => return Err(format!("`time_unit` is {other:?}; only {TIME_UNIT:?} is known")),
    }
    if sales.is_empty() {
        return Err("no sales".into());
    }
    let units = |sale: &SaleLine| match *sale {
        SaleLine::Units(units) | SaleLine::Limits { units, .. } => units,
    };
    if let Some((id, _)) = sales.iter().find(|(_, sale)| units(sale) > UNITS_MAX) {
        return Err(format!("sale {id:?} has more than {UNITS_MAX} units"));
    }
    let times = sales.values().flat_map(|sale| match *sale {
        SaleLine::Units(_) => [None, None],
        SaleLine::Limits {
            ttl_ms, extend_ms, ..
        } => [ttl_ms, Some(extend_ms)],
    });
    if let Some(ms) = times.flatten().chain([ttl_ms]).find(|&ms| ms > MS_MAX) {
        return Err(format!("a time of {ms} ms; at most {MS_MAX} can be meant"));
    }
    let sales = sales.into_iter().map(|(id, sale)| match sale {
        SaleLine::Units(units) => Ok((
            id,
            Sale {
                units,
                ttl_ms,
                per_user_units_max: 1,
                extend_ms: 0,
            },
        )),
        SaleLine::Limits { .. } if schema == Schema::One => {
            Err(format!("sale {id:?}: schema 1 gives units only"))
        }
        SaleLine::Limits {
            units,
            ttl_ms: own,
            per_user_units_max,
            extend_ms,
        } => {
            let sale = Sale {
                units,
                ttl_ms: own.unwrap_or(ttl_ms),
                per_user_units_max: per_user_units_max.unwrap_or(1),
                extend_ms,
            };
            Ok((id, sale))
        }
    });
    Ok(Header {
        schema,
        ttl_ms,
        sales: sales.collect::<Result<_, String>>()?,
    })
}

impl Reader {
    /// A reader that has read the header.
    ///
    /// # Errors
    /// This line is none.
    pub fn new(line: &[u8]) -> Result<Reader, Problem> {
        Ok(Reader {
            history: History {
                header: header(line).map_err(Problem::Header)?,
                names: Names::default(),
                events: Vec::new(),
            },
            operations: ById::default(),
            t_last: 0,
            indexed: None,
        })
    }

    /// Takes one more line.
    ///
    /// # Errors
    /// It cannot follow what came before.
    pub fn line(&mut self, line: &[u8]) -> Result<(), Problem> {
        let line: Line<'_> = match scan::line(line) {
            Some(line) => line,
            None => serde_json::from_slice(line)?,
        };
        let missing = |field| Problem::Missing {
            event: format!("{:?}", line.ty).to_lowercase(),
            field,
        };
        if line.ty == Ty::Header {
            return Err(Problem::SecondHeader);
        }
        let t = line.t.ok_or_else(|| missing("t"))?;
        if t < self.t_last {
            return Err(Problem::TimeFalls {
                before: self.t_last,
                now: t,
            });
        }
        self.t_last = t;
        let what = match line.ty {
            Ty::Header => unreachable!("refused above"),
            Ty::Fault => What::Fault {
                name: line.name.as_ref().map_or("", |Text(name)| name).into(),
                node: line.node.as_ref().map_or("", |Text(node)| node).into(),
                phase: line.phase.ok_or_else(|| missing("phase"))?,
            },
            Ty::Invoke => self.invoke(&line, missing)?,
            Ty::Ok => {
                let (id, kind) = self.end(&line, missing, &[State::Open], State::Done)?;
                let answer = self.answer(&line, kind, missing)?;
                What::Ok { id, answer }
            }
            Ty::Fail => What::Fail {
                id: self.end(&line, missing, &[State::Open], State::Done)?.0,
            },
            Ty::Info => What::Info {
                id: self.end(&line, missing, &[State::Open], State::Unknown)?.0,
                err: line.err.as_ref().map_or("", |Text(err)| err).into(),
            },
            Ty::Resolve => {
                // An operation that was never completed is an unknown too.
                let (id, kind) = self.end(&line, missing, &[State::Open, State::Unknown], State::Done)?;
                let applied = match line.applied.ok_or_else(|| missing("applied"))? {
                    true => Some(self.answer(&line, kind, missing)?),
                    false => None,
                };
                What::Resolve { id, applied }
            }
        };
        self.history.events.push(Event { t, what });
        Ok(())
    }

    fn invoke(
        &mut self,
        line: &Line<'_>,
        missing: impl Fn(&'static str) -> Problem,
    ) -> Result<What, Problem> {
        let id = line.id.ok_or_else(|| missing("id"))?;
        let p = line.p.ok_or_else(|| missing("p"))?;
        let kind = line.f.ok_or_else(|| missing("f"))?;
        let Text(sale) = line.sale.as_ref().ok_or_else(|| missing("sale"))?;
        if !self.history.header.sales.contains_key(&**sale) {
            return Err(Problem::SaleUnknown(sale.to_string()));
        }
        let names = &mut self.history.names;
        let sale = names.intern(sale);
        let mut name = |text: &Option<Text<'_>>, field| -> Result<Name, Problem> {
            let Text(text) = text.as_ref().ok_or_else(|| missing(field))?;
            Ok(names.intern(text))
        };
        let one = self.history.header.schema == Schema::One;
        let quantity = match line.quantity {
            None | Some(1) => 1,
            Some(quantity) if quantity == 0 || quantity > UNITS_MAX => {
                return Err(Problem::Quantity(quantity));
            }
            Some(_) if one => return Err(Problem::NeedsSchemaTwo("a quantity")),
            Some(quantity) => quantity,
        };
        let units = || match line.units {
            Some(units) if units == 0 || units > UNITS_MAX => Err(Problem::Quantity(units)),
            Some(units) => Ok(units),
            None => Err(missing("units")),
        };
        let call = match kind {
            Kind::Claim => Call::Claim {
                user: name(&line.user, "user")?,
                key: name(&line.key, "key")?,
                quantity,
            },
            Kind::Decrement => Call::Decrement {
                // In schema 1 a decrement counts against nobody, whoever a recorder notes with it.
                user: match &line.user {
                    Some(_) if !one => Some(name(&line.user, "user")?),
                    _ => None,
                },
                key: name(&line.key, "key")?,
                quantity,
            },
            Kind::Read => Call::Read,
            Kind::Restock
            | Kind::Withdraw
            | Kind::Extend
            | Kind::Cancel
            | Kind::Open
            | Kind::Pause
            | Kind::Close
                if one =>
            {
                return Err(Problem::NeedsSchemaTwo(kind.word()));
            }
            Kind::Restock => Call::Restock {
                units: units()?,
                key: name(&line.key, "key")?,
            },
            Kind::Withdraw => Call::Withdraw {
                units: units()?,
                key: name(&line.key, "key")?,
            },
            Kind::Open => Call::Open {
                key: name(&line.key, "key")?,
            },
            Kind::Pause => Call::Pause {
                key: name(&line.key, "key")?,
            },
            Kind::Close => Call::Close {
                key: name(&line.key, "key")?,
            },
            Kind::Confirm | Kind::Release | Kind::Extend | Kind::Cancel => {
                let (hold, key) = (name(&line.hold, "hold")?, name(&line.key, "key")?);
                match kind {
                    Kind::Confirm => Call::Confirm { hold, key },
                    Kind::Release => Call::Release { hold, key },
                    Kind::Extend => Call::Extend { hold, key },
                    _ => Call::Cancel { hold, key },
                }
            }
        };
        let operation = Operation {
            p,
            kind,
            state: State::Open,
        };
        if !self.operations.insert(id, operation) {
            return Err(Problem::InvokedTwice(id));
        }
        Ok(What::Invoke { id, p, sale, call })
    }

    /// Moves an operation on; says which it was.
    fn end(
        &mut self,
        line: &Line<'_>,
        missing: impl Fn(&'static str) -> Problem,
        from: &[State],
        to: State,
    ) -> Result<(u64, Kind), Problem> {
        let id = line.id.ok_or_else(|| missing("id"))?;
        let operation = self.operations.get_mut(id).ok_or(Problem::NeverInvoked(id))?;
        if !from.contains(&operation.state) {
            return Err(Problem::CompletedTwice(id));
        }
        let changed = |field, invoked: String, found: String| Problem::Changed {
            id,
            field,
            invoked,
            found,
        };
        if let Some(p) = line.p.filter(|&p| p != operation.p) {
            return Err(changed("process", operation.p.to_string(), p.to_string()));
        }
        if let Some(f) = line.f.filter(|&f| f != operation.kind) {
            return Err(changed(
                "operation",
                operation.kind.word().into(),
                f.word().into(),
            ));
        }
        operation.state = to;
        Ok((id, operation.kind))
    }

    fn answer(
        &mut self,
        line: &Line<'_>,
        kind: Kind,
        missing: impl Fn(&'static str) -> Problem,
    ) -> Result<Answer, Problem> {
        let indexed = line.idx.is_some();
        if *self.indexed.get_or_insert(indexed) != indexed {
            return Err(Problem::IndexMixed(if indexed { "has an" } else { "has no" }));
        }
        let time = |ms: Option<u64>, field| match ms {
            Some(ms) if ms > MS_MAX => Err(Problem::Time { field, ms }),
            Some(ms) => Ok(ms),
            None => Err(missing(field)),
        };
        let names = &mut self.history.names;
        let mut hold = || -> Result<Name, Problem> {
            let Text(text) = line.hold.as_ref().ok_or_else(|| missing("hold"))?;
            Ok(names.intern(text))
        };
        let outcome = match line.res {
            None if kind == Kind::Read => Outcome::Counters {
                available: line.available.ok_or_else(|| missing("available"))?,
                held: line.held.ok_or_else(|| missing("held"))?,
                sold: line.sold.ok_or_else(|| missing("sold"))?,
                total: line.total.ok_or_else(|| missing("total"))?,
            },
            None => return Err(missing("res")),
            Some(Res::Granted) => Outcome::Granted {
                hold: hold()?,
                deadline: time(line.deadline, "deadline")?,
            },
            Some(Res::Already) => Outcome::Already { hold: hold()? },
            Some(Res::SoldOut) => Outcome::SoldOut,
            Some(Res::Confirmed) => Outcome::Confirmed,
            Some(Res::Released) => Outcome::Released,
            Some(Res::Gone) => Outcome::Gone,
            Some(Res::Sold) => Outcome::Sold {
                hold: if line.hold.is_some() { Some(hold()?) } else { None },
            },
            Some(Res::UserLimit) => Outcome::UserLimit,
            Some(Res::NotOpen) => Outcome::NotOpen,
            Some(Res::Done) => Outcome::Done,
            Some(Res::Short) => Outcome::Short,
            Some(Res::Extended) => Outcome::Extended {
                deadline: time(line.deadline, "deadline")?,
            },
        };
        let (word, kind_word) = (outcome.word(), kind.word());
        if !outcome.answers(kind) {
            return Err(Problem::NoAnswer {
                outcome: word,
                kind: kind_word,
            });
        }
        // A decrement in schema 1 belongs to nobody, so nobody can have it already.
        if self.history.header.schema == Schema::One
            && (kind == Kind::Decrement && matches!(outcome, Outcome::Already { .. })
                || matches!(outcome, Outcome::UserLimit | Outcome::NotOpen))
        {
            return Err(Problem::NoAnswer {
                outcome: word,
                kind: kind_word,
            });
        }
        Ok(Answer {
            idx: line
                .idx
                .map(|(log_index, position)| Index { log_index, position }),
            lt: time(line.lt, "lt")?,
            outcome,
        })
    }
}

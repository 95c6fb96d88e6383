//! Reading a history: plain, gzip or zstd, told by its first bytes; a line at a time, so that only what is
//! kept costs memory, while a thread reads and unpacks ahead.
//!
//! A file that breaks the format gets an error with its line, never a history: time that falls, an answer
//! before its question, two answers, an answer that is none to that question. What a reader is free to
//! overlook is overlooked: fields that nobody knows, and who the process was.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use super::{
    Answer, ById, Call, Event, History, Index, Kind, Name, Names, Outcome, Schema, What, ahead, header,
    line::{Line, Res, Text, Ty},
    problem::{self, LINE_BYTES_MAX, Problem, ReadError, UNITS_MAX},
    scan,
};

/// Bytes taken from the file at a time: enough that the calls do not show.
const BUFFER_BYTES: usize = 256 * 1024;

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

impl Reader {
    /// A reader that has read the header.
    ///
    /// # Errors
    /// This line is none.
    pub fn new(line: &[u8]) -> Result<Reader, Problem> {
        Ok(Reader {
            history: History {
                header: header::parse(line).map_err(Problem::Header)?,
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
        let one = self.history.header.schema == Schema::One;
        if one && !kind.is_of_schema_one() {
            return Err(Problem::NeedsSchemaTwo(kind.word()));
        }
        let is_document = kind.is_document() || kind == Kind::Resolve && line.document.is_some();
        let sale = match (is_document, &line.sale, &line.document) {
            (true, _, Some(Text(document))) => document,
            (true, _, None) => return Err(missing("document")),
            (false, None, _) => return Err(missing("sale")),
            (false, Some(Text(sale)), _) if !self.history.header.sales.contains_key(&**sale) => {
                return Err(Problem::SaleUnknown(sale.to_string()));
            }
            (false, Some(Text(sale)), _) => sale,
        };
        let names = &mut self.history.names;
        let sale = names.intern(sale);
        let mut name = |text: &Option<Text<'_>>, field| -> Result<Name, Problem> {
            let Text(text) = text.as_ref().ok_or_else(|| missing(field))?;
            Ok(names.intern(text))
        };
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
            Kind::Get => Call::Get,
            Kind::Resolve => Call::Resolve {
                about: name(&line.about, "about")?,
                document: is_document,
            },
            Kind::Put => Call::Put {
                body: name(&line.body, "body")?,
                version: line.version.ok_or_else(|| missing("version"))?,
                token: line.token.unwrap_or(0),
                ttl_ms: problem::time(line.ttl_ms.unwrap_or(0), "ttl_ms")?,
                key: name(&line.key, "key")?,
            },
            Kind::Delete => Call::Delete {
                version: line.version.ok_or_else(|| missing("version"))?,
                key: name(&line.key, "key")?,
            },
            Kind::Lease => Call::Lease {
                token: line.token.unwrap_or(0),
                lease_ms: problem::time(line.lease_ms.ok_or_else(|| missing("lease_ms"))?, "lease_ms")?,
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
        let number = |number: Option<u64>, field| number.ok_or_else(|| missing(field));
        let time = |ms, field| problem::time(number(ms, field)?, field);
        let names = &mut self.history.names;
        let told = line.hold.as_ref().map(|Text(text)| names.intern(text));
        let hold = || told.ok_or_else(|| missing("hold"));
        let outcome = match line.res {
            None if kind == Kind::Read => Outcome::Counters {
                available: number(line.available, "available")?,
                held: number(line.held, "held")?,
                sold: number(line.sold, "sold")?,
                total: number(line.total, "total")?,
            },
            None if kind == Kind::Get => Outcome::Document {
                version: number(line.version, "version")?,
                body: line.body.as_ref().map(|Text(body)| names.intern(body)),
                token: line.token.unwrap_or(0),
                until: problem::time(line.until.unwrap_or(0), "until")?,
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
            Some(Res::Sold) => Outcome::Sold { hold: told },
            Some(Res::UserLimit) => Outcome::UserLimit,
            Some(Res::NotOpen) => Outcome::NotOpen,
            Some(Res::Done) => Outcome::Done,
            Some(Res::Short) => Outcome::Short,
            Some(Res::Extended) => Outcome::Extended {
                deadline: time(line.deadline, "deadline")?,
            },
            Some(Res::Found) => Outcome::Found { hold: told },
            Some(Res::Abandoned) => Outcome::Abandoned {
                until: time(line.until, "until")?,
            },
            Some(Res::Fenced) => Outcome::Fenced,
            Some(Res::Written) => Outcome::Written {
                version: number(line.version, "version")?,
            },
            Some(Res::Deleted) => Outcome::Deleted,
            Some(Res::Leased) => Outcome::Leased {
                token: number(line.token, "token")?,
                until: time(line.until, "until")?,
            },
            Some(Res::WrongVersion) => Outcome::WrongVersion {
                version: number(line.version, "version")?,
            },
            Some(Res::Busy) => Outcome::Busy {
                until: time(line.until, "until")?,
            },
            Some(Res::StaleToken) => Outcome::StaleToken {
                token: number(line.token, "token")?,
            },
            Some(Res::KeyReused) => Outcome::KeyReused,
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
                || matches!(outcome, Outcome::UserLimit | Outcome::NotOpen | Outcome::Fenced))
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

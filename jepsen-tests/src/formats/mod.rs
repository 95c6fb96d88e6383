//! Histories of others, read for this checker's own proof: it must say of them what their authors say.
//!
//! All three formats tell of processes that do one thing at a time. [`jepsen_log`]: Jepsen's text logs of a
//! compare-and-set register. [`porcupine_kv`]: Porcupine's logs of a key-value store. [`knossos_edn`]:
//! Knossos's EDN of registers and mutexes.

pub mod edn;
pub mod jepsen_log;
pub mod knossos_edn;
pub mod porcupine_kv;

use std::collections::{BTreeMap, HashMap};

use edn::Edn;

use crate::models::{cas_register, kv, mutex};

/// The file is not a history of this format.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct FormatError {
    /// Which line, from one.
    pub line: u64,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

impl FormatError {
    fn new(line: u64, problem: impl Into<String>) -> FormatError {
        FormatError {
            line,
            problem: problem.into(),
        }
    }
}

/// What happened to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// It starts.
    Invoke,
    /// It returned.
    Ok,
    /// It was refused, or did not happen; which of the two, the format says.
    Fail,
    /// Nobody knows.
    Info,
}

impl Type {
    fn of(word: &str) -> Option<Type> {
        Some(match word {
            "invoke" => Type::Invoke,
            "ok" => Type::Ok,
            "fail" => Type::Fail,
            "info" => Type::Info,
            _ => return None,
        })
    }
}

/// One line, or one map, of a history.
#[derive(Clone, Debug)]
pub struct Event {
    /// Where it stands.
    pub line: u64,
    /// Whose it is.
    pub process: i64,
    /// What happened.
    pub ty: Type,
    /// To which operation.
    pub f: String,
    /// On which key, if there are keys.
    pub key: Option<String>,
    /// With what.
    pub value: Edn,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It returned this.
    Ok(Edn),
    /// It was refused with this.
    Fail(Edn),
    /// Nobody knows.
    Unknown,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Call {
    /// The line that starts it.
    pub line: u64,
    /// What was done.
    pub f: String,
    /// To which key.
    pub key: Option<String>,
    /// With what.
    pub asked: Edn,
    /// How it ended.
    pub end: End,
    /// It began with this event.
    pub began: u32,
    /// It had happened when this event came.
    pub ended: Option<u32>,
}

impl Call {
    /// On one line.
    pub fn show(&self) -> String {
        let key = self
            .key
            .as_ref()
            .map_or_else(String::new, |key| format!(" {key:?}"));
        let asked = match &self.asked {
            Edn::Nil => String::new(),
            asked => format!(" {asked}"),
        };
        let end = match &self.end {
            End::Ok(value) => format!("{value}"),
            End::Fail(value) => format!("refused, {value}"),
            End::Unknown => "unknown".into(),
        };
        format!("line {}: {}{key}{asked} -> {end}", self.line, self.f)
    }

    /// What was done with: the answer knows best.
    fn value(&self) -> &Edn {
        match &self.end {
            End::Ok(value) if *value != Edn::Nil => value,
            _ => &self.asked,
        }
    }
}

/// Finds the beginning and the end of every operation.
///
/// # Errors
/// A process does two things at a time, or ends what it never began; or nothing happened.
pub fn calls(events: Vec<Event>) -> Result<Vec<Call>, FormatError> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: HashMap<i64, usize> = HashMap::new();
    for (index, event) in events.into_iter().enumerate() {
        let Event {
            line,
            process,
            ty,
            f,
            key,
            value,
        } = event;
        let moment =
            u32::try_from(index).map_err(|_| FormatError::new(line, "more than four billion events"))?;
        if ty == Type::Invoke {
            if let Some(&before) = open.get(&process) {
                let before = calls[before].line;
                return Err(FormatError::new(
                    line,
                    format!("process {process} has not ended what it began on line {before}"),
                ));
            }
            open.insert(process, calls.len());
            calls.push(Call {
                line,
                f,
                key,
                asked: value,
                end: End::Unknown,
                began: moment,
                ended: None,
            });
            continue;
        }
        let begun = open.remove(&process);
        if begun.is_none() && ty == Type::Info {
            // It says that nothing is known of nothing.
            continue;
        }
        let begun = begun
            .ok_or_else(|| FormatError::new(line, format!("process {process} ends what it never began")))?;
        let call = &mut calls[begun];
        if call.f != f || call.key != key {
            let began = call.line;
            return Err(FormatError::new(
                line,
                format!("process {process} ends another operation than it began on line {began}"),
            ));
        }
        match ty {
            Type::Ok => call.end = End::Ok(value),
            Type::Fail => call.end = End::Fail(value),
            Type::Invoke | Type::Info => continue,
        }
        call.ended = Some(moment);
    }
    if calls.is_empty() {
        return Err(FormatError::new(
            1,
            "no operation in it; is it of another format (see --format)?",
        ));
    }
    Ok(calls)
}

/// The operations on one key, or on the one thing that there is.
pub struct Part<A> {
    /// The key.
    pub key: Option<String>,
    /// What each did.
    pub accesses: Vec<A>,
    /// Each again as it was read.
    pub calls: Vec<Call>,
}

/// What a format means where formats differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// A compare-and-set that failed with its own values was answered: the register held something else.
    /// Otherwise a failure never happened.
    pub refused_cas_is_answer: bool,
    /// A read of nothing found the register empty. Otherwise nobody heard what it found.
    pub nil_read_is_empty: bool,
}

/// The operations as those of a compare-and-set register. `initial`: what is in it before the first, if
/// anything; it becomes the model's [`cas_register::INITIAL`].
///
/// # Errors
/// They are not.
pub fn cas_register(
    calls: Vec<Call>,
    dialect: Dialect,
    initial: Option<&str>,
) -> Result<Vec<Part<cas_register::Access>>, FormatError> {
    use cas_register::Access;
    let mut values: HashMap<String, i64> = HashMap::new();
    values.extend(initial.map(|initial| (initial.to_owned(), cas_register::INITIAL)));
    let mut value = |edn: &Edn| match edn {
        Edn::Nil => None,
        edn => {
            let next = values.len() as i64 + cas_register::INITIAL + 1;
            Some(*values.entry(edn.to_string()).or_insert(next))
        }
    };
    let mut part = Part {
        key: None,
        accesses: Vec::new(),
        calls: Vec::new(),
    };
    for call in calls {
        let wrong = |what: &str| FormatError::new(call.line, format!("{what} (model cas-register)"));
        let access = match call.f.as_str() {
            "read" => match &call.end {
                End::Ok(Edn::Nil) if !dialect.nil_read_is_empty => Access::ReadAnything,
                End::Ok(read) => Access::Read(value(read)),
                End::Fail(_) | End::Unknown => continue,
            },
            "write" => match call.end {
                End::Fail(_) => continue,
                _ => Access::Write(value(call.value())),
            },
            "cas" => {
                let pair = |edn: &Edn| match edn {
                    Edn::List(items) if items.len() == 2 => Some((items[0].1.clone(), items[1].1.clone())),
                    _ => None,
                };
                let (old, new) = pair(call.value()).ok_or_else(|| wrong("a cas without [old new]"))?;
                let (old, new) = (value(&old), value(&new));
                match &call.end {
                    End::Ok(_) => Access::CasDone(old, new),
                    End::Unknown => Access::Cas(old, new),
                    End::Fail(refused) if dialect.refused_cas_is_answer && pair(refused).is_some() => {
                        Access::CasRefused(old, new)
                    }
                    End::Fail(_) => continue,
                }
            }
            other => return Err(wrong(&format!("{other:?} is not read, write or cas"))),
        };
        part.accesses.push(access);
        part.calls.push(call);
    }
    Ok(vec![part])
}

/// The operations as those of a mutex.
///
/// # Errors
/// They are not.
pub fn mutex(calls: Vec<Call>) -> Result<Vec<Part<mutex::Access>>, FormatError> {
    let mut part = Part {
        key: None,
        accesses: Vec::new(),
        calls: Vec::new(),
    };
    for call in calls {
        let access = match call.f.as_str() {
            "acquire" => mutex::Access::Acquire,
            "release" => mutex::Access::Release,
            other => {
                let problem = format!("{other:?} is neither acquire nor release (model mutex)");
                return Err(FormatError::new(call.line, problem));
            }
        };
        // What failed never happened.
        if !matches!(call.end, End::Fail(_)) {
            part.accesses.push(access);
            part.calls.push(call);
        }
    }
    Ok(vec![part])
}

/// The operations as those of a key-value store, each key by itself.
///
/// # Errors
/// They are not.
pub fn kv(calls: Vec<Call>) -> Result<Vec<Part<kv::Access>>, FormatError> {
    use kv::Access;
    let mut parts: BTreeMap<Option<String>, Part<Access>> = BTreeMap::new();
    for call in calls {
        let wrong = |what: &str| FormatError::new(call.line, format!("{what} (model kv)"));
        if call.key.is_none() {
            return Err(wrong("an operation without :key"));
        }
        let text = |edn: &Edn| match edn {
            Edn::Nil => "".into(),
            Edn::Text(text) => text.as_str().into(),
            other => other.to_string().into(),
        };
        let access = match (call.f.as_str(), &call.end) {
            ("get", End::Ok(read)) => Access::Get(text(read)),
            ("get" | "put" | "append", End::Fail(_)) | ("get", End::Unknown) => continue,
            ("put", _) => Access::Put(text(call.value())),
            ("append", _) => Access::Append(text(call.value())),
            (other, _) => return Err(wrong(&format!("{other:?} is not get, put or append"))),
        };
        let part = parts.entry(call.key.clone()).or_insert_with(|| Part {
            key: call.key.clone(),
            accesses: Vec::new(),
            calls: Vec::new(),
        });
        part.accesses.push(access);
        part.calls.push(call);
    }
    Ok(parts.into_values().collect())
}

/// A row of process, type, operation and value tells the same as a map of them; more is not needed.
fn row_event(line: u64, row: Vec<(u64, Edn)>) -> Result<Option<Event>, FormatError> {
    let fields = ["process", "type", "f", "value"].map(|name| Edn::Keyword(name.into()));
    let values = row.into_iter().map(|(_, value)| value);
    map_event(line, &Edn::Map(fields.into_iter().zip(values).collect()))
}

/// What two formats share: one map tells one event. None: it is none of a client's.
fn map_event(line: u64, map: &Edn) -> Result<Option<Event>, FormatError> {
    let wrong = |problem: String| FormatError::new(line, problem);
    if !matches!(map, Edn::Map(_)) {
        return Err(wrong(format!("not a map of an operation, but {map:.60}")));
    }
    let field = |name: &str| {
        map.get(name)
            .ok_or_else(|| wrong(format!("an operation without :{name}")))
    };
    let word = |name: &str| match field(name)? {
        Edn::Keyword(word) => Ok(word.clone()),
        other => Err(wrong(format!(":{name} is {other}, not a keyword"))),
    };
    let process = match field("process")? {
        Edn::Atom(number) => number
            .parse()
            .map_err(|_| wrong(format!(":process is {number}, not a whole number")))?,
        // The nemesis and its like.
        Edn::Keyword(_) => return Ok(None),
        other => return Err(wrong(format!(":process is {other}, not a whole number"))),
    };
    let ty = word("type")?;
    let ty =
        Type::of(&ty).ok_or_else(|| wrong(format!(":type is :{ty}, not :invoke, :ok, :fail or :info")))?;
    let key = match map.get("key") {
        None | Some(Edn::Nil) => None,
        Some(Edn::Text(key)) => Some(key.clone()),
        Some(other) => Some(other.to_string()),
    };
    Ok(Some(Event {
        line,
        process,
        ty,
        f: word("f")?,
        key,
        value: map.get("value").cloned().unwrap_or(Edn::Nil),
    }))
}

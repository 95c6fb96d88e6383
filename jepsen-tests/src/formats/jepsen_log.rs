//! Jepsen's text logs: `INFO  jepsen.util - 3 :invoke :cas [1 4]`, with tabs, one event a line, of one register.
//!
//! A compare-and-set that fails with its own two values was answered: the register held something else. One
//! that fails otherwise, or any other operation that fails, never happened. A read of nil found the register
//! empty.

use super::{Dialect, Event, FormatError, Type, edn::EdnReader};

/// What these logs mean.
pub const DIALECT: Dialect = Dialect {
    refused_cas_is_answer: true,
    nil_read_is_empty: true,
};

/// Who writes the lines of the history, among all the others in a log: `INFO  jepsen.util - 3 :ok …`, and in
/// newer ones `… INFO [jepsen worker 3] jepsen.util: 3 :ok …`.
const LOGGER: &str = "jepsen.util";

/// How grave a line of a log is; it says so before anything else but the time.
const LEVELS: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

/// A level stands among the first so many words: after a date and a time at most.
const LEVEL_WORDS_MAX: usize = 3;

/// Reads a log. Lines of other loggers, of the nemesis, and what follows a line of a log, such as the stack of
/// an exception, are read over.
///
/// # Errors
/// It is not one.
pub fn read(text: &str) -> Result<Vec<Event>, FormatError> {
    let mut events = Vec::new();
    let mut in_log = false;
    for (index, line) in text.lines().enumerate() {
        let number = index as u64 + 1;
        if line.trim().is_empty() {
            continue;
        }
        let is_log = line
            .split_whitespace()
            .take(LEVEL_WORDS_MAX)
            .any(|word| LEVELS.contains(&word));
        let follows = in_log && !line.contains(LOGGER) && !line.starts_with(['{', '[', '(']);
        if !is_log && !follows {
            let problem = format!("not a line of a Jepsen log, but {line:.60?}; see --format");
            return Err(FormatError::new(number, problem));
        }
        in_log = true;
        if is_log {
            events.extend(event(number, line)?);
        }
    }
    Ok(events)
}

fn event(number: u64, line: &str) -> Result<Option<Event>, FormatError> {
    let wrong = |problem: String| FormatError::new(number, problem);
    let mut words = line.split_whitespace();
    let is_history = match words.by_ref().find(|word| word.trim_end_matches(':') == LOGGER) {
        None => false,
        Some(logger) => logger.ends_with(':') || words.next() == Some("-"),
    };
    if !is_history {
        return Ok(None);
    }
    let process = words
        .next()
        .ok_or_else(|| wrong("a line that ends before its process".into()))?;
    if process.starts_with(':') {
        return Ok(None);
    }
    let process = process
        .parse()
        .map_err(|_| wrong(format!("{process:?} is no process")))?;
    let mut keyword = |what: &str| {
        let word = words.next().and_then(|word| word.strip_prefix(':'));
        word.ok_or_else(|| wrong(format!("a line without {what}; the file may be cut off")))
    };
    let ty = keyword("the type of the event")?;
    let ty = Type::of(ty).ok_or_else(|| wrong(format!(":{ty} is not :invoke, :ok, :fail or :info")))?;
    let f = keyword("the operation")?.to_owned();
    let rest: Vec<&str> = words.collect();
    let rest = rest.join(" ");
    let mut reader = EdnReader::new(&rest, number);
    let value = reader.next_value().map_err(&wrong)?;
    let value = value.ok_or_else(|| wrong("a line without a value; the file may be cut off".into()))?;
    Ok(Some(Event {
        line: number,
        process,
        ty,
        f,
        key: None,
        value,
    }))
}

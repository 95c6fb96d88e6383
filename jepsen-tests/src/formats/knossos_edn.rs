//! Knossos's EDN: a vector or list of maps such as `{:process 4, :type :invoke, :f :write, :value 2}`, or the
//! maps one after the other; or rows such as `[4 :invoke :write 2]`.
//!
//! What fails never happened. A read of nil is one whose value nobody noted: it explains itself.

use super::{
    Dialect, Event, FormatError,
    edn::{Edn, EdnReader},
    map_event, row_event,
};

/// What these histories mean.
pub const DIALECT: Dialect = Dialect {
    refused_cas_is_answer: false,
    nil_read_is_empty: false,
};

/// Reads a history.
///
/// # Errors
/// It is not one.
pub fn read(text: &str) -> Result<Vec<Event>, FormatError> {
    let mut reader = EdnReader::new(text, 1);
    let mut events = Vec::new();
    let mut first = true;
    loop {
        let line = reader.line();
        let value = reader.next_value();
        let value =
            value.map_err(|problem| FormatError::new(reader.line(), format!("{problem} (see --format)")))?;
        match value {
            None => return Ok(events),
            // One list of maps, or the first of many rows.
            Some(Edn::List(maps))
                if first && !matches!(&maps[..], [(_, Edn::Atom(_) | Edn::Keyword(_)), ..]) =>
            {
                for (line, map) in maps {
                    events.extend(map_event(line, &map)?);
                }
                let after = reader.line();
                match reader.next_value() {
                    Ok(None) => return Ok(events),
                    _ => return Err(FormatError::new(after, "more after the end of the history")),
                }
            }
            Some(Edn::List(row)) => events.extend(row_event(line, row)?),
            Some(map) => events.extend(map_event(line, &map)?),
        }
        first = false;
    }
}

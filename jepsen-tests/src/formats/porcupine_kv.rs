//! Porcupine's key-value logs: `{:process 0, :type :invoke, :f :append, :key "3", :value "x 0 5 y"}`, one event a
//! line. Every key is at first the empty string.

use super::{Event, FormatError, edn::EdnReader, map_event};

/// Reads a log.
///
/// # Errors
/// It is not one.
pub fn read(text: &str) -> Result<Vec<Event>, FormatError> {
    let mut events = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index as u64 + 1;
        let wrong = |problem: String| FormatError::new(number, format!("{problem} (see --format)"));
        let mut reader = EdnReader::new(line, number);
        let Some(map) = reader.next_value().map_err(wrong)? else {
            continue;
        };
        if reader.next_value().map_err(wrong)?.is_some() {
            return Err(wrong("more than one event on a line".into()));
        }
        events.extend(map_event(number, &map)?);
    }
    Ok(events)
}

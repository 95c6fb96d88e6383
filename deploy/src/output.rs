//! What commands print: a table for people, JSON for programs.
//!
//! The JSON of every command is one document on stdout (one a line for `watch`), built from the types in
//! [`crate::views`]; `OUTPUT.md` lists its fields. Tables may change at any time; JSON fields are only
//! ever added. Errors and progress go to stderr, so stdout stays clean for pipes.

use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; stable.
    Json,
}

/// Prints one answer: the table, or the value as JSON.
pub fn print<T: Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce(&T) -> Table,
) -> Result<(), Failure> {
    match format {
        Format::Table => line(&text(&table(value))),
        Format::Json => {
            let json =
                serde_json::to_string_pretty(value).map_err(|error| Failure::Failed(error.to_string()))?;
            line(&json)
        }
    }
}

/// Leaves a bar on the screen as it is, and what follows on a line of its own.
///
/// For Ctrl-C: the terminal echoes `^C` behind the bar and so moves to the next line, which the bar does not
/// know; taking it away would then take half of it.
pub fn leave_standing(bar: &ProgressBar) {
    if !bar.is_hidden() && !bar.is_finished() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        eprintln!();
    }
}

/// A table's text, without the blanks that only pad its right edge and its left.
pub fn text(table: &Table) -> String {
    let text = table.to_string();
    let lines = text
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

/// Prints one line of a stream: words, or compact JSON.
pub fn print_line<T: Serialize>(
    format: Format,
    value: &T,
    words: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    match format {
        Format::Table => line(&words(value)),
        Format::Json => {
            let text = serde_json::to_string(value).map_err(|error| Failure::Failed(error.to_string()))?;
            line(&text)
        }
    }
}

/// One line to stdout. A reader that went away (`| head`) ends the command quietly.
pub fn line(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(Failure::from),
    }
}

/// A table with a header, ready for rows.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().copied());
    table
}

/// A table of names and values.
pub fn fields(rows: impl IntoIterator<Item = (&'static str, String)>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    table
}

/// A number cell: grouped and to the right.
pub fn number(value: impl Into<u64>) -> Cell {
    Cell::new(grouped(value.into())).set_alignment(CellAlignment::Right)
}

/// `1234567` as `1,234,567`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (value, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(value), text);
        }
    }
}

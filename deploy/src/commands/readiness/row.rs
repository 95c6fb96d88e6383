//! One row of the table: a question, what was measured, what was wanted, and what to do about it.

use serde::Serialize;

use crate::commands::health::Check;

/// What a row says about the sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Go,
    NoGo,
    /// Nobody asked for it, or there is nothing to look at.
    NotChecked,
}

impl Verdict {
    /// As the table shows it.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Go => "go",
            Verdict::NoGo => "NO-GO",
            Verdict::NotChecked => "not checked",
        }
    }
}

/// One question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub check: &'static str,
    pub verdict: Verdict,
    pub measured: String,
    pub wanted: String,
    /// What to do where it is not `go`.
    pub action: &'static str,
    /// What was measured contradicts what the store promises.
    pub violation: bool,
}

impl Row {
    /// What was measured is as wanted, or it is not.
    pub fn judged(
        check: &'static str,
        go: bool,
        measured: String,
        wanted: String,
        action: &'static str,
    ) -> Row {
        Row {
            check,
            verdict: if go { Verdict::Go } else { Verdict::NoGo },
            measured,
            wanted,
            action,
            violation: false,
        }
    }

    /// Not looked at; `action` says how it would be.
    pub fn not_checked(check: &'static str, why: &str, wanted: String, action: &'static str) -> Row {
        Row {
            check,
            verdict: Verdict::NotChecked,
            measured: why.to_owned(),
            wanted,
            action,
            violation: false,
        }
    }
}

impl From<Check> for Row {
    fn from(check: Check) -> Row {
        Row::judged(check.check, check.ok, check.detail, check.wanted, check.action)
    }
}

/// Whether no row says no.
pub fn go(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.verdict != Verdict::NoGo)
}

//! A violation with the operations around it, as rows with a bar for the time that each took.
//!
//! Rows stand in the log's order, by which they are judged; those without a place in it by when they began.
//! First come the operations that the finding names, then those that share a hold, key or user with them, then
//! the nearest others of the same sale, up to [`ROWS_MAX`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use maud::{Markup, html};

use super::words::{counted, grouped, span};
use crate::{
    history::{Call, Name, Outcome, What},
    properties::{End, Finding, Operation, Run},
};

/// Rows of one excerpt: what a person reads.
pub const ROWS_MAX: usize = 40;

/// Rows of operations that the finding names; a finding that names more is cut.
const NAMED_MAX: usize = 24;

/// Why unknowns are unknown, by operation: looked up once, only for operations that are shown.
pub struct Reasons<'a>(HashMap<u64, &'a str>);

impl<'a> Reasons<'a> {
    /// Of a whole run.
    pub fn new(run: &'a Run) -> Reasons<'a> {
        let events = run.history.events.iter();
        Reasons(
            events
                .filter_map(|event| match &event.what {
                    What::Info { id, err } => Some((*id, &**err)),
                    _ => None,
                })
                .collect(),
        )
    }
}

/// Where the operations of the finding are in the run, in order of their place in the log.
pub fn rows(run: &Run, finding: &Finding) -> Vec<(usize, bool)> {
    let wanted: HashSet<u64> = finding.operations.iter().copied().collect();
    let named: Vec<usize> = (0..run.operations.len())
        .filter(|&at| wanted.contains(&run.operations[at].id))
        .take(NAMED_MAX)
        .collect();
    let mut rows: BTreeMap<usize, bool> = named.iter().map(|&at| (at, true)).collect();
    let operations = &run.operations;
    let names: HashSet<Name> = named.iter().flat_map(|&at| names(&operations[at])).collect();
    let sales: BTreeSet<Name> = named.iter().map(|&at| operations[at].sale).collect();
    let mut others: Vec<(bool, u64, usize)> = operations
        .iter()
        .enumerate()
        .filter(|(at, operation)| sales.contains(&operation.sale) && !rows.contains_key(at))
        .map(|(at, operation)| {
            let is_kin = self::names(operation).iter().any(|name| names.contains(name));
            let apart = named.iter().map(|&at| apart(operation, &operations[at])).min();
            (!is_kin, apart.unwrap_or(u64::MAX), at)
        })
        .collect();
    // Only the nearest are kept; sorting a million to show forty would be wasteful.
    let keep = (ROWS_MAX - rows.len()).min(others.len());
    if keep < others.len() {
        others.select_nth_unstable(keep);
    }
    rows.extend(others[..keep].iter().map(|&(_, _, at)| (at, false)));
    let mut rows: Vec<(usize, bool)> = rows.into_iter().collect();
    rows.sort_by_cached_key(|&(at, _)| place(&operations[at], run));
    rows
}

/// Users, keys and holds that an operation is about.
fn names(operation: &Operation) -> Vec<Name> {
    let mut names: Vec<Name> = operation.call.key().into_iter().copied().collect();
    names.extend(operation.call.hold());
    match operation.call {
        Call::Claim { user, .. } | Call::Decrement { user: Some(user), .. } => names.push(user),
        _ => {}
    }
    match operation.answer().map(|answer| answer.outcome) {
        Some(Outcome::Granted { hold, .. } | Outcome::Already { hold }) => names.push(hold),
        Some(Outcome::Sold { hold: Some(hold) }) => names.push(hold),
        _ => {}
    }
    names
}

/// How far two operations are apart: in the log if both have a place in it, else in time.
fn apart(one: &Operation, other: &Operation) -> u64 {
    match (index(one), index(other)) {
        (Some(one), Some(other)) => one.abs_diff(other),
        _ => one.invoked_ns.abs_diff(other.invoked_ns),
    }
}

fn index(operation: &Operation) -> Option<u64> {
    Some(operation.answer()?.idx?.log_index)
}

/// The order of rows. An operation that has no place in the log stands where the newest answer known when it
/// began does, which keeps unknowns beside what they raced with.
fn place(operation: &Operation, run: &Run) -> (u64, u64, u64) {
    if let Some(idx) = operation.answer().and_then(|answer| answer.idx) {
        return (idx.log_index, idx.position, operation.invoked_ns);
    }
    let before = run
        .operations
        .partition_point(|other| other.invoked_ns < operation.invoked_ns);
    let newest = run.operations[..before].iter().rev().find_map(index);
    (newest.unwrap_or(0), u64::MAX, operation.invoked_ns)
}

/// The finding's operations, and those around them.
pub fn markup(run: &Run, finding: &Finding, reasons: &Reasons<'_>) -> Markup {
    let rows = rows(run, finding);
    if rows.is_empty() {
        return html! { p.note { "This finding is about no single operation of the history." } };
    }
    let operations: Vec<&Operation> = rows.iter().map(|&(at, _)| &run.operations[at]).collect();
    let from = operations.iter().map(|o| o.invoked_ns).min().unwrap_or(0);
    let ended = |o: &&Operation| (o.returned_ns != u64::MAX).then_some(o.returned_ns);
    let until = operations
        .iter()
        .filter_map(ended)
        .max()
        .unwrap_or(from)
        .max(from + 1);
    let start = run.history.events.first().map_or(0, |event| event.t);
    let named = rows.iter().filter(|(_, named)| *named).count() as u64;
    html! {
        p.note {
            (counted(named, "operation")) " of this finding, marked, among " (rows.len() as u64 - named)
            " around, in log order; bars from " (span((from - start) as f64)) " to "
            (span((until - start) as f64)) " of the run."
            @if finding.operations.len() > named as usize {
                " The finding names " (counted(finding.operations.len() as u64, "operation")) "."
            }
        }
        div.scroll tabindex="0" role="region" aria-label="Operations around the violation" {
            table.excerpt {
                thead { tr {
                    th { "log" } th { "operation" } th { "asked" } th { "heard" } th.when { "when" }
                } }
                tbody {
                    @for &(at, named) in &rows {
                        (row(run, &run.operations[at], named, (from, until), reasons))
                    }
                }
            }
        }
    }
}

fn row(
    run: &Run,
    operation: &Operation,
    named: bool,
    (from, until): (u64, u64),
    reasons: &Reasons<'_>,
) -> Markup {
    let length = (until - from) as f64;
    let left = (operation.invoked_ns - from) as f64 / length * 100.0;
    let is_open = operation.returned_ns == u64::MAX;
    let right = if is_open {
        100.0
    } else {
        (operation.returned_ns - from) as f64 / length * 100.0
    };
    let answer = operation.answer();
    html! {
        tr.named[named] {
            td.number {
                @if let Some(idx) = answer.and_then(|answer| answer.idx) {
                    (grouped(idx.log_index)) span.dim { "." (idx.position) }
                } @else { span.dim { "–" } }
            }
            td.number {
                @if named { strong { "▶ " (operation.id) } } @else { (operation.id) }
                span.dim { " p" (operation.p) }
            }
            td { (asked(run, operation)) }
            td { (heard(run, operation, reasons)) }
            td.when {
                div.bar.open[is_open] style=(format!("left:{left:.2}%;width:{:.2}%", (right - left).max(0.0))) {}
                span.took {
                    @if is_open { "never returned" }
                    @else { (span((operation.returned_ns - operation.invoked_ns) as f64)) }
                }
            }
        }
    }
}

fn asked(run: &Run, operation: &Operation) -> Markup {
    let call = &operation.call;
    let code = |label: &'static str, name: Name| html! { " " span.dim { (label) } " " code { (run.history.names.text(name)) } };
    html! {
        strong { (call.kind().word()) }
        @match *call {
            Call::Claim { user, quantity, .. } => {
                @if quantity != 1 { " " (quantity) }
                (code("for", user))
            }
            Call::Decrement { user, quantity, .. } => {
                @if quantity != 1 { " " (quantity) }
                @if let Some(user) = user { (code("for", user)) }
            }
            Call::Restock { units, .. } | Call::Withdraw { units, .. } => { " " (units) }
            _ => {}
        }
        @if let Some(&hold) = call.hold() { (code("hold", hold)) }
        @if let Some(&key) = call.key() { (code("key", key)) }
        (code("sale", operation.sale))
    }
}

fn heard(run: &Run, operation: &Operation, reasons: &Reasons<'_>) -> Markup {
    let text = |name: Name| run.history.names.text(name);
    let said = |outcome: &Outcome| {
        html! {
            strong { (outcome.word().replace('_', " ")) }
            @match *outcome {
                Outcome::Granted { hold, deadline } => { " " code { (text(hold)) } span.dim { " until lt " (grouped(deadline)) } }
                Outcome::Already { hold } | Outcome::Sold { hold: Some(hold) } => { " " code { (text(hold)) } }
                Outcome::Extended { deadline } => { span.dim { " until lt " (grouped(deadline)) } }
                Outcome::Counters { available, held, sold, total } => {
                    " " (grouped(available)) " available + " (grouped(held)) " held + " (grouped(sold)) " sold, of " (grouped(total))
                }
                _ => {}
            }
        }
    };
    let lt = |lt: u64| html! { span.dim { " at lt " (grouped(lt)) } };
    let why = reasons.0.get(&operation.id);
    html! {
        @match &operation.end {
            End::Answered(answer) => { (said(&answer.outcome)) (lt(answer.lt)) }
            End::Failed => { strong { "failed" } " before anything was proposed" }
            End::Unknown => { strong { "unknown" } }
            End::Learned(answer) => { strong { "unknown, learned later: " } (said(&answer.outcome)) (lt(answer.lt)) }
            End::Abandoned => { strong { "unknown, learned later: " } "never happened" }
        }
        @if let Some(why) = why { span.dim { " (" (why) ")" } }
    }
}

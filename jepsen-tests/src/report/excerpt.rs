//! A violation with the operations around it, as rows with a bar for the time that each took.
//!
//! Rows stand in the log's order, by which they are judged; those without a place in it by when they began.
//! First come the operations that the finding names, then those that share a hold, key or user with them, then
//! the nearest others of the same sale, up to [`ROWS_MAX`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use maud::{Markup, html};

use super::{
    timeline::Timeline,
    words::{counted, grouped, span},
};
use crate::{
    history::{Call, Name, Outcome, What},
    properties::{End, Finding, Operation, Run},
};

/// Rows of one excerpt: what a person reads.
pub const ROWS_MAX: usize = 28;

/// Rows of operations that the finding names; a finding that names more is cut.
const NAMED_MAX: usize = 20;

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
            let apart = named.iter().map(|&named| apart(operations, at, named)).min();
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

/// How far two operations are apart: in the log if both have a place in it, else in the order in which they
/// began. Either counts about one for an operation, so the unknown that raced is as near as its rivals.
fn apart(operations: &[Operation], one: usize, other: usize) -> u64 {
    match (index(&operations[one]), index(&operations[other])) {
        (Some(one), Some(other)) => one.abs_diff(other),
        _ => one.abs_diff(other) as u64,
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

/// From when to when bars are drawn, in ns: what the finding names, and the nearest three of four others.
///
/// One that only shares a name may be minutes away; it is told in words, or every other bar would be a dot.
fn window(run: &Run, rows: &[(usize, bool)]) -> (u64, u64) {
    let span = |at: usize| {
        let operation = &run.operations[at];
        let is_open = operation.returned_ns == u64::MAX;
        let end = if is_open {
            operation.invoked_ns
        } else {
            operation.returned_ns
        };
        (operation.invoked_ns, end)
    };
    let named = || rows.iter().filter(|row| row.1).map(|row| span(row.0));
    let from = named().map(|(start, _)| start).min().unwrap_or(0);
    let until = named().map(|(_, end)| end).max().unwrap_or(0);
    let mut reaches: Vec<u64> = rows
        .iter()
        .filter(|row| !row.1)
        .map(|row| span(row.0))
        .map(|(start, end)| from.saturating_sub(start).max(end.saturating_sub(until)))
        .collect();
    reaches.sort_unstable();
    let reach = reaches.get((reaches.len() * 3 / 4).saturating_sub(1)).copied();
    let reach = reach.unwrap_or(0).max(until - from).max(1);
    (from.saturating_sub(reach), until + reach)
}

/// The finding's operations, and those around them.
pub fn markup(run: &Run, finding: &Finding, timeline: &Timeline, reasons: &Reasons<'_>) -> Markup {
    let rows = rows(run, finding);
    if rows.is_empty() {
        return html! { p.note { "This finding is about no single operation of the history." } };
    }
    let (from, until) = window(run, &rows);
    let named = rows.iter().filter(|(_, named)| *named).count() as u64;
    let faults = timeline.faults_within(from, until);
    let since_start = |ns: u64| span(ns.saturating_sub(timeline.start_ns) as f64);
    html! {
        @if !faults.is_empty() { p { "Faults meanwhile: " strong { (faults.join("; ")) } "." } }
        p.note {
            (counted(named, "operation")) " of this finding, marked ▶, among " (rows.len() as u64 - named)
            " around, in log order. Bars run from " (since_start(from)) " to " (since_start(until)) " of the run."
            @if finding.operations.len() > named as usize {
                " The finding names " (counted(finding.operations.len() as u64, "operation")) "."
            }
        }
        div.scroll tabindex="0" role="region" aria-label="Operations around the violation" {
            table.excerpt {
                thead { tr {
                    th { "log" } th { "operation" } th { "asked" } th { "heard" } th { "when" } th {}
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
    let percent = |ns: u64| ns.clamp(from, until).abs_diff(from) as f64 / (until - from) as f64 * 100.0;
    let (left, right) = (percent(operation.invoked_ns), percent(operation.returned_ns));
    let is_open = operation.returned_ns == u64::MAX;
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
                @if operation.invoked_ns > until {
                    span.away { (span((operation.invoked_ns - until) as f64)) " later →" }
                } @else if operation.returned_ns < from {
                    span.away { "← " (span((from - operation.returned_ns) as f64)) " earlier" }
                } @else {
                    span.bar.open[is_open] style=(format!("left:{left:.2}%;width:{:.2}%", right - left)) {}
                }
            }
            td.took.number {
                @if is_open { "never returned" }
                @else { (span((operation.returned_ns - operation.invoked_ns) as f64)) }
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
            Call::Resolve { about, .. } => { (code("key", about)) }
            Call::Put { version, .. } | Call::Delete { version, .. } => { span.dim { " version " (version) } }
            _ => {}
        }
        @if let Some(&hold) = call.hold() { (code("hold", hold)) }
        @if let Some(&key) = call.key() { (code("key", key)) }
        @if call.is_document() { (code("document", operation.sale)) }
        @else if run.history.header.sales.len() > 1 { (code("sale", operation.sale)) }
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
                Outcome::Extended { deadline: until }
                | Outcome::Abandoned { until }
                | Outcome::Busy { until }
                | Outcome::Leased { until, .. } => { span.dim { " until lt " (grouped(until)) } }
                Outcome::Written { version }
                | Outcome::WrongVersion { version }
                | Outcome::Document { version, .. } => { span.dim { " version " (version) } }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::{Answer, Header, Index, Recorder},
        properties::{Observations, Verdict},
    };

    /// A hundred claims, one an entry, and the confirm of the first at the end; the checker's order is the log's.
    fn run() -> Run {
        let recorder = Recorder::new(Header::one(100, [("s0", 1_000), ("s1", 5)]), || 0);
        let tell = |sale: &str, log_index, call: Call<&str>, outcome: Outcome<&str>| {
            let id = recorder.invoke(recorder.process(), sale, call);
            let idx = Some(Index {
                log_index,
                position: 0,
            });
            recorder.ok(id, Answer { idx, lt: 1, outcome });
            id
        };
        for number in 0..100 {
            let name = format!("h{number}");
            let name = name.as_str();
            let outcome = Outcome::Granted {
                hold: name,
                deadline: 9,
            };
            let sale = if number == 50 { "s1" } else { "s0" };
            // The log has them the other way round.
            tell(sale, 1_000 - number, Call::claim(name, name), outcome);
        }
        let lost = recorder.invoke(recorder.process(), "s0", Call::claim("lost", "lost"));
        recorder.info(lost, "a <reason>");
        let confirm = Call::Confirm {
            hold: "h20",
            key: "c",
        };
        tell("s0", 5_000, confirm, Outcome::Confirmed);
        Run::new(recorder.finish(), Observations::default())
    }

    fn finding(operations: Vec<u64>) -> Finding {
        Finding {
            property: "no-oversell".into(),
            verdict: Verdict::Invalid,
            summary: String::new(),
            operations,
        }
    }

    #[test]
    fn rows_are_what_is_named_its_kin_and_the_nearest_in_log_order() {
        let run = run();
        let rows = rows(&run, &finding(vec![20]));
        assert_eq!(rows.len(), ROWS_MAX);
        let named: Vec<u64> = rows
            .iter()
            .filter(|row| row.1)
            .map(|row| run.operations[row.0].id)
            .collect();
        assert_eq!(named, [20]);
        let indexes: Vec<u64> = rows
            .iter()
            .map(|row| index(&run.operations[row.0]).unwrap())
            .collect();
        assert!(indexes.is_sorted(), "{indexes:?}");
        // The confirm shares its hold, however far away; the others are the nearest, thirteen on each side.
        assert_eq!(indexes.last(), Some(&5_000));
        assert_eq!((indexes[0], indexes[ROWS_MAX - 2]), (967, 993));
    }

    #[test]
    fn bars_cover_the_near_ones_and_not_the_far() {
        let clock = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let now = std::sync::Arc::clone(&clock);
        let now = move || now.load(std::sync::atomic::Ordering::Relaxed);
        let recorder = Recorder::new(Header::one(100, [("s0", 9)]), now);
        for begun_ns in [900, 1_000, 1_100, 1_200, 99_000] {
            clock.store(begun_ns, std::sync::atomic::Ordering::Relaxed);
            let id = recorder.invoke(recorder.process(), "s0", Call::Read);
            clock.fetch_add(50, std::sync::atomic::Ordering::Relaxed);
            recorder.fail(id);
        }
        let run = Run::new(recorder.finish(), Observations::default());
        let rows: Vec<(usize, bool)> = (0..5).map(|at| (at, at == 1)).collect();
        assert_eq!(window(&run, &rows), (800, 1_250));
    }

    #[test]
    fn rows_are_of_the_same_sale() {
        let run = run();
        assert_eq!(rows(&run, &finding(vec![50])).len(), 1);
    }

    #[test]
    fn a_finding_that_names_everything_is_cut() {
        let run = run();
        let rows = rows(&run, &finding((0..102).collect()));
        assert_eq!(rows.iter().filter(|row| row.1).count(), NAMED_MAX);
        assert!(rows.len() <= ROWS_MAX);
    }

    #[test]
    fn an_unknown_is_told_with_its_reason() {
        let run = run();
        let finding = finding(vec![100]);
        let timeline = Timeline::new(&run);
        let html = markup(&run, &finding, &timeline, &Reasons::new(&run)).into_string();
        assert!(
            html.contains("a &lt;reason&gt;") && html.contains("never returned"),
            "{html}"
        );
    }

    #[test]
    fn a_finding_about_nothing_says_so() {
        let run = run();
        for operations in [vec![], vec![999_999]] {
            let finding = finding(operations);
            let html = markup(&run, &finding, &Timeline::new(&run), &Reasons::new(&run)).into_string();
            assert!(html.contains("no single operation"), "{html}");
        }
    }
}

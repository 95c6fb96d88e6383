//! The page itself: order, headings, and the words around the parts.

use std::collections::HashMap;

use maud::{Markup, html};

use super::{
    Overall, Verdicts,
    excerpt::{self, Reasons},
    stock::Stock,
    tally::{self, tally},
    timeline::Timeline,
    words::{counted, grouped, span},
};
use crate::{
    history::Name,
    properties::{Finding, PROPERTIES, Run, Verdict},
};

/// Sales that get a plot: those with most operations.
const SALES_MAX: usize = 8;

/// Violations that are shown with the operations around them; more repeat themselves.
const VIOLATIONS_MAX: usize = 6;

const STYLE: &str = include_str!("style.css");

pub(super) fn page(run: &Run, verdicts: &Verdicts) -> Markup {
    let overall = verdicts.overall();
    let timeline = Timeline::new(run);
    let title = format!("{}: {}, seed {}", overall.word(), verdicts.run, verdicts.seed);
    let main = html! {
        (violations(run, verdicts, &timeline))
        (findings(verdicts))
        section #time {
            h2 { "While it ran" }
            (lanes(&timeline))
            (timeline.latency())
            (timeline.rate())
        }
        (sales(run))
        section #operations {
            h2 { "Operations" }
            (tally::markup(&tally(&run.operations)))
        }
        (coverage(verdicts))
    };
    frame(&title, overall, &banner(run, verdicts, overall, &timeline), &main)
}

/// A page with everything in it: neither network nor script.
pub(crate) fn frame(title: &str, overall: Overall, header: &Markup, main: &Markup) -> Markup {
    let body = html! {
        header class=(overall.word()) { (header) }
        main { (main) }
        footer {
            "Holdfast. Made from the history of what clients asked and heard; this page shows, the checker and the \
             properties decide."
        }
    };
    pages::page(title, STYLE, &body)
}

/// The shape of a verdict: told apart without colour, and by a screen reader through the word beside it.
pub(crate) fn mark(overall: Overall) -> Markup {
    let d = match overall {
        Overall::Valid => "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20ZM7 12.3l3.6 3.6L17.2 8.6",
        Overall::Invalid => "M7.9 2h8.2L22 7.9v8.2L16.1 22H7.9L2 16.1V7.9ZM8 8l8 8M16 8l-8 8",
        Overall::Unknown => {
            "M12 1.5 22.5 12 12 22.5 1.5 12ZM9.4 9.6a2.7 2.7 0 1 1 3.9 2.6q-1.3.7-1.3 2M12 17v.2"
        }
        Overall::Broken => "M12 2.5 22.8 21.5H1.2ZM12 9v6M12 18v.2",
    };
    html! {
        svg.mark.(overall.word()) viewBox="0 0 24 24" aria-hidden="true" { path d=(d) {} }
    }
}

fn banner(run: &Run, verdicts: &Verdicts, overall: Overall, timeline: &Timeline) -> Markup {
    let found = |verdict| verdicts.findings.iter().filter(|f| f.verdict == verdict).count() as u64;
    html! {
        div.verdict {
            (mark(overall))
            div {
                h1 { (overall.word()) }
                p.sentence {
                    @match overall {
                        Overall::Valid => { "Everything that was checked holds." }
                        Overall::Invalid => {
                            (counted(found(Verdict::Invalid), "promise")) " broken"
                            @if let Some(first) = first_violation(run, &verdicts.findings) { ": " strong { (first.property) } } "."
                        }
                        Overall::Unknown => {
                            "Nothing is wrong, but " (counted(found(Verdict::Unknown), "verdict")) " could not be reached."
                        }
                        Overall::Broken => { "This run proves nothing." }
                    }
                }
                @if let Some(why) = &verdicts.broken { p.sentence { strong { "The run broke: " } (why) } }
                @else if overall == Overall::Broken { p.sentence { "Nothing was checked." } }
            }
        }
        dl.facts {
            div { dt { "run" } dd { (verdicts.run) } }
            div { dt { "operations" } dd.number { (grouped(run.operations.len() as u64)) } }
            div { dt { "length" } dd.number { (span(timeline.length_ns as f64)) } }
            div { dt { "faults" } dd.number { (grouped(timeline.lanes.iter().map(|(_, spans)| spans.len() as u64).sum())) } }
            div { dt { "seed" } dd.number { (verdicts.seed) } }
        }
        div.replay {
            span { "Run it again" }
            pre tabindex="0" { code { (verdicts.replay) } }
        }
    }
}

/// The violation that was complete first: that names the operations which ended earliest.
fn first_violation<'a>(run: &Run, findings: &'a [Finding]) -> Option<&'a Finding> {
    let mut violations: Vec<&Finding> = invalid(findings).collect();
    order(run, &mut violations);
    violations.first().copied()
}

fn invalid(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Invalid)
}

fn order(run: &Run, violations: &mut [&Finding]) {
    let ended: HashMap<u64, u64> = run
        .operations
        .iter()
        .map(|operation| (operation.id, operation.returned_ns))
        .collect();
    // Those that name no operation come last: they show least.
    violations.sort_by_key(|finding| {
        let ends = finding.operations.iter().filter_map(|id| ended.get(id));
        ends.max().copied().unwrap_or(u64::MAX)
    });
}

fn violations(run: &Run, verdicts: &Verdicts, timeline: &Timeline) -> Markup {
    let mut violations: Vec<&Finding> = invalid(&verdicts.findings).collect();
    if violations.is_empty() {
        return html! {};
    }
    order(run, &mut violations);
    let reasons = Reasons::new(run);
    html! {
        section #violations {
            h2 { "What went wrong" }
            @for (number, finding) in violations.iter().take(VIOLATIONS_MAX).enumerate() {
                details.violation open[number == 0] {
                    summary {
                        @if number == 0 && violations.len() > 1 { span.dim { "First: " } }
                        strong { (finding.property) }
                    }
                    @if let Some(promise) = promise(&finding.property) { p { "Promised: " (promise) "." } }
                    p.found { "Found: " (finding.summary) }
                    (excerpt::markup(run, finding, timeline, &reasons))
                }
            }
            @if violations.len() > VIOLATIONS_MAX {
                p.note { (violations.len() - VIOLATIONS_MAX) " more are in the list below." }
            }
        }
    }
}

fn promise(property: &str) -> Option<&'static str> {
    let property = PROPERTIES.iter().find(|known| known.name == property)?;
    Some(property.promise)
}

/// Every verdict, worst first.
fn findings(verdicts: &Verdicts) -> Markup {
    let mut findings: Vec<&Finding> = verdicts.findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    html! {
        section #verdicts {
            h2 { "Verdicts" }
            @if findings.is_empty() { p.note { "Nothing was checked." } }
            ul.findings {
                @for finding in findings {
                    @let overall = Overall::from(finding.verdict);
                    li class=(overall.word()) {
                        (mark(overall))
                        div {
                            strong { (finding.property) } " " span.word { (overall.word()) }
                            @if let Some(promise) = promise(&finding.property) { p { (promise) } }
                            p.dim { (finding.summary) }
                        }
                    }
                }
            }
        }
    }
}

/// A line for each kind of fault, above the plots and as wide as they are; in words for those who cannot see it.
fn lanes(timeline: &Timeline) -> Markup {
    if timeline.lanes.is_empty() {
        return html! { p.note { "No fault was injected." } };
    }
    let since_start = |ns: u64| span((ns - timeline.start_ns) as f64);
    html! {
        figure.lanes {
            figcaption { h3 { "Faults" } }
            @for (name, faults) in &timeline.lanes {
                div.lane {
                    span.name { (name) span.dim { " " (faults.len()) "×" } }
                    div.track role="img" aria-label={ (name) ", " (counted(faults.len() as u64, "time")) } {
                        @for fault in faults.iter().take(LANE_FAULTS_MAX) {
                            @let (from, to) = timeline.width(fault);
                            span style=(format!("left:{:.2}%;width:{:.2}%", from * 100.0, (to - from) * 100.0)) {}
                        }
                    }
                }
            }
            details {
                summary { "In words" }
                @for (name, faults) in &timeline.lanes {
                    p.note {
                        strong { (name) } ": "
                        @for (number, fault) in faults.iter().take(WORDS_FAULTS_MAX).enumerate() {
                            @if number > 0 { "; " }
                            (fault.node) " from " (since_start(fault.from_ns)) " to " (since_start(fault.to_ns))
                        }
                        @if faults.len() > WORDS_FAULTS_MAX { "; and " (faults.len() - WORDS_FAULTS_MAX) " more" }
                    }
                }
            }
        }
    }
}

/// Bars in one lane; a storm of more would be one bar to the eye.
const LANE_FAULTS_MAX: usize = 400;

/// Faults of one kind told in words.
const WORDS_FAULTS_MAX: usize = 50;

fn sales(run: &Run) -> Markup {
    let mut counts: HashMap<Name, u64> = HashMap::new();
    for operation in &run.operations {
        *counts.entry(operation.sale).or_default() += 1;
    }
    let mut sales: Vec<(u64, &str, Name, u64)> = run
        .history
        .header
        .sales
        .iter()
        .filter_map(|(id, sale)| {
            let name = run.history.names.find(id)?;
            Some((*counts.get(&name)?, id.as_str(), name, sale.units))
        })
        .collect();
    sales.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let stocks: Vec<Stock> = sales
        .iter()
        .take(SALES_MAX)
        .filter_map(|&(_, _, name, units)| Stock::new(run, name, units))
        .collect();
    html! {
        section #stock {
            h2 { "Units over the log" }
            @if stocks.is_empty() { p.note { "No answer tells where in the log it was given, so there is nothing to draw." } }
            @else {
                p { "Areas add up the effects that clients heard of, in log order; dots are what reads were told. Both must agree." }
                @for stock in &stocks { (stock.markup(run)) }
                @if sales.len() > SALES_MAX { p.note { (sales.len() - SALES_MAX) " quieter sales are not drawn." } }
            }
        }
    }
}

fn coverage(verdicts: &Verdicts) -> Markup {
    if verdicts.coverage.is_empty() {
        return html! {};
    }
    html! {
        section #coverage {
            h2 { "Faults that happened" }
            div.scroll.card tabindex="0" role="region" aria-label="Faults that happened" {
                table.coverage {
                    thead { tr { th { "fault" } th.number { "times" } th.number { "hit the leader" } } }
                    tbody {
                        @for fault in &verdicts.coverage {
                            @let missing = fault.count == 0 || fault.leader_hits == Some(0);
                            tr.missing[missing] {
                                td { (fault.name) }
                                td.number { @if fault.count == 0 { strong { "never" } } @else { (grouped(fault.count)) } }
                                td.number {
                                    @match fault.leader_hits {
                                        None => { span.dim { "hits all" } }
                                        Some(0) => { strong { "never" } }
                                        Some(hits) => { (grouped(hits)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

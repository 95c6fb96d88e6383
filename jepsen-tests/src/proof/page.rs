//! The page of a proof: every stage with its verdict, and what each run that is not valid says, with a way to it.

use std::path::Path;

use maud::{Markup, html};

use super::{Found, Proof};
use crate::{
    properties::Verdict,
    report::{Overall, Verdicts, frame, mark},
};

/// Lines of a stage's output that the page shows; all of it is in the stage's file.
const LINES_MAX: usize = 200;

/// Runs of a stage that the page shows at once; the others are folded.
const RUNS_MAX: usize = 10;

/// Verdicts of one run that the page repeats; the run's own page has all.
const SENTENCES_MAX: usize = 4;

pub(super) fn page(proof: &Proof, dir: &Path, to_come: usize) -> Markup {
    let overall = proof.overall();
    let sentence = match (overall, to_come) {
        (_, 1..) => format!("{to_come} stages were still to come when this was written."),
        (Overall::Valid, _) => "Every stage holds.".to_owned(),
        (Overall::Invalid, _) => {
            "A promise is broken: see below which, where, and how to run it again.".to_owned()
        }
        (Overall::Unknown, _) => "Nothing is wrong, but something was left out or not decided.".to_owned(),
        (Overall::Broken, _) => "Something could not be run: this proves nothing.".to_owned(),
    };
    let seconds: f64 = proof.found.iter().map(|found| found.took.as_secs_f64()).sum();
    let header = html! {
        div.verdict {
            (mark(overall))
            div { h1 { (overall.word()) } p.sentence { (sentence) } }
        }
        dl.facts {
            div { dt { "proof" } dd { (proof.name) } }
            div { dt { "stages" } dd.number { (proof.found.len()) } }
            div { dt { "seconds" } dd.number { (format!("{seconds:.0}")) } }
            @if !proof.without.is_empty() { div { dt { "left out" } dd { (proof.without.join(", ")) } } }
        }
        div.replay { span { "Run it again" } pre tabindex="0" { code { (proof.replay) } } }
    };
    let main = html! {
        section #stages {
            h2 { "Stages" }
            ul.findings {
                @for found in &proof.found {
                    li class=(found.overall.word()) {
                        (mark(found.overall))
                        div {
                            h3 { (found.name) }
                            span.word { (found.overall.word()) }
                            span.dim { " " (format!("{:.0} s", found.took.as_secs_f64())) }
                            p { (found.what) }
                        }
                    }
                }
            }
        }
        @for found in proof.found.iter().filter(|found| found.overall != Overall::Valid) { (details(found, dir)) }
        @for found in proof.found.iter().filter(|found| found.overall == Overall::Valid) { (details(found, dir)) }
    };
    frame(
        &format!("{}: {}", overall.word(), proof.name),
        overall,
        &header,
        &main,
    )
}

fn details(found: &Found, dir: &Path) -> Markup {
    let lines: Vec<&str> = found.printed.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LINES_MAX)..];
    html! {
        section {
            h2 { (found.name) ": " (found.overall.word()) }
            @let (first, more) = found.pages.split_at(found.pages.len().min(RUNS_MAX));
            @for page in first { (run(page, dir)) }
            @if !more.is_empty() {
                details {
                    summary { (more.len()) " more" }
                    @for page in more { (run(page, dir)) }
                }
            }
            div.replay { span { "Run it alone" } pre tabindex="0" { code { (found.command) } } }
            @if !shown.is_empty() {
                details open[found.overall != Overall::Valid] {
                    summary { "What it printed" }
                    div.replay { pre tabindex="0" { code { (shown.join("\n")) } } }
                }
            }
        }
    }
}

/// One run of a stage: a way to its page, and the worst that its verdicts say.
fn run(page: &Path, dir: &Path) -> Markup {
    let verdicts = page
        .parent()
        .and_then(|home| Verdicts::read(&dir.join(home)).ok());
    html! {
        p {
            a href=(page.display()) { (page.display()) }
            @if let Some(verdicts) = &verdicts {
                ": " strong { (verdicts.overall().word()) } ", " (verdicts.run)
                @if let Some(broken) = &verdicts.broken { br; (broken) }
                @for finding in verdicts.findings.iter().filter(|f| f.verdict != Verdict::Valid).take(SENTENCES_MAX) {
                    br; strong { (finding.property) } ": " (finding.summary)
                }
            }
        }
    }
}

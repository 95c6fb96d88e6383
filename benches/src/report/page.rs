//! The page for people: which aims were met, every figure with its spread and its share of a limit, and how the
//! calls went. One file, without network or script; all text is escaped.

use maud::{Markup, html};
use pages::words::counted;

use super::{Line, Report, kinds::KINDS, plots};
use crate::limits::Limit;

const STYLE: &str = include_str!("page.css");

/// The page.
pub fn markup(report: &Report<'_>) -> Markup {
    let lines: Vec<Line<'_>> = report.lines().collect();
    let aims: Vec<bool> = lines.iter().filter_map(Line::aim_met).collect();
    let met = aims.iter().filter(|met| **met).count();
    let verdict = match aims.len() {
        0 => "No aims here".to_owned(),
        all => format!("{met} of {} met", counted(all as u64, "aim")),
    };
    let tone = match aims.len() {
        0 => "",
        all if met == all => "valid",
        _ => "invalid",
    };
    let (limits, ours): (Vec<_>, Vec<_>) = lines.iter().partition(|line| is_limit(line));
    let body = html! {
        header class=(tone) { (banner(report, &verdict)) }
        main {
            @if !aims.is_empty() {
                section #aims {
                    h2 { "Aims" }
                    ul.aims { @for line in &lines { (aim(line)) } }
                }
            }
            @if !ours.is_empty() { (table("figures", "Figures", &ours)) }
            @if !limits.is_empty() { (table("limits", "What this machine allows", &limits)) }
            (calls(&ours))
        }
        footer {
            @for note in report.notes() { p { (note) } }
            "Holdfast. Medians of the runs; servers and load share this machine, and every outcome was compared with "
            "what the replicas have."
        }
    };
    pages::page(&format!("Holdfast benches: {verdict}"), STYLE, &body)
}

fn is_limit(line: &Line<'_>) -> bool {
    Limit::ALL
        .iter()
        .any(|limit| limit.figures().contains(&line.kind.id))
}

fn banner(report: &Report<'_>, verdict: &str) -> Markup {
    let (machine, session) = (&report.machine, &report.session);
    let cores = machine.cores.map(|cores| counted(cores as u64, "core"));
    let memory = machine.memory_gib.map(|gib| format!("{gib:.1} GiB"));
    let hardware: Vec<&str> = [&machine.processor, &cores, &memory]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let seconds = counted(report.window.as_secs(), "second");
    let facts = [
        ("measured", session.ended()),
        (
            "commit",
            session.commit.clone().unwrap_or_else(|| "unknown".to_owned()),
        ),
        ("runs", format!("{}, windows of {seconds}", report.runs.len())),
        ("machine", hardware.join(", ")),
        ("kernel", machine.kernel.clone().unwrap_or_default()),
        ("data on", machine.file_system.clone().unwrap_or_default()),
    ];
    html! {
        h1 { (verdict) }
        @if !session.optimised {
            p.sentence { strong { "Built without optimisation: " } "these numbers say nothing about Holdfast." }
        }
        dl.facts {
            @for (name, fact) in facts.iter().filter(|(_, fact)| !fact.is_empty()) {
                div { dt { (name) } dd { (fact) } }
            }
        }
        div.replay { span { "run it again" } pre { (session.command) } }
    }
}

/// A card of a figure that has an aim.
fn aim(line: &Line<'_>) -> Markup {
    let Some((aim, met)) = line.aim().zip(line.aim_met()) else {
        return html! {};
    };
    let (unit, value) = (line.kind.unit, line.value.median);
    let (word, shape, tone) = if met {
        ("met", "✓", "valid")
    } else {
        ("missed", "✕", "invalid")
    };
    html! {
        li class=(tone) {
            span.shape aria-hidden="true" { (shape) }
            div {
                p.title { (line.kind.title) }
                p {
                    strong.number { (unit.show(value)) " " (unit.text()) } " "
                    span.word { (word) } " " span.dim { "aim " (aim) " " (unit.text()) }
                }
                (plots::strip(&line.values, line.kind.target))
            }
        }
    }
}

fn table(id: &str, heading: &str, lines: &[&Line<'_>]) -> Markup {
    let with_costs = lines.iter().any(|line| line.processor_us[0].is_some());
    let milliseconds = |ms: Option<f64>| ms.map_or(String::new(), |ms| format!("{ms:.2}"));
    let one_decimal = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.1}"));
    html! {
        section id=(id) {
            h2 { (heading) }
            p.dim {
                "Each dot is a value, on a line from zero"
                @if lines.iter().any(|line| line.kind.target.is_some()) { "; the upright stroke is the aim" }
                "."
            }
            div.card {
                table.figures {
                    thead {
                        tr {
                            th { "figure" }
                            th.number { "median" }
                            th { "values" }
                            th.number { "p50 ms" }
                            th.number { "p99 ms" }
                            @if with_costs {
                                th.number { "CPU µs" }
                                th.number { "an entry" }
                            }
                            th { "share of limit, or ours to it" }
                        }
                    }
                    tbody {
                        @for line in lines {
                            @let unit = line.kind.unit;
                            tr {
                                td { (line.kind.title) }
                                td.number data-is="median" {
                                    strong { (unit.show(line.value.median)) } " " (unit.text())
                                }
                                td.values {
                                    (plots::strip(&line.values, line.kind.target))
                                    span.dim.number { (unit.show(line.value.min)) " – " (unit.show(line.value.max)) }
                                }
                                td.number data-is="p50 ms" { (milliseconds(line.p50_ms)) }
                                td.number data-is="p99 ms" { (milliseconds(line.p99_ms)) }
                                @if with_costs {
                                    td.number data-is="CPU µs" { (one_decimal(line.processor_us[0])) }
                                    td.number data-is="an entry" { (one_decimal(line.per_entry)) }
                                }
                                td.limit { (share(line)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The share of the limit as a bar and in words; or, for another store's figure, how many times as good ours is.
fn share(line: &Line<'_>) -> Markup {
    if let Some(ours) = line.ours {
        return html! { span.dim { "ours is " } strong.number { (format!("{ours:.1} ×")) } };
    }
    let limit = line
        .kind
        .limit
        .and_then(|id| KINDS.iter().find(|kind| kind.id == id));
    let Some((share, limit)) = line.share.zip(limit) else {
        return html! {};
    };
    let percent = format!("{:.0}%", share * 100.0);
    html! {
        span.bar aria-hidden="true" { span style={ "width:" (format!("{:.1}%", (share * 100.0).clamp(0.0, 100.0))) } {} }
        strong.number { (percent) } " " span.dim { "of " (limit.title) }
    }
}

/// How the calls of our figures went.
fn calls(lines: &[&Line<'_>]) -> Markup {
    let drawn: Vec<&&Line<'_>> = lines.iter().filter(|line| !line.courses.is_empty()).collect();
    let axis = plots::latency_axis(drawn.iter().flat_map(|line| line.courses.iter().copied()));
    html! {
        @if !drawn.is_empty() {
            section #calls {
                h2 { "How the calls went" }
                p.dim {
                    "Lines are medians of the runs, bands reach from the lowest run to the highest. All latencies have "
                    "one logarithmic axis; a line ends where no call is left to tell."
                }
                @for line in drawn {
                    article {
                        h3 { (line.kind.title) }
                        div.pair {
                            (plots::latency(line, axis))
                            @if let Some(rate) = plots::rate(&line.courses) { (rate) }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::*;
    use crate::{
        load::histogram,
        report::{Course, Figure, Run, id},
    };

    fn page(change: impl Fn(&mut Report<'_>), figures: &[(&'static str, f64)]) -> String {
        let mut latency_us = histogram();
        (1..=20_000).for_each(|us| latency_us.record(us).unwrap());
        let mut run = Run::default();
        for &(id, value) in figures {
            let course = Some(Course::new(&latency_us, &[100, 200, 300]));
            run.add(
                id,
                Figure {
                    course,
                    ..Figure::new(value)
                },
            );
        }
        let runs = [run];
        let mut report = Report::new(&runs, Path::new("/"), Duration::from_secs(4));
        change(&mut report);
        markup(&report).into_string()
    }

    #[test]
    fn aims_are_told_at_once_and_every_figure_is_drawn() {
        let mixed = [
            (id::CLAIMS_BULK, 9e9),
            (id::CLAIMS_ONE, 9e9),
            (id::RAFT_FULL, 1e10),
        ];
        let text = page(|_| (), &mixed);
        assert!(text.contains("<h1>1 of 2 aims met</h1>"));
        assert!(text.contains("<li class=\"valid\">") && text.contains("<li class=\"invalid\">"));
        assert_eq!(text.matches("class=\"plot\"").count(), 4, "limits are not drawn");
        assert_eq!(text.matches("class=\"line p50\"").count(), 4);
        assert!(text.contains("90%</strong> <span class=\"dim\">of bare raft"));
        assert!(text.contains("half 10 ms") && text.contains("slowest 20 ms"));

        assert!(page(|_| (), &[(id::CLAIMS_ONE, 0.1)]).contains("<h1>1 of 1 aim met</h1>"));
        let none = page(|_| (), &[(id::RAFT_FULL, 1.0)]);
        assert!(none.contains("<h1>No aims here</h1>") && !none.contains("id=\"calls\""));
    }

    #[test]
    fn nothing_that_comes_from_outside_is_markup_and_nothing_comes_from_elsewhere() {
        let hostile = "<script>alert(1)</script>\"'&";
        let change = |report: &mut Report<'_>| {
            report.session.command = hostile.to_owned();
            report.session.commit = Some(hostile.to_owned());
            report.machine.processor = Some(hostile.to_owned());
            report.machine.kernel = Some(hostile.to_owned());
        };
        let text = page(change, &[(id::CLAIMS_BULK, 1.0)]);
        assert_eq!(text.matches("&lt;script&gt;alert(1)").count(), 4);
        for foreign in ["<script", "http://", "https://", "src=", "@import", "url("] {
            assert!(!text.contains(foreign), "{foreign}");
        }
    }
}

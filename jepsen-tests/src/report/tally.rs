//! How many operations of each kind ended how.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::words::grouped;
use crate::{
    history::Kind,
    properties::{End, Operation},
};

/// Kinds of endings, by the colour that they have in the plots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shade {
    /// Something changed.
    Effects,
    /// Answered, and nothing changed.
    Answers,
    /// It did not happen.
    Failed,
    /// Nobody knew.
    Unknown,
}

impl Shade {
    fn class(self) -> &'static str {
        match self {
            Shade::Effects => "effects",
            Shade::Answers => "answers",
            Shade::Failed => "failed",
            Shade::Unknown => "unknown",
        }
    }
}

/// Endings of operations, by kind.
pub type Tally = BTreeMap<Kind, BTreeMap<(Shade, String), u64>>;

/// Counts.
pub fn tally(operations: &[Operation]) -> Tally {
    let mut counts: BTreeMap<(Kind, Shade, &'static str, &'static str), u64> = BTreeMap::new();
    for operation in operations {
        let (shade, prefix, word) = match &operation.end {
            End::Answered(answer) if answer.outcome.is_effect() => {
                (Shade::Effects, "", answer.outcome.word())
            }
            End::Answered(answer) => (Shade::Answers, "", answer.outcome.word()),
            End::Failed => (Shade::Failed, "", "failed"),
            End::Unknown => (Shade::Unknown, "", "unknown"),
            End::Learned(answer) => (Shade::Unknown, "unknown, then ", answer.outcome.word()),
            End::Abandoned => (Shade::Unknown, "unknown, then ", "never happened"),
        };
        *counts
            .entry((operation.call.kind(), shade, prefix, word))
            .or_default() += 1;
    }
    let mut tally = Tally::new();
    for ((kind, shade, prefix, word), count) in counts {
        let words = format!("{prefix}{}", word.replace('_', " "));
        tally.entry(kind).or_default().insert((shade, words), count);
    }
    tally
}

/// A row for each kind.
pub fn markup(tally: &Tally) -> Markup {
    html! {
        dl.tally {
            @for (kind, endings) in tally {
                @let all: u64 = endings.values().sum();
                dt { strong { (kind.word()) } " " span.number { (grouped(all)) } }
                dd {
                    div.share aria-hidden="true" {
                        @for ((shade, _), count) in endings {
                            span class=(shade.class()) style=(format!("flex-grow:{count}")) {}
                        }
                    }
                    ul.endings {
                        @for ((shade, words), count) in endings {
                            li { span.key.(shade.class()) aria-hidden="true" {} (words) " " span.number { (grouped(*count)) } }
                        }
                    }
                }
            }
        }
    }
}

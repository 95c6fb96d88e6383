//! The checker's word as a finding, beside those of the properties.

use super::{Finding, Verdict};
use crate::{
    checker::{self, Options},
    history::History,
};

/// Whether one order explains every answer and respects real time: the witness, and the search where it reaches.
pub fn linearizable(history: &History) -> Finding {
    linearizable_with(history, Options::default())
}

/// The same with the checker's options.
pub fn linearizable_with(history: &History, options: Options) -> Finding {
    let (verdict, summary, operations) = match checker::check(history, options) {
        checker::Verdict::Valid => (
            Verdict::Valid,
            "one order explains every answer and respects real time".to_owned(),
            Vec::new(),
        ),
        checker::Verdict::Invalid(found) => (
            Verdict::Invalid,
            format!("{}: {}", found.lies, found.why),
            found.operations,
        ),
        checker::Verdict::Unknown(why) => (Verdict::Unknown, why, Vec::new()),
        // The checker contradicts itself: nothing it says counts.
        checker::Verdict::Disagreement(why) => (
            Verdict::Invalid,
            format!("the checker contradicts itself: {why}"),
            Vec::new(),
        ),
    };
    Finding {
        property: "linearizable".to_owned(),
        verdict,
        summary,
        operations,
    }
}

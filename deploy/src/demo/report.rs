//! The verdict in print.

use std::io::IsTerminal;

use client::Receipt;

use super::verdict::Verdict;

/// Lines of the verdict, for a terminal of 80 columns.
pub fn lines(verdict: &Verdict, colour: bool) -> Vec<String> {
    let paint = |text: &str, code: u8| {
        if colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    };
    let mut lines = Vec::new();
    for check in &verdict.checks {
        let mark = if check.passed {
            paint("ok  ", 32)
        } else {
            paint("FAIL", 31)
        };
        lines.push(format!("  {mark} {:<40} {}", check.name, check.found));
        if let Some(example) = check.example.as_ref().filter(|_| !check.passed) {
            lines.push(format!("         {example}"));
        }
    }
    if let Some((first, last)) = &verdict.sold {
        lines.push(format!("       first unit sold: {}", receipt(first)));
        lines.push(format!("       last unit sold:  {}", receipt(last)));
    }
    let failed = verdict.checks.iter().filter(|check| !check.passed).count();
    lines.push(match failed {
        0 => paint("  every check holds", 32),
        failed => paint(
            &format!("  {failed} of {} checks FAILED", verdict.checks.len()),
            31,
        ),
    });
    lines
}

/// Whether stdout takes colours.
pub fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn receipt(receipt: &Receipt) -> String {
    format!(
        "index {}, position {}, term {}",
        receipt.log_index, receipt.position, receipt.term
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::verdict::Check;

    #[test]
    fn failures_stand_out_without_colour() {
        let example = Some("as here".to_owned());
        let check = |name, passed| Check {
            name,
            passed,
            found: "0".into(),
            example: example.clone(),
        };
        let verdict = Verdict {
            checks: vec![check("a", true), check("b", false)],
            sold: None,
        };
        let lines = lines(&verdict, false);
        let expected = [
            "  ok   a",
            "  FAIL b",
            "         as here",
            "  1 of 2 checks FAILED",
        ];
        assert_eq!(lines.len(), expected.len());
        assert!(
            lines
                .iter()
                .zip(expected)
                .all(|(line, start)| line.starts_with(start)),
            "{lines:?}"
        );
    }
}

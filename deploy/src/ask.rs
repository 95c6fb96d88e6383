//! Asking before steps that are hard to undo.

use std::io::{BufRead, IsTerminal, Write};

use crate::{context::Context, exit::Failure};

/// Shows the plan, then asks. With `--yes` nobody is asked; with `--dry-run` the answer is no, and no
/// failure. Without a terminal there is nobody to ask, which refuses.
///
/// Gives whether to go on.
pub fn proceed(context: &Context, plan: &[String]) -> Result<bool, Failure> {
    for line in plan {
        eprintln!("{line}");
    }
    if context.dry_run {
        eprintln!("nothing done (--dry-run)");
        return Ok(false);
    }
    if context.yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Refused(
            "there is no terminal to ask at; nothing changed: repeat with --yes".into(),
        ));
    }
    eprint!("go on? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(true);
    }
    Err(Failure::Refused("answered no; nothing changed".into()))
}

/// For a step that needs no question: whether to go on, which `--dry-run` says no to.
pub fn dry(context: &Context, step: &str) -> bool {
    if context.dry_run {
        eprintln!("would {step}; nothing done (--dry-run)");
    }
    context.dry_run
}

//! `token`: API tokens, for programs that cannot show a certificate.

use std::{io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf};

use clap::Subcommand;
use security::{Kind, tokens::new_token};
use serde::Serialize;

use crate::{context::Context, exit::Failure, output};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, once; only its hash is kept
    New {
        /// Whose it is
        name: String,
        /// What it may do
        #[arg(long, value_parser = kind)]
        role: Kind,
        /// File of tokens (`security.tokens_file`) to add its hash to; otherwise the lines to add are printed
        #[arg(long, value_name = "FILE")]
        add_to: Option<PathBuf>,
    },
}

fn kind(text: &str) -> Result<Kind, String> {
    text.parse()
        .map_err(|error: security::name::NameError| error.to_string())
}

#[derive(Serialize)]
struct TokenView {
    token: String,
    lines: String,
}

/// Runs it.
pub fn run(command: TokenCommand, context: Context) -> Result<(), Failure> {
    let TokenCommand::New { name, role, add_to } = command;
    let (token, lines) = new_token(&name, role).map_err(Failure::Usage)?;
    if context.dry_run {
        return output::line("would make a token; nothing done (--dry-run)");
    }
    if let Some(path) = &add_to {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
        // In one write: who reads the file meanwhile sees all of it or nothing.
        file.write_all(format!("\n{lines}").as_bytes())?;
    }
    if add_to.is_none() && context.format == output::Format::Table {
        eprint!("{lines}");
    }
    output::print_line(context.format, &TokenView { token, lines }, |view| {
        view.token.clone()
    })
}

//! `config`: check a file, print what is in force.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use crate::{
    config::{Loaded, known},
    context::Context,
    exit::Failure,
    output,
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether a TOML file is a valid configuration; unknown keys are errors
    Check {
        /// The file
        file: PathBuf,
    },
    /// List every setting: value, unit, where the value came from, what it means
    Print,
}

#[derive(Serialize)]
struct SettingView {
    key: &'static str,
    value: String,
    unit: &'static str,
    source: String,
    variable: String,
    /// Whether SIGHUP is enough.
    live: bool,
    doc: &'static str,
}

/// Runs it.
pub fn run(command: ConfigCommand, context: Context) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check { file } => {
            Loaded::read(Some(&file), [], &[], vec![])?;
            output::line(&format!("{}: valid", file.display()))
        }
        ConfigCommand::Print => {
            let settings: Vec<SettingView> = known::KNOWN
                .iter()
                .map(|known| SettingView {
                    key: known.key,
                    value: context.loaded.value(known.key),
                    unit: known.unit,
                    source: context.loaded.source(known.key),
                    variable: known::variable(known.key),
                    live: known.live,
                    doc: known.doc,
                })
                .collect();
            output::print(context.format, &settings, |settings| {
                let mut table = output::table(&["KEY", "VALUE", "UNIT", "SOURCE", "CHANGED BY", "MEANING"]);
                for setting in settings {
                    table.add_row([
                        setting.key,
                        &setting.value,
                        setting.unit,
                        &setting.source,
                        if setting.live { "SIGHUP" } else { "restart" },
                        setting.doc,
                    ]);
                }
                table
            })
        }
    }
}

//! Logs: one line per event that matters, on stderr, for people or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::{
    config::{LogFormat, LogSettings},
    exit::Failure,
};

/// Starts logging for the process. Call once.
pub fn start(settings: &LogSettings) -> Result<(), Failure> {
    let filter = filter(&settings.filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Human => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

fn filter(directives: &str) -> Result<EnvFilter, Failure> {
    EnvFilter::builder().parse(directives).map_err(|error| {
        Failure::Usage(format!(
            "`log.filter`: \"{directives}\": {error}; write as in info,openraft=warn"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_a_usage_error_that_names_it() {
        assert!(filter("info,openraft=warn").is_ok());
        let failure = filter("info,=,x=loud").unwrap_err();
        assert_eq!(failure.code(), 2);
        assert!(failure.to_string().contains("x=loud"), "{failure}");
    }
}

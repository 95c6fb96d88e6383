//! Logs: one line per event that matters, on stderr, for people or as JSON.

use std::{fmt, io::IsTerminal};

use tracing_subscriber::{EnvFilter, reload};

use crate::{
    config::{LogFormat, LogSettings},
    exit::Failure,
};

/// What is logged by a process that logs already.
pub struct Filter {
    replace: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

impl Filter {
    /// Logs by other directives from now on.
    pub fn set(&self, directives: EnvFilter) -> Result<(), Failure> {
        (self.replace)(directives).map_err(|error| Failure::Failed(format!("`log.filter`: {error}")))
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

/// Starts logging for the process. Call once.
pub fn start(settings: &LogSettings) -> Result<Filter, Failure> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(&settings.filter)?)
        .with_writer(std::io::stderr);
    let replace: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync> = match settings.format {
        LogFormat::Human => {
            let builder = builder
                .with_ansi(std::io::stderr().is_terminal())
                .with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(filter))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(filter))
        }
    };
    Ok(Filter { replace })
}

/// Directives as the setting has them.
pub fn filter(directives: &str) -> Result<EnvFilter, Failure> {
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

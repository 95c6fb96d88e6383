//! Traces: the spans of calls that somebody follows, sent to an OpenTelemetry collector (OTLP over HTTP).
//!
//! Only in builds with the feature `otlp`; without it an endpoint is a mistake that is told at once, and package
//! `spans` costs what it costs when nobody listens.

#[cfg(feature = "otlp")]
mod exporter;

#[cfg(feature = "otlp")]
pub use exporter::Traces;

use crate::{config::LogSettings, exit::Failure};

/// What the types alone cannot say. Names the key and the value.
pub fn check(settings: &LogSettings) -> Result<(), Failure> {
    let LogSettings {
        otlp_endpoint: endpoint,
        otlp_sample_per_mille: sample,
        ..
    } = settings;
    if *sample > 1_000 {
        let wrong = format!("`log.otlp_sample_per_mille` is {sample}: use 0 to 1000");
        return Err(Failure::Usage(wrong));
    }
    if endpoint.is_empty() {
        return Ok(());
    }
    if cfg!(not(feature = "otlp")) {
        return Err(Failure::Usage(format!(
            "`log.otlp_endpoint`: \"{endpoint}\": this build sends no traces; leave it empty, or build with \
             `--features otlp`"
        )));
    }
    let url = reqwest::Url::parse(endpoint).ok();
    // A collector answers nobody at its root.
    if url.is_some_and(|url| url.has_host() && url.path() != "/" && ["http", "https"].contains(&url.scheme()))
    {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "`log.otlp_endpoint`: \"{endpoint}\" is not where a collector takes traces, as in \
         http://127.0.0.1:4318/v1/traces"
    )))
}

/// No traces.
#[cfg(not(feature = "otlp"))]
pub struct Traces;

#[cfg(not(feature = "otlp"))]
impl Traces {
    /// Nothing: [`check`] has refused an endpoint.
    pub fn start(_: &LogSettings, _: &'static str, _: String) -> Result<Traces, Failure> {
        Ok(Traces)
    }

    /// Nothing.
    pub async fn stop(self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_a_usage_error_that_names_it() {
        let set = |endpoint: &str, sample| LogSettings {
            otlp_endpoint: endpoint.into(),
            otlp_sample_per_mille: sample,
            ..LogSettings::default()
        };
        let refused = |settings| {
            let failure = check(&settings).unwrap_err();
            assert_eq!(failure.code(), 2);
            failure.to_string()
        };
        assert!(check(&set("", 0)).is_ok() && check(&set("", 1_000)).is_ok());
        assert!(refused(set("", 1_001)).contains("1001"));
        for odd in ["collector:4318", "ftp://collector/", "/v1/traces"] {
            assert!(refused(set(odd, 1)).contains(odd));
        }
        let good = set("https://collector.example:4318/v1/traces", 1);
        let no_path = "http://collector.example:4318";
        assert!(refused(set(no_path, 1)).contains(no_path));
        if cfg!(feature = "otlp") {
            assert!(check(&good).is_ok());
        } else {
            assert!(refused(good).contains("--features otlp"));
        }
    }
}

//! Settings, in layers: defaults < TOML file < `HOLDFAST_*` environment < flags.
//!
//! [`Settings`] is what the program reads; [`known`] lists every key with its unit and meaning, for
//! `config print` and for telling a mistyped key from a known one; [`layers`] reads the sources. An unknown
//! key is an error wherever it stands: a limit that was mistyped is a limit that is not there.

pub mod door;
pub mod known;
pub mod layers;
pub mod security;

use figment::{Figment, providers::Serialized};
use raft_store::config::NodeConfig;
use serde::{Deserialize, Serialize};

pub use door::ApiSettings;
pub use security::SecuritySettings;

use crate::{exit::Failure, output::Format, traces};

/// Longest timeout of a call, in ms: no command may take effect later than this after it was sent.
const TIMEOUT_MS_MAX: u64 = 60_000;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub endpoints: Vec<String>,
    pub timeout_ms: u64,
    pub output: Format,
    pub log: LogSettings,
    pub security: SecuritySettings,
    pub node: NodeConfig,
    pub api: ApiSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            endpoints: vec!["127.0.0.1:7401".into()],
            timeout_ms: 10_000,
            output: Format::Table,
            log: LogSettings::default(),
            security: SecuritySettings::default(),
            node: NodeConfig::default(),
            api: ApiSettings::default(),
        }
    }
}

/// Logs of the process itself, always on stderr, and its traces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    pub format: LogFormat,
    pub filter: String,
    pub otlp_endpoint: String,
    pub otlp_sample_per_mille: u32,
}

impl Default for LogSettings {
    fn default() -> Self {
        // openraft tells much at info that only its developers need; its warnings are ours to see.
        LogSettings {
            format: LogFormat::Human,
            filter: "info,openraft=warn".into(),
            otlp_endpoint: String::new(),
            // At a thousand claims a second, one trace a second.
            otlp_sample_per_mille: 1,
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Settings with the knowledge of where each came from.
#[derive(Debug)]
pub struct Loaded {
    /// What the program reads.
    pub settings: Settings,
    figment: Figment,
}

impl Loaded {
    /// Reads all layers. `set` are `key=value` texts, `flags` the settings that have flags of their own.
    pub fn read(
        file: Option<&std::path::Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        set: &[String],
        flags: Vec<(&'static str, figment::value::Value)>,
    ) -> Result<Loaded, Failure> {
        let mut figment = Figment::from(Serialized::defaults(Settings::default()));
        if let Some(file) = file {
            figment = figment.merge(layers::file(file)?);
        }
        for layer in layers::environment(environment)? {
            figment = figment.merge(layer);
        }
        for text in set {
            figment = figment.merge(layers::Single::set(text)?);
        }
        for (key, value) in flags {
            figment = figment.merge(layers::Single::flag(key, value));
        }
        let settings: Settings = figment.extract().map_err(layers::explain)?;
        settings.check()?;
        Ok(Loaded { settings, figment })
    }

    /// Where a setting's value came from: `default`, a file, a variable or a flag.
    pub fn source(&self, key: &str) -> String {
        match self.figment.find_metadata(key) {
            Some(metadata) if metadata.name.starts_with(layers::NAMED) => {
                metadata.name.trim_start_matches(layers::NAMED).to_owned()
            }
            _ => "default".to_owned(),
        }
    }

    /// A setting's value as TOML would write it.
    pub fn value(&self, key: &str) -> String {
        self.figment
            .find_value(key)
            .map(|value| layers::as_toml(&value))
            .unwrap_or_default()
    }
}

impl Settings {
    /// What the types alone cannot say. Names the key and the value.
    fn check(&self) -> Result<(), Failure> {
        for endpoint in &self.endpoints {
            check_endpoint("endpoints", endpoint)?;
        }
        if self.endpoints.is_empty() {
            return Err(Failure::Usage(
                "`endpoints` is empty: name at least one node as host:port".into(),
            ));
        }
        if !(1..=TIMEOUT_MS_MAX).contains(&self.timeout_ms) {
            return Err(Failure::Usage(format!(
                "`timeout_ms` is {}: use 1 to {TIMEOUT_MS_MAX}",
                self.timeout_ms
            )));
        }
        traces::check(&self.log)?;
        self.node.check().map_err(|wrong| {
            Failure::Usage(format!(
                "`node.{}`: \"{}\": {}",
                wrong.setting, wrong.value, wrong.why
            ))
        })?;
        check_endpoint("api.listen", &self.api.listen)
    }

    /// How long one call may take.
    pub fn timeout(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.timeout_ms)
    }
}

fn check_endpoint(key: &str, endpoint: &str) -> Result<(), Failure> {
    let port = endpoint
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) => Ok(()),
        _ => Err(Failure::Usage(format!(
            "`{key}`: \"{endpoint}\" is not host:port, as in 127.0.0.1:7401"
        ))),
    }
}

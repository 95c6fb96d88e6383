//! The sources of settings: a TOML file, the environment, flags. Each knows its own name, so that an error
//! and `config print` can say where a value came from.

use std::path::Path;

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Num, Tag, Value},
};

use super::{Settings, known};
use crate::exit::Failure;

/// Starts the name of every layer but the defaults.
pub const NAMED: &str = "from ";

/// The variable that names the configuration file; not a setting itself.
pub const FILE_VARIABLE: &str = "HOLDFAST_CONFIG";

const PREFIX: &str = "HOLDFAST_";

/// A layer of any number of values with one name.
pub struct Layer {
    name: String,
    values: Dict,
}

/// A layer of one value: a variable or a flag.
pub struct Single(Layer);

impl Single {
    /// A setting as `--set key=value` gives it.
    pub fn set(text: &str) -> Result<Single, Failure> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let Some(known) = known::KNOWN.iter().find(|known| known.key == key) else {
            return Err(Failure::Usage(format!(
                "--set {text}: unknown key `{key}`: did you mean `{}`? `holdfast config print` lists every key",
                known::nearest(key)
            )));
        };
        let values = nested(known.key, typed(known.key, value));
        Ok(Single(Layer {
            name: format!("{NAMED}--set"),
            values,
        }))
    }

    /// A flag's value.
    pub fn flag(key: &'static str, value: Value) -> Single {
        Single(Layer {
            name: format!("{NAMED}flag"),
            values: nested(key, value),
        })
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }
    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

impl Provider for Single {
    fn metadata(&self) -> Metadata {
        self.0.metadata()
    }
    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        self.0.data()
    }
}

/// The file's layer. Every key in it must be known.
pub fn file(path: &Path) -> Result<Layer, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::Usage(format!(
            "configuration file {}: {error}; name another with --config",
            path.display()
        ))
    })?;
    let values: Dict = toml::from_str(&text)
        .map_err(|error| Failure::Usage(format!("configuration file {}: {error}", path.display())))?;
    let mut unknown = Vec::new();
    unknown_keys("", &values, &mut unknown);
    if unknown.is_empty() {
        return Ok(Layer {
            name: format!("{NAMED}{}", path.display()),
            values,
        });
    }
    let lines: Vec<String> = unknown
        .iter()
        .map(|key| {
            format!(
                "unknown key `{key}` in {}: did you mean `{}`?",
                path.display(),
                known::nearest(key)
            )
        })
        .collect();
    Err(Failure::Usage(format!(
        "{}; `holdfast config print` lists every key",
        lines.join("\n")
    )))
}

/// One layer a variable, in name order. Every `HOLDFAST_*` variable must be known.
pub fn environment(variables: impl IntoIterator<Item = (String, String)>) -> Result<Vec<Single>, Failure> {
    let mut ours: Vec<(String, String)> = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && name != FILE_VARIABLE)
        // None, but in test builds.
        .filter(|(name, _)| !fault_points::VARIABLES.contains(&name.as_str()))
        .collect();
    ours.sort();
    ours.into_iter()
        .map(|(name, text)| {
            let Some(known) = known::KNOWN.iter().find(|known| known::variable(known.key) == name) else {
                let written = name.trim_start_matches(PREFIX).to_ascii_lowercase().replacen('_', ".", 1);
                let meant = known::variable(known::nearest(&written));
                return Err(Failure::Usage(format!(
                    "unknown environment variable {name}: did you mean {meant}? `holdfast config print` lists every one"
                )));
            };
            let value = typed(known.key, &text);
            Ok(Single(Layer { name: format!("{NAMED}{name}"), values: nested(known.key, value) }))
        })
        .collect()
}

/// A variable's text as the type its key has by default: texts stay texts (a directory may be called `7`),
/// lists are split at commas, everything else is read as it looks.
fn typed(key: &str, text: &str) -> Value {
    let defaults = Value::serialize(Settings::default()).expect("settings are plain values");
    match defaults.find(key) {
        Some(Value::String(..)) => Value::from(text),
        Some(Value::Array(..)) => Value::from(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .collect::<Vec<_>>(),
        ),
        _ => text
            .parse()
            .unwrap_or_else(|never: std::convert::Infallible| match never {}),
    }
}

/// `a.b = value` as tables within tables.
fn nested(key: &str, value: Value) -> Dict {
    let (first, rest) = match key.split_once('.') {
        Some((first, rest)) => (first, Value::Dict(Tag::Default, nested(rest, value))),
        None => (key, value),
    };
    Dict::from([(first.to_owned(), rest)])
}

/// Collects the keys that no setting has. A table where a value belongs is caught later, by its type.
fn unknown_keys(prefix: &str, values: &Dict, into: &mut Vec<String>) {
    for (name, value) in values {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        let is_table = known::KNOWN
            .iter()
            .any(|known| known.key.starts_with(&format!("{key}.")));
        match value {
            Value::Dict(_, values) if is_table => unknown_keys(&key, values, into),
            _ if is_table || known::KNOWN.iter().any(|known| known.key == key) => {}
            _ => into.push(key),
        }
    }
}

/// figment's error in our words: the key, the value found, where it stands, what it should be.
pub fn explain(error: figment::Error) -> Failure {
    let lines: Vec<String> = error
        .into_iter()
        .map(|error| {
            let key = error.path.join(".");
            let place = match &error.metadata {
                Some(metadata) => metadata.name.to_string(),
                None => String::new(),
            };
            let unit = known::KNOWN
                .iter()
                .find(|known| known.key == key)
                .map_or("", |known| known.unit);
            let expected = if unit.is_empty() {
                String::new()
            } else {
                format!("; it takes: {unit}")
            };
            format!("`{key}` {place}: {}{expected}", error.kind).replace("  ", " ")
        })
        .collect();
    Failure::Usage(lines.join("\n"))
}

/// A value as TOML writes it.
pub fn as_toml(value: &Value) -> String {
    match value {
        Value::String(_, text) => toml::Value::String(text.clone()).to_string(),
        Value::Char(_, letter) => toml::Value::String(letter.to_string()).to_string(),
        Value::Bool(_, yes) => yes.to_string(),
        Value::Num(_, number) => match number {
            Num::F32(value) => value.to_string(),
            Num::F64(value) => value.to_string(),
            other => other.to_u128().map_or_else(
                || {
                    other
                        .to_i128()
                        .map_or_else(String::new, |value| value.to_string())
                },
                |value| value.to_string(),
            ),
        },
        Value::Array(_, values) => {
            format!("[{}]", values.iter().map(as_toml).collect::<Vec<_>>().join(", "))
        }
        Value::Empty(..) | Value::Dict(..) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::config::{Loaded, LogFormat};

    fn toml_file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    fn error(file: &str, environment: &[(&str, &str)]) -> String {
        let file = toml_file(file);
        let failure = Loaded::read(Some(file.path()), variables(environment), &[], vec![]).unwrap_err();
        assert_eq!(failure.code(), 2, "{failure}");
        failure.to_string()
    }

    #[test]
    fn later_layers_win_and_say_so() {
        let file = toml_file(
            "timeout_ms = 2000\n[node]\nnode_id = 1\nlisten = \"127.0.0.1:1\"\n[log]\nformat = \"json\"\n",
        );
        let environment = variables(&[
            ("HOLDFAST_NODE_LISTEN", "127.0.0.1:2"),
            ("HOLDFAST_NODE_ID", "2"),
            ("PATH", "/"),
        ]);
        let flags = vec![("node.node_id", Value::from(3_u64))];
        let loaded = Loaded::read(Some(file.path()), environment, &[], flags).unwrap();
        assert_eq!(loaded.settings.node.node_id, 3);
        assert_eq!(loaded.settings.node.listen, "127.0.0.1:2");
        assert_eq!(loaded.settings.timeout_ms, 2_000);
        assert_eq!(loaded.settings.log.format, LogFormat::Json);
        assert_eq!(loaded.settings.api.listen, "127.0.0.1:7480");
        assert_eq!(loaded.source("node.node_id"), "flag");
        assert_eq!(loaded.source("node.listen"), "HOLDFAST_NODE_LISTEN");
        assert_eq!(loaded.source("timeout_ms"), file.path().display().to_string());
        assert_eq!(loaded.source("api.listen"), "default");
        assert_eq!(loaded.value("node.listen"), "\"127.0.0.1:2\"");
        assert_eq!(loaded.value("endpoints"), "[\"127.0.0.1:7401\"]");
        assert_eq!(loaded.value("timeout_ms"), "2000");
    }

    #[test]
    fn variables_have_the_type_of_their_key() {
        let environment = variables(&[
            ("HOLDFAST_ENDPOINTS", "a:1, b:2"),
            ("HOLDFAST_NODE_DATA_DIR", "7"),
            ("HOLDFAST_CONFIG", "x"),
        ]);
        let loaded = Loaded::read(None, environment, &[], vec![]).unwrap();
        assert_eq!(loaded.settings.endpoints, ["a:1", "b:2"]);
        assert_eq!(loaded.settings.node.data_dir, Path::new("7"));
    }

    #[test]
    fn unknown_keys_name_themselves_and_the_nearest() {
        let text = error("[node]\nlistne = \"x\"\n[nodes]\nid = 1\n", &[]);
        assert!(
            text.contains("`node.listne`") && text.contains("did you mean `node.listen`"),
            "{text}"
        );
        assert!(text.contains("`nodes`"), "both mistakes are told at once: {text}");
        let text = error("", &[("HOLDFAST_NODE_LISTN", "x")]);
        assert!(
            text.contains("HOLDFAST_NODE_LISTN:") && text.contains("HOLDFAST_NODE_LISTEN?"),
            "{text}"
        );
    }

    #[test]
    fn wrong_values_name_key_value_and_place() {
        let text = error("[node]\nnode_id = \"one\"\n", &[]);
        assert!(
            text.contains("`node.node_id`") && text.contains("one") && text.contains("number"),
            "{text}"
        );
        let text = error("", &[("HOLDFAST_LOG_FORMAT", "xml")]);
        assert!(
            text.contains("xml") && text.contains("HOLDFAST_LOG_FORMAT"),
            "{text}"
        );
        let text = error("node = 3", &[]);
        assert!(text.contains("`node`"), "{text}");
        for listen in ["", "7401", ":7401", "a:b", "a:70000"] {
            let text = error(&format!("[node]\nlisten = \"{listen}\""), &[]);
            assert!(
                text.contains("`node.listen`") && text.contains(&format!("\"{listen}\"")),
                "{text}"
            );
        }
        assert!(error("endpoints = []", &[]).contains("`endpoints`"));
        assert!(error("timeout_ms = 0", &[]).contains("`timeout_ms`"));
        assert!(error("not toml", &[]).contains("configuration file"));
    }

    #[test]
    fn any_setting_can_be_given_on_the_command_line() {
        let set = [
            "api.claims_per_user_minute=7".to_owned(),
            "node.data_dir=7".to_owned(),
        ];
        let loaded = Loaded::read(None, [], &set, vec![]).unwrap();
        assert_eq!(loaded.settings.api.claims_per_user_minute, 7);
        assert_eq!(loaded.settings.node.data_dir, Path::new("7"));
        assert_eq!(loaded.source("node.data_dir"), "--set");
        let failure = Loaded::read(None, [], &["api.claims=7".to_owned()], vec![]).unwrap_err();
        assert!(failure.to_string().contains("did you mean `api."), "{failure}");
        assert!(Loaded::read(None, [], &["api.dev=perhaps".to_owned()], vec![]).is_err());
    }

    #[test]
    fn a_missing_file_is_named() {
        let failure = Loaded::read(Some(Path::new("/nowhere/holdfast.toml")), [], &[], vec![]).unwrap_err();
        assert!(
            failure.to_string().contains("/nowhere/holdfast.toml"),
            "{failure}"
        );
    }
}

//! Parameters of a call: flat pairs with bracketed names, as forms and query strings carry them.

use std::collections::BTreeMap;

use super::{currency, error::ApiError};

/// Stripe's limits on metadata.
const METADATA_KEYS_MAX: usize = 50;
const METADATA_KEY_CHARS_MAX: usize = 40;
const METADATA_VALUE_CHARS_MAX: usize = 500;

/// The pairs of one call, each name known.
#[derive(Debug)]
pub(super) struct Form<'a>(&'a [(String, String)]);

/// The name without its brackets.
fn base(name: &str) -> &str {
    name.split_once('[').map_or(name, |(base, _)| base)
}

impl<'a> Form<'a> {
    /// Takes the pairs if every name is one of these.
    pub(super) fn new(pairs: &'a [(String, String)], known: &[&[&str]]) -> Result<Form<'a>, ApiError> {
        for (name, _) in pairs {
            if !known.iter().any(|names| names.contains(&base(name))) {
                return Err(ApiError::param(
                    "parameter_unknown",
                    name,
                    format!("Received unknown parameter: {name}"),
                ));
            }
        }
        Ok(Form(pairs))
    }

    /// The value of a parameter; an empty one counts as absent.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        let found = self.0.iter().rev().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    pub(super) fn required(&self, name: &str) -> Result<&'a str, ApiError> {
        self.text(name).ok_or_else(|| {
            ApiError::param(
                "parameter_missing",
                name,
                format!("Missing required param: {name}."),
            )
        })
    }

    pub(super) fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<u64>, ApiError> {
        self.text(name).map_or(Ok(None), |text| match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(ApiError::param(
                "parameter_invalid_integer",
                name,
                format!("Invalid positive integer: {text}"),
            )),
        })
    }

    pub(super) fn boolean(&self, name: &str) -> Result<bool, ApiError> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(ApiError::param(
                "parameter_invalid_boolean",
                name,
                format!("Invalid boolean: {other}"),
            )),
        }
    }

    /// One of a few words.
    pub(super) fn one_of(
        &self,
        name: &str,
        words: &[&'static str],
    ) -> Result<Option<&'static str>, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let found = words.iter().find(|word| **word == text);
        found.map(|word| Some(*word)).ok_or_else(|| {
            ApiError::param(
                "parameter_invalid_enum",
                name,
                format!("Invalid {name}: must be one of {}", words.join(", ")),
            )
        })
    }

    pub(super) fn currency(&self) -> Result<&'static str, ApiError> {
        let code = self.required("currency")?;
        currency::known(code).ok_or_else(|| {
            ApiError::param(
                "parameter_invalid_enum",
                "currency",
                format!("Invalid currency: {code}"),
            )
        })
    }

    /// `metadata[name]=value`; an empty value unsets, so it is left out.
    pub(super) fn metadata(&self) -> Result<BTreeMap<String, String>, ApiError> {
        let mut metadata = BTreeMap::new();
        for (name, value) in self.0.iter().filter(|(name, _)| base(name) == "metadata") {
            let key = name
                .strip_prefix("metadata[")
                .and_then(|rest| rest.strip_suffix(']'))
                .filter(|key| !key.is_empty() && !key.contains(['[', ']']))
                .ok_or_else(|| ApiError::param("parameter_invalid_empty", name, "Invalid hash"))?;
            if key.chars().count() > METADATA_KEY_CHARS_MAX
                || value.chars().count() > METADATA_VALUE_CHARS_MAX
            {
                return Err(ApiError::param(
                    "parameter_invalid_string_length",
                    name,
                    format!(
                        "Metadata has up to {METADATA_KEY_CHARS_MAX} characters in a key and \
                         {METADATA_VALUE_CHARS_MAX} in a value"
                    ),
                ));
            }
            if !value.is_empty() {
                metadata.insert(key.to_owned(), value.clone());
            }
        }
        if metadata.len() > METADATA_KEYS_MAX {
            return Err(ApiError::param(
                "parameter_invalid",
                "metadata",
                format!("Metadata has up to {METADATA_KEYS_MAX} keys"),
            ));
        }
        Ok(metadata)
    }

    /// Whether `expand[]` asks for this.
    pub(super) fn expands(&self, field: &str) -> bool {
        self.0
            .iter()
            .any(|(name, value)| base(name) == "expand" && value == field)
    }

    /// Every pair.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn unknown_names_are_refused_and_known_ones_read() {
        let given = pairs(&[
            ("amount", "10"),
            ("metadata[a]", "1"),
            ("metadata[b]", ""),
            ("expand[]", "x"),
        ]);
        let form = Form::new(&given, &[&["amount", "metadata"], &["expand"]]).unwrap();
        assert_eq!(form.integer("amount").unwrap(), Some(10));
        assert_eq!(
            form.metadata().unwrap().into_iter().collect::<Vec<_>>(),
            [("a".into(), "1".into())]
        );
        assert!(form.expands("x") && !form.expands("y"));
        assert!(Form::new(&given, &[&["amount", "metadata"]]).is_err());
    }

    #[test]
    fn wrong_values_name_their_parameter() {
        let given = pairs(&[("amount", "-1"), ("confirm", "yes"), ("metadata[a][b]", "1")]);
        let form = Form::new(&given, &[&["amount", "confirm", "metadata"]]).unwrap();
        for error in [
            form.integer("amount").unwrap_err(),
            form.boolean("confirm").unwrap_err(),
            form.metadata().unwrap_err(),
            form.required("currency").unwrap_err(),
        ] {
            assert_eq!(error.status, 400);
            assert!(error.object()["param"].is_string(), "{error:?}");
        }
    }
}

//! `api`: the shoppers' HTTP door.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use api::{
    Auth, Keys, Payments, ServeError,
    payment::{
        Guarded, SIGNATURE_TOLERANCE, SecretString, SignatureCheck,
        stripe::{Stripe, StripeStartError},
    },
};
use clap::Args;
use figment::value::Value;
use tokio::{net::TcpListener, sync::watch};

use super::ready::Ready;
use crate::{
    config::ApiSettings, context::Context, exit::Failure, lifetime, logging::Filter, reload, traces::Traces,
};

/// What it takes beside the settings.
#[derive(Args, Debug)]
pub struct ApiArgs {
    /// Where to listen; port 0 takes a free one [env: HOLDFAST_API_LISTEN] [default: 127.0.0.1:7480]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// File with an HS256 secret in hex, at least 32 bytes; may be repeated
    #[arg(long = "hs256-secret-file", value_name = "FILE")]
    hs256_secret_files: Vec<PathBuf>,
    /// File with an Ed25519 public key in PEM; may be repeated
    #[arg(long = "ed25519-public-file", value_name = "FILE")]
    ed25519_public_files: Vec<PathBuf>,
    /// Sign tokens for everybody who asks at POST /dev/token; never in production
    #[arg(long)]
    dev: bool,
    /// Payment provider that speaks Stripe's API, as in https://api.stripe.com; without it no checkout
    #[arg(long, value_name = "URL")]
    payment_url: Option<String>,
    /// File with the payment provider's secret API key
    #[arg(long, value_name = "FILE")]
    payment_key_file: Option<PathBuf>,
    /// File with a secret that the provider signs webhooks with; may be repeated
    #[arg(long = "webhook-secret-file", value_name = "FILE")]
    webhook_secret_files: Vec<PathBuf>,
    /// API tokens to take: file of name, role and sha256 of each [env: HOLDFAST_SECURITY_TOKENS_FILE]
    #[arg(long, value_name = "FILE")]
    tokens_file: Option<PathBuf>,
    /// Serve without TLS also where other machines can reach it
    #[arg(long)]
    allow_plain_text: bool,
    /// Write the address to this file once it listens
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Stop when stdin ends, for programs that start this one
    #[arg(long)]
    stop_with_stdin: bool,
}

impl ApiArgs {
    /// The flags that are settings.
    pub fn settings(&self) -> Vec<(&'static str, Value)> {
        let paths = |paths: &[PathBuf]| {
            Value::from(
                paths
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect::<Vec<_>>(),
            )
        };
        let mut flags = Vec::new();
        if let Some(listen) = &self.listen {
            flags.push(("api.listen", Value::from(listen.as_str())));
        }
        if !self.hs256_secret_files.is_empty() {
            flags.push(("api.hs256_secret_files", paths(&self.hs256_secret_files)));
        }
        if !self.ed25519_public_files.is_empty() {
            flags.push(("api.ed25519_public_files", paths(&self.ed25519_public_files)));
        }
        if let Some(url) = &self.payment_url {
            flags.push(("api.payment_url", Value::from(url.as_str())));
        }
        if let Some(path) = &self.payment_key_file {
            flags.push(("api.payment_key_file", Value::from(path.display().to_string())));
        }
        if !self.webhook_secret_files.is_empty() {
            flags.push(("api.webhook_secret_files", paths(&self.webhook_secret_files)));
        }
        if self.dev {
            flags.push(("api.dev", Value::from(true)));
        }
        if let Some(tokens) = &self.tokens_file {
            flags.push(("security.tokens_file", Value::from(tokens.display().to_string())));
        }
        if self.allow_plain_text {
            flags.push(("security.allow_plain_text", Value::from(true)));
        }
        flags
    }
}

/// Serves until asked to stop.
pub async fn run(args: ApiArgs, context: Context, filter: Filter) -> Result<(), Failure> {
    let settings = &context.settings.api;
    let security = &context.settings.security;
    // It speaks HTTP to shoppers, whatever it speaks to nodes.
    security.check_plain_text(
        "api.listen",
        &settings.listen,
        "put a proxy that speaks TLS in front",
    )?;
    let mut options = settings.options(auth(settings)?)?;
    options.payments = payments(settings)?;
    options.tokens = security.tokens()?;
    let tokens = options.tokens.clone();
    let (limit, changes) = watch::channel(options.claims_per_user_minute);
    options.claims_per_user_minute_changes = Some(changes);
    let connection = context.connect()?;
    if context.dry_run {
        eprintln!(
            "would serve HTTP at {}; nothing done (--dry-run)",
            settings.listen
        );
        return Ok(());
    }
    let listener = TcpListener::bind(&settings.listen).await.map_err(|error| {
        Failure::Failed(format!(
            "api.listen {}: {error}; choose another with --listen",
            settings.listen
        ))
    })?;
    let address = listener.local_addr()?;
    let traces = Traces::start(&context.settings.log, "holdfast-api", address.to_string())?;
    if let Some(path) = &args.ready_file {
        Ready::write(path, address, None)?;
    }
    let fresh = security::tls::keep_fresh(connection.tls.clone(), tokens);
    let shutdown = async move {
        let reason = lifetime::asked_to_stop(args.stop_with_stdin).await;
        tracing::info!(reason, "stopping");
    };
    let reloading = reload::follow(context.loaded, filter, |settings| {
        limit.send_replace(settings.api.claims_per_user_minute()?);
        Ok(())
    });
    let served = api::serve(listener, connection.client, options, shutdown);
    let served = tokio::select! {
        served = served => served,
        () = fresh => unreachable!("certificates are kept fresh until the process ends"),
        () = reloading => unreachable!("signals are followed until the process ends"),
    };
    traces.stop().await;
    served.map_err(|error| match error {
        ServeError::Start(wrong) => Failure::Usage(format!("HTTP door: {wrong}")),
        cut => Failure::Failed(format!("HTTP door at {address}: {cut}")),
    })
}

fn auth(settings: &ApiSettings) -> Result<Auth, Failure> {
    if settings.dev {
        if !settings.hs256_secret_files.is_empty() || !settings.ed25519_public_files.is_empty() {
            return Err(Failure::Usage(
                "`api.dev` and token keys exclude each other: remove one".into(),
            ));
        }
        return Ok(Auth::Development);
    }
    let hs256_secrets = settings
        .hs256_secret_files
        .iter()
        .map(|path| secret(path))
        .collect::<Result<_, _>>()?;
    let ed25519_public_pems = settings
        .ed25519_public_files
        .iter()
        .map(|path| read(path))
        .collect::<Result<_, _>>()?;
    let named = |text: &String| (!text.is_empty()).then(|| text.clone());
    Ok(Auth::Keys(Keys {
        hs256_secrets,
        ed25519_public_pems,
        issuer: named(&settings.token_issuer),
        audience: named(&settings.token_audience),
    }))
}

/// Who takes the money, if anybody.
fn payments(settings: &ApiSettings) -> Result<Option<Payments>, Failure> {
    let (url, key_file) = (&settings.payment_url, &settings.payment_key_file);
    match (url.is_empty(), key_file.as_os_str().is_empty()) {
        (true, true) if settings.webhook_secret_files.is_empty() => return Ok(None),
        (false, false) => {}
        _ => {
            return Err(Failure::Usage(
                "checkout needs both `api.payment_url` and `api.payment_key_file`; webhook secrets alone do \
                 nothing"
                    .into(),
            ));
        }
    }
    let stripe = Stripe::new(&settings.stripe(text(key_file)?)).map_err(|wrong| match wrong {
        StripeStartError::Limit(_) => setting(&wrong),
        wrong => Failure::Usage(format!("payment: {wrong}")),
    })?;
    let provider = Guarded::new(Arc::new(stripe), settings.guard()?).map_err(|wrong| setting(&wrong))?;
    let secrets = settings
        .webhook_secret_files
        .iter()
        .map(|path| text(path))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Payments {
        provider: Arc::new(provider),
        webhooks: (!secrets.is_empty()).then(|| SignatureCheck::new(secrets, SIGNATURE_TOLERANCE)),
    }))
}

/// A limit that cannot be; it begins with the setting's name after our prefix.
fn setting(wrong: &dyn std::fmt::Display) -> Failure {
    Failure::Usage(format!("api.payment_{wrong}"))
}

/// A secret that is kept as text, without the end of its line.
fn text(path: &Path) -> Result<SecretString, Failure> {
    let bytes = read(path)?;
    let text = std::str::from_utf8(bytes.trim_ascii())
        .ok()
        .filter(|text| !text.is_empty());
    text.map(SecretString::from).ok_or_else(|| {
        Failure::Usage(format!(
            "key file {}: empty or not text; it holds the key as the provider shows it",
            path.display()
        ))
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::Usage(format!("key file {}: {error}", path.display())))
}

/// Secrets are files of hex digits, never flags or variables: those are visible to every user of a machine.
fn secret(path: &Path) -> Result<Vec<u8>, Failure> {
    let text = read(path)?;
    let digits = text.trim_ascii();
    let byte = |pair: &[u8]| {
        let [high, low] = pair else { return None };
        let digit = |letter: u8| char::from(letter).to_digit(16);
        u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
    };
    digits
        .chunks(2)
        .map(byte)
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| {
            Failure::Usage(format!(
                "key file {}: not hex digits in pairs; make one with `openssl rand -hex 32`",
                path.display()
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hex() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, "00ffA5\n").unwrap();
        assert_eq!(secret(&path).unwrap(), [0, 255, 165]);
        for wrong in ["0", "zz", "00 ff"] {
            std::fs::write(&path, wrong).unwrap();
            let failure = secret(&path).unwrap_err();
            assert_eq!(failure.code(), 2);
            assert!(
                !failure.to_string().contains("zz"),
                "a secret must not be printed: {failure}"
            );
        }
        assert!(
            secret(&dir.path().join("none"))
                .unwrap_err()
                .to_string()
                .contains("none")
        );
    }

    #[test]
    fn money_is_taken_with_an_address_and_a_key_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        std::fs::write(&key, "sk_test_secret\n").unwrap();
        let none = ApiSettings::default();
        assert!(payments(&none).unwrap().is_none());
        let whole = ApiSettings {
            payment_url: "http://127.0.0.1:1".into(),
            payment_key_file: key.clone(),
            ..ApiSettings::default()
        };
        let taken = payments(&whole).unwrap().unwrap();
        assert!(taken.webhooks.is_none());
        assert!(!format!("{taken:?}").contains("secret"));
        for halved in [
            ApiSettings {
                payment_url: String::new(),
                ..whole.clone()
            },
            ApiSettings {
                payment_key_file: PathBuf::new(),
                ..whole.clone()
            },
            ApiSettings {
                webhook_secret_files: vec![key.clone()],
                ..ApiSettings::default()
            },
            ApiSettings {
                payment_url: "nonsense".into(),
                ..whole.clone()
            },
            ApiSettings {
                payment_key_file: dir.path().join("none"),
                ..whole.clone()
            },
        ] {
            assert_eq!(payments(&halved).unwrap_err().code(), 2, "{halved:?}");
        }
        for (odd, named) in [
            (
                ApiSettings {
                    payment_connect_ms_max: 0,
                    ..whole.clone()
                },
                "api.payment_connect_ms_max",
            ),
            (
                ApiSettings {
                    payment_retry_wait_ms_min: 0,
                    ..whole.clone()
                },
                "api.payment_retry_wait_ms_min",
            ),
            (
                ApiSettings {
                    payment_breaker_failures_percent: 101,
                    ..whole
                },
                "api.payment_breaker_failures_percent",
            ),
        ] {
            let failure = payments(&odd).unwrap_err();
            assert!(
                failure.code() == 2 && failure.to_string().contains(named),
                "{failure}"
            );
        }
    }

    #[test]
    fn development_mode_and_keys_exclude_each_other() {
        let settings = ApiSettings {
            dev: true,
            hs256_secret_files: vec!["f".into()],
            ..ApiSettings::default()
        };
        assert_eq!(auth(&settings).unwrap_err().code(), 2);
        assert!(matches!(
            auth(&ApiSettings {
                dev: true,
                ..ApiSettings::default()
            }),
            Ok(Auth::Development)
        ));
    }
}

//! What a command is given: settings, how to print, whether to ask.

use std::sync::Arc;

use client::{Client, Error};
use security::{Tls, tls::Callers};

use crate::{
    cli::Cli,
    config::{Loaded, Settings},
    exit::{Failure, Subject, UNANSWERED},
    output::Format,
};

/// One command's surroundings.
#[derive(Debug)]
pub struct Context {
    /// The settings and where they came from.
    pub loaded: Loaded,
    /// The settings.
    pub settings: Settings,
    /// How answers are printed.
    pub format: Format,
    /// Do not ask.
    pub yes: bool,
    /// Do nothing.
    pub dry_run: bool,
}

impl Context {
    /// Reads every layer of settings.
    pub fn new(cli: &Cli) -> Result<Context, Failure> {
        let loaded = Loaded::read(
            cli.global.config.as_deref(),
            environment(),
            &cli.global.set,
            cli.settings(),
        )?;
        Ok(Context {
            settings: loaded.settings.clone(),
            format: loaded.settings.output,
            loaded,
            yes: cli.global.yes,
            dry_run: cli.global.dry_run,
        })
    }

    /// A connection to the cluster; nothing is sent yet.
    pub fn connect(&self) -> Result<Connection, Failure> {
        let mut builder = Client::builder()
            .endpoints(self.settings.endpoints.clone())
            .timeout(self.settings.timeout())
            .principal(PRINCIPAL);
        let tls = self.settings.security.tls(Callers::Certified)?;
        if let Some(tls) = &tls {
            builder = builder.tls(tls.clone());
        }
        if let Some(token) = self.settings.security.token()? {
            builder = builder.token(token);
        }
        let client = builder
            .build()
            .map_err(|error| Failure::Usage(format!("--endpoints: {error}")))?;
        Ok(Connection {
            client,
            tls,
            endpoints: self.settings.endpoints.clone(),
        })
    }
}

/// Who the operators' commands act as; keys are scoped by it.
pub const PRINCIPAL: &str = "operator";

/// A client, and what is needed to explain its failures.
pub struct Connection {
    /// The client.
    pub client: Client,
    /// The certificate it shows; `None`: none.
    pub tls: Option<Arc<Tls>>,
    /// The endpoints it was given.
    pub endpoints: Vec<String>,
}

impl Connection {
    /// The answer, or the failure of `subject` in words and with its exit code.
    pub async fn told<T>(&self, subject: Subject, answer: Result<T, Error>) -> Result<T, Failure> {
        match answer {
            Ok(value) => Ok(value),
            Err(error) => Err(subject.failed(error, &self.client, &self.endpoints).await),
        }
    }

    /// That nobody answers, and what to do.
    pub fn unanswered(&self) -> Failure {
        let endpoints = self.endpoints.join(", ");
        Failure::Unreachable(format!("no node answers at {endpoints}; {UNANSWERED}"))
    }
}

/// The environment as text; a variable that is not UTF-8 cannot be one of ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// A fresh idempotency key: 128 random bits in hex.
pub fn fresh_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

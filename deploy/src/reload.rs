//! Settings that change while the process runs: at SIGHUP the file is read again, and what may change does.
//!
//! The environment and the flags are those of the start, so that a value they give stays in force. A file that
//! is not valid changes nothing; a setting that takes a restart is named.

use clap::Parser;

use crate::{
    cli::Cli,
    config::{Loaded, Settings, known},
    context::Context,
    exit::Failure,
    logging::{self, Filter},
};

/// Follows SIGHUP for as long as it is polled: the log filter, and whatever else `apply` takes.
pub async fn follow(mut loaded: Loaded, filter: Filter, apply: impl Fn(&Settings) -> Result<(), Failure>) {
    let mut hangups = match Hangups::new() {
        Ok(hangups) => hangups,
        Err(error) => {
            tracing::warn!(%error, "SIGHUP cannot be listened for; settings change by a restart only");
            return std::future::pending().await;
        }
    };
    loop {
        hangups.next().await;
        match again(&loaded, &filter, &apply) {
            Ok(now) => loaded = now,
            Err(failure) => tracing::error!(%failure, "the settings were not read again; nothing changed"),
        }
    }
}

fn again(
    before: &Loaded,
    filter: &Filter,
    apply: impl Fn(&Settings) -> Result<(), Failure>,
) -> Result<Loaded, Failure> {
    // It could be parsed when the process started.
    let now = Context::new(&Cli::parse())?.loaded;
    // All or nothing: the last step cannot fail for what the file says.
    let directives = logging::filter(&now.settings.log.filter)?;
    apply(&now.settings)?;
    filter.set(directives)?;
    let changed: Vec<&known::Known> = known::KNOWN
        .iter()
        .filter(|known| before.value(known.key) != now.value(known.key))
        .collect();
    for known in &changed {
        let (key, value) = (known.key, now.value(known.key));
        if known.live {
            tracing::info!(key, value, "a setting changed");
        } else {
            tracing::warn!(key, value, "a setting changed in the file; it takes a restart");
        }
    }
    if changed.is_empty() {
        tracing::info!("the settings were read again; none changed");
    }
    Ok(now)
}

/// One signal after the other.
#[cfg(unix)]
struct Hangups(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangups {
    fn new() -> std::io::Result<Hangups> {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::hangup()).map(Hangups)
    }
    async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

#[cfg(not(unix))]
struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    fn new() -> std::io::Result<Hangups> {
        Ok(Hangups)
    }
    async fn next(&mut self) {
        std::future::pending().await
    }
}

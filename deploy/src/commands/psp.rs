//! `psp`: a payment provider to rehearse with.

use std::path::{Path, PathBuf};

use api::payment::simulator::{self, Faults, Rate, ServerOptions, Webhooks};
use clap::Args;
use serde::Serialize;
use tokio::net::TcpListener;

use super::ready::Ready;
use crate::{context::Context, exit::Failure, lifetime};

/// Where to listen, whom to tell, and what goes wrong.
#[derive(Args, Debug)]
#[command(after_long_help = simulator::help())]
pub struct PspArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7490")]
    listen: String,
    /// Where shoppers' browsers reach it, if not at the address it listens at
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Where webhooks go; repeated, they take turns, as through a balancer
    #[arg(long = "webhook-url", value_name = "URL", requires = "webhook_secret_file", value_parser = http_url)]
    webhook_urls: Vec<String>,
    /// Kind of event to send, as an endpoint of Stripe's names them; may be repeated [default: all]
    #[arg(long = "webhook-event", value_name = "KIND", value_parser = simulator::EVENT_KINDS, hide_possible_values = true)]
    webhook_kinds: Vec<String>,
    /// File with the secret that webhooks are signed with
    #[arg(long, value_name = "FILE")]
    webhook_secret_file: Option<PathBuf>,
    /// File with the only API key to take [default: any that begins with sk_test_]
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Every fault, delay and id comes from it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Keep a journal in this file: a killed provider comes back knowing its payments; a power cut may lose the last
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// How long an authorization can be captured, as in 30s
    #[arg(long, value_name = "DURATION", default_value = "7days")]
    authorization: humantime::Duration,
    /// How long a pending refund takes
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    refund: humantime::Duration,
    /// Payments kept; more are refused
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    payments_max: usize,
    /// Open connections; more wait
    #[arg(long, value_name = "N", default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    connections_max: u32,
    /// Write the address to this file once it listens
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Stop when stdin ends, for programs that start this one
    #[arg(long)]
    stop_with_stdin: bool,
    #[command(flatten, next_help_heading = "Faults")]
    faults: FaultArgs,
}

/// Faults that are asked for; each can be changed later with `POST /_/faults`.
#[derive(Args, Debug, Default, Serialize)]
struct FaultArgs {
    /// Confirmations that are declined, as in 0.05 or 5%
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    decline_rate: Option<Rate>,
    /// Confirmations that ask the shopper to authenticate
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    challenge_rate: Option<Rate>,
    /// Payments whose capture is declined for good
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    capture_decline_rate: Option<Rate>,
    /// Refunds that stay pending for a while
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_pending_rate: Option<Rate>,
    /// Calls refused with 429
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit_rate: Option<Rate>,
    /// Calls answered 500 before anything happens
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    error_before_rate: Option<Rate>,
    /// Calls answered 500 although it happened
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    error_after_rate: Option<Rate>,
    /// Calls that are never answered; whether it happened is a coin's toss
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    hang_rate: Option<Rate>,
    /// Calls that happen, but whose connection is cut instead of an answer
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_answer_rate: Option<Rate>,
    /// Calls that are never answered and happen only later
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    late_effect_rate: Option<Rate>,
    /// How much later
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    late_effect_ms: Option<u64>,
    /// Median time to answer
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    /// 99th percentile of the time to answer
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_p99_ms: Option<u64>,
    /// Calls whose webhooks are sent twice
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_twice_rate: Option<Rate>,
    /// Calls whose webhooks are late
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_late_rate: Option<Rate>,
    /// How late
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_late_ms: Option<u64>,
    /// Calls whose webhooks are sent before the answer
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_early_rate: Option<Rate>,
    /// By how much before
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_early_ms: Option<u64>,
    /// Calls whose webhooks are never sent
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_lost_rate: Option<Rate>,
    /// Webhooks are spread over this time at random, so that they overtake each other
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_shuffle_ms: Option<u64>,
}

impl FaultArgs {
    /// The faults asked for; the rest never happen. The names are the same on both sides.
    fn faults(&self) -> Faults {
        let named = serde_json::to_value(self).expect("flags are plain data");
        serde_json::from_value(named).expect("every flag is a fault")
    }
}

/// Serves until asked to stop.
pub async fn run(args: PspArgs, context: Context) -> Result<(), Failure> {
    let mut options = ServerOptions {
        api_key: args.api_key_file.as_deref().map(secret).transpose()?,
        journal: args.state,
        connections_max: args.connections_max as usize,
        ..ServerOptions::default()
    };
    options.provider.seed = args.seed;
    options.provider.webhook_kinds = args.webhook_kinds;
    options.provider.faults = args.faults.faults();
    options.provider.base_url = args
        .public_url
        .unwrap_or_default()
        .trim_end_matches('/')
        .to_owned();
    options.provider.authorization_ms = millis(args.authorization);
    options.provider.refund_ms = millis(args.refund);
    options.provider.payments_max = args.payments_max;
    if let Some(file) = &args.webhook_secret_file {
        options.webhooks = Some(Webhooks {
            urls: args.webhook_urls,
            secret: secret(file)?.into_bytes(),
        });
    }
    if context.dry_run {
        eprintln!(
            "would serve a payment provider at {}; nothing done (--dry-run)",
            args.listen
        );
        return Ok(());
    }
    let listener = TcpListener::bind(&args.listen).await.map_err(|error| {
        Failure::Failed(format!("{}: {error}; choose another with --listen", args.listen))
    })?;
    let address = listener.local_addr()?;
    let failed = |error| Failure::Failed(format!("payment provider at {address}: {error}"));
    // Who is told that it is ready may believe that it knows its past.
    let provider = simulator::open(listener, options).map_err(failed)?;
    if let Some(path) = &args.ready_file {
        Ready::write(path, address, None)?;
    }
    let shutdown = async move {
        let reason = lifetime::asked_to_stop(args.stop_with_stdin).await;
        tracing::info!(reason, "stopping");
    };
    provider.serve(shutdown).await.map_err(failed)
}

/// Webhooks are sent unencrypted, to the machines of a rehearsal.
fn http_url(text: &str) -> Result<String, String> {
    match text.strip_prefix("http://") {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text.to_owned()),
        _ => Err("write http://HOST:PORT/PATH".into()),
    }
}

fn millis(duration: humantime::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A secret is a file: flags are visible to every user of a machine.
fn secret(path: &Path) -> Result<String, Failure> {
    let wrong =
        |why: &dyn std::fmt::Display| Failure::Usage(format!("secret file {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err(wrong(&"empty"));
    }
    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: PspArgs,
    }

    fn parse(line: &str) -> PspArgs {
        Line::try_parse_from(std::iter::once("psp").chain(line.split_whitespace()))
            .unwrap_or_else(|error| panic!("{line}: {error}"))
            .args
    }

    #[test]
    fn every_fault_has_a_flag() {
        let defaults = serde_json::to_value(Faults::default()).unwrap();
        let names: BTreeSet<_> = defaults.as_object().unwrap().keys().cloned().collect();
        let line: String = names
            .iter()
            .map(|name| format!(" --{} 1", name.replace('_', "-")))
            .collect();
        let faults = serde_json::to_value(parse(&line).faults.faults()).unwrap();
        for name in &names {
            assert_eq!(faults[name].as_f64(), Some(1.0), "{name}");
        }
        assert_eq!(parse("").faults.faults(), Faults::default());
    }

    #[test]
    fn rates_are_shares_or_percent_and_secrets_are_files() {
        let args = parse("--decline-rate 5% --hang-rate 0.01 --delay-ms 40");
        let faults = args.faults.faults();
        assert_eq!(
            (faults.decline_rate, faults.delay_ms),
            ("0.05".parse().unwrap(), 40)
        );
        for wrong in [
            "--decline-rate 2",
            "--webhook-url http://localhost/",
            "--webhook-url https://localhost/ --webhook-secret-file s",
            "--connections-max 0",
        ] {
            let line = std::iter::once("psp").chain(wrong.split_whitespace());
            assert!(Line::try_parse_from(line).is_err(), "{wrong}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, " whsec_a\n").unwrap();
        assert_eq!(secret(&file).unwrap(), "whsec_a");
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(secret(&file).unwrap_err().code(), 2);
    }
}

//! The command line: noun, then verb, and what every command shares.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use figment::value::Value;

use crate::{commands, config::LogFormat, output::Format};

/// Sells the last unit of a hot sale exactly once: a replicated, strongly consistent inventory store.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 no quorum, 5 refused by a safety check, \
                  6 invariant violated.\nSettings: defaults < file (--config) < HOLDFAST_* environment < flags; \
                  `holdfast config print` lists them."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Args, Debug, Default)]
pub struct Global {
    /// Nodes to speak to; the rest is learned from them [env: HOLDFAST_ENDPOINTS] [default: 127.0.0.1:7401]
    #[arg(
        long,
        global = true,
        value_delimiter = ',',
        value_name = "HOST:PORT,...",
        help_heading = "Every command"
    )]
    pub endpoints: Vec<String>,
    /// How to print the answer [default: table]
    #[arg(short, long, global = true, value_enum, help_heading = "Every command")]
    pub output: Option<Format>,
    /// How long one call may take, retries included, as in 5s [env: HOLDFAST_TIMEOUT_MS] [default: 10s]
    #[arg(long, global = true, value_name = "DURATION", help_heading = "Every command")]
    pub timeout: Option<humantime::Duration>,
    /// Do not ask before steps that are hard to undo
    #[arg(short, long, global = true, help_heading = "Every command")]
    pub yes: bool,
    /// Show what would be done, and do nothing
    #[arg(long, global = true, help_heading = "Every command")]
    pub dry_run: bool,
    /// TOML file with settings
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "HOLDFAST_CONFIG",
        help_heading = "Every command"
    )]
    pub config: Option<PathBuf>,
    /// Certificate of this process, in PEM; its key (.key) and ca.pem beside it [env: HOLDFAST_SECURITY_CERTIFICATE_FILE]
    #[arg(
        long = "certificate",
        global = true,
        value_name = "FILE",
        help_heading = "Every command"
    )]
    pub certificate_file: Option<PathBuf>,
    /// File with the API token to show to nodes [env: HOLDFAST_SECURITY_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Every command")]
    pub token_file: Option<PathBuf>,
    /// Any setting, as in --set node.snapshot_entries=1000; may be repeated
    #[arg(
        long = "set",
        global = true,
        value_name = "KEY=VALUE",
        help_heading = "Every command"
    )]
    pub set: Vec<String>,
    /// How log lines look, on stderr [env: HOLDFAST_LOG_FORMAT] [default: human]
    #[arg(long, global = true, value_enum, help_heading = "Every command")]
    pub log_format: Option<LogFormat>,
    /// What is logged, as in info,openraft=warn [env: HOLDFAST_LOG_FILTER]
    #[arg(
        long,
        global = true,
        value_name = "DIRECTIVES",
        help_heading = "Every command"
    )]
    pub log_filter: Option<String>,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one node of a cluster
    Node(commands::node::NodeArgs),
    /// Run the shoppers' HTTP door
    Api(commands::api::ApiArgs),
    /// Run a payment provider to rehearse with: Stripe's API, and faults on demand
    Psp(Box<commands::psp::PspArgs>),
    /// Make a cluster, see how it is
    #[command(subcommand)]
    Cluster(commands::cluster::ClusterCommand),
    /// Change who is in the cluster
    #[command(subcommand)]
    Member(commands::member::MemberCommand),
    /// What each node keeps of its state beside its log
    #[command(subcommand)]
    Snapshot(commands::snapshot::SnapshotCommand),
    /// Save the whole state in one file, and make a new cluster from it
    #[command(subcommand)]
    Backup(commands::backup::BackupCommand),
    /// Make and steer sales
    #[command(subcommand)]
    Sale(commands::sale::SaleCommand),
    /// Claim, confirm, release; find out what became of a key
    #[command(subcommand)]
    Claim(commands::claim::ClaimCommand),
    /// Look at what is being paid for: who owns it, what is next
    #[command(subcommand)]
    Checkout(commands::checkout::CheckoutCommand),
    /// Look at the documents that the doors keep: orders, journals, the ledger
    #[command(subcommand)]
    Document(commands::document::DocumentCommand),
    /// Compare the state of every replica, and every sale's records with its units, while they run
    Verify,
    /// Check whether the cluster is fit for a sale: go or no-go; changes nothing
    Readiness(commands::readiness::ReadinessArgs),
    /// Run a sale like the one to come on the real cluster, apart from all others: go or no-go
    Rehearse(commands::rehearse::RehearseArgs),
    /// Compare a settlement file of the payment provider with the ledger
    Reconcile(commands::reconcile::ReconcileArgs),
    /// Follow committed changes in order
    Watch(commands::watch::WatchArgs),
    /// Make certificates to develop with, look at one
    #[command(subcommand)]
    Certs(commands::certs::CertsCommand),
    /// Make API tokens
    #[command(subcommand)]
    Token(commands::token::TokenCommand),
    /// Check and print settings
    #[command(subcommand)]
    Config(commands::config::ConfigCommand),
    /// Print a completion script for a shell
    Completions(commands::completions::CompletionsArgs),
    /// Watch a flash sale sell out exactly while the leader is killed
    Demo(commands::demo::DemoArgs),
}

impl Cli {
    /// The flags that are settings, as the last layer.
    pub fn settings(&self) -> Vec<(&'static str, Value)> {
        let global = &self.global;
        let mut flags = Vec::new();
        if !global.endpoints.is_empty() {
            flags.push(("endpoints", Value::from(global.endpoints.clone())));
        }
        if let Some(timeout) = global.timeout {
            flags.push((
                "timeout_ms",
                Value::from(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            ));
        }
        if let Some(output) = global.output {
            flags.push(("output", plain(output)));
        }
        for (key, file) in [
            ("security.certificate_file", &global.certificate_file),
            ("security.token_file", &global.token_file),
        ] {
            if let Some(file) = file {
                flags.push((key, Value::from(file.display().to_string())));
            }
        }
        if let Some(format) = global.log_format {
            flags.push(("log.format", plain(format)));
        }
        if let Some(filter) = &global.log_filter {
            flags.push(("log.filter", Value::from(filter.as_str())));
        }
        match &self.command {
            Command::Node(args) => flags.extend(args.settings()),
            Command::Api(args) => flags.extend(args.settings()),
            _ => {}
        }
        flags
    }
}

/// A value of ours as figment sees it.
pub fn plain<T: serde::Serialize>(value: T) -> Value {
    Value::serialize(value).expect("settings are plain values")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_documented_command_line_is_understood() {
        for line in [
            "node --id 1 --listen 127.0.0.1:7401 --data-dir d",
            "api --listen 127.0.0.1:7480",
            "psp --listen 127.0.0.1:0 --seed 7 --decline-rate 5% --delay-ms 40 --delay-p99-ms 900 --state psp.journal",
            "psp --webhook-url http://127.0.0.1:7480/v1/webhooks/stripe --webhook-secret-file s --webhook-twice-rate 0.1",
            "cluster init --endpoints a:1,b:2,c:3",
            "cluster init --member 1=a:1 --member 2=b:2 --member 3=c:3",
            "cluster status -o json",
            "member list",
            "member add 4 127.0.0.1:7404",
            "member promote 4 --yes",
            "member remove 1 --force --yes",
            "member replace 3 4 127.0.0.1:7404 --wait 5m --yes",
            "member transfer-leader 2 --dry-run",
            "snapshot take --node 2",
            "snapshot list -o json",
            "snapshot verify",
            "backup save backups/ --from 127.0.0.1:7402",
            "backup verify hot.backup",
            "backup restore hot.backup new --member 4=127.0.0.1:7404 --member 5=127.0.0.1:7405",
            "sale create hot --units 10000 --hold 3m --open --price 4900 --currency EUR",
            "sale create hot --units 10 --opens-at 2030-01-01T00:00:00Z --closes-at 2030-01-02T00:00:00Z",
            "sale open hot",
            "sale pause hot",
            "sale close hot --yes",
            "sale restock hot 10",
            "sale withdraw hot 10 --key k1",
            "sale get hot",
            "sale list --output json",
            "sale verify hot -o json",
            "sale report hot --metrics http://127.0.0.1:7480/metrics --metrics http://127.0.0.1:7481/metrics",
            "verify -o json --timeout 1m",
            "sale list --rehearsals",
            "readiness -o json --prometheus http://127.0.0.1:9090",
            "rehearse --sale-like sale.toml --transfer-leader --prometheus http://127.0.0.1:9090 --yes",
            "rehearse --example",
            "claim create hot alice --key k1",
            "claim create hot alice --quantity 2 --decrement",
            "claim get abc",
            "claim confirm abc --token 7",
            "claim release abc",
            "claim resolve hot --operation claim --key k1 --principal alice",
            "claim list hot --from-rank 5 --limit 10",
            "checkout list --limit 10 -o json",
            "checkout get abc",
            "document get orders/o_1",
            "document list ledger/ --after ledger/pi_1/capture --limit 10 -o json",
            "reconcile file.csv --from 2030-01-01T00:00:00Z --to 2030-01-02T00:00:00Z --limit 5",
            "watch --sale hot --from 17 --timeout 5s",
            "watch --from 17.3 --count 5",
            "certs dev certs --cluster shop --nodes 5 --host node.example --days 30 --renew",
            "certs show certs/node-1.pem",
            "token new grafana --role auditor --add-to tokens.toml",
            "node --id 1 --listen 0.0.0.0:7401 --certificate certs/node-1.pem --tokens-file tokens.toml",
            "api --listen 0.0.0.0:7480 --allow-plain-text --certificate certs/api.pem",
            "member list --certificate certs/operator.pem --token-file t",
            "config check holdfast.toml",
            "config print",
            "completions bash",
            "demo --nodes 5 --units 200 --users 3000 --seed 7 --sabotage --keep",
            "demo --chaos 10m",
        ] {
            if let Err(error) = Cli::try_parse_from(std::iter::once("holdfast").chain(line.split(' '))) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn wrong_lines_are_usage_errors() {
        for line in [
            "sale create hot",
            "sale create hot --units 0",
            "sale create hot --units 100000001",
            "sale create hot --units 10 --hold soon",
            "sale create hot --units 10 --hold 100ms",
            "sale create hot --units 10 --currency EURO",
            "sale create hot --units 10 --opens-at tomorrow",
            "sale create h/t --units 10",
            "sale restock hot 0",
            "claim create hot alice --quantity 0",
            "claim confirm",
            "member add 0 127.0.0.1:7404",
            "member add four 127.0.0.1:7404",
            "member replace 1 127.0.0.1:7404",
            "backup restore hot.backup new",
            "backup save",
            "member add 4 nowhere",
            "cluster init --member 1",
            "claim resolve hot --operation steal --key k --principal p",
            "document list --limit 0",
            "certs dev",
            "certs dev d --nodes 0",
            "token new grafana",
            "token new grafana --role king",
            "reconcile",
            "sale create _rehearsal.mine --units 10",
            "readiness --prometheus 127.0.0.1:9090",
            "rehearse",
            "rehearse --example --sale-like sale.toml",
            "rehearse --example --transfer-leader",
            "reconcile file.csv --from yesterday",
            "watch --from x",
            "psp --hang-rate often",
            "demo --nodes 4",
            "demo --units 0",
            "sell everything",
        ] {
            let error = Cli::try_parse_from(std::iter::once("holdfast").chain(line.split(' ')))
                .expect_err(&format!("`{line}` was accepted"));
            assert_eq!(error.exit_code(), 2, "{line}");
            assert_ne!(error.kind(), ErrorKind::DisplayHelp, "{line}");
        }
    }

    #[test]
    fn flags_become_the_last_layer() {
        let cli = Cli::try_parse_from([
            "holdfast",
            "node",
            "--id",
            "3",
            "--timeout",
            "1m",
            "--endpoints",
            "a:1,b:2",
            "--log-format",
            "json",
        ])
        .unwrap();
        let environment = [("HOLDFAST_NODE_ID".to_owned(), "9".to_owned())];
        let loaded = crate::config::Loaded::read(None, environment, &cli.global.set, cli.settings()).unwrap();
        assert_eq!(loaded.settings.node.node_id, 3);
        assert_eq!(loaded.settings.timeout_ms, 60_000);
        assert_eq!(loaded.settings.endpoints, ["a:1", "b:2"]);
        assert_eq!(loaded.settings.log.format, LogFormat::Json);
    }
}

//! Every setting there is: key, unit, meaning. `config print` shows this list; nothing else may be set.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Key in TOML, dots between tables.
    pub key: &'static str,
    /// Unit or form of the value.
    pub unit: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Whether a running node or door takes a new value when it gets SIGHUP.
    pub live: bool,
}

const fn known(key: &'static str, unit: &'static str, doc: &'static str) -> Known {
    let live = false;
    Known { key, unit, doc, live }
}

const fn live(key: &'static str, unit: &'static str, doc: &'static str) -> Known {
    let live = true;
    Known { key, unit, doc, live }
}

/// All of them, in the order in which they are printed.
pub const KNOWN: &[Known] = &[
    known(
        "endpoints",
        "host:port list",
        "nodes that commands and the HTTP door speak to; the rest is learned from them",
    ),
    known(
        "timeout_ms",
        "ms",
        "how long one call of a command may take, retries included",
    ),
    known("output", "table | json", "how commands print their answer"),
    known("log.format", "human | json", "how log lines look, on stderr"),
    live(
        "log.filter",
        "directives",
        "what is logged, as in info,openraft=warn",
    ),
    known(
        "log.otlp_endpoint",
        "URL",
        "OTLP collector that traces go to, as in http://127.0.0.1:4318/v1/traces; empty: none",
    ),
    known(
        "log.otlp_sample_per_mille",
        "requests in 1000",
        "how many requests without a traceparent of their own begin a trace that is followed",
    ),
    known(
        "security.certificate_file",
        "file",
        "certificate of this process, in PEM; empty: plain text",
    ),
    known(
        "security.key_file",
        "file",
        "its private key; empty: beside the certificate, ending in .key",
    ),
    known(
        "security.authority_file",
        "file",
        "certificates of the authorities believed; empty: ca.pem beside the certificate",
    ),
    known(
        "security.token_file",
        "file",
        "API token that commands and the HTTP door show to nodes; empty: none",
    ),
    known(
        "security.tokens_file",
        "file",
        "API tokens that nodes and the HTTP door take: name, role, sha256 of each; empty: none",
    ),
    known(
        "security.allow_plain_text",
        "true | false",
        "serve without TLS also where other machines can reach it",
    ),
    known(
        "node.node_id",
        "number from 1",
        "this node's id: unique in the cluster, never reused",
    ),
    known(
        "node.listen",
        "host:port",
        "where this node takes gRPC; port 0 takes a free one",
    ),
    known(
        "node.advertise",
        "host:port",
        "where others reach this node; empty: the address it listens on",
    ),
    known(
        "node.metrics_listen",
        "host:port",
        "where this node answers GET /metrics; empty: nowhere; port 0 takes a free one",
    ),
    known(
        "node.data_dir",
        "directory",
        "where this node keeps its log, vote, image and snapshots, and nothing else",
    ),
    known(
        "node.disk_reserve_bytes",
        "bytes",
        "with less free disk space than this, new claims are refused",
    ),
    known(
        "node.log_segment_bytes",
        "bytes",
        "size of a log segment, written full of zeros ahead",
    ),
    known(
        "node.worker_threads",
        "threads",
        "threads that serve and replicate; 0: half the cores",
    ),
    known("node.heartbeat_ms", "ms", "how often a leader shows itself"),
    known(
        "node.election_ms_min",
        "ms",
        "shortest silence before an election",
    ),
    known(
        "node.election_ms_max",
        "ms",
        "longest silence before an election; also the leader's lease",
    ),
    known(
        "node.snapshot_entries",
        "log entries",
        "entries between two snapshots",
    ),
    known(
        "node.image_flush_ms",
        "ms",
        "how often the image on disk follows the state",
    ),
    known(
        "node.recount_ms",
        "ms",
        "how often a node counts its records again and compares with its counters",
    ),
    known(
        "node.stop_drain_ms",
        "ms",
        "how long a stopping node waits for what it has proposed",
    ),
    known(
        "api.listen",
        "host:port",
        "where the HTTP door listens; port 0 takes a free one",
    ),
    known(
        "api.hs256_secret_files",
        "file list",
        "HS256 secrets that sign tokens, in hex, at least 32 bytes each",
    ),
    known(
        "api.ed25519_public_files",
        "file list",
        "Ed25519 public keys that verify tokens, in PEM",
    ),
    known(
        "api.token_issuer",
        "text",
        "what a token's iss must be; empty: anything",
    ),
    known(
        "api.token_audience",
        "text",
        "what a token's aud must contain; empty: anything",
    ),
    known(
        "api.dev",
        "true | false",
        "sign tokens for everybody who asks at POST /dev/token; never in production",
    ),
    known(
        "api.demo_control",
        "http://127.0.0.1:PORT",
        "where the page finds the demo's controls; set by `holdfast demo` alone",
    ),
    live(
        "api.claims_per_user_minute",
        "claims",
        "claim attempts a user may make per minute",
    ),
    known(
        "api.rate_users_max",
        "users",
        "users the rate limiter remembers, about 40 bytes each",
    ),
    known(
        "api.rate_when_full",
        "open | closed",
        "claims beyond that: let through unmetered, or refused",
    ),
    known(
        "api.requests_in_flight_max",
        "requests",
        "requests being answered at one time; more are refused at once",
    ),
    known(
        "api.linearizable_reads_in_flight_max",
        "requests",
        "of these, public reads that ask the leader",
    ),
    known(
        "api.connections_max",
        "connections",
        "open connections; keep below the limit of open files",
    ),
    known("api.body_bytes_max", "bytes", "largest request body"),
    known("api.body_read_ms_max", "ms", "longest a body may take to arrive"),
    known(
        "api.header_read_ms_max",
        "ms",
        "longest a request's head may take, and a connection may idle",
    ),
    known(
        "api.tokens_cached_max",
        "tokens",
        "verified tokens remembered, some 500 bytes each",
    ),
    known(
        "api.sale_cache_ms",
        "ms",
        "age up to which a sale's counters are answered from memory",
    ),
    known(
        "api.sale_read_age_ms_max",
        "ms",
        "age of the state that such a read may see on a node",
    ),
    known(
        "api.sales_cached_max",
        "sales",
        "answers about sales kept at one time, some 1 KB each",
    ),
    known(
        "api.live_listeners_max",
        "connections",
        "listeners of live counters, over all sales",
    ),
    known("api.live_sales_max", "sales", "sales watched live at one time"),
    known(
        "api.live_interval_ms_min",
        "ms",
        "shortest time between two live events of a sale",
    ),
    known(
        "api.live_keep_alive_ms",
        "ms",
        "silence after which a live stream sends a comment",
    ),
    known(
        "api.drain_ms_max",
        "ms",
        "longest a stop waits for requests being answered",
    ),
    known(
        "api.payment_url",
        "URL",
        "payment provider that speaks Stripe's API; empty: no checkout",
    ),
    known("api.payment_key_file", "file", "the provider's secret API key"),
    known(
        "api.webhook_secret_files",
        "file list",
        "secrets that the provider signs webhooks with; several while one replaces another",
    ),
    known(
        "api.payment_call_ms_max",
        "ms",
        "longest one call of the payment provider may take, retries included",
    ),
    known(
        "api.payment_connect_ms_max",
        "ms",
        "longest a connection to the payment provider may take to be made",
    ),
    known(
        "api.payment_idle_connections_max",
        "connections",
        "connections to it that are kept while idle",
    ),
    known(
        "api.payment_idle_ms_max",
        "ms",
        "how long they are kept; below what stands between us closes them after",
    ),
    known(
        "api.payment_answer_bytes_max",
        "bytes",
        "largest answer of the payment provider that is read",
    ),
    known(
        "api.payment_retries_max",
        "attempts",
        "attempts of one payment call after the first, under the same key",
    ),
    known(
        "api.payment_retry_wait_ms_min",
        "ms",
        "shortest wait before such an attempt; doubled each time, jittered",
    ),
    known(
        "api.payment_retry_wait_ms_max",
        "ms",
        "longest such wait; a provider that asks for more is not asked again by this call",
    ),
    known(
        "api.payment_attempt_ms_min",
        "ms",
        "time that must be left for an attempt to be begun",
    ),
    known(
        "api.payment_breaker",
        "true | false",
        "stop calling a payment provider that fails, for a while",
    ),
    known(
        "api.payment_breaker_window_ms",
        "ms",
        "time over which its calls are judged",
    ),
    known(
        "api.payment_breaker_calls_min",
        "calls",
        "calls in that time below which nothing is judged",
    ),
    known(
        "api.payment_breaker_failures_percent",
        "percent",
        "share of them that fail for the breaker to open; declines are no failures",
    ),
    known(
        "api.payment_breaker_open_ms",
        "ms",
        "how long it stays open before one call may probe",
    ),
    known(
        "api.checkout_store_call_ms_max",
        "ms",
        "longest one call of the store may take in a checkout",
    ),
    known(
        "api.checkout_budget_ms_max",
        "ms",
        "longest a shopper waits for his checkout's answer; then 202, and it goes on",
    ),
    known(
        "api.checkout_lease_ms",
        "ms of log time",
        "how long a checkout is owned without a sign of its owner; above any one call",
    ),
    known(
        "api.checkouts_in_flight_max",
        "checkouts",
        "checkouts under way in this process; more are refused",
    ),
    known(
        "api.checkout_sweep_ms",
        "ms",
        "how often checkouts are looked for whose owner died",
    ),
    known(
        "api.checkouts_resumed_at_once_max",
        "checkouts",
        "how many of those are taken over at one time",
    ),
];

/// The environment variable of a key; a name that repeats its table says it once: `node.node_id` is
/// `HOLDFAST_NODE_ID`.
pub fn variable(key: &str) -> String {
    format!(
        "HOLDFAST_{}",
        said_once(key).replace('.', "_").to_ascii_uppercase()
    )
}

/// `node.node_id` as `node.id`; other keys as they are.
fn said_once(key: &str) -> String {
    match key.split_once('.') {
        Some((table, name)) => {
            let prefix = format!("{table}_");
            format!("{table}.{}", name.strip_prefix(&prefix).unwrap_or(name))
        }
        None => key.to_owned(),
    }
}

/// The known key nearest to what was written: by edit distance over the whole key, or over its last part.
pub fn nearest(written: &str) -> &'static str {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    KNOWN
        .iter()
        .map(|known| known.key)
        .min_by_key(|key| {
            let whole = distance(written, key).min(distance(written, &said_once(key)));
            // A right name in a wrong table is nearer than a stranger of equal length, if it is right.
            let end = distance(&last(written), &last(key));
            if end * 2 <= last(key).len() {
                whole.min(end + 1)
            } else {
                whole
            }
        })
        .expect("there are settings")
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replace = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn leaves(prefix: &str, value: &serde_json::Value, into: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (name, value) in map {
                    let key = if prefix.is_empty() {
                        name.clone()
                    } else {
                        format!("{prefix}.{name}")
                    };
                    leaves(&key, value, into);
                }
            }
            _ => {
                into.insert(prefix.to_owned());
            }
        }
    }

    #[test]
    fn the_list_is_exactly_the_settings() {
        let mut fields = BTreeSet::new();
        leaves(
            "",
            &serde_json::to_value(crate::config::Settings::default()).unwrap(),
            &mut fields,
        );
        let listed: BTreeSet<String> = KNOWN.iter().map(|known| known.key.to_owned()).collect();
        assert_eq!(listed, fields);
        assert_eq!(listed.len(), KNOWN.len(), "a key is listed twice");
        assert!(
            KNOWN
                .iter()
                .all(|known| !known.unit.is_empty() && !known.doc.is_empty())
        );
    }

    #[test]
    fn no_two_keys_share_a_variable() {
        let variables: BTreeSet<String> = KNOWN.iter().map(|known| variable(known.key)).collect();
        assert_eq!(variables.len(), KNOWN.len());
    }

    #[test]
    fn the_nearest_key_is_the_one_meant() {
        for (written, meant) in [
            ("node.listne", "node.listen"),
            ("node.id", "node.node_id"),
            ("api.connection_max", "api.connections_max"),
            ("data_dir", "node.data_dir"),
            ("log.fmt", "log.format"),
            ("endpoint", "endpoints"),
            ("timeout", "timeout_ms"),
        ] {
            assert_eq!(nearest(written), meant, "{written}");
        }
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}

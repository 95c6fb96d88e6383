//! How long claims took, by the histograms of the doors that an operator names.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::exit::Failure;

/// Longest a door may take to show its metrics.
const SCRAPE_MAX: Duration = Duration::from_secs(5);

/// The doors' histogram of claims.
const HISTOGRAM: &str = "holdfast_http_request_duration_seconds_bucket{";
/// The route that it is read of.
const ROUTE: &str = "route=\"/v1/sales/{sale_id}/claims\"";

/// How long claims took at the doors.
#[derive(Debug, PartialEq, Serialize)]
pub struct LatencyView {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub requests: u64,
    /// Where the numbers come from.
    pub source: String,
}

/// What the doors measured, when some are named.
pub async fn measured(metrics: &[String]) -> Result<Option<LatencyView>, Failure> {
    if metrics.is_empty() {
        return Ok(None);
    }
    let failed = |url: &str, error: reqwest::Error| Failure::Failed(format!("--metrics {url}: {error}"));
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(SCRAPE_MAX)
        .build()
        .map_err(|error| failed("", error))?;
    let mut buckets = BTreeMap::new();
    for url in metrics {
        let answer = http
            .get(url)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status);
        let text = match answer {
            Ok(answer) => answer.text().await.map_err(|error| failed(url, error))?,
            Err(error) => return Err(failed(url, error)),
        };
        add_buckets(&text, &mut buckets);
    }
    let requests = buckets.values().copied().max().unwrap_or(0);
    let (Some(p50_ms), Some(p99_ms)) = (quantile_ms(&buckets, 0.5), quantile_ms(&buckets, 0.99)) else {
        return Err(Failure::Failed(format!(
            "{}: no door there has answered a claim yet; name the /metrics of the doors",
            metrics.join(", ")
        )));
    };
    Ok(Some(LatencyView {
        p50_ms,
        p99_ms,
        requests,
        source: format!(
            "histogram of claim requests at {}: all sales and all answers since those doors started",
            metrics.join(", ")
        ),
    }))
}

/// Adds a page's buckets: upper bounds in µs (`u64::MAX`: none), and how many requests lie below.
fn add_buckets(text: &str, buckets: &mut BTreeMap<u64, u64>) {
    for line in text.lines() {
        let Some((labels, value)) = line
            .strip_prefix(HISTOGRAM)
            .filter(|line| line.contains(ROUTE))
            .and_then(|line| line.rsplit_once("} "))
        else {
            continue;
        };
        let bound = labels
            .split_once("le=\"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(bound, _)| bound);
        let bound_us = match bound {
            Some("+Inf") => Some(u64::MAX),
            Some(bound) => bound
                .parse::<f64>()
                .ok()
                .map(|seconds| (seconds * 1e6).round() as u64),
            None => None,
        };
        if let (Some(bound_us), Ok(count)) = (bound_us, value.trim().parse::<u64>()) {
            *buckets.entry(bound_us).or_default() += count;
        }
    }
}

/// A quantile in ms, as Prometheus estimates it: by a straight line within its bucket; in the last bucket, its
/// lower bound.
fn quantile_ms(buckets: &BTreeMap<u64, u64>, quantile: f64) -> Option<f64> {
    let total = *buckets.get(&u64::MAX)?;
    if total == 0 {
        return None;
    }
    let rank = quantile * total as f64;
    let (mut below_us, mut below) = (0, 0);
    for (&bound_us, &count) in buckets {
        if count as f64 >= rank {
            if bound_us == u64::MAX {
                break;
            }
            let share = (rank - below as f64) / (count - below).max(1) as f64;
            return Some((below_us as f64 + (bound_us - below_us) as f64 * share) / 1e3);
        }
        (below_us, below) = (bound_us, count);
    }
    Some(below_us as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_prometheus_own() {
        let page = "# TYPE x histogram\n\
            holdfast_http_request_duration_seconds_bucket{route=\"/v1/sales\",le=\"+Inf\"} 900\n\
            holdfast_http_request_duration_seconds_bucket{route=\"/v1/sales/{sale_id}/claims\",le=\"0.001\"} 10\n\
            holdfast_http_request_duration_seconds_bucket{route=\"/v1/sales/{sale_id}/claims\",le=\"0.005\"} 90\n\
            holdfast_http_request_duration_seconds_bucket{route=\"/v1/sales/{sale_id}/claims\",le=\"+Inf\"} 100\n";
        let mut buckets = BTreeMap::new();
        add_buckets(page, &mut buckets);
        assert_eq!(buckets.values().copied().collect::<Vec<_>>(), [10, 90, 100]);
        assert_eq!(quantile_ms(&buckets, 0.5), Some(3.0));
        assert_eq!(quantile_ms(&buckets, 0.99), Some(5.0), "beyond the last bound");
        // Two doors count together.
        add_buckets(page, &mut buckets);
        assert_eq!(quantile_ms(&buckets, 0.5), Some(3.0));
        assert_eq!(quantile_ms(&BTreeMap::new(), 0.5), None);
    }
}

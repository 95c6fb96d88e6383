//! Whether somebody watches: the targets of the Prometheus whose alerts wake people.

use std::time::Duration;

use serde::Deserialize;

use super::row::Row;

/// Longest Prometheus may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Our jobs' names begin with it; see `deploy/observability/prometheus.yaml`.
const JOB_PREFIX: &str = "holdfast";

/// The job that the alerts about nodes read.
const NODE_JOB: &str = "holdfast-node";

const CHECK: &str = "alert targets";

/// The part of `/api/v1/targets` that matters.
#[derive(Debug, Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    active_targets: Vec<Target>,
}

/// What Prometheus scrapes.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    #[serde(default)]
    labels: Labels,
    /// `up`, `down` or `unknown`: not scraped yet.
    health: String,
    #[serde(default)]
    last_error: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Labels {
    #[serde(default)]
    job: String,
    #[serde(default)]
    instance: String,
}

/// The base of Prometheus's address.
pub fn url(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").or(text.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !text.contains(['?', '#']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("write http://host:port, as in http://127.0.0.1:9090".into()),
    }
}

/// What it scrapes, or why it does not say.
pub async fn targets(url: &str) -> Result<Vec<Target>, String> {
    let failed = |error: reqwest::Error| {
        // Its own words say little without their cause.
        let cause = std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
        format!("{url}: {error}{cause}")
    };
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(ANSWER_MAX)
        .build()
        .map_err(failed)?;
    let asked = http.get(format!("{url}/api/v1/targets?state=active")).send();
    let answer = asked.await.and_then(reqwest::Response::error_for_status);
    let answer: Answer = answer.map_err(failed)?.json().await.map_err(failed)?;
    Ok(answer.data.active_targets)
}

fn wanted() -> String {
    format!("all of jobs {JOB_PREFIX}… up, one {NODE_JOB} for each member")
}

/// Nobody was named.
pub fn not_asked() -> Row {
    Row::not_checked(
        CHECK,
        "no Prometheus named",
        wanted(),
        "name it with --prometheus URL",
    )
}

/// Whether all that should be watched is.
pub fn judge(targets: &Result<Vec<Target>, String>, members: usize) -> Row {
    const ACTION: &str = "an alert that reads nothing wakes nobody: see Prometheus's page of targets";
    let judged = |go, measured| Row::judged(CHECK, go, measured, wanted(), ACTION);
    let targets = match targets {
        Ok(targets) => targets,
        Err(why) => return judged(false, why.clone()),
    };
    let ours: Vec<&Target> = targets
        .iter()
        .filter(|target| target.labels.job.starts_with(JOB_PREFIX))
        .collect();
    let nodes = ours.iter().filter(|target| target.labels.job == NODE_JOB).count();
    let down: Vec<String> = ours
        .iter()
        .filter(|target| target.health != "up")
        .map(|target| {
            let instance = &target.labels.instance;
            format!("{instance} is {} {}", target.health, target.last_error)
                .trim_end()
                .to_owned()
        })
        .collect();
    if !down.is_empty() {
        return judged(false, down.join("; "));
    }
    judged(
        nodes >= members,
        format!("{} up, {nodes} of them nodes of {members}", ours.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::readiness::Verdict;

    fn target(job: &str, health: &str) -> Target {
        Target {
            labels: Labels {
                job: job.into(),
                instance: "host:9101".into(),
            },
            health: health.into(),
            last_error: if health == "down" {
                "connection refused"
            } else {
                ""
            }
            .into(),
        }
    }

    #[test]
    fn every_target_of_ours_is_up_and_none_is_missing() {
        let watched = |last: Target| {
            let targets = vec![
                target(NODE_JOB, "up"),
                target(NODE_JOB, "up"),
                target("node-exporter", "down"),
                target("holdfast-door", "up"),
                last,
            ];
            judge(&Ok(targets), 3)
        };
        assert_eq!(watched(target(NODE_JOB, "up")).verdict, Verdict::Go);
        let down = watched(target(NODE_JOB, "down"));
        assert_eq!(down.verdict, Verdict::NoGo);
        assert_eq!(down.measured, "host:9101 is down connection refused");
        let unseen = watched(target("holdfast-door", "unknown"));
        assert_eq!(
            (unseen.verdict, &*unseen.measured),
            (Verdict::NoGo, "host:9101 is unknown")
        );
        let missing = watched(target("something", "up"));
        assert_eq!(missing.verdict, Verdict::NoGo);
        assert!(missing.measured.contains("2 of them nodes of 3"), "{missing:?}");
        let silent = judge(&Err("no answer".into()), 3);
        assert_eq!((silent.verdict, &*silent.measured), (Verdict::NoGo, "no answer"));
        assert_eq!(not_asked().verdict, Verdict::NotChecked);
    }

    #[test]
    fn addresses_are_checked() {
        assert_eq!(url("http://a:9090/"), Ok("http://a:9090".into()));
        assert_eq!(url("https://a/prometheus"), Ok("https://a/prometheus".into()));
        for bad in ["", "a:9090", "http://", "http://a:9090/?x=1", "ftp://a"] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }
}

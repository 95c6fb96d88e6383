#!/usr/bin/env bash
# Checks the alert rules and tries every one of them. Needs promtool (Debian: package prometheus).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
if ! command -v promtool >/dev/null; then
  echo 'promtool is not installed: apt-get install prometheus' >&2
  exit 1
fi
promtool check config prometheus.yaml
promtool test rules alerts.test.yaml
# An alert without a case in the tests is an alert nobody has seen fire.
for alert in $(sed -n 's/^ *- alert: //p' alerts.yaml); do
  grep -q "alertname=\"$alert\"" alerts.test.yaml || { echo "$alert has no test" >&2; exit 1; }
done

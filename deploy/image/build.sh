#!/usr/bin/env bash
# Builds the image of the one binary: from scratch, so that there is nothing in it to patch but Holdfast itself.
# Needs the Rust toolchain, a C compiler and a Docker engine; no base image. Usage: build.sh [NAME:TAG]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
image=${1:-holdfast:latest}
target=$(rustc -vV | sed -n 's/^host: //p')
authorities=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
[ -r "$authorities" ] || { echo "no root certificates at $authorities: install ca-certificates or set SSL_CERT_FILE" >&2; exit 1; }

# The flags of .cargo/config.toml, and the C library inside: a key of its own replaces them, so both are named.
cargo build --release --locked --package holdfast --target "$target" \
  --config "target.$target.rustflags = ['--cfg', 'tokio_unstable', '-C', 'target-feature=+crt-static']"

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mkdir -p "$context"/root/{etc/ssl/certs,var/lib/holdfast}
strip -o "$context/root/holdfast" "target/$target/release/holdfast"
# The payment provider is called by https; who vouches for it comes from the building machine.
cp "$authorities" "$context/root/etc/ssl/certs/ca-certificates.crt"
cp deploy/image/Dockerfile "$context"
docker build --tag "$image" "$context"

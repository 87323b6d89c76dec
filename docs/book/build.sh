#!/usr/bin/env bash
# Builds the documentation as a searchable book in target/book. Needs mdbook (`cargo install mdbook`).
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v mdbook >/dev/null; then
    echo "mdbook is not installed; install it with: cargo install mdbook" >&2
    exit 1
fi

source=target/book-src
rm -rf "$source"
mkdir -p "$source/schemas/clickhouse" "$source/deploy/helm/mailpulse" "$source/crates/dev/chdb"
cp ./*.md LICENSE "$source"
cp -r docs "$source/docs"
cp docs/book/book.toml docs/book/SUMMARY.md "$source"
# Files that the pages link to.
cp schemas/*.json "$source/schemas"
cp schemas/clickhouse/README.md "$source/schemas/clickhouse"
cp deploy/mailpulse.toml "$source/deploy"
cp deploy/helm/mailpulse/README.md "$source/deploy/helm/mailpulse"
cp crates/dev/chdb/README.md "$source/crates/dev/chdb"

mdbook build "$source"
echo "The book is in target/book/index.html."

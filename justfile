# Short commands for people who have `just`. Each recipe is one command of cargo.

# Show the recipes.
default:
    @just --list

# Check that everything compiles.
check:
    cargo check --workspace --all-targets

# Check formatting and lints.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Run the tests of one crate, for example: just test-one dedupe
test-one crate *args:
    cargo test --package {{crate}} {{args}}

# Run the tests that need no servers: those in the sources of all crates. One of kafka needs a broker.
fast:
    cargo test --workspace --exclude kafka --lib --bins

# Build the documentation as a searchable book in target/book.
docs:
    bash docs/book/build.sh

# Render the picture of the event flow again. Needs Graphviz.
picture:
    dot -Tsvg docs/images/event-flow.dot -o docs/images/event-flow.svg
    dot -Tsvg docs/images/data-model.dot -o docs/images/data-model.svg

# Build the documentation of all crates.
crate-docs:
    cargo doc --workspace --no-deps

# Install and fetch everything that the tasks below need.
setup *args:
    cargo xtask setup {{args}}

# Start everything, post mail with known truth, and compare the results.
demo *args:
    cargo xtask demo {{args}}

# Start everything without traffic.
up:
    cargo xtask up

# Run all tests on real Kafka and ClickHouse, and then short runs of chaos and truth.
test *args:
    cargo xtask test {{args}}

# Measure each service alone and all of them together.
bench *args:
    cargo xtask bench {{args}}

# Kill, freeze and stop everything by a seeded schedule, and compare the results.
chaos *args:
    cargo xtask chaos {{args}}

# Post mail of which everything is known, and compare every metric with the truth.
truth *args:
    cargo xtask truth {{args}}

# Pack a release into target/dist: programs, completions, man pages, units, schemas, licences and a list of components.
dist *args:
    cargo xtask dist {{args}}

# Run the checks of CI.
ci:
    bash .ci/run

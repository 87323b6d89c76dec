# Recipes for people who have `just`; each is one command of cargo's.

# Everything at once, with traffic and its truth.
demo *args:
    cargo xtask demo {{args}}

# Everything at once, without traffic.
up:
    cargo xtask up

# Every test, on real Kafka and real ClickHouse.
test *args:
    cargo xtask test {{args}}

# A million events through each leg and the whole.
bench *args:
    cargo xtask bench {{args}}

# Kill, freeze and stop everything by a seeded schedule, and balance the ledger.
chaos *args:
    cargo xtask chaos {{args}}

# What CI runs.
ci:
    bash .ci/run

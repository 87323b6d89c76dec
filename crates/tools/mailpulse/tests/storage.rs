//! Measures what events take in Kafka and ClickHouse, for the figures of `mailpulse plan`. No test of a promise, so
//! it is run by hand: `cargo xtask test` leaves it out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod installation;

use harness::http;
use installation::Installation;
use testkit::load::Load;

const EVENTS: usize = 50_000;
const EVENTS_PER_REQUEST: usize = 50;

#[allow(clippy::disallowed_methods, reason = "signatures are valid for a limited time")]
fn now_millis() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// Prints the bytes of each topic before compression, and those of all tables, for a million events.
#[test]
#[ignore = "measures; see docs/benchmarks.md"]
fn what_a_million_events_take() {
    let it = Installation::start("storage");
    let mut load = Load::new(&it.credentials, "inhouse", "storage", EVENTS_PER_REQUEST, 0);
    for _ in 0..EVENTS / EVENTS_PER_REQUEST {
        let request = load.next_request(now_millis());
        let (path, headers) = (&request.path, &request.headers);
        let response = http::send(&it.listen, "POST", path, headers, &request.body).unwrap();
        assert_eq!(response.status, 200, "{}", response.text);
    }
    it.database.await_count("events", EVENTS as u64);
    let gb = |bytes: u64| bytes as f64 / 1e9 * (1e6 / EVENTS as f64);
    let topics = &it.cluster.topics;
    let raw: Vec<String> = topics.all_raw().map(str::to_owned).collect();
    let others = [&topics.enriched, &topics.events, &topics.dedupe_changelog];
    let mut all = 0;
    for topic in raw.iter().chain(others) {
        let records = it.cluster.read_settled(topic);
        let bytes: usize = records
            .iter()
            .map(|record| {
                let headers = record.headers.iter().map(|(name, value)| name.len() + value.len());
                let value = record.value.as_ref().map_or(0, Vec::len);
                record.key.len() + value + headers.sum::<usize>()
            })
            .sum();
        all += bytes as u64;
        println!("{topic}: {:.3} GB", gb(bytes as u64));
    }
    println!("Kafka: {:.2} GB before compression", gb(all));
    it.database.execute("OPTIMIZE TABLE events FINAL");
    let sql = format!(
        "SELECT sum(data_uncompressed_bytes), sum(bytes_on_disk) FROM system.parts WHERE database = '{}' AND active",
        it.database.name
    );
    let (uncompressed, on_disk): (u64, u64) = it.database.one(&sql);
    println!(
        "ClickHouse: {:.2} GB before compression, {:.2} GB on disk",
        gb(uncompressed),
        gb(on_disk)
    );
}

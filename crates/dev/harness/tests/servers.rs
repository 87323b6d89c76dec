//! The harness on a real Kafka and a real ClickHouse.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use harness::{Cluster, Committed, Database, Outgoing, layout};

#[test]
fn records_are_read_as_they_were_produced() {
    let cluster = Cluster::new("harness", layout(2, 1));
    let topic = &cluster.topics.events;
    let records = [
        Outgoing::new(topic, "a", "1").on(1).header("name", [0, 255]),
        Outgoing::new(topic, "a", "2").on(1),
        Outgoing::new(topic, "", "3").on(0),
    ];
    cluster.produce(&records);
    let read = cluster.read_settled(topic);
    let found: Vec<_> =
        read.iter().map(|r| (r.partition, r.offset, r.text(), r.key.as_slice())).collect();
    assert_eq!(found, [(0, 0, "3", &b""[..]), (1, 0, "1", b"a"), (1, 1, "2", b"a")]);
    assert_eq!(read[1].header("name"), Some(&[0, 255][..]));
    assert_eq!(read[2].header("name"), None);
    assert_eq!(cluster.end_offsets(topic), [1, 2]);
    assert_eq!(cluster.reader(&[topic]).records(3).len(), 3);
    let committed: [Option<Committed>; 2] = [None, None];
    assert_eq!(cluster.committed(&cluster.name("nothing"), topic), committed);
    assert!(cluster.read(&cluster.topics.rates).is_empty());
}

#[test]
fn records_of_open_and_aborted_transactions_are_not_read() {
    let cluster = Cluster::without_topics("harness", layout(1, 1));
    cluster.create_plain(&[("out", 1)]);
    let topic = &cluster.name("out");
    let record = |value: &str| Outgoing::new(topic, "k", value).on(0);
    let producer = cluster.transactional_producer(&cluster.name("id"));
    producer.produce_in_transactions(&[record("1"), record("2")], 1);
    let values = |records: Vec<harness::Record>| -> Vec<String> {
        records.iter().map(|record| record.text().to_owned()).collect()
    };
    assert_eq!(values(cluster.read_settled(topic)), ["1", "2"]);
    producer.begin();
    producer.produce(&[record("3")]);
    assert_eq!(values(cluster.read(topic)), ["1", "2"], "the transaction is open");
    let mut reader = cluster.reader(&[topic]);
    assert_eq!(values(reader.records(2)), ["1", "2"]);
    producer.commit();
    assert_eq!(values(cluster.read_settled(topic)), ["1", "2", "3"]);
    assert_eq!(reader.next(Duration::from_secs(60)).unwrap().text(), "3");
}

#[test]
fn a_database_executes_and_returns_rows() {
    let database = Database::new("harness");
    assert_eq!(database.count("t"), 0, "there is no database yet");
    database.create();
    database.execute("CREATE TABLE t (n UInt64, s String) ENGINE = Memory");
    database.execute("INSERT INTO t VALUES (18446744073709551615, 'a\n\"b\"'), (1, 'c')");
    database.await_count("t", 2);
    let row: (u64, String) = database.one("SELECT * FROM t ORDER BY n DESC LIMIT 1");
    assert_eq!(row, (u64::MAX, "a\n\"b\"".to_owned()));
    assert_eq!(database.one::<f64>("SELECT 0.5"), 0.5);
    assert_eq!(database.bytes("SELECT n FROM t WHERE n = 1", "TSV"), b"1\n");
    let sum = database.await_one::<u64>("the sum", "SELECT count() + 1 FROM t", |sum| *sum == 3);
    assert_eq!(sum, 3);
    let error = database.try_one::<u64>("SELECT broken").unwrap_err();
    assert!(error.contains("broken"), "{error}");
}

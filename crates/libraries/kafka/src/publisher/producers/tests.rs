//! A fatal error on a real producer. librdkafka has a function to simulate one.
#![allow(unsafe_code, reason = "rd_kafka_test_fatal_error has no safe wrapper")]

use std::ffi::CString;
use std::time::Duration;

use harness::{Cluster, DEADLINE, eventually, layout};
use rdkafka::bindings;
use rdkafka::producer::Producer;

use crate::{Connection, PreparedHeaders, PublishError, Publisher, PublisherSettings};

#[test]
fn after_a_fatal_error_a_new_producer_publishes() {
    let cluster = Cluster::without_topics("fatal", layout(1, 1));
    cluster.create_plain(&[("records", 1)]);
    let topic = cluster.name("records");
    let connection = Connection {
        bootstrap: cluster.bootstrap.clone(),
        instance: "test".into(),
        compression: "none".into(),
        ..Connection::default()
    };
    let settings = PublisherSettings {
        // Longer than the test, so that the first records are still queued at the fatal error.
        linger: Duration::from_secs(60),
        queue_bytes: 1 << 20,
        ack_timeout: None,
    };
    let publisher = Publisher::open(&connection, "test", settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let headers = PreparedHeaders::new(&[]);

    let before = publisher.batch();
    before.send(&topic, b"k", b"lost", &headers).unwrap();
    let code = bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    let reason = CString::new("a test").unwrap();
    let producer = publisher.producers.current();
    // SAFETY: the client outlives the call, and the string ends with NUL.
    unsafe {
        let client = producer.client().native_ptr();
        bindings::rd_kafka_test_fatal_error(client, code, reason.as_ptr());
    }
    drop(producer);

    let failures = runtime.block_on(before.failures());
    let [(0, error)] = failures[..] else { panic!("the queued record must fail: {failures:?}") };
    assert!(!error.is_of_record(), "{error}: the request must be kept and sent again");

    // The batch of a new request gets the new producer as soon as there is one.
    eventually("a new producer accepts a record", DEADLINE, || {
        let batch = publisher.batch();
        batch.send(&topic, b"k", b"kept", &headers)?;
        publisher.flush(DEADLINE).map_err(|_| PublishError::Timeout)?;
        runtime.block_on(batch.acknowledged())
    });
    let values: Vec<_> = cluster.read(&topic).into_iter().filter_map(|r| r.value).collect();
    assert_eq!(values.last().map(Vec::as_slice), Some(&b"kept"[..]));
}

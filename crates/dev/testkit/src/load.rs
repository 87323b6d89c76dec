//! Generates millions of events for load tests. Bodies are assembled from a few constant parts, so
//! that generating them costs little compared with the measured program. Each request is signed when it
//! is sent, because the ingress rejects old signatures of the generic scheme.

use std::io::Write;

use bytes::Bytes;
use event::Kind;
use hmac::Hmac;
use sha2::Sha256;

use crate::{Credentials, SignedRequest, sign, signers};

/// In the proportions of ordinary mail.
const KINDS: [Kind; 8] = [
    Kind::Accepted,
    Kind::Delivered,
    Kind::Opened,
    Kind::Accepted,
    Kind::Delivered,
    Kind::Opened,
    Kind::Clicked,
    Kind::Bounced,
];

/// Number of consecutive events with the same message id and recipient.
const EVENTS_PER_MESSAGE: u64 = 3;

/// Makes an event about 700 bytes long, like those of real providers.
const FILLER: &str = "\"user_agent\":\"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\",\"ip\":\"203.0.113.77\",\"url\":\"https://shop.example.com/offer?utm_source=mail&utm_medium=email&utm_campaign=autumn-sale&reader=4711\",\"variables\":{\"order\":\"2026-11-000482\",\"segment\":\"returning customers, northern region\",\"experiment\":\"subject-line-b\",\"template\":\"autumn-sale/v7/en\",\"warehouse\":\"hamburg-2\",\"loyalty\":\"silver since 2021\"}";

/// Generates requests for one generic source. Event ids are unique within a run.
#[derive(Clone)]
pub struct Load {
    keyed: Hmac<Sha256>,
    source: String,
    run: String,
    events_per_request: usize,
    next: u64,
}

impl Load {
    /// Makes bodies of `events_per_request` events (1: an object; more: an array). `run` becomes
    /// part of every id; it must differ between runs and need no escaping in JSON. `first` is the
    /// number of the first event, so that several senders can share a run.
    pub fn new(
        credentials: &Credentials,
        source: &str,
        run: &str,
        events_per_request: usize,
        first: u64,
    ) -> Self {
        Self {
            keyed: signers::keyed_sha256(credentials.generic_secret().as_bytes()),
            source: source.to_owned(),
            run: run.to_owned(),
            events_per_request,
            next: first,
        }
    }

    /// Returns the next request. Its events have the time `now_unix_millis`, and it is signed for
    /// that second.
    pub fn next_request(&mut self, now_unix_millis: i64) -> SignedRequest {
        let body = event_batch(&self.run, self.next, self.events_per_request, now_unix_millis);
        self.next += self.events_per_request as u64;
        self.sign(body, now_unix_millis / 1_000)
    }

    /// Signs a body of [`event_batch`], for senders that generate bodies in advance.
    pub fn sign(&self, body: Bytes, now_unix: i64) -> SignedRequest {
        sign::generic_keyed(&self.keyed, &self.source, body, now_unix)
    }
}

/// How much earlier a delivery is than the opens and clicks of the same body. If it were less,
/// dedupe would classify them as automated.
const READ_AFTER_MILLIS: i64 = 60_000;

/// Returns the body of one generic request: the events `first` to `first + count - 1` of a run,
/// about 700 bytes each. One event is an object, several are an array.
pub fn event_batch(run: &str, first: u64, count: usize, occurred_at_millis: i64) -> Bytes {
    batch(run, first, count, occurred_at_millis, |n| KINDS[(n % KINDS.len() as u64) as usize])
}

/// Returns the same with opens only.
pub fn batch_of_opens(run: &str, first: u64, count: usize, occurred_at_millis: i64) -> Bytes {
    batch(run, first, count, occurred_at_millis, |_| Kind::Opened)
}

fn batch(
    run: &str,
    first: u64,
    count: usize,
    occurred_at_millis: i64,
    kind: impl Fn(u64) -> Kind,
) -> Bytes {
    let mut body = Vec::with_capacity(count * 760 + 2);
    let array = count != 1;
    if array {
        body.push(b'[');
    }
    for n in first..first + count as u64 {
        if n > first {
            body.push(b',');
        }
        write_event(&mut body, run, n, kind(n), occurred_at_millis);
    }
    if array {
        body.push(b']');
    }
    body.into()
}

#[allow(clippy::expect_used, reason = "writing to memory does not fail")]
fn write_event(body: &mut Vec<u8>, run: &str, n: u64, kind: Kind, millis: i64) {
    let message = n / EVENTS_PER_MESSAGE;
    let millis = if kind == Kind::Delivered { millis - READ_AFTER_MILLIS } else { millis };
    write!(
        body,
        "{{\"id\":\"{run}-{n:012}\",\"event\":\"{kind}\",\"recipient\":\"reader-{message:09}@example.org\",\
         \"timestamp\":{millis},\"message_id\":\"{run}-m{message:012}\",\"campaign\":\"load\",\
         \"tags\":[\"load\",\"newsletter\"],"
    )
    .expect("memory");
    if kind == Kind::Bounced {
        body.extend_from_slice(b"\"bounce\":{\"permanence\":\"hard\",\"status\":\"5.1.1\"},");
    }
    body.extend_from_slice(FILLER.as_bytes());
    body.push(b'}');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn batches_are_json_with_unique_ids() {
        let mut load = Load::new(&Credentials::new(""), "inhouse", "r1", 50, 100);
        let mut ids = BTreeSet::new();
        for _ in 0..4 {
            let request = load.next_request(1_795_255_200_123);
            assert_eq!(request.header("x-mailpulse-timestamp"), Some("1795255200"));
            let events: Vec<Value> = serde_json::from_slice(&request.body).unwrap();
            assert_eq!(events.len(), 50);
            ids.extend(events.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        }
        assert_eq!(ids.len(), 200);
        assert_eq!(ids.first().map(String::as_str), Some("r1-000000000100"));
    }

    #[test]
    fn one_event_is_an_object_of_about_700_bytes() {
        let body = event_batch("r1", 7, 1, 1_795_255_200_123);
        let event: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(event["event"], "bounced");
        assert!((650..=760).contains(&body.len()), "{} bytes", body.len());
    }

    #[test]
    fn signs_as_the_generic_provider_does() {
        let credentials = Credentials::new("");
        let load = Load::new(&credentials, "inhouse", "r1", 1, 0);
        let body = event_batch("r1", 0, 1, 0);
        let expected = sign::generic_body(&credentials, "inhouse", body.clone(), 9);
        assert_eq!(load.sign(body, 9), expected);
    }
}

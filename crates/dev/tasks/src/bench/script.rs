//! The posted requests. The body of request `k` depends only on the run and on `k`.

use std::io::Write;

use bytes::Bytes;
use event::Provider;
use testkit::load::{Load, batch_of_opens, event_batch};
use testkit::{Credentials, SignedRequest};

/// The traffic is spread over this number of sources. Each has its own rates.
const SOURCES: u64 = 8;
/// One of this many requests repeats an earlier one.
const REPEAT_ONE_IN: u64 = 10;
/// It repeats the request this many numbers before.
const REPEAT_AFTER: u64 = 5;

/// The requests of a run.
pub(crate) struct Script {
    loads: Vec<Load>,
    run: String,
    /// The number of requests.
    pub(crate) requests: u64,
    pub(crate) events_per_request: u64,
    repeats: bool,
    is_opens: bool,
    dates: Dates,
}

/// The times of the events.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Dates {
    /// The time of posting.
    Live,
    /// Spread evenly over `millis` before the Unix time `until` in milliseconds, like a backlog.
    Past { millis: i64, until: i64 },
}

impl Script {
    /// Creates requests with about `events` events in total. The name of the run must be unique.
    pub(crate) fn new(run: &str, events: u64, events_per_request: u64, dates: Dates) -> Self {
        let credentials = Credentials::new("");
        let load = |n| Load::new(&credentials, &source(n), run, events_per_request as usize, 0);
        Self {
            loads: (0..SOURCES).map(load).collect(),
            run: run.to_owned(),
            requests: events.div_ceil(events_per_request),
            events_per_request,
            repeats: false,
            is_opens: false,
            dates,
        }
    }

    /// Makes one request in ten repeat an earlier one.
    pub(crate) fn with_repeats(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// Makes every event an open.
    pub(crate) fn of_opens(mut self) -> Self {
        self.is_opens = true;
        self
    }

    /// Returns the number of events with repeated ones.
    pub(crate) fn events(&self) -> u64 {
        self.requests * self.events_per_request
    }

    /// Returns the number of events without repeated ones.
    pub(crate) fn distinct_events(&self) -> u64 {
        let repeated = if self.repeats { self.requests / REPEAT_ONE_IN } else { 0 };
        (self.requests - repeated) * self.events_per_request
    }

    /// Writes request `k` in HTTP/1.1, signed at `now_millis`.
    pub(crate) fn write(&self, k: u64, now_millis: i64, wire: &mut Vec<u8>) -> anyhow::Result<()> {
        let is_repeat = self.repeats && k % REPEAT_ONE_IN == REPEAT_ONE_IN - 1;
        let k = if is_repeat { k - REPEAT_AFTER } else { k };
        let occurred_at = match self.dates {
            Dates::Live => now_millis,
            Dates::Past { millis, until } => {
                until - millis + (k as f64 / self.requests as f64 * millis as f64) as i64
            }
        };
        let count = self.events_per_request;
        let batch = if self.is_opens { batch_of_opens } else { event_batch };
        let body = batch(&self.run, k * count, count as usize, occurred_at);
        let load = &self.loads[(k % SOURCES) as usize];
        write_request(&load.sign(body, now_millis / 1000), wire)
    }
}

/// Writes a request in HTTP/1.1.
pub(crate) fn write_request(request: &SignedRequest, wire: &mut Vec<u8>) -> anyhow::Result<()> {
    wire.clear();
    write!(wire, "POST {} HTTP/1.1\r\nhost: bench\r\n", request.path)?;
    for (name, value) in &request.headers {
        write!(wire, "{name}: {value}\r\n")?;
    }
    write!(wire, "content-length: {}\r\n\r\n", request.body.len())?;
    Ok(wire.write_all(&request.body)?)
}

/// Signs marked events, which have their own source.
pub(crate) struct Probe(Load);

impl Probe {
    /// The source of the marked events.
    pub(crate) const SOURCE: &str = "bench-probe";

    pub(crate) fn new(run: &str) -> Self {
        Self(Load::new(&Credentials::new(""), Self::SOURCE, run, 1, 0))
    }

    /// Signs a request at a Unix time in milliseconds.
    pub(crate) fn sign(&self, body: Bytes, now_millis: i64) -> SignedRequest {
        self.0.sign(body, now_millis / 1000)
    }
}

fn source(n: u64) -> String {
    format!("bench-{n}")
}

/// Returns the `[[source]]` tables for the requests of scripts.
pub(crate) fn sources_toml() -> String {
    let credentials = Credentials::new("");
    let names = (0..SOURCES).map(source).chain([Probe::SOURCE.to_owned()]);
    let tables = names.map(|name| credentials.source_toml(Provider::Generic, &name));
    tables.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(script: &Script, k: u64) -> String {
        let mut wire = Vec::new();
        script.write(k, 1_795_255_200_000, &mut wire).unwrap();
        let text = String::from_utf8(wire).unwrap();
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    #[test]
    fn a_tenth_of_the_requests_is_repeated() {
        let dates = Dates::Past { millis: 3_600_000, until: 1_795_255_200_000 };
        let script = Script::new("r", 1000, 10, dates).with_repeats();
        assert_eq!((script.events(), script.distinct_events()), (1000, 900));
        assert_eq!(body(&script, 9), body(&script, 4));
        assert_ne!(body(&script, 8), body(&script, 3));
    }
}

//! A sender whose signatures are valid and whose bodies are made to harm others.
//!
//! Every event contains its number as `hostile<body>x<event>x`, so that it can be found in the tables
//! whatever became of it.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::time::Duration;

use event::Provider;
use jiff::Timestamp;
use serde::Deserialize;
use testkit::{SignedRequest, sign};
use tokio::time::sleep;

use super::{Attacks, unix_seconds};
use crate::clickhouse::Database;

/// The name of the hostile sources.
const SOURCE: &str = "hostile";
/// The sources that the ingress must know.
pub(crate) const SOURCES: [(Provider, &str); 2] =
    [(Provider::Generic, SOURCE), (Provider::Resend, SOURCE)];

const GAP: Duration = Duration::from_secs(2);
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The number of recipients of one message.
const RECIPIENTS: u64 = 1_000;
/// The number of empty events in one body.
const EMPTY_EVENTS: usize = 1_000_000;
/// Longer than `refusal_limit`, after which a partition used to be held.
const UNREADABLE_RUN: u64 = 1_200;
/// The length of an address: accepted by the body limit, and refused by everything behind it.
const ADDRESS_BYTES: usize = 11 << 20;

/// The kinds of hostile bodies, which are posted in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    OversizedAddress,
    ManyRecipients,
    EmptyEvents,
    UnreadableRun,
    StrangeTimes,
    HalfAnEmoji,
}

impl Body {
    const ALL: [Self; 6] = [
        Self::OversizedAddress,
        Self::ManyRecipients,
        Self::EmptyEvents,
        Self::UnreadableRun,
        Self::StrangeTimes,
        Self::HalfAnEmoji,
    ];

    fn of(number: u64) -> Self {
        Self::ALL[(number % Self::ALL.len() as u64) as usize]
    }

    const fn provider(self) -> Provider {
        match self {
            Self::ManyRecipients => Provider::Resend,
            _ => Provider::Generic,
        }
    }

    /// Returns the number of events with a number of their own.
    const fn events(self) -> u64 {
        match self {
            Self::OversizedAddress | Self::EmptyEvents => 1,
            Self::ManyRecipients => RECIPIENTS,
            Self::UnreadableRun => UNREADABLE_RUN,
            Self::StrangeTimes => STRANGE_TIMES.len() as u64,
            Self::HalfAnEmoji => 2,
        }
    }

    /// Returns the JSON. `now` is the event time of the run in seconds: older events are beyond what
    /// dedupe remembers, so repeating them would double them.
    fn json(self, number: u64, now: i64) -> String {
        let mark = |event: u64| mark(number, event);
        let joined = |each: &dyn Fn(u64) -> String| {
            let events: Vec<String> = (0..self.events()).map(each).collect();
            format!("[{}]", events.join(","))
        };
        let (now_seconds, now) = (now, now.to_string());
        let event = |index: u64, recipient: &str, time: &str| {
            let id = mark(index);
            format!(
                r#"{{"id":"{id}","message_id":"{id}","event":"delivered","recipient":"{recipient}","timestamp":{time}}}"#
            )
        };
        match self {
            Self::OversizedAddress => {
                let local = "a".repeat(ADDRESS_BYTES);
                joined(&|i| event(i, &format!("{local}@example.net"), &now))
            }
            Self::ManyRecipients => {
                let addresses: Vec<String> =
                    (0..RECIPIENTS).map(|i| format!(r#""{}@example.net""#, mark(i))).collect();
                let addresses = addresses.join(",");
                let created_at = Timestamp::from_second(now_seconds).unwrap_or_default();
                format!(
                    r#"{{"type":"email.delivered","created_at":"{created_at}","data":{{"email_id":"{}","to":[{addresses}]}}}}"#,
                    mark(0)
                )
            }
            Self::EmptyEvents => {
                let mut json = format!("[{}", event(0, "mallory@example.net", &now));
                json.push_str(&",{}".repeat(EMPTY_EVENTS));
                json.push(']');
                json
            }
            Self::UnreadableRun => {
                joined(&|i| event(i, "mallory@example.net", "99999999999999999"))
            }
            Self::StrangeTimes => {
                joined(&|i| event(i, "mallory@example.net", STRANGE_TIMES[i as usize]))
            }
            Self::HalfAnEmoji => joined(&|i| {
                let mut json = event(i, "mallory@example.net", &now);
                json.pop();
                let _ = write!(json, r#","campaign":"spring \ud83d sale"}}"#);
                json
            }),
        }
    }
}

/// Seconds since the Unix epoch: in 1970, 1999, 2010, 2020, 2100 and 2199. Such events count at their
/// receipt.
const STRANGE_TIMES: [&str; 6] =
    ["86400", "915148800", "1262304000", "1577836800", "4102444800", "7226582400"];

fn mark(body: u64, event: u64) -> String {
    format!("hostile{body}x{event}x")
}

/// Describes a body for people.
pub(super) fn describe(number: u64) -> String {
    format!("hostile body {number} ({:?})", Body::of(number))
}

#[derive(Deserialize)]
struct Receipt {}

/// Posts hostile bodies until the attacks stop. Each is repeated until its answer is final, because a
/// provider would do that.
pub(super) async fn post(attacks: &Attacks) {
    let Ok(client) = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build() else { return };
    for number in 0.. {
        if attacks.is_over() {
            return;
        }
        post_one(attacks, &client, number).await;
        sleep(GAP).await;
    }
}

async fn post_one(attacks: &Attacks, client: &reqwest::Client, number: u64) {
    let kind = Body::of(number);
    let body = bytes::Bytes::from(kind.json(number, attacks.event_time));
    loop {
        let now = unix_seconds();
        let SignedRequest { path, headers, body } = match kind.provider() {
            Provider::Resend => sign::resend_body(&attacks.credentials, SOURCE, body.clone(), now),
            _ => sign::generic_body(&attacks.credentials, SOURCE, body.clone(), now),
        };
        let url = format!("http://{}{path}", attacks.ingress);
        let request = headers.iter().fold(client.post(url).body(body), |request, (name, value)| {
            request.header(name, value)
        });
        attacks.count("hostile bodies posted, repetitions included");
        if let Ok(response) = request.send().await {
            if response.status() == reqwest::StatusCode::PAYLOAD_TOO_LARGE {
                attacks.results().rejected += 1;
                return;
            }
            if response.status().is_success() && response.json::<Receipt>().await.is_ok() {
                attacks.results().accepted.insert(number, kind.events());
                return;
            }
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// Returns the number of rows of each hostile event.
pub(super) async fn rows(database: &Database) -> anyhow::Result<HashMap<(u64, u64), u64>> {
    let sql = format!(
        "SELECT extract(if(provider = 'resend', recipient, message_id), 'hostile([0-9]+x[0-9]+)x') \
         AS mark, count() FROM events WHERE source = '{SOURCE}' GROUP BY mark FORMAT TSV"
    );
    let text = database.text(&sql).await?;
    let row = |line: &str| {
        let (mark, count) = line.split_once('\t')?;
        Some((parse(mark)?, count.parse().ok()?))
    };
    Ok(text.lines().filter_map(row).collect())
}

/// Returns the hostile events that are in a dead letter: their own, or that of the whole body.
pub(super) async fn dead_letters(database: &Database) -> anyhow::Result<BTreeSet<(u64, u64)>> {
    let sql = format!(
        "SELECT DISTINCT arrayJoin(extractAll(concat(key, ' ', value), 'hostile([0-9]+x[0-9]+)x')) \
         FROM dead_letters WHERE source = '{SOURCE}' FORMAT TSV"
    );
    Ok(database.text(&sql).await?.lines().filter_map(parse).collect())
}

fn parse(mark: &str) -> Option<(u64, u64)> {
    let (body, event) = mark.split_once('x')?;
    Some((body.parse().ok()?, event.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hostile_body_is_json_with_its_numbers() {
        for number in 0..Body::ALL.len() as u64 {
            let (kind, json) = (Body::of(number), Body::of(number).json(number, 1_795_255_200));
            let marked = (0..kind.events()).filter(|&i| json.contains(&mark(number, i))).count();
            assert_eq!(marked as u64, kind.events(), "{kind:?}");
            if kind != Body::HalfAnEmoji {
                serde_json::from_str::<serde::de::IgnoredAny>(&json).unwrap();
            }
        }
        assert_eq!(parse("7x12"), Some((7, 12)));
    }
}

//! Compares every alert with the generator's own counts.
//!
//! ClickHouse is asked only which offset each event has in `mail.events`. What an event counts for, when, and in
//! which scopes, follows from the script.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::mail::{Event, MAILBOXES, Mails, Outcome, Refusal, SECOND};
use super::script::{HOUR, Script};
use crate::clickhouse::Database;

/// A row of the table `alerts`.
#[derive(Debug, Deserialize)]
struct Alert {
    rule: String,
    episode: String,
    seq: u32,
    provider: String,
    source: String,
    mailbox_provider: String,
    campaign: String,
    /// Not empty for scopes that the generator does not know.
    other: String,
    metric: String,
    basis: String,
    numerator: i64,
    volume: i64,
    first: i64,
    end: i64,
    as_of: BTreeMap<String, i64>,
}

const ALERTS: &str = "
    SELECT toString(rule) AS rule, toString(episode_id) AS episode, seq, toString(provider) AS provider,
        toString(source) AS source, toString(mailbox_provider) AS mailbox_provider,
        toString(campaign) AS campaign, concat(sender_domain, sending_ip, tenant) AS other,
        toString(metric) AS metric, toString(basis) AS basis, toInt64(numerator) AS numerator,
        toInt64(volume) AS volume, toUnixTimestamp64Micro(window_from) AS first,
        toUnixTimestamp64Micro(window_to) AS end, as_of
    FROM alerts ORDER BY kafka_partition, kafka_offset";

/// Duplicates are gone, so each recipient has at most one event of a kind.
const EVENTS: &str = "
    SELECT assumeNotNull(recipient) AS recipient, toString(kind) AS kind, kafka_partition, kafka_offset
    FROM events FORMAT TSV";

/// What was compared.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    pub(crate) equal: usize,
    /// Alerts whose numbers are not those of the generator.
    pub(crate) different: Vec<String>,
    /// Alerts about which the generator knows nothing, by rule.
    pub(crate) unknown: BTreeMap<String, usize>,
}

/// Where an event is in `mail.events`.
#[derive(Debug, Clone, Copy)]
struct Place {
    partition: u16,
    offset: i64,
}

/// Compares all alerts. Fails if not every event is stored exactly once.
pub(crate) async fn compare(
    database: &Database,
    script: &Script,
    mails: &Mails,
    start: i64,
) -> anyhow::Result<Compared> {
    let places = places(database, mails).await?;
    let known = Known::new(script, mails, start);
    let mut by_source: BTreeMap<(&str, &str), Vec<(&Event, Place)>> = BTreeMap::new();
    for (event, place) in mails.events.iter().zip(places) {
        let (provider, source) = &script.sources[mails.mails[event.mail].source];
        let key = (provider.as_str(), source.as_str());
        by_source.entry(key).or_default().push((event, place));
    }
    let mut compared = Compared::default();
    let alerts: Vec<Alert> = database.rows(ALERTS).await?;
    for alert in &alerts {
        let key = (alert.provider.as_str(), alert.source.as_str());
        let counts = known.counts(alert, by_source.get(&key).map_or(&[], Vec::as_slice));
        let own = alert.other.is_empty().then(|| counts.fraction(&alert.metric)).flatten();
        match own {
            None => *compared.unknown.entry(alert.rule.clone()).or_default() += 1,
            Some((part, whole)) if (part.min(whole), whole) == (alert.numerator, alert.volume) => {
                compared.equal += 1;
            }
            Some(own) => compared.different.push(format!(
                "the generator counts {own:?}, episode {} seq {}: {alert:?}",
                alert.episode, alert.seq
            )),
        }
    }
    Ok(compared)
}

/// What the generator knows.
struct Known<'a> {
    script: &'a Script,
    mails: &'a Mails,
    /// The start of the day, unix seconds.
    start: i64,
    /// When the first event about the delivery happened, by mail.
    first_events: Vec<i64>,
}

impl<'a> Known<'a> {
    fn new(script: &'a Script, mails: &'a Mails, start: i64) -> Self {
        let mut first_events = vec![0; mails.mails.len()];
        for event in &mails.events {
            if matches!(event.outcome, Outcome::Delivered | Outcome::Bounced(_)) {
                first_events[event.mail] = event.occurred;
            }
        }
        Self { script, mails, start, first_events }
    }

    /// Returns what the events of a source count for in the scope and window of an alert, if they are before its offsets.
    fn counts(&self, alert: &Alert, events: &[(&Event, Place)]) -> Counts {
        let window = (alert.first / SECOND - self.start)..(alert.end / SECOND - self.start);
        let mut counts = Counts::default();
        for (event, place) in events {
            let mail = &self.mails.mails[event.mail];
            let mailbox = &MAILBOXES[mail.mailbox];
            let next = alert.as_of.get(&place.partition.to_string()).copied().unwrap_or(0);
            let is_in_scope = [
                (&alert.mailbox_provider, mailbox.name),
                (&alert.campaign, &self.script.sends[mail.send].campaign),
            ]
            .into_iter()
            .all(|(wanted, found)| wanted.is_empty() || wanted == found);
            let is_in_window = match alert.basis.as_str() {
                "arrival" => window.contains(&event.occurred),
                "cohort" => {
                    let (provider, _) = self.script.sources[mail.source];
                    let sent = mail.cohort(provider, self.first_events[event.mail]);
                    window.contains(&(sent.div_euclid(HOUR) * HOUR))
                }
                _ => event.occurred >= window.start,
            };
            if place.offset < next && is_in_scope && is_in_window {
                counts.add(event.outcome, mailbox.reports_complaints);
            }
        }
        counts
    }
}

/// Returns the place of each event, in the order of `mails.events`.
async fn places(database: &Database, mails: &Mails) -> anyhow::Result<Vec<Place>> {
    let mut found: BTreeMap<(usize, String), Place> = BTreeMap::new();
    let answer = database.text(EVENTS).await?;
    for line in answer.lines() {
        let read = || {
            let mut fields = line.split('\t');
            let number = fields.next()?.strip_prefix('r')?.split('@').next()?.parse().ok()?;
            let kind = fields.next()?.to_owned();
            let place = Place {
                partition: fields.next()?.parse().ok()?,
                offset: fields.next()?.parse().ok()?,
            };
            Some(((number, kind), place))
        };
        let (key, place) = read().with_context(|| format!("malformed answer: {line}"))?;
        let repeated = found.insert(key, place);
        ensure!(repeated.is_none(), "an event is stored twice: {line}");
    }
    let all = mails.events.len();
    ensure!(found.len() == all, "{} events are stored, but {all} were sent", found.len());
    let place = |event: &Event| {
        let key = (event.mail, event.outcome.kind().to_string());
        found.get(&key).copied().with_context(|| format!("an event is not stored: {event:?}"))
    };
    mails.events.iter().map(place).collect()
}

/// What messages count for, by docs/metrics.md.
#[derive(Debug, Default)]
struct Counts {
    delivered: i64,
    delivered_where_reported: i64,
    hard: i64,
    soft: i64,
    block: i64,
    opened: i64,
    clicked: i64,
    complained: i64,
    unsubscribed: i64,
}

impl Counts {
    fn add(&mut self, outcome: Outcome, reports_complaints: bool) {
        let count = match outcome {
            Outcome::Delivered => {
                self.delivered_where_reported += i64::from(reports_complaints);
                &mut self.delivered
            }
            Outcome::Bounced(Refusal::UnknownUser) => &mut self.hard,
            Outcome::Bounced(Refusal::FullMailbox) => &mut self.soft,
            Outcome::Bounced(Refusal::Blocked) => &mut self.block,
            Outcome::Opened => &mut self.opened,
            Outcome::Clicked => &mut self.clicked,
            Outcome::Complained => &mut self.complained,
            Outcome::Unsubscribed => &mut self.unsubscribed,
        };
        *count += 1;
    }

    /// Returns numerator and denominator. `None` for what the generator does not know.
    fn fraction(&self, metric: &str) -> Option<(i64, i64)> {
        let bounces = self.hard + self.soft + self.block;
        let sent = self.delivered + bounces;
        Some(match metric {
            "bounce" => (bounces, sent),
            "hard_bounce" => (self.hard, sent),
            "block_bounce" => (self.block, sent),
            "delivery" => (self.delivered, sent),
            "complaint" => (self.complained, self.delivered_where_reported),
            "unsubscribe" => (self.unsubscribed, self.delivered),
            // Every click comes after an open of the same message.
            "open" | "engagement" => (self.opened, self.delivered),
            "auth_refused" | "listed" | "throttled" => (0, sent),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_events_of_the_prefix_the_window_and_the_scope_count() {
        let script = Script::short();
        let mut mails = Mails::new(&script, 1);
        mails.events.truncate(3);
        let known = Known::new(&script, &mails, 1_000_000);
        let mail = mails.mails[mails.events[0].mail];
        let (name, campaign) =
            (MAILBOXES[mail.mailbox].name, script.sends[mail.send].campaign.clone());
        let event = Event { outcome: Outcome::Delivered, occurred: 50, ..mails.events[0] };
        let alert = |change: fn(&mut Alert)| {
            let mut alert = Alert {
                rule: "hard_bounces".into(),
                episode: String::new(),
                seq: 1,
                provider: String::new(),
                source: String::new(),
                mailbox_provider: name.into(),
                campaign: campaign.clone(),
                other: String::new(),
                metric: "hard_bounce".into(),
                basis: "arrival".into(),
                numerator: 0,
                volume: 1,
                first: 1_000_050 * SECOND,
                end: 1_000_051 * SECOND,
                as_of: [("2".to_owned(), 8)].into(),
            };
            change(&mut alert);
            known.counts(&alert, &[(&event, Place { partition: 2, offset: 7 })]).delivered
        };
        assert_eq!(alert(|_| {}), 1);
        assert_eq!(alert(|it| it.basis = "campaign".into()), 1);
        let outside: [fn(&mut Alert); 7] = [
            |it| it.as_of = [("2".to_owned(), 7)].into(),
            |it| it.as_of = [("1".to_owned(), 9)].into(),
            |it| it.first += SECOND,
            |it| it.end -= SECOND,
            |it| it.mailbox_provider = "elsewhere".into(),
            |it| it.campaign = "another".into(),
            |it| it.basis = "cohort".into(),
        ];
        for change in outside {
            assert_eq!(alert(change), 0);
        }
    }

    #[test]
    fn fractions_are_those_of_the_page_about_metrics() {
        let mut counts = Counts::default();
        for (outcome, reports) in [
            (Outcome::Delivered, true),
            (Outcome::Delivered, false),
            (Outcome::Opened, false),
            (Outcome::Complained, true),
            (Outcome::Bounced(Refusal::UnknownUser), true),
            (Outcome::Bounced(Refusal::Blocked), false),
        ] {
            counts.add(outcome, reports);
        }
        for (metric, fraction) in [
            ("bounce", (2, 4)),
            ("hard_bounce", (1, 4)),
            ("block_bounce", (1, 4)),
            ("delivery", (2, 4)),
            ("complaint", (1, 1)),
            ("engagement", (1, 2)),
        ] {
            assert_eq!(counts.fraction(metric), Some(fraction), "{metric}");
        }
        assert_eq!(counts.fraction("gap"), None);
    }
}

//! Questions 13, 14, 19 to 21 and 27 to 30: people, stories and the system itself.

use std::collections::{BTreeMap, BTreeSet};

use super::events::{Happened, Truth};
use super::text::{ANY, Row, array, or_null, quantile, round, row, time};
use super::{Others, Parameters};
use crate::questions::feed::RUN;
use crate::questions::mail::{DAY, Form, HOUR, Mail};
use crate::truth::counts::{Counter as C, NAMES};
use crate::truth::message::{By, What};
use crate::truth::payload;
use crate::truth::sources::Source;

/// An incident that people were notified of. Times are unix seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incident {
    pub(crate) family: &'static str,
    pub(crate) opened_at: i64,
    pub(crate) notified_at: i64,
    /// `true`, `false`, `duplicate`, or empty.
    pub(crate) judged: &'static str,
}

/// A record of a source that could not be processed. Times are unix seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed {
    pub(crate) source: &'static str,
    /// `None`: its headers do not say.
    pub(crate) received: Option<i64>,
    /// When its first dead letter was stored.
    pub(crate) archived: i64,
    /// How many dead letters it has.
    pub(crate) letters: u64,
    pub(crate) is_redriven: bool,
}

/// The number of recipients that question 13 lists.
const COMPLAINERS: usize = 100;

/// Returns a link without its query and fragment.
fn cut(link: &str) -> &str {
    link.split(['?', '#']).next().unwrap_or_default()
}

/// Returns the link of a click without its query and fragment.
fn link(it: &Happened<'_>) -> String {
    cut(&it.mail.link(&it.mail.message.facts[it.place]).0).to_owned()
}

fn recipient<'a>(it: &Happened<'a>) -> &'a str {
    &it.mail.message.recipient
}

pub(super) fn who_complained(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let ((from, to), source) = (p.period()?, p.text("source")?);
    let mut firsts: BTreeMap<&str, (i64, &str)> = BTreeMap::new();
    let complaints = truth.of_source(source, from, to);
    for it in complaints.filter(|it| it.counts.contains(&C::Complained)) {
        let new = (it.at, it.mail.message.campaign);
        let first = firsts.entry(recipient(it)).or_insert(new);
        *first = new.min(*first);
    }
    let mut firsts: Vec<_> = firsts.into_iter().collect();
    firsts.sort_by_key(|&(recipient, (at, _))| (-at, recipient));
    let line = |(recipient, (at, campaign)): (&str, (i64, &str))| {
        let is_of = |mail: &&Mail| {
            mail.message.source.name == source && mail.message.recipient == recipient
        };
        let mails = || truth.mails.iter().filter(is_of);
        let before = |what: What| {
            let has = move |mail: &&Mail| mail.first(|it| it == what).is_some_and(|it| it < at);
            mails().filter(has)
        };
        let campaigns: BTreeSet<&str> =
            before(What::Delivered).map(|mail| mail.message.campaign).collect();
        row(&[
            &format!("{}.000000", time(at)),
            &recipient,
            &campaign,
            &before(What::Delivered).count(),
            &before(What::Opened(By::Person)).count(),
            &before(What::Clicked(By::Person)).count(),
            &array(campaigns),
        ])
    };
    Ok(firsts.into_iter().take(COMPLAINERS).map(line).collect())
}

pub(super) fn unsubscribes(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let ((from, to), source) = (p.period()?, p.text("source")?);
    let mut sums: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let unsubscribed = truth.of_source(source, from, to);
    for it in unsubscribed.filter(|it| it.counts.contains(&C::Unsubscribed)) {
        let clicks = truth.of_source(source, from - 30 * DAY, it.at + 1).filter(|click| {
            click.what == What::Clicked(By::Person)
                && click.mail.message.number == it.mail.message.number
        });
        let last = clicks.max_by_key(|click| click.at).map(link);
        *sums.entry((it.mail.message.campaign, last.unwrap_or_default())).or_default() += 1;
    }
    Ok(sums.into_iter().map(|((campaign, link), sum)| row(&[&campaign, &link, &sum])).collect())
}

pub(super) fn links(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let (from, to) = p.period()?;
    let mut sums: BTreeMap<(&str, String), (BTreeSet<&str>, usize, usize)> = BTreeMap::new();
    for it in truth.of_source(p.text("source")?, from, to) {
        let What::Clicked(by) = it.what else { continue };
        let (people, clicks, machines) =
            sums.entry((it.mail.message.campaign, link(it))).or_default();
        if by == By::Person {
            people.insert(recipient(it));
            *clicks += 1;
        } else {
            *machines += 1;
        }
    }
    let lines = sums.into_iter().map(|((campaign, link), (people, clicks, machines))| {
        row(&[&campaign, &link, &people.len(), &clicks, &machines])
    });
    Ok(lines.collect())
}

pub(super) fn conversions(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let (from, to) = p.days()?;
    let (mut clicks, mut values) = (BTreeMap::new(), BTreeMap::new());
    for it in truth.of_source(p.text("source")?, from, to) {
        let (_, value) = it.mail.link(&it.mail.message.facts[it.place]);
        if it.what == What::Clicked(By::Person)
            && let Some(value) = value
        {
            let campaign = it.mail.message.campaign;
            *clicks.entry(campaign).or_insert(0) += 1;
            values.insert((campaign, it.at / DAY, it.mail.message.number), value);
        }
    }
    let line = |(campaign, clicks): (&str, i64)| {
        let values = values.iter().filter(|((of, ..), _)| *of == campaign).map(|(_, value)| value);
        let (messages, sum) = (values.clone().count(), values.sum::<f64>());
        row(&[&campaign, &"purchase", &clicks, &messages, &sum])
    };
    Ok(clicks.into_iter().map(line).collect())
}

/// What is known of one recipient.
#[derive(Default)]
struct Person {
    first_sent: Option<i64>,
    engaged: Option<i64>,
    received: i64,
    opened: i64,
    clicked: i64,
    bounces: i64,
}

impl Person {
    fn add(&mut self, mail: &Mail) {
        let is_engagement = |it| matches!(it, What::Opened(By::Person) | What::Clicked(By::Person));
        let delivered = mail.first(|it| it == What::Delivered);
        let bounced = mail.last(|it| matches!(it, What::Bounced(_)));
        let is_bounced = match (delivered, bounced) {
            (Some(delivered), Some(bounced)) => bounced >= delivered,
            (None, bounced) => bounced.is_some(),
            (Some(_), None) => false,
        };
        let first = mail.first(|_| true);
        self.first_sent = self.first_sent.into_iter().chain(first).min();
        self.engaged = self.engaged.max(mail.last(is_engagement));
        self.received += i64::from(delivered.is_some());
        self.opened += i64::from(mail.first(|it| it == What::Opened(By::Person)).is_some());
        self.clicked += i64::from(mail.first(|it| it == What::Clicked(By::Person)).is_some());
        self.bounces += i64::from(is_bounced);
    }

    fn cohort(&self, now: i64) -> &'static str {
        let is_within = |time: Option<i64>, days: i64| time.is_some_and(|it| it > now - days * DAY);
        if is_within(self.first_sent, 7) {
            "new"
        } else if is_within(self.engaged, 14) {
            "recent"
        } else if is_within(self.engaged, 90) {
            "semi-recent"
        } else if is_within(self.engaged, 365) {
            "not recent"
        } else {
            "never"
        }
    }

    fn score(&self) -> Option<f64> {
        let share = |part: i64| (part as f64 / self.received as f64).min(1.0);
        let less = (0.1 * self.bounces as f64).min(0.5);
        (self.received > 0)
            .then(|| (0.6 * share(self.opened) + 0.4 * share(self.clicked) - less).max(0.0))
    }
}

pub(super) fn cohorts(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let (source, now) = (p.text("source")?, p.time("now")?);
    let mut people: BTreeMap<&str, Person> = BTreeMap::new();
    // Without an id, nothing is known of a message.
    let is_known =
        |mail: &&Mail| mail.message.source.name == source && mail.form != Form::WithoutMessageId;
    for mail in truth.mails.iter().filter(is_known) {
        people.entry(&mail.message.recipient).or_default().add(mail);
    }
    let mut cohorts: BTreeMap<&str, Vec<Person>> = BTreeMap::new();
    for person in people.into_values() {
        cohorts.entry(person.cohort(now)).or_default().push(person);
    }
    let line = |(cohort, people): (&str, Vec<Person>)| {
        let received: i64 = people.iter().map(|it| it.received).sum();
        let bounces: i64 = people.iter().map(|it| it.bounces).sum();
        let scores: Vec<f64> = people.iter().filter_map(Person::score).collect();
        let mean = (!scores.is_empty())
            .then(|| round(scores.iter().sum::<f64>() / scores.len() as f64, 4));
        row(&[&cohort, &people.len(), &received, &bounces, &or_null(mean)])
    };
    Ok(cohorts.into_iter().map(line).collect())
}

/// Returns the id of a message as the canonical event has it.
pub(crate) fn message_id(source: Source, number: u32) -> String {
    testkit::payloads::message_id(source.provider, u128::from(RUN) << 32 | u128::from(number))
}

/// Returns the columns of a story that are about what happened.
fn story(it: &Happened<'_>) -> [String; 4] {
    let names = it.counts.iter().map(|counter| NAMES[*counter as usize]);
    let is_click = matches!(it.what, What::Clicked(_));
    let link = is_click.then(|| it.mail.link(&it.mail.message.facts[it.place]).0);
    // The texts are in the words of the provider, and the reasons for which an event is a machine's have rules of
    // their own.
    [ANY.to_owned(), link.unwrap_or_default(), ANY.to_owned(), array(names)]
}

pub(super) fn message_story(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let id = p.text("id")?;
    let of_message = |it: &&Happened<'_>| {
        let message = &it.mail.message;
        message_id(message.source, message.number) == id
    };
    let line = |it: &Happened<'_>| {
        let message = &it.mail.message;
        let kind = payload::kind(message.source.provider, it.what).as_str();
        let mut row = row(&[
            &format!("{}.000000", time(it.at)),
            &kind,
            &message.recipient,
            &message.mailbox_provider,
            &message.campaign,
        ]);
        row.extend(story(it));
        row
    };
    Ok(truth.happened.iter().filter(of_message).map(line).collect())
}

pub(super) fn recipient_story(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let address = p.text("address")?;
    let line = |it: &Happened<'_>| {
        let message = &it.mail.message;
        let kind = payload::kind(message.source.provider, it.what).as_str();
        let mut row = row(&[
            &format!("{}.000000", time(it.at)),
            &kind,
            &message.source.name,
            &message_id(message.source, message.number),
            &message.campaign,
        ]);
        row.extend(story(it));
        row
    };
    Ok(truth.happened.iter().filter(|it| recipient(it) == address).map(line).collect())
}

pub(super) fn health(
    truth: &Truth<'_>,
    others: &Others<'_>,
    p: &Parameters,
) -> anyhow::Result<Vec<Row>> {
    let (from, to) = p.period()?;
    let mut sources: BTreeMap<_, Vec<&Happened<'_>>> = BTreeMap::new();
    for it in truth.happened.iter().filter(|it| (from..to).contains(&it.received)) {
        let source = it.mail.message.source;
        sources.entry((source.provider.as_str(), source.name)).or_default().push(it);
    }
    let line = |((provider, source), events): ((&str, &str), Vec<&Happened<'_>>)| {
        let count = |is: &dyn Fn(&Happened<'_>) -> bool| events.iter().filter(|it| is(it)).count();
        let is_dead = |failed: &&Failed| {
            let at = failed.received.unwrap_or(failed.archived);
            failed.source == source && !failed.is_redriven && (from..to).contains(&at)
        };
        let dead = others.failed.iter().filter(is_dead);
        let mut delays: Vec<i64> = events.iter().map(|it| it.received - it.at).collect();
        let p50 = quantile(&mut delays, 0.5);
        row(&[
            &provider,
            &source,
            &events.len(),
            &0,
            &count(&|it| it.is_repeated),
            &count(&|it| it.received > it.at + HOUR),
            &count(&|it| it.received > it.at + DAY),
            &count(&|it| it.mail.timeless[it.place]),
            &dead.count(),
            &p50,
            &delays.last().copied().unwrap_or_default(),
        ])
    };
    Ok(sources.into_iter().map(line).collect())
}

pub(super) fn incidents(others: &Others<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let (from, to) = p.period()?;
    let mut families: BTreeMap<&str, Vec<&Incident>> = BTreeMap::new();
    for incident in others.incidents.iter().filter(|it| (from..to).contains(&it.opened_at)) {
        families.entry(incident.family).or_default().push(incident);
    }
    let line = |(family, incidents): (&str, Vec<&Incident>)| {
        let judged = |verdict: &str| incidents.iter().filter(|it| it.judged == verdict).count();
        let mut seconds: Vec<i64> =
            incidents.iter().map(|it| it.notified_at - it.opened_at).collect();
        let p50 = quantile(&mut seconds, 0.5);
        row(&[
            &family,
            &incidents.len(),
            &judged("true"),
            &judged("false"),
            &judged("duplicate"),
            &judged(""),
            &p50,
            &seconds.last().copied().unwrap_or_default(),
        ])
    };
    Ok(families.into_iter().map(line).collect())
}

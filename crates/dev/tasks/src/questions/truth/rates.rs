//! Questions 1 to 5 and 17: rates by time, mailbox provider and campaign.

use std::collections::{BTreeMap, BTreeSet};

use super::Parameters;
use super::events::{Happened, Truth};
use super::text::{Row, hour, or_null, quarter, rate, ratio, round, row, time, wilson, zoned};
use crate::questions::mail::HOUR;
use crate::truth::counts::{Counter as C, Counts};

/// Returns the counts of everything that has a key, also of what counts for nothing.
fn by<'a, K: Ord>(
    truth: &Truth<'a>,
    source: &str,
    key: impl Fn(&Happened<'a>) -> Option<K>,
    key_of: impl Fn(i64, &'a str) -> Option<K>,
) -> BTreeMap<K, Counts> {
    let of_source = truth.happened.iter().filter(|it| it.mail.message.source.name == source);
    let keys: BTreeSet<K> = of_source.filter_map(key).collect();
    let mut sums = truth.sums(|count| {
        let message = &count.mail.message;
        let is_selected = message.source.name == source;
        is_selected.then(|| key_of(count.at, message.mailbox_provider)).flatten()
    });
    for key in keys {
        sums.entry(key).or_default();
    }
    sums
}

pub(super) fn by_quarter(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let (from, to) = p.period()?;
    let key = |at: i64, mailbox| (from..to).contains(&at).then(|| (quarter(at), mailbox));
    let sums = by(truth, p.text("source")?, |it| key(it.at, it.mail.message.mailbox_provider), key);
    let line = |((at, mailbox), sum): ((i64, &str), Counts)| {
        let (sent, bounced) = (sum.sent(), sum.bounced());
        let ends = wilson(bounced, sent);
        let judged = sent + sum[C::Deferred] - sum[C::DeferredSettled];
        row(&[
            &time(at),
            &mailbox,
            &sent,
            &bounced,
            &rate(bounced, sent),
            &or_null(ends.map(|ends| round(ends.0, 4))),
            &or_null(ends.map(|ends| round(ends.1, 4))),
            &sum[C::Deferred],
            &rate(sum[C::Deferred], judged),
            &sum[C::Complained],
            &sum[C::DeliveredFbl],
            &rate(sum[C::Complained], sum[C::DeliveredFbl]),
        ])
    };
    Ok(sums.into_iter().map(line).collect())
}

pub(super) fn by_local_day(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let zone = p.zone()?;
    let (first, last) = (p.date("first_day")?, p.date("last_day")?);
    let key = |at: i64, mailbox| {
        let day = zoned(at, &zone).date();
        (first..=last).contains(&day).then_some((day, mailbox))
    };
    let sums = by(truth, p.text("source")?, |it| key(it.at, it.mail.message.mailbox_provider), key);
    let line = |((day, mailbox), sum): (_, Counts)| {
        let day: jiff::civil::Date = day;
        let mailbox: &str = mailbox;
        let (sent, delivered) = (sum.sent(), sum[C::Delivered]);
        row(&[
            &day,
            &mailbox,
            &sent,
            &sum.bounced(),
            &rate(sum.bounced(), sent),
            &sum[C::BouncedHard],
            &rate(sum[C::BouncedHard], sent),
            &sum[C::Opened],
            &delivered,
            &rate(sum[C::Opened], delivered),
            &sum[C::Complained],
            &sum[C::DeliveredFbl],
            &rate(sum[C::Complained], sum[C::DeliveredFbl]),
        ])
    };
    Ok(sums.into_iter().map(line).collect())
}

pub(super) fn same_weekday(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let (zone, day, until) = (p.zone()?, p.date("day")?, p.text("until")?);
    let key = |at: i64, mailbox| {
        let local = zoned(quarter(at), &zone);
        let days = (day - local.date()).get_days();
        let is_selected = (0..=28).contains(&days)
            && days % 7 == 0
            && local.strftime("%H:%M").to_string().as_str() < until;
        is_selected.then_some((mailbox, days == 0))
    };
    let mut sums =
        by(truth, p.text("source")?, |it| key(it.at, it.mail.message.mailbox_provider), key);
    let mailboxes: BTreeSet<&str> = sums.keys().map(|(mailbox, _)| *mailbox).collect();
    let line = |mailbox| {
        let today = sums.remove(&(mailbox, true)).unwrap_or_default();
        let usual = sums.remove(&(mailbox, false)).unwrap_or_default();
        let now_rate = ratio(today.bounced(), today.sent(), 4);
        let usual_rate = ratio(usual.bounced(), usual.sent(), 4);
        let times = match (now_rate, usual_rate) {
            (Some(now), Some(usual)) if usual > 0.0 => Some(round(now / usual, 2)),
            _ => None,
        };
        row(&[
            &mailbox,
            &today.sent(),
            &(usual.sent() as f64 / 4.0),
            &today.bounced(),
            &or_null(now_rate),
            &or_null(usual_rate),
            &or_null(times),
        ])
    };
    Ok(mailboxes.into_iter().map(line).collect())
}

pub(super) fn campaign_funnel(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let source = p.text("source")?;
    let mut began = BTreeMap::new();
    for it in truth.happened.iter().filter(|it| it.mail.message.source.name == source) {
        let began = began.entry(it.mail.message.campaign).or_insert(i64::MAX);
        *began = quarter(it.at).min(*began);
    }
    let sums = truth.sums(|count| {
        let message = &count.mail.message;
        (message.source.name == source).then_some(message.campaign)
    });
    let line = |(campaign, began): (&str, i64)| {
        let sum = sums.get(campaign).copied().unwrap_or_default();
        let (sent, delivered) = (sum.sent(), sum[C::Delivered]);
        row(&[
            &campaign,
            &time(began),
            &sum[C::Injected],
            &sent,
            &delivered,
            &sum.bounced(),
            &sum[C::LateBounces],
            &sum[C::Opened],
            &sum[C::MachineOpened],
            &sum[C::Clicked],
            &sum[C::Complained],
            &sum[C::Unsubscribed],
            &rate(delivered, sent),
            &rate(sum.bounced(), sent),
            &rate(sum[C::Opened], delivered),
            &rate(sum[C::Opened] + sum[C::MachineOpened], delivered),
            &rate(sum[C::Clicked], delivered),
            &rate(sum[C::Complained], delivered),
            &rate(sum[C::Unsubscribed], delivered),
        ])
    };
    Ok(began.into_iter().map(line).collect())
}

/// The counters that cohorts have.
const OF_COHORTS: [C; 15] = [
    C::Delivered,
    C::BouncedHard,
    C::BouncedSoft,
    C::BouncedBlock,
    C::BouncedUndetermined,
    C::LateBounces,
    C::DeliveredFbl,
    C::LateBouncesFbl,
    C::Opened,
    C::Clicked,
    C::Engaged,
    C::MachineOpened,
    C::MachineClicked,
    C::Complained,
    C::Unsubscribed,
];

pub(super) fn at_equal_age(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let (source, hours, now) = (p.text("source")?, p.number("hours")?, p.time("now")?);
    let mut last_hours: BTreeMap<&str, i64> = BTreeMap::new();
    let sums = truth.sums(|count| {
        let message = &count.mail.message;
        let is_selected = message.source.name == source
            && count.sent_hour.is_some()
            && count.age < hours
            && OF_COHORTS.contains(&count.counter);
        is_selected.then_some(message.campaign)
    });
    for count in truth.counts.iter().filter(|count| count.mail.message.source.name == source) {
        if let Some(sent) = count.sent_hour
            && count.age < hours
            && OF_COHORTS.contains(&count.counter)
        {
            let last = last_hours.entry(count.mail.message.campaign).or_insert(i64::MIN);
            *last = sent.max(*last);
        }
    }
    let mut rows = Vec::new();
    for (campaign, sum) in sums {
        let last = last_hours.get(campaign).copied().unwrap_or_default();
        if last + HOUR > now - hours * HOUR {
            continue;
        }
        let accepted = sum[C::Delivered] - sum[C::LateBounces];
        rows.push(row(&[
            &campaign,
            &time(hour(last)),
            &sum[C::Delivered],
            &sum[C::LateBounces],
            &accepted,
            &sum[C::Opened],
            &rate(sum[C::Opened], accepted),
            &sum[C::Clicked],
            &rate(sum[C::Clicked], accepted),
            &sum[C::Complained],
            &sum[C::Unsubscribed],
        ]));
    }
    Ok(rows)
}

pub(super) fn people_and_machines(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let (from, to) = p.period()?;
    let key = |at: i64, mailbox| (from..to).contains(&at).then_some(mailbox);
    let sums = by(truth, p.text("source")?, |it| key(it.at, it.mail.message.mailbox_provider), key);
    let line = |(mailbox, sum): (&str, Counts)| {
        let delivered = sum[C::Delivered];
        row(&[
            &mailbox,
            &delivered,
            &sum[C::Opened],
            &sum[C::MachineOpened],
            &rate(sum[C::Opened], delivered),
            &rate(sum[C::Opened] + sum[C::MachineOpened], delivered),
            &sum[C::Clicked],
            &sum[C::MachineClicked],
            &rate(sum[C::Clicked], delivered),
        ])
    };
    Ok(sums.into_iter().map(line).collect())
}

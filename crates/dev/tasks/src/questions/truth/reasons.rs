//! Questions 6 to 8, 15 and 16: refusals and times, from single events.

use std::collections::{BTreeMap, BTreeSet};

use super::Parameters;
use super::events::{Happened, Truth};
use super::text::{Row, quantile, rate, row};
use crate::questions::mail::{DAY, SECOND};
use crate::truth::counts::Counter as C;
use crate::truth::message::{Bounce, By, What};
use crate::truth::payload;
use crate::truth::sources::Carried;

const BOUNCES: [C; 5] =
    [C::BouncedHard, C::BouncedSoft, C::BouncedBlock, C::BouncedUndetermined, C::LateBounces];

/// Returns class, permanence, side and status of a bounce, by the answers in [`payload::answer`].
fn reason(what: What) -> Option<[&'static str; 4]> {
    Some(match what {
        What::Bounced(Bounce::Hard) => ["invalid_recipient", "hard", "recipient", "5.1.1"],
        What::Bounced(Bounce::Soft) => ["mailbox_full", "soft", "recipient", "4.2.2"],
        What::Bounced(Bounce::Block) => ["reputation", "soft", "sender", "5.7.1"],
        What::Bounced(Bounce::Unauthenticated) => ["authentication", "hard", "sender", "5.7.26"],
        _ => return None,
    })
}

pub(super) fn of_campaign(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let ((from, to), campaign) = (p.period()?, p.text("campaign")?);
    let mut reasons: BTreeMap<_, Vec<&Happened<'_>>> = BTreeMap::new();
    for it in truth.of_source(p.text("source")?, from, to) {
        if let Some([class, permanence, side, _]) = reason(it.what)
            && it.mail.message.campaign == campaign
        {
            reasons.entry([class, permanence, side]).or_default().push(it);
        }
    }
    let line = |([class, permanence, side], events): ([&str; 3], Vec<&Happened<'_>>)| {
        let counting = |counters: &[C]| {
            let counts = |it: &&&Happened<'_>| it.counts.iter().any(|it| counters.contains(it));
            events.iter().filter(counts).count()
        };
        let mailboxes: BTreeSet<_> =
            events.iter().map(|it| it.mail.message.mailbox_provider).collect();
        let example = events.iter().max_by_key(|it| it.at).and_then(|it| payload::answer(it.what));
        row(&[
            &class,
            &permanence,
            &side,
            &counting(&BOUNCES),
            &counting(&[C::LateBounces]),
            &mailboxes.len(),
            &example.unwrap_or_default(),
        ])
    };
    Ok(reasons.into_iter().map(line).collect())
}

pub(super) fn new_reasons(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let now = p.time("now")?;
    let mut reasons: BTreeMap<_, [usize; 8]> = BTreeMap::new();
    // The period is open at its beginning and closed at its end.
    for it in truth.of_source(p.text("source")?, now - 8 * DAY + 1, now + 1) {
        if let Some([class, _, _, status]) = reason(it.what) {
            let days = usize::try_from((now - it.at) / DAY)?;
            let key = (it.mail.message.mailbox_provider, class, status);
            reasons.entry(key).or_default()[days] += 1;
        }
    }
    let mut rows = Vec::new();
    for ((mailbox, class, status), [last, before @ ..]) in reasons {
        let mut sorted = before;
        sorted.sort_unstable();
        if last > 0 && last >= 3 * sorted[3] {
            let days: Vec<String> = before.iter().map(ToString::to_string).collect();
            let days = format!("[{}]", days.join(","));
            rows.push(row(&[&mailbox, &class, &status, &last, &days, &sorted[3]]));
        }
    }
    Ok(rows)
}

pub(super) fn by_list(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let ((from, to), source) = (p.period()?, p.text("source")?);
    let mut lists: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for mail in truth.mails.iter().filter(|mail| mail.message.source.name == source) {
        // What the message had counted for a day after the period.
        let mut message = mail.message.clone();
        message.facts.retain(|fact| fact.at.counted_at() < (to + DAY) * SECOND);
        for counted in message.counts() {
            let is_sent =
                counted.counter == C::Delivered || BOUNCES[..4].contains(&counted.counter);
            if is_sent && (from * SECOND..to * SECOND).contains(&counted.at) {
                let (sent, hard) = lists.entry(mail.list).or_default();
                *sent += 1;
                *hard += i64::from(counted.counter == C::BouncedHard);
            }
        }
    }
    let line =
        |(list, (sent, hard)): (&str, (i64, i64))| row(&[&list, &sent, &hard, &rate(hard, sent)]);
    Ok(lists.into_iter().map(line).collect())
}

pub(super) fn time_to_deliver(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let (from, to) = p.period()?;
    let mut times: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for it in truth.of_source(p.text("source")?, from, to) {
        let message = &it.mail.message;
        if it.counts.contains(&C::Delivered)
            && Carried::by(message.source.provider, it.what).sent_at
        {
            let seconds = (it.at - message.sent_at / SECOND).max(0);
            times.entry(message.mailbox_provider).or_default().push(seconds);
        }
    }
    let line = |(mailbox, mut seconds): (&str, Vec<i64>)| {
        let longest = seconds.iter().max().copied().unwrap_or_default();
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|part| quantile(&mut seconds, part));
        row(&[&mailbox, &seconds.len(), &p50, &p90, &p99, &longest])
    };
    Ok(times.into_iter().map(line).collect())
}

pub(super) fn time_to_open(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let (from, to) = p.period()?;
    let mut times: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for it in truth.of_source(p.text("source")?, from, to) {
        let message = &it.mail.message;
        if it.what == What::Opened(By::Person)
            && it.counts.contains(&C::Opened)
            && let Some(sent) = message.cohort(it.what)
        {
            times.entry(message.campaign).or_default().push((it.at - sent / SECOND).max(0));
        }
    }
    let line = |(campaign, mut seconds): (&str, Vec<i64>)| {
        let [p25, p50, p75, p90] = [0.25, 0.5, 0.75, 0.9].map(|part| quantile(&mut seconds, part));
        row(&[&campaign, &seconds.len(), &p25, &p50, &p75, &p90])
    };
    Ok(times.into_iter().map(line).collect())
}

//! Questions 9 to 12, 18, 22 and 23: sums by sending address, domain and age.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;

use super::Parameters;
use super::events::{Count, Truth};
use super::text::{Row, array, day, or_null, rate, ratio, round, row, wilson, zoned};
use crate::questions::mail::{DAY, HOUR};
use crate::truth::counts::{Counter as C, Counts};

/// Returns a selection of the counts of a source in a period.
fn selected(source: &str, from: i64, to: i64) -> impl Fn(&Count<'_>) -> bool {
    move |count| count.mail.message.source.name == source && (from..to).contains(&count.at)
}

pub(super) fn blocks(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let (from, to) = p.period()?;
    let is_selected = selected(p.text("source")?, from, to);
    let sums = truth.sums(|count| {
        is_selected(count).then_some((count.sending_ip, count.mail.message.mailbox_provider))
    });
    let mut rows = Vec::new();
    for ((address, mailbox), sum) in sums {
        let (sent, blocks) = (sum.sent(), sum[C::BouncedBlock]);
        if sent == 0 && sum[C::Deferrals] == 0 {
            continue;
        }
        rows.push(row(&[
            &address,
            &mailbox,
            &sent,
            &blocks,
            &rate(blocks, sent),
            &or_null(wilson(blocks, sent).map(|ends| round(ends.0, 4))),
            &sum[C::Deferrals],
            &sum[C::Throttled],
            &sum[C::Listed],
        ]));
    }
    Ok(rows)
}

pub(super) fn authentication(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let (from, to) = p.period()?;
    let is_selected = selected(p.text("source")?, from, to);
    let domain = |count: &Count<'_>| count.mail.message.sender.1;
    let sums = truth.sums(|count| is_selected(count).then(|| domain(count)));
    let refused = |of: &str| -> BTreeSet<&str> {
        let counts = truth.counts.iter().filter(|count| is_selected(count) && domain(count) == of);
        let refused = counts.filter(|count| count.counter == C::AuthRefused);
        refused.map(|count| count.mail.message.mailbox_provider).collect()
    };
    let mut rows = Vec::new();
    for (domain, sum) in sums {
        let (sent, auth) = (sum.sent(), sum[C::AuthRefused]);
        if sent > 0 || auth > 0 {
            rows.push(row(&[&domain, &sent, &auth, &rate(auth, sent), &array(refused(domain))]));
        }
    }
    Ok(rows)
}

pub(super) fn complaint_curve(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let ((from, to), now, source) = (p.period()?, p.time("now")?, p.text("source")?);
    let oldest = from - p.number("reference_days")? * DAY;
    let newest = from.min(now - 8 * DAY);
    let sent = |count: &Count<'_>, from: i64, to: i64| {
        count.mail.message.source.name == source
            && count.sent_hour.is_some_and(|hour| (from..to).contains(&hour))
            && count.counter != C::Injected
    };
    let reference = truth.sums(|count| sent(count, oldest, newest).then_some(count.age));
    let total: i64 = reference.values().map(|sum| sum[C::Complained]).sum();
    let until =
        |age: i64| -> i64 { reference.range(..age).map(|(_, sum)| sum[C::Complained]).sum() };
    // Ages up to a day are full hours and then full days, within which complaints arrive evenly.
    let arrived = |hours: i64| {
        let last = if hours < 24 { hours } else { hours / 24 * 24 };
        let of_last = reference.get(&last).map_or(0, |sum| sum[C::Complained]);
        until(last) as f64 + of_last as f64 * (hours - last) as f64 / 24.0
    };
    let period = truth.sums(|count| sent(count, from, to).then_some(count.sent_hour));
    let accepted = |sum: &Counts| sum[C::DeliveredFbl] - sum[C::LateBouncesFbl];
    let complained: i64 = period.values().map(|sum| sum[C::Complained]).sum();
    let all: i64 = period.values().map(accepted).sum();
    let weighted = period.iter().map(|(hour, sum)| {
        let age = (now - hour.unwrap_or(now)) / HOUR;
        accepted(sum) as f64 * arrived(age) / total as f64
    });
    let weighted: f64 = weighted.sum();
    let estimate = (weighted > 0.0).then(|| round(complained as f64 / weighted, 5));
    let line = |age: &i64| {
        let so_far = until(age + 1);
        row(&[
            age,
            &so_far,
            &rate(so_far, total),
            &complained,
            &all,
            &or_null(ratio(complained, all, 5)),
            &or_null(estimate),
        ])
    };
    // Rows of cohorts also have ages at which nobody complained.
    Ok(reference.iter().filter(|(_, sum)| !sum.is_zero()).map(|(age, _)| line(age)).collect())
}

pub(super) fn complaints_four_ways(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let ((from, to), source) = (p.period()?, p.text("source")?);
    let of = |is_cohort: bool| {
        let sums = truth.sums(|count| {
            let time = if is_cohort { count.sent_hour } else { Some(count.at) };
            let is_in = time.is_some_and(|time| (from..to).contains(&time));
            (is_in && count.mail.message.source.name == source).then_some(())
        });
        sums.into_values().next().unwrap_or_default()
    };
    let line = |basis: &str, sum: Counts, late: i64, late_fbl: i64| {
        let (reporting, all) = (sum[C::DeliveredFbl] - late_fbl, sum[C::Delivered] - late);
        let complained = sum[C::Complained];
        row(&[
            &basis,
            &complained,
            &reporting,
            &or_null(ratio(complained, reporting, 5)),
            &all,
            &or_null(ratio(complained, all, 5)),
        ])
    };
    let cohort = of(true);
    Ok(vec![
        line("arrival", of(false), 0, 0),
        line("cohort", cohort, cohort[C::LateBounces], cohort[C::LateBouncesFbl]),
    ])
}

pub(super) fn machine_clicks(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let (from, to) = p.days()?;
    let is_selected = selected(p.text("source")?, from, to);
    let sums = truth.sums(|count| is_selected(count).then(|| count.mail.domain()));
    let mut rows = Vec::new();
    for (domain, sum) in sums {
        let (clicked, machines) = (sum[C::Clicked], sum[C::MachineClicked]);
        if machines > 0 {
            let share = rate(machines, clicked + machines);
            rows.push(row(&[&domain, &sum[C::Delivered], &clicked, &machines, &share]));
        }
    }
    Ok(rows)
}

pub(super) fn unengaged_domains(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let ((from, to), least) = (p.days()?, p.number("least")?);
    let is_selected = selected(p.text("source")?, from, to);
    let sums = truth.sums(|count| {
        is_selected(count).then(|| (count.mail.domain(), count.mail.message.mailbox_provider))
    });
    let mut rows = Vec::new();
    for ((domain, mailbox), sum) in sums {
        let (delivered, engaged) = (sum[C::Delivered], sum[C::Engaged]);
        if delivered >= least {
            let unengaged = (delivered - engaged).max(0);
            let share = rate(engaged, delivered);
            rows.push(row(&[&domain, &mailbox, &delivered, &engaged, &unengaged, &share]));
        }
    }
    Ok(rows)
}

pub(super) fn list_decay(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let from = p.start("first_week", &TimeZone::UTC)?;
    let to = p.start("last_week", &TimeZone::UTC)? + 7 * DAY;
    let is_selected = selected(p.text("source")?, from, to);
    let monday = |at: i64| {
        let weekday = zoned(at, &TimeZone::UTC).weekday().to_monday_zero_offset();
        at.div_euclid(DAY) * DAY - i64::from(weekday) * DAY
    };
    let sums: BTreeMap<i64, Counts> =
        truth.sums(|count| is_selected(count).then(|| monday(count.at)));
    let line = |(week, sum): (i64, Counts)| {
        let lost =
            sum[C::BouncedHard] + sum[C::LateBounces] + sum[C::Complained] + sum[C::Unsubscribed];
        row(&[
            &day(week),
            &sum.sent(),
            &sum[C::BouncedHard],
            &sum[C::LateBounces],
            &sum[C::Complained],
            &sum[C::Unsubscribed],
            &lost,
            &rate(lost, sum.sent()),
            &rate(sum[C::Engaged], sum[C::Delivered]),
        ])
    };
    Ok(sums.into_iter().map(line).collect())
}

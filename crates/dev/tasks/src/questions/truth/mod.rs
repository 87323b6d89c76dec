//! The true answers, computed from the generated mail and not by SQL.

pub(crate) mod events;
mod people;
pub(crate) mod predictions;
mod rates;
mod reasons;
mod sums;
pub(crate) mod suppressions;
mod text;

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

pub(super) use events::Truth;
pub(super) use people::{Failed, Incident, message_id};
use predictions::{BestTime, Score};
pub(super) use text::{ANY, Row};

/// The values of the parameters of a question.
#[derive(Debug, Clone)]
pub(super) struct Parameters(pub(super) BTreeMap<String, String>);

impl Parameters {
    fn text(&self, name: &str) -> anyhow::Result<&str> {
        self.0.get(name).map(String::as_str).with_context(|| format!("no parameter {name}"))
    }

    fn number(&self, name: &str) -> anyhow::Result<i64> {
        Ok(self.text(name)?.parse()?)
    }

    /// Returns a time in UTC as unix seconds.
    fn time(&self, name: &str) -> anyhow::Result<i64> {
        let time: DateTime = self.text(name)?.parse()?;
        Ok(time.to_zoned(TimeZone::UTC)?.timestamp().as_second())
    }

    fn date(&self, name: &str) -> anyhow::Result<Date> {
        Ok(self.text(name)?.parse()?)
    }

    fn zone(&self) -> anyhow::Result<TimeZone> {
        Ok(TimeZone::get(self.text("zone")?)?)
    }

    /// Returns the first moment of a day, as unix seconds.
    fn start(&self, name: &str, zone: &TimeZone) -> anyhow::Result<i64> {
        Ok(self.date(name)?.to_zoned(zone.clone())?.timestamp().as_second())
    }

    /// Returns the first moment after a day, as unix seconds.
    fn end(&self, name: &str, zone: &TimeZone) -> anyhow::Result<i64> {
        Ok(self.date(name)?.tomorrow()?.to_zoned(zone.clone())?.timestamp().as_second())
    }

    /// Returns the period from `from` until before `to`, as unix seconds.
    fn period(&self) -> anyhow::Result<(i64, i64)> {
        Ok((self.time("from")?, self.time("to")?))
    }

    /// Returns the period from the first to the last day in UTC, as unix seconds.
    fn days(&self) -> anyhow::Result<(i64, i64)> {
        Ok((self.start("first_day", &TimeZone::UTC)?, self.end("last_day", &TimeZone::UTC)?))
    }
}

/// What the questions are about besides mail.
pub(super) struct Others<'a> {
    pub(super) incidents: &'a [Incident],
    pub(super) failed: &'a [Failed],
    pub(super) best_times: &'a [BestTime],
    pub(super) scores: &'a [Score],
}

/// Returns the rows of the true answer to a question, in any order.
pub(super) fn answer(
    number: u32,
    truth: &Truth<'_>,
    others: &Others<'_>,
    parameters: &Parameters,
) -> anyhow::Result<Vec<Row>> {
    let p = parameters;
    match number {
        1 => rates::by_quarter(truth, p),
        2 => rates::by_local_day(truth, p),
        3 => rates::same_weekday(truth, p),
        4 => rates::campaign_funnel(truth, p),
        5 => rates::at_equal_age(truth, p),
        6 => reasons::of_campaign(truth, p),
        7 => reasons::new_reasons(truth, p),
        8 => reasons::by_list(truth, p),
        9 => sums::blocks(truth, p),
        10 => sums::authentication(truth, p),
        11 => sums::complaint_curve(truth, p),
        12 => sums::complaints_four_ways(truth, p),
        13 => people::who_complained(truth, p),
        14 => people::unsubscribes(truth, p),
        15 => reasons::time_to_deliver(truth, p),
        16 => reasons::time_to_open(truth, p),
        17 => rates::people_and_machines(truth, p),
        18 => sums::machine_clicks(truth, p),
        19 => people::links(truth, p),
        20 => people::conversions(truth, p),
        21 => people::cohorts(truth, p),
        22 => sums::unengaged_domains(truth, p),
        23 => sums::list_decay(truth, p),
        24 => predictions::best_times(others, p),
        25 => predictions::calibration(others, p),
        26 => suppressions::suppressed(truth, p),
        27 => people::message_story(truth, p),
        28 => people::recipient_story(truth, p),
        29 => people::health(truth, others, p),
        30 => people::incidents(others, p),
        _ => bail!("question {number} has no true answer; add it to questions/truth"),
    }
}

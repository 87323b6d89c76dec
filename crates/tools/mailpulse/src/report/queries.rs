//! The queries of a report. Counts come from the rollups; what no rollup has comes from the events of the
//! period: kinds, unique recipients, minutes, the time of processing, and the reasons of bounces.

mod events;

use clickhouse::{Row, RowOwned, RowRead};
use event::Counter;
use jiff::{Timestamp, ToSpan, Zoned};
use serde::Deserialize;
use window::{BOUNCES, Counts};

use super::data::{
    CounterLine, Country, Course, Group, IncidentLine, Pace, Point, RateLine, Report, ReportPeriod,
    Speed, Totals,
};
use super::period::{Period, Step};
use crate::database::{Database, literal};

/// The counters in `traffic_domain`.
const OF_DOMAINS: [Counter; 15] = [
    Counter::Delivered,
    Counter::DeliveredFbl,
    Counter::Deferred,
    Counter::BouncedHard,
    Counter::BouncedSoft,
    Counter::BouncedBlock,
    Counter::BouncedUndetermined,
    Counter::LateBounces,
    Counter::Opened,
    Counter::Clicked,
    Counter::Engaged,
    Counter::MachineOpened,
    Counter::MachineClicked,
    Counter::Complained,
    Counter::Unsubscribed,
];

/// How many campaigns and domains a report has.
const TOP: usize = 10;
/// Values that are no campaign. Corrections belong to `(several)` if the events of their message disagree.
const NO_CAMPAIGN: &str = "'', '(several)'";
/// How many incidents a report has.
const INCIDENTS: usize = 50;
const SECONDS_PER_HOUR: f64 = 3600.0;
const SECONDS_PER_MINUTE: f64 = 60.0;

/// Asks for everything.
///
/// # Errors
/// If ClickHouse does not answer, or has no such tables.
pub(super) fn report(database: &Database, period: &Period) -> anyhow::Result<Report> {
    let source = Source { database, period };
    let (events, counts) = source.totals()?;
    let facts = source.facts()?;
    Ok(Report {
        period: source.period(),
        totals: Totals {
            events,
            sent: window::sent(&counts),
            unique_recipients: facts.recipients,
            active_campaigns: source.active_campaigns()?,
        },
        counters: CounterLine::all(&counts),
        rates: RateLine::all(&counts),
        kinds: source.kinds()?,
        providers: source.groups("provider", None)?,
        mailbox_providers: source.groups("mailbox_provider", None)?,
        campaigns: source.groups("campaign", Some(TOP))?,
        domains: source.domains()?,
        countries: source.countries()?,
        bounce_reasons: source.bounce_reasons()?,
        processing: facts.processing(),
        pace: source.pace(events)?,
        course: source.course()?,
        incidents: source.incidents()?,
    })
}

/// A database, and the period that is asked about.
#[derive(Clone, Copy)]
struct Source<'a> {
    database: &'a Database,
    period: &'a Period,
}

#[derive(Row, Deserialize)]
struct CountsRow {
    name: String,
    events: i64,
    /// In the order of the counters that were asked for.
    counts: Vec<i64>,
}

#[derive(Row, Deserialize)]
struct Peak {
    start: u32,
    events: i64,
}

#[derive(Row, Deserialize)]
struct Number {
    name: String,
    number: u64,
}

#[derive(Row, Deserialize)]
struct CountryRow {
    country: String,
    opened: i64,
    clicked: i64,
}

#[derive(Row, Deserialize)]
struct IncidentRow {
    id: String,
    severity: String,
    state: String,
    family: String,
    opened_at: i64,
    summary: String,
}

impl Source<'_> {
    fn rows<T: RowOwned + RowRead>(self, sql: &str) -> anyhow::Result<Vec<T>> {
        Ok(self.database.rows(sql, &[])?)
    }

    fn first<T: RowOwned + RowRead>(self, sql: &str) -> anyhow::Result<Option<T>> {
        Ok(self.rows(sql)?.into_iter().next())
    }

    fn period(self) -> ReportPeriod {
        let Period { from, to, first_day, last_day, source, now, .. } = self.period;
        ReportPeriod {
            from: self.local(*from),
            to: self.local(*to),
            first_day: first_day.to_string(),
            last_day: last_day.to_string(),
            zone: self.period.zone_name().to_owned(),
            source: source.clone(),
            made_at: self.local(*now),
        }
    }

    /// Returns a time with the offset of the zone, to the second.
    fn local(self, time: Timestamp) -> String {
        let offset = self.period.zone.to_offset(time);
        format!("{:.0}", time.display_with_offset(offset))
    }

    fn totals(self) -> anyhow::Result<(u64, Counts)> {
        let sql = format!(
            "SELECT '' AS name, sum(events) AS events, {} AS counts FROM traffic WHERE {}",
            sums(Counter::ALL),
            self.period.of_quarters()
        );
        let row: Option<CountsRow> = self.first(&sql)?;
        Ok(row.map_or_else(Default::default, |row| {
            (row.events.max(0).cast_unsigned(), counts(Counter::ALL, &row.counts))
        }))
    }

    /// Returns the groups of a column of `traffic`, those with the most messages first.
    fn groups(self, column: &str, top: Option<usize>) -> anyhow::Result<Vec<Group>> {
        let without = if column == "campaign" { NO_CAMPAIGN } else { "''" };
        let limit = top.map(|top| format!(" LIMIT {top}")).unwrap_or_default();
        let sql = format!(
            "SELECT toString({column}) AS name, sum(events) AS events, {} AS counts FROM traffic WHERE {} \
             AND {column} NOT IN ({without}) GROUP BY name ORDER BY {} DESC, name{limit}",
            sums(Counter::ALL),
            self.period.of_quarters(),
            sent(),
        );
        let rows: Vec<CountsRow> = self.rows(&sql)?;
        Ok(rows
            .into_iter()
            .map(|row| Group::of(row.name, &counts(Counter::ALL, &row.counts)))
            .collect())
    }

    fn domains(self) -> anyhow::Result<Vec<Group>> {
        let sql = format!(
            "SELECT toString(recipient_domain) AS name, toInt64(0) AS events, {} AS counts \
             FROM traffic_domain WHERE {} AND recipient_domain != '' GROUP BY name \
             ORDER BY {} DESC, name LIMIT {TOP}",
            sums(&OF_DOMAINS),
            self.period.of_days(),
            sent(),
        );
        let rows: Vec<CountsRow> = self.rows(&sql)?;
        Ok(rows
            .into_iter()
            .map(|row| Group::of(row.name, &counts(&OF_DOMAINS, &row.counts)))
            .collect())
    }

    fn countries(self) -> anyhow::Result<Vec<Country>> {
        let sql = format!(
            "SELECT toString(geo_country) AS country, sum(opened) AS opened, sum(clicked) AS clicked \
             FROM traffic_country WHERE {} AND geo_country != '' GROUP BY country HAVING opened > 0 OR clicked > 0 \
             ORDER BY opened + clicked DESC, country LIMIT 50",
            self.period.of_days()
        );
        let rows: Vec<CountryRow> = self.rows(&sql)?;
        let country = |row: CountryRow| Country {
            country: row.country,
            opened: row.opened.max(0).cast_unsigned(),
            clicked: row.clicked.max(0).cast_unsigned(),
        };
        Ok(rows.into_iter().map(country).collect())
    }

    fn active_campaigns(self) -> anyhow::Result<u64> {
        let sql = format!(
            "SELECT '' AS name, uniqExact(source, provider, campaign) AS number FROM traffic \
             WHERE {} AND campaign NOT IN ({NO_CAMPAIGN}) AND events > 0",
            self.period.of_quarters()
        );
        Ok(self.first::<Number>(&sql)?.map_or(0, |row| row.number))
    }

    fn pace(self, events: u64) -> anyhow::Result<Pace> {
        let by_hour = format!(
            "SELECT toUnixTimestamp(toStartOfHour(at15, {})) AS start, sum(events) AS events FROM traffic \
             WHERE {} GROUP BY start HAVING events > 0 ORDER BY events DESC, start LIMIT 1",
            self.zone(),
            self.period.of_quarters()
        );
        let by_minute = format!(
            "SELECT toUnixTimestamp(toStartOfMinute(at)) AS start, toInt64(count()) AS events FROM events \
             WHERE {} GROUP BY start ORDER BY events DESC, start LIMIT 1",
            self.period.of_events()
        );
        Ok(Pace {
            per_hour: self.speed(events, SECONDS_PER_HOUR, &by_hour)?,
            per_minute: self.speed(events, SECONDS_PER_MINUTE, &by_minute)?,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "events and seconds stay far below 2^53")]
    fn speed(self, events: u64, seconds: f64, peak: &str) -> anyhow::Result<Speed> {
        let peak: Option<Peak> = self.first(peak)?;
        let at = |peak: &Peak| Timestamp::from_second(i64::from(peak.start)).ok();
        Ok(Speed {
            avg: events as f64 * seconds / self.period.passed_seconds() as f64,
            peak: peak.as_ref().map_or(0, |peak| peak.events.max(0).cast_unsigned()),
            peak_at: peak.as_ref().and_then(at).map(|at| self.local(at)),
        })
    }

    fn course(self) -> anyhow::Result<Course> {
        let step = self.period.step();
        let start = match step {
            Step::Hour => format!("toStartOfHour(at15, {})", self.zone()),
            Step::Day => format!("toStartOfDay(at15, {})", self.zone()),
        };
        let sql = format!(
            "SELECT toString(toUnixTimestamp({start})) AS name, sum(events) AS events, {} AS counts \
             FROM traffic WHERE {} GROUP BY name",
            sums(Counter::ALL),
            self.period.of_quarters()
        );
        let rows: Vec<CountsRow> = self.rows(&sql)?;
        let point = |at: &Zoned| {
            let name = at.timestamp().as_second().to_string();
            let row = rows.iter().find(|row| row.name == name);
            let counts = row.map(|row| counts(Counter::ALL, &row.counts)).unwrap_or_default();
            Point {
                at: self.local(at.timestamp()),
                events: row.map_or(0, |row| row.events.max(0).cast_unsigned()),
                sent: window::sent(&counts),
                bounced: counts.sum(&BOUNCES),
                bounce_rate: RateLine::of(window::Metric::Bounce, &counts).rate,
            }
        };
        Ok(Course { step, points: self.steps(step).iter().map(point).collect() })
    }

    /// Returns the beginnings of all hours or days of the period that have begun.
    fn steps(self, step: Step) -> Vec<Zoned> {
        let end = self.period.to.min(self.period.now);
        let first = self.period.from.to_zoned(self.period.zone.clone());
        let next = |at: &Zoned| match step {
            Step::Hour => at.checked_add(1.hour()).ok(),
            Step::Day => at.checked_add(1.day()).ok(),
        };
        std::iter::successors(Some(first), next).take_while(|at| at.timestamp() < end).collect()
    }

    fn incidents(self) -> anyhow::Result<Vec<IncidentLine>> {
        let (from, to) = (self.period.from.as_microsecond(), self.period.to.as_microsecond());
        let of_source = self.period.source.as_deref().map_or_else(String::new, |source| {
            let (source, end) = (literal(source), literal(&format!("/{source}")));
            format!(
                " AND arrayExists(it -> it = {source} OR endsWith(it, {end}), arrayPushBack(sources, group_of))"
            )
        });
        let sql = format!(
            "SELECT id, toString(severity) AS severity, toString(state) AS state, toString(family) AS family, \
             toUnixTimestamp64Micro(i.opened_at) AS opened_at, summary \
             FROM (SELECT * FROM incidents ORDER BY seq DESC LIMIT 1 BY id) AS i \
             WHERE toUnixTimestamp64Micro(i.opened_at) < {to} \
             AND (i.state != 'resolved' OR toUnixTimestamp64Micro(i.at) >= {from}){of_source} \
             ORDER BY i.opened_at DESC, id LIMIT {INCIDENTS}"
        );
        let rows: Vec<IncidentRow> = self.rows(&sql)?;
        let incident = |row: IncidentRow| IncidentLine {
            id: row.id,
            severity: row.severity,
            state: row.state,
            family: row.family,
            opened_at: Timestamp::from_microsecond(row.opened_at)
                .map_or_else(|_| row.opened_at.to_string(), |at| self.local(at)),
            summary: row.summary,
        };
        Ok(rows.into_iter().map(incident).collect())
    }

    fn zone(self) -> String {
        literal(self.period.zone_name())
    }
}

/// Returns the sums of these counters as an array.
fn sums(counters: &[Counter]) -> String {
    let sums: Vec<_> =
        counters.iter().map(|counter| format!("sum({})", counter.as_str())).collect();
    format!("[{}]", sums.join(", "))
}

/// Returns the sum of the messages that receiving servers decided on.
fn sent() -> String {
    let counters = [Counter::Delivered].iter().chain(&BOUNCES);
    counters.map(|counter| format!("sum({})", counter.as_str())).collect::<Vec<_>>().join(" + ")
}

fn counts(counters: &[Counter], numbers: &[i64]) -> Counts {
    let mut counts = Counts::default();
    for (&counter, &number) in counters.iter().zip(numbers) {
        counts.increase(counter, number);
    }
    counts
}

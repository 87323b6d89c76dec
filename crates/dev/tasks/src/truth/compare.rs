//! Compares the table `rates` with the truth.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

use anyhow::{Context, ensure};

use super::counts::{Counter, Counts, NAMES, RATES, View};
use super::lives::HOUR;
use super::message::{By, What};
use super::sources::{self, CLOSING, Carried};
use super::tables::{PANE, SCOPE_COLUMNS, SCOPES, Scope, ScopeTruth, Truth};
use crate::clickhouse::Database;

const DAY: i64 = 24 * HOUR;
const MINUTE: i64 = 60_000_000;
/// For how long after its end a window of a day is corrected.
const DAY_KEEPS_PANES: i64 = 2 * HOUR;
/// The panes of the windows of a day, in microseconds.
const LONG_PANE: i64 = 5 * MINUTE;
/// The widths of windows, in microseconds, and the panes of which they consist.
const WIDTHS: [(i64, i64); 5] = [
    (MINUTE, PANE),
    (5 * MINUTE, PANE),
    (15 * MINUTE, PANE),
    (60 * MINUTE, PANE),
    (DAY, LONG_PANE),
];
/// The scopes that have cohorts.
const WITH_COHORTS: [&str; 5] =
    ["source", "mailbox_provider", "campaign", "sender_domain", "tenant"];
/// The number of differences that are printed.
const PRINTED: usize = 60;
/// Rates are numbers of double precision.
const TOLERANCE: f64 = 1e-9;

/// What a run can compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Totals, windows and cohorts.
    Everything,
    /// What does not depend on the order in which events arrive.
    Totals,
}

/// What is compared.
pub(super) struct Expected<'a> {
    pub(super) truth: &'a Truth,
    /// The end of the last wave.
    pub(super) waves_until: i64,
    /// The event time that monitor has reached.
    pub(super) until: i64,
    pub(super) extent: Extent,
}

/// The numbers that differ.
#[derive(Default)]
pub(super) struct Comparison {
    pub(super) compared: u64,
    pub(super) totals: u64,
    pub(super) windows: u64,
    pub(super) cohorts: u64,
    differences: Vec<Difference>,
}

struct Difference {
    scope: String,
    /// Such as `24h to 2026-11-20T12:00:00Z`.
    part: String,
    metric: String,
    truth: String,
    found: String,
}

/// A row of the table `rates`.
struct Row {
    width: i64,
    end: i64,
    counts: Counts,
    sent: i64,
    accepted_by_recipient: i64,
    rates: [Option<f64>; RATES.len()],
}

impl Comparison {
    pub(super) fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }

    /// Returns all differences as TSV.
    pub(super) fn tsv(&self) -> String {
        let mut text = String::from("scope\tpart\tmetric\ttruth\tfound\n");
        for Difference { scope, part, metric, truth, found } in &self.differences {
            let _ = writeln!(text, "{scope}\t{part}\t{metric}\t{truth}\t{found}");
        }
        text
    }

    /// Returns a table of the differences, and the number of comparisons.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        let mut by_metric: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for it in &self.differences {
            let kind = it.scope.split('/').next().unwrap_or_default();
            *by_metric.entry((kind, &it.metric)).or_default() += 1;
        }
        if !self.is_equal() {
            let head = ["scope", "part", "metric", "truth", "found"];
            let _ = writeln!(
                text,
                "{:<62} {:<34} {:<22} {:>9} {:>9}",
                head[0], head[1], head[2], head[3], head[4]
            );
        }
        for Difference { scope, part, metric, truth, found } in
            self.differences.iter().take(PRINTED)
        {
            let _ = writeln!(text, "{scope:<62} {part:<34} {metric:<22} {truth:>9} {found:>9}");
        }
        if self.differences.len() > PRINTED {
            let _ = writeln!(text, "… and {} more", self.differences.len() - PRINTED);
        }
        for ((kind, metric), count) in by_metric {
            let _ =
                writeln!(text, "  {count:>6} differences of {metric} in scopes of the kind {kind}");
        }
        let Self { compared, totals, windows, cohorts, .. } = self;
        let _ = writeln!(
            text,
            "{compared} numbers compared: {totals} totals, {windows} windows, {cohorts} cohorts; {} differ",
            self.differences.len()
        );
        text
    }

    /// Compares the rows of a scope.
    fn scope(&mut self, scope: &Scope, truth: &ScopeTruth, found: &[Row], expected: &Expected<'_>) {
        totals(self, scope, truth, found, expected);
        if expected.extent == Extent::Everything {
            windows(self, scope, truth, found, expected);
            cohorts(self, scope, truth, found, expected);
        }
    }

    fn check(
        &mut self,
        scope: &Scope,
        part: impl Fn() -> String,
        metric: &str,
        truth: impl ToString,
        found: impl ToString,
        is_equal: bool,
    ) {
        self.compared += 1;
        if !is_equal {
            self.differences.push(Difference {
                scope: scope.to_string(),
                part: part(),
                metric: metric.to_owned(),
                truth: truth.to_string(),
                found: found.to_string(),
            });
        }
    }

    fn counts(
        &mut self,
        scope: &Scope,
        part: &dyn Fn() -> String,
        truth: Counts,
        found: Counts,
        skip: Option<Counter>,
    ) {
        for (number, name) in NAMES.iter().enumerate() {
            if skip.is_some_and(|skip| skip as usize == number) {
                continue;
            }
            let (truth, found) = (truth.0[number], found.0[number]);
            self.check(scope, part, name, truth, found, truth == found);
        }
    }

    /// Compares the sums and rates of a row. `None` of `rates` are not compared.
    fn rates(
        &mut self,
        scope: &Scope,
        part: &dyn Fn() -> String,
        truth: Counts,
        (view, rates): (View, [Option<Option<f64>>; RATES.len()]),
        row: &Row,
    ) {
        let (sent, accepted) = (truth.sent(), truth.accepted_by_recipient(view));
        self.check(scope, part, "sent", sent, row.sent, sent == row.sent);
        let found = row.accepted_by_recipient;
        self.check(scope, part, "accepted_by_recipient", accepted, found, accepted == found);
        for ((name, truth), found) in RATES.iter().zip(rates).zip(row.rates) {
            let Some(truth) = truth else { continue };
            let is_equal = match (truth, found) {
                (Some(truth), Some(found)) => (truth - found).abs() < TOLERANCE,
                (None, None) => true,
                _ => false,
            };
            let text =
                |rate: Option<f64>| rate.map_or("unknown".to_owned(), |it| format!("{it:.4}"));
            self.check(scope, part, name, text(truth), text(found), is_equal);
        }
    }
}

/// Compares everything.
pub(super) async fn compare(
    database: &Database,
    expected: &Expected<'_>,
) -> anyhow::Result<Comparison> {
    let mut comparison = Comparison::default();
    let mut unknown: BTreeSet<Scope> = BTreeSet::new();
    for kind in SCOPES {
        let mut rows = rows(database, kind).await?;
        let none = Vec::new();
        for (scope, truth) in expected.truth.iter().filter(|(scope, _)| scope.0[0] == kind) {
            let found = rows.remove(scope);
            comparison.scope(scope, truth, found.as_ref().unwrap_or(&none), expected);
        }
        unknown.extend(rows.into_keys().filter(|scope| scope.0[2] != CLOSING.1));
    }
    events(&mut comparison, database, expected.truth).await?;
    dates(&mut comparison, database).await?;
    for scope in unknown {
        comparison.check(&scope, || "the scope".to_owned(), "", "absent", "present", false);
    }
    Ok(comparison)
}

/// Reads the rows of all scopes of a kind, in the order of their ends.
async fn rows(database: &Database, kind: &str) -> anyhow::Result<HashMap<Scope, Vec<Row>>> {
    let rates = RATES.map(|name| format!("{name}_rate")).join(", ");
    let sql = format!(
        "SELECT {}, width_seconds, toUnixTimestamp64Micro(window_end), {}, sent, \
         accepted_by_recipient, {rates} FROM rates FINAL WHERE scope = '{kind}' ORDER BY window_end \
         FORMAT TSV",
        SCOPE_COLUMNS.join(", "),
        NAMES.join(", "),
    );
    let text = database.text(&sql).await?;
    let mut rows: HashMap<Scope, Vec<Row>> = HashMap::new();
    for line in text.lines() {
        let (scope, row) =
            row(line).with_context(|| format!("a row that cannot be read: {line}"))?;
        rows.entry(scope).or_default().push(row);
    }
    Ok(rows)
}

/// Compares the totals of each source with the view of the events, which also contains what counts at its
/// receipt.
async fn events(
    comparison: &mut Comparison,
    database: &Database,
    truth: &Truth,
) -> anyhow::Result<()> {
    let sums = NAMES.map(|name| format!("sum({name})")).join(", ");
    let sql = format!(
        "SELECT provider, source, {sums} FROM message_counts GROUP BY provider, source FORMAT TSV"
    );
    let text = database.text(&sql).await?;
    let mut found: BTreeMap<(&str, &str), Counts> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [provider, source, counts @ ..] = &fields[..] else { continue };
        let mut sum = Counts::default();
        for (sum, count) in sum.0.iter_mut().zip(counts) {
            *sum = count.parse().with_context(|| line.to_owned())?;
        }
        found.insert((provider, source), sum);
    }
    for (scope, truth) in truth.iter().filter(|(scope, _)| scope.0[0] == "source") {
        let [_, provider, source, ..] = &scope.0;
        let found = found.get(&(provider.as_str(), source.as_str())).copied().unwrap_or_default();
        let mut total = truth.day.total();
        total += truth.at_receipt;
        comparison.totals += 1;
        comparison.counts(scope, &|| "total of all events".to_owned(), total, found, None);
    }
    Ok(())
}

/// Checks that events dated 1970 and 2299 are stored when they were received, and that rows and hourly sums
/// agree.
async fn dates(comparison: &mut Comparison, database: &Database) -> anyhow::Result<()> {
    const CHECKS: [(&str, &str); 5] = [
        ("events in the future", "SELECT count() FROM events WHERE occurred_at > now() + 3660"),
        ("events before the run", "SELECT count() FROM events WHERE occurred_at < now() - 2592000"),
        ("hours in the future", "SELECT count() FROM events_hourly WHERE hour > now() + 3660"),
        (
            "counts in the future",
            "SELECT count() FROM message_counts WHERE counted_at > now() + 60",
        ),
        (
            "events missing in the hourly sums",
            "SELECT toInt64(count()) - (SELECT toInt64(sum(events)) FROM events_hourly) FROM events",
        ),
    ];
    let all = Scope(Default::default());
    for (name, sql) in CHECKS {
        let found = database.text(&format!("{sql} FORMAT TSV")).await?;
        let found = found.trim();
        comparison.check(&all, || "all sources".to_owned(), name, "0", found, found == "0");
    }
    const DATED: &str = "SELECT countIf(time_fault = 'implausible') > 0 AND \
                         countIf(time_fault = 'out_of_range') > 0 FROM events FORMAT TSV";
    let found = database.text(DATED).await?;
    let are_there = found.trim() == "1";
    let name = "events dated 1970 and 2299";
    comparison.check(&all, || "all sources".to_owned(), name, "some", "none", are_there);
    Ok(())
}

fn row(line: &str) -> anyhow::Result<(Scope, Row)> {
    let fields: Vec<&str> = line.split('\t').collect();
    let first = SCOPE_COLUMNS.len() + 2;
    ensure!(fields.len() == first + NAMES.len() + 2 + RATES.len(), "{} fields", fields.len());
    let mut scope: [String; SCOPE_COLUMNS.len()] = Default::default();
    scope.iter_mut().zip(&fields).for_each(|(part, field)| (*field).clone_into(part));
    let number =
        |field: usize| fields[field].parse::<i64>().with_context(|| fields[field].to_owned());
    let mut counts = Counts::default();
    for (at, count) in counts.0.iter_mut().enumerate() {
        *count = number(first + at)?;
    }
    let mut rates = [None; RATES.len()];
    for (at, rate) in rates.iter_mut().enumerate() {
        let field = fields[first + NAMES.len() + 2 + at];
        *rate = if field == "\\N" { None } else { Some(field.parse()?) };
    }
    let row = Row {
        width: number(first - 2)? * 1_000_000,
        end: number(first - 1)?,
        counts,
        sent: number(first + NAMES.len())?,
        accepted_by_recipient: number(first + NAMES.len() + 1)?,
        rates,
    };
    Ok((Scope(scope), row))
}

/// Compares the sums of the windows of a day, and the sums of all cohorts.
fn totals(
    comparison: &mut Comparison,
    scope: &Scope,
    truth: &ScopeTruth,
    found: &[Row],
    expected: &Expected<'_>,
) {
    // A window keeps its value until one of its panes changes, so the last row before an end tells.
    let days: Vec<&Row> =
        found.iter().filter(|row| row.width == DAY && row.end <= expected.until).collect();
    let mut sum = Counts::default();
    let mut end = expected.until.div_euclid(LONG_PANE) * LONG_PANE;
    while let Some(at) = days.partition_point(|row| row.end <= end).checked_sub(1) {
        sum += days[at].counts;
        end -= DAY;
    }
    comparison.totals += 1;
    // In any order, a deferral that arrives after the delivery settles it only in the scopes of both.
    let is_in_order = expected.extent == Extent::Everything;
    let has_server = !scope.0[6].is_empty();
    let skip = (!is_in_order && has_server).then_some(Counter::DeferredSettled);
    comparison.counts(scope, &|| "total".to_owned(), truth.day.total(), sum, skip);
    // In any order, an open may arrive before the send time is known, unless it states it.
    let has_cohorts = WITH_COHORTS.contains(&scope.0[0].as_str());
    if !has_cohorts || !is_in_order && !states_send_time(scope) {
        return;
    }
    let mut cohorts = Counts::default();
    truth.cohorts.values().for_each(|cohort| cohorts += *cohort);
    cohorts += truth.sent_at_receipt;
    let mut sum = Counts::default();
    found.iter().filter(|row| row.width == 0).for_each(|row| sum += row.counts);
    comparison.totals += 1;
    let part = || "total of all cohorts".to_owned();
    // An `accepted` event belongs to a cohort only if it arrives after the send time is known.
    comparison.counts(scope, &part, cohorts, sum, Some(Counter::Injected));
}

/// Returns whether all events of a scope state when their messages were sent.
fn states_send_time(scope: &Scope) -> bool {
    let source = sources::all()
        .into_iter()
        .find(|source| source.provider.as_str() == scope.0[1] && source.name == scope.0[2]);
    source.is_some_and(|it| Carried::by(it.provider, What::Opened(By::Person)).sent_at)
}

fn windows(
    comparison: &mut Comparison,
    scope: &Scope,
    truth: &ScopeTruth,
    found: &[Row],
    expected: &Expected<'_>,
) {
    let mut seen: BTreeSet<(i64, i64)> = BTreeSet::new();
    for row in found.iter().filter(|row| row.width > 0 && row.end <= expected.until) {
        let Row { width, end, .. } = *row;
        seen.insert((width, end));
        let is_final = end <= expected.until - DAY_KEEPS_PANES;
        if width == DAY && end > expected.waves_until && is_final && truth.has_stragglers() {
            continue;
        }
        let part = move || window(width, end);
        let timeline = if width == DAY { &truth.day } else { &truth.hour };
        let counts = timeline.between(end - width, end);
        comparison.windows += 1;
        comparison.counts(scope, &part, counts, row.counts, None);
        let hour = timeline.between(end - HOUR, end);
        let injection_is_known = hour[Counter::Injected] >= hour[Counter::Delivered];
        let rates = match has_deliveries(scope, end, expected) {
            Some(has) => counts.rates(View::Arrival, has, injection_is_known).map(Some),
            None => [None; RATES.len()],
        };
        comparison.rates(scope, &part, counts, (View::Arrival, rates), row);
    }
    for (width, pane) in WIDTHS {
        for end in truth.hour.ends(pane) {
            let is_there = seen.contains(&(width, end));
            let part = || window(width, end);
            comparison.check(scope, part, "(the window)", "present", "absent", is_there);
        }
    }
}

fn cohorts(
    comparison: &mut Comparison,
    scope: &Scope,
    truth: &ScopeTruth,
    found: &[Row],
    expected: &Expected<'_>,
) {
    if !WITH_COHORTS.contains(&scope.0[0].as_str()) {
        return;
    }
    let rows: BTreeMap<i64, &Row> =
        found.iter().filter(|row| row.width == 0).map(|row| (row.end - HOUR, row)).collect();
    for (hour, counts) in &truth.cohorts {
        let part = || format!("cohort of {}", moment(*hour));
        let Some(row) = rows.get(hour) else {
            // A cohort of messages that were only injected.
            let mut rest = *counts;
            rest[Counter::Injected] = 0;
            comparison.check(scope, part, "(the cohort)", "present", "absent", rest.is_zero());
            continue;
        };
        comparison.cohorts += 1;
        comparison.counts(scope, &part, *counts, row.counts, Some(Counter::Injected));
        let rates = match has_deliveries(scope, hour + HOUR, expected) {
            Some(has) => {
                let mut rates = counts.rates(View::Cohort, has, true).map(Some);
                // It depends on the `accepted` events that arrive in time.
                rates[RATES.len() - 1] = None;
                rates
            }
            None => [None; RATES.len()],
        };
        comparison.rates(scope, &part, *counts, (View::Cohort, rates), row);
    }
    // A run lasts minutes, so messages that count at their receipt are sent in the last hours.
    for (hour, row) in rows.iter().filter(|(hour, _)| **hour < expected.until) {
        let part = || format!("cohort of {}", moment(*hour));
        let mut rest = row.counts;
        rest[Counter::Injected] = 0;
        let is_known = truth.cohorts.contains_key(hour) || rest.is_zero();
        comparison.check(scope, part, "(the cohort)", "absent", "present", is_known);
    }
}

/// Returns whether the source or tenant of a scope has sent `delivered` events in the last hours of a
/// day before a moment. `None` if it depends on whether the last events of the run had already arrived.
fn has_deliveries(scope: &Scope, end: i64, expected: &Expected<'_>) -> Option<bool> {
    let whole = expected.truth.get(&scope.whole())?;
    let Some(latest) = whole.latest_delivery(expected.waves_until) else { return Some(false) };
    let hour = latest.div_euclid(HOUR) * HOUR + HOUR;
    // At its end the run has new deliveries.
    let is_new = whole.at_receipt[Counter::Delivered] > 0 || end > expected.until - HOUR;
    (is_new || hour + DAY >= end).then_some(true)
}

fn window(width: i64, end: i64) -> String {
    let minutes = width / MINUTE;
    let width = if width == DAY { "24h".to_owned() } else { format!("{minutes}m") };
    format!("{width} to {}", moment(end))
}

fn moment(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros)
        .map_or_else(|_| micros.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::lives::{Plan, generate};
    use crate::truth::tables::truth;

    fn plan() -> Plan {
        Plan {
            seed: 1,
            start: 1_795_255_200_000_000,
            hours_per_wave: 6,
            waves: 26,
            messages_per_source: 40,
        }
    }

    /// Returns the rows that monitor must have published for a scope.
    fn published(scope: &Scope, truth: &ScopeTruth, expected: &Expected<'_>) -> Vec<Row> {
        let row = |width, end, counts: Counts, view, is_known| Row {
            width,
            end,
            counts,
            sent: counts.sent(),
            accepted_by_recipient: counts.accepted_by_recipient(view),
            rates: counts.rates(view, has_deliveries(scope, end, expected) == Some(true), is_known),
        };
        let mut rows = Vec::new();
        for (width, pane) in WIDTHS {
            let entered = truth.hour.ends(pane);
            let left = entered.iter().map(|end| end + width);
            for end in entered.iter().copied().chain(left).filter(|end| *end <= expected.until) {
                let hour = truth.hour.between(end - HOUR, end);
                let is_known = hour[Counter::Injected] >= hour[Counter::Delivered];
                let counts = truth.hour.between(end - width, end);
                rows.push(row(width, end, counts, View::Arrival, is_known));
            }
        }
        for (hour, counts) in &truth.cohorts {
            rows.push(row(0, hour + HOUR, *counts, View::Cohort, true));
        }
        // What counts at its receipt, after all others.
        rows.push(row(0, expected.until + DAY, truth.sent_at_receipt, View::Cohort, true));
        rows.sort_by_key(|row| row.end);
        rows
    }

    fn differences(
        change: impl Fn(&Scope, &mut Vec<Row>),
        extent: Extent,
    ) -> (u64, BTreeSet<String>) {
        let truth = truth(&generate(&plan()));
        let until = plan().end() + 26 * HOUR;
        let waves_until = plan().end();
        let expected = Expected { truth: &truth, waves_until, until, extent };
        let mut comparison = Comparison::default();
        for (scope, truth) in &truth {
            let mut rows = published(scope, truth, &expected);
            change(scope, &mut rows);
            comparison.scope(scope, truth, &rows, &expected);
        }
        let differences = comparison.differences.into_iter();
        (comparison.compared, differences.map(|it| it.metric).collect())
    }

    fn is_source(scope: &Scope) -> bool {
        scope.0[..3] == ["source", "mailgun", "blue-shop"]
    }

    #[test]
    fn right_tables_are_equal() {
        let (compared, differences) = differences(|_, _| {}, Extent::Everything);
        assert!(differences.is_empty(), "{differences:?}");
        assert!(compared > 1_000_000, "{compared}");
    }

    #[test]
    fn a_wrong_count_rate_or_row_is_found() {
        let of = |change: fn(&mut Vec<Row>)| {
            let change = |scope: &Scope, rows: &mut Vec<Row>| {
                if is_source(scope) {
                    change(rows);
                }
            };
            let (_, found) = differences(change, Extent::Everything);
            found.into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            of(|rows| rows.iter_mut().find(|row| row.width == MINUTE).unwrap().counts
                [Counter::Listed] += 1),
            "listed"
        );
        assert_eq!(
            of(|rows| rows.iter_mut().find(|row| row.rates[0].is_some()).unwrap().rates[0] = None),
            "bounce"
        );
        assert_eq!(
            of(|rows| {
                let first = rows.iter().position(|row| row.width == MINUTE).unwrap();
                rows.remove(first);
            }),
            "(the window)"
        );
        assert_eq!(
            of(|rows| {
                let cohort = rows
                    .iter_mut()
                    .find(|row| row.width == 0 && row.counts[Counter::Delivered] > 0);
                cohort.unwrap().end += 3_333 * HOUR;
            }),
            "(the cohort)"
        );
    }

    #[test]
    fn in_any_order_only_totals_are_compared() {
        let windows =
            |_: &Scope, rows: &mut Vec<Row>| rows.retain(|row| row.width == DAY || row.width == 0);
        assert_eq!(differences(windows, Extent::Totals).1, BTreeSet::new());
        let wrong = |scope: &Scope, rows: &mut Vec<Row>| {
            if is_source(scope) {
                rows.iter_mut()
                    .filter(|row| row.width == DAY)
                    .for_each(|row| row.counts[Counter::Dropped] += 1);
            }
        };
        assert_eq!(differences(wrong, Extent::Totals).1, ["dropped".to_owned()].into());
    }
}

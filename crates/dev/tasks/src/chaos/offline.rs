//! Recomputes what monitor must have published from all rows at once. From the crate `window` it uses
//! the names of metrics and widths, but not the arithmetic.

use std::collections::{BTreeMap, BTreeSet};

use event::Counter;
use serde::Deserialize;
use window::{Direction, Metric, Width};

use super::attack::GENUINE;

/// The length of a pane in microseconds, which is also the step of windows.
pub(crate) const PANE: i64 = 10_000_000;
/// The length of the panes of which the windows of a day consist, in microseconds.
const DAY_PANE: i64 = 300_000_000;
const HOUR: i64 = 3_600_000_000;

/// The columns of the table `rates` with the counters, in the order of [`Counts`].
pub(crate) fn columns() -> String {
    let column = |counter: &Counter| match counter {
        Counter::Injected => "accepted",
        other => other.as_str(),
    };
    Counter::ALL.iter().map(column).collect::<Vec<_>>().join(", ")
}

/// In the order of [`Counter::ALL`].
pub(crate) type Counts = [i64; Counter::ALL.len()];

/// The columns of the table `rates` that make up a scope. Parts that a scope does not have are empty.
pub(crate) const SCOPE: [&str; 8] = [
    "scope",
    "provider",
    "source",
    "mailbox_provider",
    "campaign",
    "sender_domain",
    "sending_ip",
    "tenant",
];

/// In the order of [`SCOPE`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scope(pub(crate) [String; SCOPE.len()]);

/// What an earlier release had done when it was upgraded, as conditions in SQL.
pub(crate) struct Before {
    /// The rows of `events` that it had counted.
    pub(crate) counted: String,
    /// The rows of `rates` that it had published.
    pub(crate) published: String,
}

/// What an event counts for: what `dedupe` decided, or for events that an earlier release passed on, what
/// follows from the row.
const COUNTS: &str = "if(notEmpty(counts) OR seen > 0 OR NOT authentic, counts, \
    arrayDistinct(arrayFilter(name -> name != '', arrayConcat([multiIf( \
        kind = 'accepted', 'injected', \
        kind IN ('delivered', 'deferred', 'complained', 'unsubscribed'), toString(kind), \
        kind IN ('bounced', 'dropped') AND bounce_class = 'suppressed', 'suppressed', \
        kind = 'dropped', 'dropped', \
        kind = 'bounced' AND bounce_class = 'auto_reply', 'auto_replies', \
        kind = 'bounced' AND bounce_late, 'late_bounces', \
        kind = 'bounced' AND bounce_side = 'sender', 'bounced_block', \
        kind = 'bounced' AND bounce_permanence = 'hard', 'bounced_hard', \
        kind = 'bounced' AND bounce_permanence = 'soft', 'bounced_soft', \
        kind = 'bounced', 'bounced_undetermined', \
        kind = 'opened' AND automation_reason != '', 'machine_opened', \
        kind = 'clicked' AND automation_reason != '', 'machine_clicked', \
        kind IN ('opened', 'clicked') AND first_of_kind, toString(kind), ''), \
    if(kind = 'deferred', 'deferrals', ''), \
    if(kind IN ('opened', 'clicked') AND automation_reason = '' AND first_engagement, 'engaged', ''), \
    if(is_refused AND kind = 'bounced' AND bounce_class IN ('', 'other'), 'unclassified', ''), \
    if(is_refused AND bounce_class = 'authentication', 'auth_refused', ''), \
    if(is_refused AND bounce_class = 'rate_limited', 'throttled', '')], \
    if(is_refused, arrayMap(signal -> multiIf(signal = 'auth', 'auth_refused', signal = 'listed', \
        'listed', 'throttled'), signals), [])))))";

/// What an event counted for in releases that had fewer counters.
const OLD_COUNTS: &str = "arrayFilter(name -> name != '', [multiIf( \
        kind = 'accepted', 'injected', \
        kind IN ('delivered', 'deferred', 'dropped', 'complained', 'unsubscribed'), toString(kind), \
        kind = 'bounced' AND bounce_permanence = 'hard', 'bounced_hard', \
        kind = 'bounced' AND bounce_permanence = 'soft', 'bounced_soft', \
        kind = 'bounced', 'bounced_undetermined', \
        kind = 'opened' AND automation_reason != '', 'machine_opened', \
        kind = 'clicked' AND automation_reason != '', 'machine_clicked', \
        kind IN ('opened', 'clicked') AND first_of_kind, toString(kind), ''), \
    if(kind = 'bounced' AND bounce_late, 'late_bounces', ''), \
    if(kind IN ('opened', 'clicked') AND automation_reason = '' AND first_engagement, 'engaged', '')])";

/// Returns the rows of `events` that fulfil a condition, with what each counts for, when and for which cohort.
fn rows(before: Option<&Before>, condition: &str) -> String {
    let old = before.map_or("false", |before| before.counted.as_str());
    format!(
        "SELECT *, {old} AS is_old, least(occurred_at, received_at) AS counted_at, \
            kind = 'deferred' OR kind = 'bounced' AND NOT bounce_class IN ('auto_reply', 'suppressed') \
                AS is_refused, \
            CAST(if(is_old, {OLD_COUNTS}, {COUNTS}) AS Array(String)) AS counters, \
            if(sent > received_at + INTERVAL 1 HOUR, counted_at, sent) AS sent_or_counted, \
            if(is_old OR sent IS NULL, '', toString(intDiv(toUnixTimestamp64Micro( \
                assumeNotNull(sent_or_counted)), {HOUR}) * {HOUR})) AS cohort \
            FROM (SELECT * FROM events WHERE {condition} \
            ORDER BY kafka_partition, kafka_offset LIMIT 1 BY event_id)"
    )
}

/// Everything that an event of [`rows`] changes, as dimensions (`*` is all), time, counter and number.
const CHANGES: &str = "arrayJoin(arrayConcat( \
            arrayMap(name -> ('*', toUnixTimestamp64Micro(counted_at), name, toInt64(1)), counters), \
            arrayMap(change -> (splitByChar(':', corrections)[1], \
                toInt64OrZero(splitByChar('@', change)[2]), \
                substring(splitByChar('@', change)[1], 2), \
                if(startsWith(change, '-'), toInt64(-1), toInt64(1))), \
                arrayFilter(change -> change != '' AND NOT is_old, \
                    splitByChar(',', splitByChar(':', corrections)[2]))))) AS change";

/// Returns the query for [`timelines`]: the sum of every counter by pane, cohort and all parts of a scope.
/// An event counts at its own time, or when it was received if that was earlier; a correction counts at
/// the time of what it corrects. An event that was archived twice counts once here; another part of the
/// comparison reports it.
pub(crate) fn query(before: Option<&Before>) -> String {
    let rows = rows(before, GENUINE);
    let group = "provider, source, mailbox_provider, campaign, sender_domain, tenant, is_old";
    format!(
        "WITH rows AS ({rows}) \
        SELECT {group}, change.1 AS dimensions, intDiv(change.2, {PANE}) * {PANE} AS pane, cohort, \
            change.3 AS counter, sum(change.4) \
        FROM (SELECT {group}, cohort, {CHANGES} FROM rows) \
        GROUP BY {group}, dimensions, pane, cohort, counter FORMAT TSV"
    )
}

/// Returns the query of everything that events have changed in one scope: partition, offset, whether an earlier
/// release had counted it, cohort, time, counter and number.
pub(crate) fn changes(before: Option<&Before>, scope: &Scope) -> String {
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
    let parts = SCOPE.iter().zip(&scope.0).skip(1).filter(|(_, value)| !value.is_empty());
    let condition = parts.clone().map(|(column, value)| format!("{column} = '{}'", quoted(value)));
    let rows = rows(before, &condition.collect::<Vec<_>>().join(" AND "));
    // A correction counts in the scopes that have no other dimensions.
    let dimensions: Vec<_> = parts
        .filter(|(column, _)| !matches!(**column, "provider" | "source"))
        .map(|(column, _)| format!("'{column}'"))
        .collect();
    let is_new_kind = matches!(scope.0[0].as_str(), "sender_domain" | "tenant");
    format!(
        "WITH rows AS ({rows}) \
        SELECT kafka_partition, kafka_offset, is_old, cohort, change.2, change.3, change.4 \
        FROM (SELECT kafka_partition, kafka_offset, is_old, cohort, {CHANGES} FROM rows) \
        WHERE (change.1 = '*' OR hasAll(splitByChar(',', change.1), CAST([{}] AS Array(String)))) \
            AND NOT (is_old AND {is_new_kind}) FORMAT TSV",
        dimensions.join(", ")
    )
}

/// What has happened in a scope.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    panes: Panes,
    day_panes: Panes,
    /// By the end of the hour in which the messages were sent.
    cohorts: BTreeMap<i64, Counts>,
    /// Whether sums of its windows give the counts of any time, because they are published for every
    /// minute, hour and day.
    tumbles: bool,
    /// The hours in which its source or tenant has delivered a message.
    deliveries: BTreeSet<i64>,
}

/// The panes of one length, with running sums.
#[derive(Debug, Default)]
struct Panes {
    starts: Vec<i64>,
    /// The sums of all panes before the one of the same index. It has one more element than `starts`.
    sums: Vec<Counts>,
}

/// Counts by the start of a pane and the cohort.
type Cells = BTreeMap<(i64, Option<i64>), Counts>;

/// Returns the timeline of every scope, from the answer to [`query`]. Returns `None` if the answer is
/// malformed.
pub(crate) fn timelines(answer: &str) -> Option<BTreeMap<Scope, Timeline>> {
    let mut cells: BTreeMap<Scope, Cells> = BTreeMap::new();
    let mut deliveries: BTreeMap<Scope, BTreeSet<i64>> = BTreeMap::new();
    for line in answer.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let (&[provider, source, mailbox, campaign, sender, tenant], more) =
            fields.split_first_chunk()?;
        let &[old, dimensions, pane, cohort, counter, number] = more else { return None };
        let pane: i64 = pane.parse().ok()?;
        let cohort = if cohort.is_empty() { None } else { Some(cohort.parse().ok()?) };
        let (counter, number) = (Counter::from_name(counter)?, number.parse::<i64>().ok()?);
        let applies =
            |dimension| dimensions == "*" || dimensions.split(',').any(|it| it == dimension);
        for (dimension, value, scope) in [
            ("", provider, ["source", provider, source, "", "", "", "", ""]),
            (
                "mailbox_provider",
                mailbox,
                ["mailbox_provider", provider, source, mailbox, "", "", "", ""],
            ),
            ("campaign", campaign, ["campaign", provider, source, "", campaign, "", "", ""]),
            ("sender_domain", sender, ["sender_domain", provider, source, "", "", sender, "", ""]),
            ("tenant", tenant, ["tenant", "", "", "", "", "", "", tenant]),
        ] {
            let is_new_kind = matches!(dimension, "sender_domain" | "tenant");
            let is_counted = dimension.is_empty() || applies(dimension);
            if value.is_empty() || !is_counted || (is_new_kind && is_true(old)) {
                continue;
            }
            let scope = Scope(scope.map(str::to_owned));
            if counter == Counter::Delivered && number > 0 && matches!(dimension, "" | "tenant") {
                deliveries.entry(scope.clone()).or_default().insert(pane.div_euclid(HOUR) * HOUR);
            }
            let cell = cells.entry(scope).or_default().entry((pane, cohort)).or_default();
            cell[counter as usize] += number;
        }
    }
    let timelines = cells.into_iter().map(|(scope, cells)| {
        let deliveries = deliveries.get(&scope.whole()).cloned().unwrap_or_default();
        let tumbles = scope.0[0] == "source";
        (scope, Timeline { tumbles, deliveries, ..Timeline::new(&cells) })
    });
    Some(timelines.collect())
}

/// Whether ClickHouse's text of a number or a Bool is true.
pub(crate) fn is_true(text: &str) -> bool {
    matches!(text, "1" | "true")
}

impl Scope {
    /// Returns the source or tenant to which the scope belongs.
    fn whole(&self) -> Self {
        let [kind, provider, source, .., tenant] = self.0.each_ref().map(String::as_str);
        Self(
            match kind {
                "tenant" => ["tenant", "", "", "", "", "", "", tenant],
                _ => ["source", provider, source, "", "", "", "", ""],
            }
            .map(str::to_owned),
        )
    }

    /// Returns the condition for its rows.
    pub(crate) fn condition(&self) -> String {
        let equal =
            SCOPE.iter().zip(&self.0).map(|(column, value)| format!("{column} = '{value}'"));
        equal.collect::<Vec<_>>().join(" AND ")
    }
}

impl Panes {
    fn new<'c>(length: i64, cells: impl Iterator<Item = (i64, &'c Counts)>) -> Self {
        let mut by_start: BTreeMap<i64, Counts> = BTreeMap::new();
        for (pane, counts) in cells {
            add(by_start.entry(pane.div_euclid(length) * length).or_default(), counts);
        }
        let mut panes = Self { starts: Vec::new(), sums: vec![Counts::default()] };
        let mut sum = Counts::default();
        for (start, counts) in by_start {
            add(&mut sum, &counts);
            panes.starts.push(start);
            panes.sums.push(sum);
        }
        panes
    }

    fn before(&self, moment: i64) -> Counts {
        self.sums[self.starts.partition_point(|start| *start < moment)]
    }
}

fn add(sum: &mut Counts, more: &Counts) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

impl Timeline {
    fn new(cells: &Cells) -> Self {
        let of_panes = || cells.iter().map(|((pane, _), counts)| (*pane, counts));
        let mut cohorts: BTreeMap<i64, Counts> = BTreeMap::new();
        for ((_, cohort), counts) in cells {
            if let Some(start) = cohort {
                add(cohorts.entry(start + HOUR).or_default(), counts);
            }
        }
        Self {
            panes: Panes::new(PANE, of_panes()),
            day_panes: Panes::new(DAY_PANE, of_panes()),
            cohorts,
            ..Self::default()
        }
    }

    /// Returns the panes of which the windows consist, and their length.
    fn panes(&self, width: Width) -> (&Panes, i64) {
        if width == Width::H24 { (&self.day_panes, DAY_PANE) } else { (&self.panes, PANE) }
    }

    /// Returns the counters of the window that ends at `end`.
    fn window(&self, end: i64, width: Width) -> Counts {
        let (panes, _) = self.panes(width);
        let mut counts = panes.before(end);
        let left = panes.before(end - width.micros());
        counts.iter_mut().zip(left).for_each(|(count, left)| *count -= left);
        counts
    }

    /// Returns the ends, up to a moment, at which a window of this width changed, because a pane entered
    /// or left it.
    fn ends(&self, width: Width, until: i64) -> BTreeSet<i64> {
        let (panes, length) = self.panes(width);
        let entered = panes.starts.iter().map(|start| start + length);
        let left = panes.starts.iter().map(|start| start + length + width.micros());
        entered.chain(left).filter(|end| *end <= until).collect()
    }

    /// Returns the ends, up to a moment, of the minutes, hours or days in which something happened.
    fn tumbling_ends(&self, width: Width, until: i64) -> BTreeSet<i64> {
        if !self.tumbles || !matches!(width, Width::M1 | Width::M60 | Width::H24) {
            return BTreeSet::new();
        }
        let width = width.micros();
        let starts = self.panes.starts.iter();
        starts
            .map(|start| (start.div_euclid(width) + 1) * width)
            .filter(|end| *end <= until)
            .collect()
    }

    /// Returns every window that must have been published, as TSV: width in seconds, end, counters.
    pub(crate) fn windows(&self, until: i64) -> Vec<String> {
        let mut windows = Vec::new();
        for width in Width::ALL {
            let mut ends = self.ends(width, until);
            ends.append(&mut self.tumbling_ends(width, until));
            windows.extend(ends.into_iter().map(|end| row(width, end, &self.window(end, width))));
        }
        let cohorts = self.cohorts.iter();
        windows.extend(cohorts.map(|(end, counts)| row(Width::Cohort, *end, counts)));
        windows
    }

    /// Returns the windows that must have been published by an installation that was upgraded, and those
    /// that may have been: the earlier release published no windows of full minutes, and had no windows
    /// of a day.
    pub(crate) fn windows_after_upgrade(&self, until: i64) -> (Vec<String>, Vec<String>) {
        let (mut must, mut may) = (Vec::new(), Vec::new());
        for width in Width::OF_RULES {
            let ends = self.ends(width, until);
            let further = self.tumbling_ends(width, until);
            may.extend(
                further.difference(&ends).map(|&end| row(width, end, &self.window(end, width))),
            );
            must.extend(ends.into_iter().map(|end| row(width, end, &self.window(end, width))));
        }
        (must, may)
    }

    /// Returns the transitions of all episodes that an earlier release published, up to a moment. It evaluated
    /// rules whenever a window changed.
    pub(crate) fn old_transitions(&self, rules: &[OldRule], until: i64) -> Vec<Transition> {
        let ends: BTreeSet<i64> =
            Width::OF_RULES.into_iter().flat_map(|width| self.ends(width, until)).collect();
        let mut open: BTreeMap<&str, (i64, Level)> = BTreeMap::new();
        let mut transitions = Vec::new();
        for at in ends {
            let windows = Width::OF_RULES.map(|width| (width, self.window(at, width)));
            for rule in rules {
                let (name, level) = (rule.name.as_str(), level(rule, &windows));
                let (started_at, worst) = open.get(name).copied().unwrap_or((at, Level::Good));
                let state = if level > worst {
                    open.insert(name, (started_at, level));
                    "firing"
                } else if worst > Level::Good && level == Level::Good {
                    open.remove(name);
                    "resolved"
                } else {
                    continue;
                };
                let severity = level.max(worst).severity();
                transitions.push(Transition { rule: name.into(), state, severity, started_at, at });
            }
        }
        transitions
    }

    /// Returns the counts of all windows of an hour.
    pub(crate) fn hours(&self) -> impl Iterator<Item = Counts> {
        let ends = self.ends(Width::M60, i64::MAX).into_iter();
        ends.map(|end| self.window(end, Width::M60))
    }

    /// Returns whether the source or tenant sends `delivered` events.
    pub(crate) fn sends_deliveries(&self) -> bool {
        !self.deliveries.is_empty()
    }
}

fn row(width: Width, end: i64, counts: &Counts) -> String {
    let counts = counts.map(|count| count.to_string()).join("\t");
    format!("{}\t{end}\t{counts}", width.seconds())
}

/// The beginning, escalation or end of an episode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transition {
    rule: String,
    state: &'static str,
    severity: &'static str,
    started_at: i64,
    at: i64,
}

/// A rule of an earlier release, with the keys that it read.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct OldRule {
    name: String,
    metric: Metric,
    direction: Direction,
    threshold: f64,
    /// By default twice the threshold; under it, half.
    critical: Option<f64>,
    min_volume: u64,
    widths: Vec<Width>,
}

impl OldRule {
    fn critical(&self) -> f64 {
        self.critical.unwrap_or(match self.direction {
            Direction::Over => self.threshold * 2.0,
            Direction::Under => self.threshold / 2.0,
        })
    }
}

impl Transition {
    /// Returns the row in the form of [`old_alerts`].
    pub(crate) fn row(&self, scope: &Scope) -> String {
        let Self { rule, state, severity, started_at, at } = self;
        format!("{rule}\t{}\t{state}\t{severity}\t{started_at}\t{at}", scope.0.join("\t"))
    }
}

/// Returns the query of all transitions that an earlier release has published, in the form of
/// [`Transition::row`]. They have no number.
pub(crate) fn old_alerts() -> String {
    let scope = SCOPE.join(", ");
    format!(
        "SELECT rule, {scope}, state, severity, toUnixTimestamp64Micro(started_at), \
         toUnixTimestamp64Micro(at) FROM alerts WHERE seq = 0 AND {GENUINE} FORMAT TSV"
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Good,
    Warning,
    Critical,
}

impl Level {
    const fn severity(self) -> &'static str {
        match self {
            Self::Good | Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Returns the worst level of a rule's windows that have enough volume.
fn level(rule: &OldRule, windows: &[(Width, Counts)]) -> Level {
    let selected = windows.iter().filter(|(width, _)| rule.widths.contains(width));
    let levels = selected.filter_map(|(_, counts)| {
        let (part, volume) = parts_of_earlier_release(rule.metric, counts);
        let rate = (part as f64 / volume as f64).min(1.0);
        let beyond = |threshold: f64| match rule.direction {
            Direction::Over => rate > threshold,
            Direction::Under => rate < threshold,
        };
        let enough = volume > 0 && volume.cast_unsigned() >= rule.min_volume;
        enough.then(|| match (beyond(rule.critical()), beyond(rule.threshold)) {
            (true, _) => Level::Critical,
            (false, true) => Level::Warning,
            (false, false) => Level::Good,
        })
    });
    levels.max().unwrap_or(Level::Good)
}

/// Returns the numerator and denominator of a rate, as `docs/metrics.md` defines them.
pub(crate) fn parts(metric: Metric, counts: &Counts) -> (i64, i64) {
    let of = |counter: Counter| counts[counter as usize];
    let bounces = of(Counter::BouncedHard)
        + of(Counter::BouncedSoft)
        + of(Counter::BouncedBlock)
        + of(Counter::BouncedUndetermined);
    let delivered = of(Counter::Delivered);
    let sent = delivered + bounces;
    let attempted = (sent + of(Counter::Deferred) - of(Counter::DeferredSettled)).max(0);
    match metric {
        Metric::Bounce => (bounces, sent),
        Metric::HardBounce => (of(Counter::BouncedHard), sent),
        Metric::SoftBounce => (of(Counter::BouncedSoft), sent),
        Metric::BlockBounce => (of(Counter::BouncedBlock), sent),
        Metric::UndeterminedBounce => (of(Counter::BouncedUndetermined), sent),
        Metric::LateBounce => (of(Counter::LateBounces), delivered),
        Metric::Deferral => (of(Counter::Deferred), attempted),
        Metric::Delivery => (delivered, sent),
        Metric::Complaint => (of(Counter::Complained), of(Counter::DeliveredFbl)),
        Metric::PlainComplaint => (of(Counter::Complained), delivered),
        Metric::Unsubscribe => (of(Counter::Unsubscribed), delivered),
        Metric::Open => (of(Counter::Opened), delivered),
        Metric::OpenWithMachines => (of(Counter::Opened) + of(Counter::MachineOpened), delivered),
        Metric::Click => (of(Counter::Clicked), delivered),
        Metric::Engagement => (of(Counter::Engaged), delivered),
        Metric::InjectionLoss => {
            let injected = of(Counter::Injected);
            ((injected - attempted).max(0), injected)
        }
    }
}

/// Returns the same as releases before those definitions computed it.
fn parts_of_earlier_release(metric: Metric, counts: &Counts) -> (i64, i64) {
    let of = |counter: Counter| counts[counter as usize];
    let bounces =
        of(Counter::BouncedHard) + of(Counter::BouncedSoft) + of(Counter::BouncedUndetermined);
    let (injected, delivered) = (of(Counter::Injected), of(Counter::Delivered));
    let sent = if injected > 0 { injected } else { delivered + bounces };
    let arrived = (delivered - of(Counter::LateBounces)).max(0);
    match metric {
        Metric::Bounce => (bounces, sent),
        Metric::HardBounce => (of(Counter::BouncedHard), sent),
        Metric::Complaint => (of(Counter::Complained), arrived),
        Metric::Unsubscribe => (of(Counter::Unsubscribed), arrived),
        Metric::Open => (of(Counter::Opened), arrived),
        Metric::Click => (of(Counter::Clicked), arrived),
        Metric::Engagement => (of(Counter::Engaged), arrived),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::balance::Matched;

    const MINUTE: i64 = 60_000_000;

    /// Returns lines of the answer.
    fn cell(mailbox: &str, campaign: &str, pane: i64, delivered: i64, hard: i64) -> String {
        let pane = pane * PANE;
        let line = |counter: &str, number: i64| {
            let (old, cohort) = (0, if campaign.is_empty() { "" } else { "3600000000" });
            format!(
                "ses\tnews\t{mailbox}\t{campaign}\t\t\t{old}\t*\t{pane}\t{cohort}\t{counter}\t{number}\n"
            )
        };
        line("delivered", delivered) + &line("bounced_hard", hard)
    }

    fn source(timelines: &BTreeMap<Scope, Timeline>) -> &Timeline {
        &timelines[&Scope(["source", "ses", "news", "", "", "", "", ""].map(str::to_owned))]
    }

    /// Returns windows of one width as end, delivered messages and hard bounces.
    fn of_width(windows: &[String], width: u32) -> Vec<(i64, i64, i64)> {
        let rows = windows.iter().map(|window| {
            window.split('\t').map(|field| field.parse().unwrap()).collect::<Vec<i64>>()
        });
        let rows = rows.filter(|fields| fields[0] == i64::from(width));
        let count = |fields: &[i64], counter: Counter| fields[2 + counter as usize];
        rows.map(|it| (it[1], count(&it, Counter::Delivered), count(&it, Counter::BouncedHard)))
            .collect()
    }

    #[test]
    fn windows_are_published_where_they_change_and_count_their_events() {
        let answer = cell("gmail", "spring", 0, 2, 0) + &cell("yahoo", "spring", 1, 3, 1);
        let timelines = timelines(&answer).unwrap();
        assert_eq!(timelines.len(), 4, "source, two mailbox providers, campaign");
        let without = super::timelines(&cell("gmail", "", 0, 2, 0)).unwrap();
        assert_eq!(without.len(), 2, "source and mailbox provider");
        let windows = source(&timelines).windows(i64::MAX);
        let second = 1_000_000;
        assert_eq!(
            of_width(&windows, 60),
            [
                (10 * second, 2, 0),
                (20 * second, 5, 1),
                (60 * second, 5, 1),
                (70 * second, 3, 1),
                (80 * second, 0, 0),
            ]
        );
        assert_eq!(
            of_width(&windows, 86_400),
            [(300 * second, 5, 1), (86_400 * second, 5, 1), (86_700 * second, 0, 0)]
        );
        assert_eq!(of_width(&windows, 0), [(7200 * second, 5, 1)]);
        let until_20 = source(&timelines).windows(20 * second);
        assert_eq!(until_20.len(), 2 * 4 + 1, "two ends of four widths, and the cohort");
    }

    #[test]
    fn a_correction_counts_only_in_its_dimensions() {
        let correction = "ses\tnews\tgmail\tspring\t\t\t0\tcampaign\t0\t\tdelivered\t-1\n";
        let answer = cell("gmail", "spring", 0, 2, 0) + correction;
        for (scope, timeline) in timelines(&answer).unwrap() {
            let expected = if scope.0[0] == "mailbox_provider" { 2 } else { 1 };
            let windows = timeline.windows(i64::MAX);
            assert_eq!(of_width(&windows, 300)[0], (PANE, expected, 0), "{scope:?}");
        }
    }

    #[test]
    fn a_wrong_window_is_detected() {
        let timelines = timelines(&cell("gmail", "spring", 0, 2, 0)).unwrap();
        let windows = source(&timelines).windows(i64::MAX);
        let compare =
            |rows: &str| Matched::of(windows.iter().map(|window| (window.as_str(), &"")), rows);
        let right = windows.join("\n");
        assert_eq!(compare(&right).once, windows.len() as u64);
        let wrong = right.replacen("\t2\t", "\t1\t", 1);
        let matched = compare(&wrong);
        assert_eq!((matched.lost.count, matched.unknown.count), (1, 1));
    }

    #[test]
    fn an_episode_of_an_earlier_release_fires_turns_critical_and_resolves() {
        let cells: String = (0..30)
            .map(|pane| {
                let bounced = if pane < 10 { 7 } else { 0 };
                cell("gmail", "spring", pane, 100 - bounced, bounced)
            })
            .collect();
        let more = cells + &cell("gmail", "spring", 8, 0, 60);
        let timelines = timelines(&more).unwrap();
        let rules = [OldRule {
            name: "bounce_rate".to_owned(),
            metric: Metric::Bounce,
            direction: Direction::Over,
            threshold: 0.05,
            critical: None,
            min_volume: 200,
            widths: Width::OF_RULES.to_vec(),
        }];
        let transitions = source(&timelines).old_transitions(&rules, i64::MAX);
        let seen: Vec<_> =
            transitions.iter().map(|t| (t.state, t.severity, t.started_at, t.at)).collect();
        // 200 messages are sent after two panes, and 60 more bounce in the ninth. The window of 15
        // minutes contains all of them until the first pane leaves it.
        assert_eq!(seen[0], ("firing", "warning", 2 * PANE, 2 * PANE));
        assert_eq!(seen[1], ("firing", "critical", 2 * PANE, 9 * PANE));
        assert_eq!(seen.last().unwrap().0, "resolved");
        assert_eq!(seen.len(), 3, "{seen:?}");
        let until = source(&timelines).old_transitions(&rules, 3 * MINUTE).len();
        assert_eq!(until, 2, "still open");
    }

    #[test]
    fn the_changes_of_a_scope_are_those_of_all_its_parts() {
        let scope = Scope(["campaign", "ses", "news", "", "it's", "", "", ""].map(str::to_owned));
        let query = changes(None, &scope);
        assert!(query.contains(r"provider = 'ses' AND source = 'news' AND campaign = 'it\'s'"));
        assert!(query.contains("CAST(['campaign'] AS Array(String))"), "{query}");
    }

    #[test]
    fn a_malformed_answer_is_rejected() {
        assert!(timelines("ses\tnews\n").is_none());
    }
}

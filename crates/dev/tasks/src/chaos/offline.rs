//! Recomputes what monitor must have published from all rows at once. From the crate `window` it uses
//! the names of metrics and widths, but not the arithmetic.

mod earlier;
mod sql;

use std::collections::{BTreeMap, BTreeSet};

use event::Counter;
use window::{Metric, Width};

pub(crate) use self::earlier::{OldRule, old_alerts};
pub(crate) use self::sql::{changes, query};

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

#[cfg(test)]
mod tests;

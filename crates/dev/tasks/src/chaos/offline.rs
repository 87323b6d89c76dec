//! Recomputes what monitor must have published from all rows at once. From the crate `window` it uses
//! the names of rules, metrics and widths, but not the arithmetic.

use std::collections::{BTreeMap, BTreeSet};

use super::attack::GENUINE;
use window::{Direction, Metric, Rule, Width};

/// The length of a pane in microseconds, which is also the step of windows.
pub(crate) const PANE: i64 = 10_000_000;

/// The counters of a window: columns of the table `rates`, and the condition of their events.
pub(crate) const COUNTERS: [(&str, &str); 15] = [
    ("accepted", "kind = 'accepted'"),
    ("delivered", "kind = 'delivered'"),
    ("deferred", "kind = 'deferred'"),
    ("bounced_hard", "kind = 'bounced' AND bounce_permanence = 'hard'"),
    ("bounced_soft", "kind = 'bounced' AND bounce_permanence = 'soft'"),
    ("bounced_undetermined", "kind = 'bounced' AND bounce_permanence NOT IN ('hard', 'soft')"),
    ("late_bounces", "kind = 'bounced' AND bounce_late"),
    ("dropped", "kind = 'dropped'"),
    ("opened", "kind = 'opened' AND automation_reason = '' AND first_of_kind"),
    ("clicked", "kind = 'clicked' AND automation_reason = '' AND first_of_kind"),
    ("engaged", "kind IN ('opened', 'clicked') AND automation_reason = '' AND first_engagement"),
    ("machine_opened", "kind = 'opened' AND automation_reason != ''"),
    ("machine_clicked", "kind = 'clicked' AND automation_reason != ''"),
    ("complained", "kind = 'complained'"),
    ("unsubscribed", "kind = 'unsubscribed'"),
];

/// In the order of [`COUNTERS`].
pub(crate) type Counts = [u64; COUNTERS.len()];

/// A scope: its kind, provider, source, mailbox provider and campaign, as in the first columns of
/// `rates`. Parts that it does not have are empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scope(pub(crate) [String; 5]);

/// Returns the query for [`timelines`]: counters by pane and by all parts of a scope. An event counts at
/// its own time, or when it was received if that was earlier. An event that was archived twice counts
/// once here; another part of the comparison reports it.
pub(crate) fn query() -> String {
    let counters = COUNTERS.map(|(_, condition)| format!("countIf({condition})")).join(", ");
    format!(
        "SELECT provider, source, mailbox_provider, campaign, \
         intDiv(toUnixTimestamp64Micro(least(occurred_at, received_at)), {PANE}) * {PANE} AS pane, \
         {counters} FROM (SELECT * FROM events WHERE {GENUINE} \
         ORDER BY kafka_partition, kafka_offset LIMIT 1 BY event_id) \
         GROUP BY provider, source, mailbox_provider, campaign, pane FORMAT TSV"
    )
}

/// The panes of a scope, with running sums.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    starts: Vec<i64>,
    /// The sums of all panes before the one of the same index. It has one more element than `starts`.
    sums: Vec<Counts>,
}

/// Returns the timeline of every scope, from the answer to [`query`]. Returns `None` if the answer is
/// malformed.
pub(crate) fn timelines(answer: &str) -> Option<BTreeMap<Scope, Timeline>> {
    let mut panes: BTreeMap<Scope, BTreeMap<i64, Counts>> = BTreeMap::new();
    for line in answer.lines() {
        let mut fields = line.split('\t');
        let mut text = || fields.next();
        let (provider, source, mailbox, campaign) = (text()?, text()?, text()?, text()?);
        let pane: i64 = text()?.parse().ok()?;
        let mut counts = Counts::default();
        for count in &mut counts {
            *count = text()?.parse().ok()?;
        }
        if counts == Counts::default() {
            continue;
        }
        let of_campaign = ["campaign", provider, source, "", campaign];
        for scope in [
            ["source", provider, source, "", ""],
            ["mailbox_provider", provider, source, mailbox, ""],
        ]
        .into_iter()
        // Some providers do not send the campaign.
        .chain((!campaign.is_empty()).then_some(of_campaign))
        {
            let scope = Scope(scope.map(str::to_owned));
            let there = panes.entry(scope).or_default().entry(pane).or_default();
            there.iter_mut().zip(counts).for_each(|(there, more)| *there += more);
        }
    }
    Some(panes.into_iter().map(|(scope, panes)| (scope, Timeline::new(panes))).collect())
}

impl Timeline {
    fn new(panes: BTreeMap<i64, Counts>) -> Self {
        let mut timeline = Self { starts: Vec::new(), sums: vec![Counts::default()] };
        let mut sum = Counts::default();
        for (start, counts) in panes {
            sum.iter_mut().zip(counts).for_each(|(sum, more)| *sum += more);
            timeline.starts.push(start);
            timeline.sums.push(sum);
        }
        timeline
    }

    /// Returns the counters of the window that ends at `end`.
    fn window(&self, end: i64, width: Width) -> Counts {
        let before = |moment: i64| self.sums[self.starts.partition_point(|start| *start < moment)];
        let mut counts = before(end);
        let left = before(end - width.micros());
        counts.iter_mut().zip(left).for_each(|(count, left)| *count -= left);
        counts
    }

    /// Returns the ends, up to a moment, at which a window of this width changed, because a pane entered
    /// or left it.
    fn ends(&self, width: Width, until: i64) -> BTreeSet<i64> {
        let entered = self.starts.iter().map(|start| start + PANE);
        let left = self.starts.iter().map(|start| start + PANE + width.micros());
        entered.chain(left).filter(|end| *end <= until).collect()
    }

    /// Returns every window that must have been published, as TSV: width in seconds, end, counters.
    pub(crate) fn windows(&self, until: i64) -> Vec<String> {
        let mut windows = Vec::new();
        for width in Width::ALL {
            for end in self.ends(width, until) {
                let counts = self.window(end, width).map(|count| count.to_string()).join("\t");
                windows.push(format!("{}\t{end}\t{counts}", width.micros() / 1_000_000));
            }
        }
        windows
    }

    /// Returns the transitions of all episodes. Rules are evaluated whenever a window changes.
    pub(crate) fn transitions(&self, rules: &[Rule], until: i64) -> Vec<Transition> {
        let ends: BTreeSet<i64> =
            Width::ALL.into_iter().flat_map(|width| self.ends(width, until)).collect();
        let mut open: BTreeMap<&str, (i64, Level)> = BTreeMap::new();
        let mut transitions = Vec::new();
        for at in ends {
            let windows = Width::ALL.map(|width| (width, self.window(at, width)));
            for rule in rules {
                let name = rule.name.as_str();
                let level = level(rule, &windows);
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
}

/// The beginning, escalation or end of an episode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transition {
    rule: String,
    pub(crate) state: &'static str,
    severity: &'static str,
    pub(crate) started_at: i64,
    pub(crate) at: i64,
}

impl Transition {
    /// Returns the row in the form of [`ALERTS`].
    pub(crate) fn row(&self, scope: &Scope) -> String {
        let Self { rule, state, severity, started_at, at } = self;
        format!("{rule}\t{}\t{state}\t{severity}\t{started_at}\t{at}", scope.0.join("\t"))
    }
}

/// The query of all transitions, in the form of [`Transition::row`].
pub(crate) const ALERTS: &str = "
    SELECT rule, scope, provider, source, mailbox_provider, campaign, state, severity,
        toUnixTimestamp64Micro(started_at), toUnixTimestamp64Micro(at)
    FROM alerts WHERE source != 'hostile' FORMAT TSV";

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
fn level(rule: &Rule, windows: &[(Width, Counts)]) -> Level {
    let selected = windows.iter().filter(|(width, _)| rule.widths.contains(width));
    let levels = selected.filter_map(|(_, counts)| {
        let (part, volume) = parts(rule.metric, counts);
        let rate = part as f64 / volume as f64;
        let beyond = |threshold: f64| match rule.direction {
            Direction::Over => rate > threshold,
            Direction::Under => rate < threshold,
        };
        let enough = volume > 0 && volume >= rule.min_volume;
        enough.then(|| match (beyond(rule.critical), beyond(rule.threshold)) {
            (true, _) => Level::Critical,
            (false, true) => Level::Warning,
            (false, false) => Level::Good,
        })
    });
    levels.max().unwrap_or(Level::Good)
}

/// Returns the numerator and denominator of a rate. Bounces are relative to sent messages, the others to
/// messages that the recipient's server accepted.
fn parts(metric: Metric, counts: &Counts) -> (u64, u64) {
    let [accepted, delivered, _, hard, soft, undetermined, late, _, more @ ..] = *counts;
    let [opened, clicked, engaged, _, _, complained, unsubscribed] = more;
    let bounced = hard + soft + undetermined;
    let sent = if accepted > 0 { accepted } else { delivered + bounced };
    let arrived = delivered.saturating_sub(late);
    match metric {
        Metric::Bounce => (bounced, sent),
        Metric::HardBounce => (hard, sent),
        Metric::Complaint => (complained, arrived),
        Metric::Unsubscribe => (unsubscribed, arrived),
        Metric::Open => (opened, arrived),
        Metric::Click => (clicked, arrived),
        Metric::Engagement => (engaged, arrived),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::balance::Matched;

    const MINUTE: i64 = 60_000_000;

    /// Returns a line of the answer.
    fn cell(mailbox: &str, campaign: &str, pane: i64, accepted: u64, hard: u64) -> String {
        let pane = pane * PANE;
        format!(
            "ses\tnews\t{mailbox}\t{campaign}\t{pane}\t{accepted}\t0\t0\t{hard}\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\n"
        )
    }

    fn source(timelines: &BTreeMap<Scope, Timeline>) -> &Timeline {
        &timelines[&Scope(["source", "ses", "news", "", ""].map(str::to_owned))]
    }

    #[test]
    fn windows_are_published_where_they_change_and_count_their_events() {
        let answer = cell("gmail", "spring", 0, 2, 0) + &cell("yahoo", "spring", 1, 3, 1);
        let timelines = timelines(&answer).unwrap();
        assert_eq!(timelines.len(), 4, "source, two mailbox providers, campaign");
        let without = super::timelines(&cell("gmail", "", 0, 2, 0)).unwrap();
        assert_eq!(without.len(), 2, "source and mailbox provider");
        let windows = source(&timelines).windows(i64::MAX);
        let minute: Vec<&str> = windows
            .iter()
            .filter_map(|window| window.strip_prefix("60\t"))
            .map(|window| window.strip_suffix(&"\t0".repeat(11)).unwrap())
            .collect();
        assert_eq!(
            minute,
            [
                "10000000\t2\t0\t0\t0",
                "20000000\t5\t0\t0\t1",
                "70000000\t3\t0\t0\t1",
                "80000000\t0\t0\t0\t0",
            ]
        );
        assert_eq!(source(&timelines).windows(20_000_000).len(), 8, "two ends of four widths");
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
    fn an_episode_fires_turns_critical_and_resolves() {
        let cells: String = (0..30)
            .map(|pane| cell("gmail", "spring", pane, 100, if pane < 10 { 7 } else { 0 }))
            .collect();
        let more = cells + &cell("gmail", "spring", 8, 0, 60);
        let timelines = timelines(&more).unwrap();
        let rules = &Rule::defaults()[..1];
        let transitions = source(&timelines).transitions(rules, i64::MAX);
        let seen: Vec<_> =
            transitions.iter().map(|t| (t.state, t.severity, t.started_at, t.at)).collect();
        // 200 messages are sent after two panes, and 60 more bounce in the ninth. The window of 15
        // minutes contains all of them until the first pane leaves it.
        assert_eq!(seen[0], ("firing", "warning", 2 * PANE, 2 * PANE));
        assert_eq!(seen[1], ("firing", "critical", 2 * PANE, 9 * PANE));
        assert_eq!(seen.last().unwrap().0, "resolved");
        assert_eq!(seen.len(), 3, "{seen:?}");
        let until = source(&timelines).transitions(rules, 3 * MINUTE).len();
        assert_eq!(until, 2, "still open");
    }

    #[test]
    fn a_malformed_answer_is_rejected() {
        assert!(timelines("ses\tnews\n").is_none());
    }
}

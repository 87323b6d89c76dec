//! What monitor must publish, calculated from all events at once in the most direct way. This shares
//! no code with monitor and with the crate `window`.

use std::collections::{BTreeMap, BTreeSet};

use event::{Kind, Permanence};
use serde_json::Value;

use crate::campaign::{MINUTE, SECOND, TestEvent};

const PANE: i64 = 10 * SECOND;
const WIDTHS: [(&str, i64); 4] =
    [("1m", MINUTE), ("5m", 5 * MINUTE), ("15m", 15 * MINUTE), ("60m", 60 * MINUTE)];

/// The rule of the tests, see [`crate::stage`].
pub const THRESHOLD: f64 = 0.2;
pub const CRITICAL: f64 = 0.4;
pub const MIN_VOLUME: u64 = 15;

/// Counters by their JSON names; counters at zero are absent.
pub type Counts = BTreeMap<String, u64>;
/// Scope key, width and end.
pub type Window = (String, String, i64);
/// Scope key, time, state and severity.
pub type Transition = (String, i64, String, String);

#[derive(Debug)]
pub struct Expected {
    pub rates: BTreeMap<Window, Counts>,
    pub alerts: BTreeSet<Transition>,
}

impl Expected {
    pub fn of(events: &[TestEvent]) -> Self {
        let mut panes: BTreeMap<String, BTreeMap<i64, Counts>> = BTreeMap::new();
        for event in events {
            for name in counters(event) {
                for scope in scopes(event) {
                    let pane = event.at / PANE * PANE;
                    let counts = panes.entry(scope).or_default().entry(pane).or_default();
                    *counts.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
        let mut expected = Self { rates: BTreeMap::new(), alerts: BTreeSet::new() };
        for (scope, panes) in &panes {
            expected.add_rates(scope, panes);
            expected.add_alerts(scope, panes);
        }
        expected
    }

    /// A window is published whenever a pane enters or leaves it.
    fn add_rates(&mut self, scope: &str, panes: &BTreeMap<i64, Counts>) {
        for (width, micros) in WIDTHS {
            let entered = panes.keys().map(|pane| pane + PANE);
            let left = panes.keys().map(|pane| pane + PANE + micros);
            for end in entered.chain(left) {
                let window = (scope.to_owned(), width.to_owned(), end);
                self.rates.insert(window, sum(panes, end, micros));
            }
        }
    }

    fn add_alerts(&mut self, scope: &str, panes: &BTreeMap<i64, Counts>) {
        let (first, last) = (*panes.keys().next().unwrap(), *panes.keys().last().unwrap());
        let mut open: Option<u8> = None;
        let mut end = first;
        while end <= last + PANE + 60 * MINUTE {
            let level = WIDTHS.iter().map(|&(_, micros)| level(&sum(panes, end, micros))).max();
            let level = level.unwrap();
            let mut add = |state: &str, level| {
                let severity = if level == 2 { "critical" } else { "warning" };
                self.alerts.insert((scope.into(), end, state.into(), severity.into()));
            };
            open = match open {
                None if level > 0 => {
                    add("firing", level);
                    Some(level)
                }
                Some(worst) if level > worst => {
                    add("firing", level);
                    Some(level)
                }
                Some(worst) if level == 0 => {
                    add("resolved", worst);
                    None
                }
                unchanged => unchanged,
            };
            end += PANE;
        }
    }
}

fn sum(panes: &BTreeMap<i64, Counts>, end: i64, width: i64) -> Counts {
    let mut sum = Counts::new();
    for counts in panes.range(end - width..end).map(|(_, counts)| counts) {
        for (name, count) in counts {
            *sum.entry(name.clone()).or_default() += count;
        }
    }
    sum
}

fn level(counts: &Counts) -> u8 {
    match bounce_rate(counts) {
        Some((_, sent)) if sent < MIN_VOLUME => 0,
        Some((bounced, sent)) if bounced as f64 / sent as f64 > CRITICAL => 2,
        Some((bounced, sent)) if bounced as f64 / sent as f64 > THRESHOLD => 1,
        _ => 0,
    }
}

/// Returns the numbers of bounced and of sent messages.
fn bounce_rate(counts: &Counts) -> Option<(u64, u64)> {
    let of = |name: &str| counts.get(name).copied().unwrap_or(0);
    let bounced = of("bounced_hard") + of("bounced_soft") + of("bounced_undetermined");
    let sent = if of("accepted") > 0 { of("accepted") } else { of("delivered") + bounced };
    (sent > 0).then_some((bounced, sent))
}

/// Returns whether the published rate agrees with the published counts. JSON may change its last
/// digit.
pub fn rate_is_right(rate: &Value, counts: &Counts) -> bool {
    match (rate["rates"]["bounce"].as_f64(), bounce_rate(counts)) {
        (Some(rate), Some((bounced, sent))) => (rate * sent as f64 - bounced as f64).abs() < 1e-9,
        (rate, parts) => rate.is_none() && parts.is_none(),
    }
}

fn scopes(event: &TestEvent) -> Vec<String> {
    let TestEvent { source, mailbox, campaign, .. } = event;
    let mut scopes = vec![format!("source/sendgrid/{source}")];
    scopes.extend(mailbox.map(|name| format!("mailbox/sendgrid/{source}/{name}")));
    scopes.extend(
        campaign.map(|name| format!("campaign/sendgrid/{source}/{}", name.replace(' ', "%20"))),
    );
    scopes
}

/// Returns the counters that an event increments.
fn counters(event: &TestEvent) -> Vec<&'static str> {
    let first = |name| event.first.split(',').any(|first| first == name);
    let mut counters = match event.kind {
        Kind::Opened | Kind::Clicked if event.machine => Vec::new(),
        Kind::Opened | Kind::Clicked if first("engagement") => vec!["engaged"],
        Kind::Bounced if event.late_bounce => vec!["late_bounces"],
        _ => Vec::new(),
    };
    counters.extend(match event.kind {
        Kind::Accepted => Some("accepted"),
        Kind::Delivered => Some("delivered"),
        Kind::Deferred => Some("deferred"),
        Kind::Dropped => Some("dropped"),
        Kind::Complained => Some("complained"),
        Kind::Unsubscribed => Some("unsubscribed"),
        Kind::Bounced => Some(match event.permanence {
            Permanence::Hard => "bounced_hard",
            Permanence::Soft => "bounced_soft",
            Permanence::Undetermined => "bounced_undetermined",
        }),
        Kind::Opened if event.machine => Some("machine_opened"),
        Kind::Clicked if event.machine => Some("machine_clicked"),
        Kind::Opened => first("kind").then_some("opened"),
        Kind::Clicked => first("kind").then_some("clicked"),
        Kind::Subscribed | Kind::Verified | Kind::Other => None,
    });
    counters
}

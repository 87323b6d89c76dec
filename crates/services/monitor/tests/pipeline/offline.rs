//! What monitor must publish, calculated from all events at once in the most direct way. This shares
//! no code with monitor and with the crate `window`.

use std::collections::BTreeMap;

use event::{Kind, Permanence};
use serde_json::Value;

use crate::campaign::{MINUTE, SECOND, TestEvent};

const PANE: i64 = 10 * SECOND;
const HOUR: i64 = 60 * MINUTE;
/// The widths that rules judge.
const WIDTHS: [(&str, i64); 4] =
    [("1m", MINUTE), ("5m", 5 * MINUTE), ("15m", 15 * MINUTE), ("60m", HOUR)];
/// The windows of a day consist of larger panes.
const DAY: (&str, i64) = ("24h", 24 * HOUR);
const DAY_PANE: i64 = 5 * MINUTE;

/// Counters by their JSON names; counters at zero are absent.
pub type Counts = BTreeMap<String, i64>;
/// Scope key, width and end.
pub type Window = (String, String, i64);

#[derive(Debug)]
pub struct Expected {
    pub rates: BTreeMap<Window, Counts>,
}

impl Expected {
    pub fn of(events: &[TestEvent]) -> Self {
        let mut panes: BTreeMap<String, BTreeMap<i64, Counts>> = BTreeMap::new();
        let mut cohorts: BTreeMap<Window, Counts> = BTreeMap::new();
        for event in events {
            for scope in scopes(event) {
                for (name, at, number) in changes(event, &scope) {
                    let pane = at / PANE * PANE;
                    let pane = panes.entry(scope.clone()).or_default().entry(pane).or_default();
                    *pane.entry(name.to_owned()).or_default() += number;
                    if let Some(sent) = event.sent.filter(|_| event.is_judged) {
                        let end = sent / HOUR * HOUR + HOUR;
                        let cohort =
                            cohorts.entry((scope.clone(), "cohort".to_owned(), end)).or_default();
                        *cohort.entry(name.to_owned()).or_default() += number;
                    }
                }
            }
        }
        let rates = cohorts.into_iter().map(|(window, counts)| (window, without_zeros(counts)));
        let mut expected = Self { rates: rates.collect() };
        for (scope, panes) in &panes {
            expected.add_rates(scope, panes);
        }
        expected
    }

    /// A window is published whenever a pane enters or leaves it, and those of a source also if
    /// something happened in a full minute, hour or day.
    fn add_rates(&mut self, scope: &str, panes: &BTreeMap<i64, Counts>) {
        let mut add = |width: &str, end: i64, micros: i64| {
            let window = (scope.to_owned(), width.to_owned(), end);
            self.rates.insert(window, sum(panes, end, micros));
        };
        for (width, micros) in WIDTHS.into_iter().chain([DAY]) {
            let size = if width == DAY.0 { DAY_PANE } else { PANE };
            for pane in panes.keys().map(|pane| pane / size * size) {
                add(width, pane + size, micros);
                add(width, pane + size + micros, micros);
                if scope.starts_with("source/") && ["1m", "60m", "24h"].contains(&width) {
                    add(width, pane / micros * micros + micros, micros);
                }
            }
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
    without_zeros(sum)
}

/// Returns what an event changes in one of its scopes: the counter, the time and the number. A correction belongs
/// to all scopes but campaigns, because the bounce was in another campaign.
pub fn changes(event: &TestEvent, scope: &str) -> Vec<(&'static str, i64, i64)> {
    let own = counters(event).into_iter().map(|name| (name, event.at, 1));
    let corrected = event.corrects.filter(|_| event.is_judged && !scope.starts_with("campaign"));
    let corrections =
        corrected.into_iter().flat_map(|at| [("bounced_soft", at, -1), ("deferred", at, 1)]);
    own.chain(corrections).collect()
}

fn without_zeros(counts: Counts) -> Counts {
    counts.into_iter().filter(|(_, count)| *count != 0).collect()
}

/// Returns the numbers of bounced and of sent messages.
pub fn bounce_rate(counts: &Counts) -> Option<(i64, i64)> {
    let of = |name: &str| counts.get(name).copied().unwrap_or(0);
    let bounced = of("bounced_hard") + of("bounced_soft") + of("bounced_undetermined");
    let sent = of("delivered") + bounced;
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

pub fn scopes(event: &TestEvent) -> Vec<String> {
    let TestEvent { source, mailbox, campaign, .. } = event;
    let mut scopes = vec![format!("source/sendgrid/{source}")];
    scopes.extend(mailbox.map(|name| format!("mailbox/sendgrid/{source}/{name}")));
    scopes.extend(
        campaign.map(|name| format!("campaign/sendgrid/{source}/{}", name.replace(' ', "%20"))),
    );
    scopes.extend(campaign.map(|_| "tenant/tenant".to_owned()));
    scopes
}

/// Returns the counters that an event increments.
pub fn counters(event: &TestEvent) -> Vec<&'static str> {
    let first = |name| event.first.split(',').any(|first| first == name);
    let engaged = first("engagement").then_some("engaged");
    match event.kind {
        Kind::Accepted => vec!["injected"],
        Kind::Delivered => vec!["delivered"],
        Kind::Deferred => vec!["deferred", "deferrals"],
        Kind::Dropped => vec!["dropped"],
        Kind::Complained => vec!["complained"],
        Kind::Unsubscribed => vec!["unsubscribed"],
        Kind::Bounced if event.late_bounce => vec!["late_bounces", "unclassified"],
        Kind::Bounced => vec![
            match event.permanence {
                Permanence::Hard => "bounced_hard",
                Permanence::Soft => "bounced_soft",
                Permanence::Undetermined => "bounced_undetermined",
            },
            "unclassified",
        ],
        Kind::Opened if event.machine => vec!["machine_opened"],
        Kind::Clicked if event.machine => vec!["machine_clicked"],
        Kind::Opened => first("kind").then_some("opened").into_iter().chain(engaged).collect(),
        Kind::Clicked => first("kind").then_some("clicked").into_iter().chain(engaged).collect(),
        Kind::Subscribed | Kind::Verified | Kind::Other => Vec::new(),
    }
}

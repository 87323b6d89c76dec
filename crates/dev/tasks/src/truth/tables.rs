//! What the table `rates` must contain.

use std::collections::{BTreeMap, BTreeSet};

use super::counts::{Counter, Counts};
use super::lives::{CAMPAIGN_OF_TENANT, HOUR};
use super::message::{AT_RECEIPT, Message, What};
use super::sources::Carried;

/// The shortest pane, in microseconds.
pub(super) const PANE: i64 = 10_000_000;

/// A scope: the columns `scope`, `provider`, `source`, `mailbox_provider`, `campaign`, `sender_domain`,
/// `sending_ip` and `tenant`. Those that it does not have are empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Scope(pub(super) [String; 8]);

/// The names of the columns of [`Scope`].
pub(super) const SCOPE_COLUMNS: [&str; 8] = [
    "scope",
    "provider",
    "source",
    "mailbox_provider",
    "campaign",
    "sender_domain",
    "sending_ip",
    "tenant",
];

/// All kinds of scopes, as in `[monitor] scopes`.
pub(super) const SCOPES: [&str; 8] = [
    "source",
    "mailbox_provider",
    "campaign",
    "sender_domain",
    "sending_ip",
    "mailbox_provider_sending_ip",
    "tenant",
    "tenant_mailbox_provider",
];

impl Scope {
    /// Returns the scope of the source or tenant to which this one belongs.
    pub(super) fn whole(&self) -> Self {
        let [_, provider, source, .., tenant] = &self.0;
        let kind = if source.is_empty() { "tenant" } else { "source" };
        Self([kind, provider, source, "", "", "", "", tenant].map(str::to_owned))
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<&str> =
            self.0.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        f.write_str(&parts.join("/"))
    }
}

/// What happened, by time.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// By the beginning of the pane.
    panes: BTreeMap<i64, Counts>,
    /// The beginnings of the panes, and the sums of all panes before each.
    starts: Vec<i64>,
    sums: Vec<Counts>,
}

/// The truth about one scope.
#[derive(Debug, Default)]
pub(super) struct ScopeTruth {
    /// What windows of up to an hour contain.
    pub(super) hour: Timeline,
    /// What windows of a day contain: also events that are hours late.
    pub(super) day: Timeline,
    /// By the beginning of the hour in which the messages were sent.
    pub(super) cohorts: BTreeMap<i64, Counts>,
    /// What counts when it was received.
    pub(super) at_receipt: Counts,
    /// The part of `at_receipt` of messages that count as sent when they were received.
    pub(super) sent_at_receipt: Counts,
}

impl Timeline {
    fn add(&mut self, at: i64, counter: Counter) {
        let pane = at.div_euclid(PANE) * PANE;
        self.panes.entry(pane).or_default()[counter] += 1;
    }

    /// Returns the beginning of the last pane with a delivery.
    fn latest_delivery(&self, before: i64) -> Option<i64> {
        let mut panes = self.panes.range(..before).rev();
        panes.find(|(_, counts)| counts[Counter::Delivered] > 0).map(|(start, _)| *start)
    }

    fn finish(&mut self) {
        let mut sum = Counts::default();
        self.sums.push(sum);
        for (start, counts) in &self.panes {
            sum += *counts;
            self.starts.push(*start);
            self.sums.push(sum);
        }
    }

    /// Returns what happened from one moment to another.
    pub(super) fn between(&self, from: i64, to: i64) -> Counts {
        let before = |moment: i64| self.sums[self.starts.partition_point(|start| *start < moment)];
        before(to) - before(from)
    }

    /// Returns everything with a time.
    pub(super) fn total(&self) -> Counts {
        self.sums.last().copied().unwrap_or_default()
    }

    /// Returns the ends of the panes of this length in which something happened.
    pub(super) fn ends(&self, pane: i64) -> BTreeSet<i64> {
        self.starts.iter().map(|start| (start.div_euclid(pane) + 1) * pane).collect()
    }
}

impl ScopeTruth {
    /// Returns the time of the last delivery before a moment.
    pub(super) fn latest_delivery(&self, before: i64) -> Option<i64> {
        self.hour.latest_delivery(before)
    }

    /// Whether it has an event that is hours late.
    pub(super) fn has_stragglers(&self) -> bool {
        self.day.total() != self.hour.total()
    }
}

/// The truth about every scope.
pub(super) type Truth = BTreeMap<Scope, ScopeTruth>;

/// Adds up what all messages count for.
pub(super) fn truth(messages: &[Message]) -> Truth {
    let mut truth = Truth::new();
    for message in messages {
        for counted in message.counts() {
            let cohort = message.cohort(counted.due_to);
            for scope in scopes(message, counted.due_to) {
                let scope = truth.entry(scope).or_default();
                if counted.at == AT_RECEIPT {
                    scope.at_receipt[counted.counter] += 1;
                } else {
                    scope.day.add(counted.at, counted.counter);
                    if !message.is_straggler {
                        scope.hour.add(counted.at, counted.counter);
                    }
                }
                match cohort {
                    Some(AT_RECEIPT) => scope.sent_at_receipt[counted.counter] += 1,
                    Some(sent) => {
                        let hour = sent.div_euclid(HOUR) * HOUR;
                        scope.cohorts.entry(hour).or_default()[counted.counter] += 1;
                    }
                    None => {}
                }
            }
        }
    }
    for scope in truth.values_mut() {
        scope.hour.finish();
        scope.day.finish();
    }
    truth
}

/// Returns the scopes to which an event of a message belongs.
fn scopes(message: &Message, what: What) -> Vec<Scope> {
    let carried = Carried::by(message.source.provider, what);
    let (provider, source) = (message.source.provider.as_str(), message.source.name);
    let mailbox = message.mailbox_provider;
    let campaign = carried.campaign.then_some(message.campaign);
    let (_, domain) = message.sender;
    let domain = carried.sender.then_some(domain);
    let stream = carried.stream.then_some(message.stream);
    let server = if carried.sending_ip { Some(message.sending_ip.as_str()) } else { stream };
    let of_campaign =
        campaign.filter(|it| *it == CAMPAIGN_OF_TENANT.0).map(|_| CAMPAIGN_OF_TENANT.1);
    let tenant = message.tenant.or(of_campaign);
    let scope = |parts: [&str; 8]| Scope(parts.map(str::to_owned));
    let mut scopes = vec![
        scope(["source", provider, source, "", "", "", "", ""]),
        scope(["mailbox_provider", provider, source, mailbox, "", "", "", ""]),
    ];
    if let Some(campaign) = campaign {
        scopes.push(scope(["campaign", provider, source, "", campaign, "", "", ""]));
    }
    if let Some(domain) = domain {
        scopes.push(scope(["sender_domain", provider, source, "", "", domain, "", ""]));
    }
    if let Some(server) = server {
        scopes.push(scope(["sending_ip", provider, source, "", "", "", server, ""]));
        let kind = "mailbox_provider_sending_ip";
        scopes.push(scope([kind, provider, source, mailbox, "", "", server, ""]));
    }
    if let Some(tenant) = tenant {
        scopes.push(scope(["tenant", "", "", "", "", "", "", tenant]));
        scopes.push(scope(["tenant_mailbox_provider", "", "", mailbox, "", "", "", tenant]));
    }
    scopes
}

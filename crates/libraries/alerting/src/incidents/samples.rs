//! Alerts and a run of the incidents stage, for tests.

use std::collections::BTreeMap;

use event::Provider;
use window::{Metric, Scope};

use super::{Action, ActionError, IncidentSettings, Incidents, IncidentsRestore, Received};
use crate::{
    Alert, AlertState, Basis, Change, EpisodeId, Family, Incident, Measure, ResolveReason, Severity,
};

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
/// The time at which the tests begin: 2023-11-14T22:13:20Z.
pub(crate) const START: i64 = 1_700_000_000 * SECOND;

pub(crate) fn source(name: &str) -> Scope {
    Scope::Source { provider: Provider::SendGrid, source: name.to_owned() }
}

pub(crate) fn campaign(name: &str, campaign: &str) -> Scope {
    let (source, campaign) = (name.to_owned(), campaign.to_owned());
    Scope::Campaign { provider: Provider::SendGrid, source, campaign }
}

pub(crate) fn mailbox(name: &str, mailbox_provider: &str) -> Scope {
    let (source, mailbox_provider) = (name.to_owned(), mailbox_provider.to_owned());
    Scope::MailboxProvider { provider: Provider::SendGrid, source, mailbox_provider }
}

/// Returns the first alert of an episode: 82 of 501, above a threshold of 10 %.
pub(crate) fn alert(rule: &str, scope: Scope) -> Alert {
    let (metric, family) = match rule {
        "bounce_rate" => (Measure::Rate(Metric::Bounce), Family::Bounces),
        "blocks" => (Measure::Rate(Metric::BlockBounce), Family::Blocks),
        "complaints_arrival" => (Measure::Rate(Metric::Complaint), Family::Complaints),
        _ => (Measure::Rate(Metric::HardBounce), Family::Bounces),
    };
    Alert {
        episode_id: EpisodeId::of(rule, &scope, &BTreeMap::new()),
        rule: rule.to_owned(),
        scope,
        severity: Severity::Critical,
        state: AlertState::Firing,
        metric,
        width: "5m".to_owned(),
        value: Some(82.0 / 501.0),
        threshold: 0.1,
        numerator: 82,
        volume: 501,
        by_window: BTreeMap::new(),
        started_at: START,
        at: START,
        runbook: String::new(),
        summary: "summary".to_owned(),
        family,
        basis: Basis::Arrival,
        seq: 1,
        reason: None,
        bound: Some(0.114),
        from: START - 5 * MINUTE,
        to: START,
        as_of: BTreeMap::new(),
        labels: BTreeMap::new(),
        remind: None,
    }
}

pub(crate) fn with_counts(mut alert: Alert, numerator: u64, volume: u64) -> Alert {
    (alert.numerator, alert.volume) = (numerator, volume);
    alert.value = Some(numerator as f64 / volume as f64);
    alert
}

pub(crate) fn with_severity(mut alert: Alert, severity: Severity) -> Alert {
    alert.severity = severity;
    alert
}

/// Returns the next transition of an episode.
pub(crate) fn next(alert: &Alert, state: AlertState, severity: Severity) -> Alert {
    let reason = (state == AlertState::Resolved).then_some(ResolveReason::Recovered);
    Alert { state, severity, reason, seq: alert.seq + 1, ..alert.clone() }
}

pub(crate) fn resolved(alert: &Alert) -> Alert {
    next(alert, AlertState::Resolved, alert.severity)
}

/// The state, its compacted changelog, and everything that it has published.
pub(crate) struct Run {
    pub(crate) state: Incidents,
    pub(crate) changelog: BTreeMap<String, Vec<u8>>,
    pub(crate) records: Vec<Incident>,
    pub(crate) settings: IncidentSettings,
    pub(crate) now: i64,
}

impl Run {
    pub(crate) fn new(settings: IncidentSettings) -> Self {
        Self {
            state: Incidents::default(),
            changelog: BTreeMap::new(),
            records: Vec::new(),
            settings,
            now: START,
        }
    }

    pub(crate) fn receive(&mut self, alert: &Alert) {
        let received = self.state.receive(alert, self.now, &self.settings, &mut self.records);
        assert_ne!(received, Received::TooMany);
        self.commit();
    }

    pub(crate) fn pass(&mut self, time: i64) {
        self.now += time;
        self.state.advance(self.now, &self.settings, &mut self.records);
        self.commit();
    }

    /// Receives the clock of a shard of monitor-rate.
    pub(crate) fn clock(&mut self, shard: u32, now: i64, sources: BTreeMap<Provider, u32>) {
        let (settings, out) = (&self.settings, &mut self.records);
        self.state.receive_clock(shard, now, sources, settings, out);
        self.now = self.state.now().max(self.now);
        self.commit();
    }

    /// Passes time in steps, as the clock records of the log do.
    pub(crate) fn pass_slowly(&mut self, time: i64, step: i64) {
        let end = self.now + time;
        while self.now < end {
            self.pass(step.min(end - self.now));
        }
    }

    pub(crate) fn handle(&mut self, action: &Action) -> Result<(), ActionError> {
        let handled = self.state.handle(action, self.now, &self.settings, &mut self.records);
        self.commit();
        handled
    }

    fn commit(&mut self) {
        for (key, value) in self.state.changed().unwrap() {
            match value {
                Some(value) => self.changelog.insert(key, value),
                None => self.changelog.remove(&key),
            };
        }
    }

    pub(crate) fn restart(&mut self) {
        let mut restore = IncidentsRestore::default();
        for (key, value) in &self.changelog {
            restore.apply(key.as_bytes(), Some(value)).unwrap();
        }
        self.state = restore.finish();
    }

    /// Returns the notifications so far.
    pub(crate) fn notifications(&self) -> Vec<&Incident> {
        self.records.iter().filter(|record| record.change.notifies()).collect()
    }

    /// Returns what people were notified of so far.
    pub(crate) fn changes(&self) -> Vec<Change> {
        self.notifications().iter().map(|record| record.change).collect()
    }

    pub(crate) fn last(&self) -> &Incident {
        self.records.last().unwrap()
    }
}

//! The channel `alertmanager`: Alertmanager's own API, version 2
//! (<https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>).
//!
//! Alertmanager knows an alert by its labels, so they say what is wrong and where, and never
//! differ between firing and resolved: `alertname` (the rule), `severity`, `scope`, `provider`,
//! `source`, and `mailbox_provider` or `campaign` where the scope has one. Everything else is an
//! annotation; so is the episode, since silences and inhibitions should outlive one.
//!
//! `severity` is a label because routes are chosen by it, and because Alertmanager does not notify
//! again when only annotations change. An episode that becomes critical therefore ends its warning
//! in the same request that fires the critical alert. For one page per episode group by everything
//! but the severity: `group_by: [alertname, scope, provider, source, mailbox_provider, campaign]`.
//!
//! The members of an Alertmanager cluster each want every alert: configure a channel for each.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderMap;
use serde::Serialize;
use window::{Alert, Scope, Severity};

use crate::endpoint::{Endpoint, Failure};
use crate::transition::{Step, Transition};

/// Posts transitions to an Alertmanager.
#[derive(Debug)]
pub struct Alertmanager {
    endpoint: Endpoint,
    expires_after: Duration,
}

/// One element of the request's array. Times are RFC 3339.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PostableAlert {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: Timestamp,
    ends_at: Timestamp,
}

impl Alertmanager {
    /// `endpoint` is `…/api/v2/alerts`; a firing alert ends by itself after `expires_after`.
    pub const fn new(endpoint: Endpoint, expires_after: Duration) -> Self {
        Self { endpoint, expires_after }
    }

    /// Posts once, as of the time `now`.
    ///
    /// # Errors
    /// When it is not taken.
    pub async fn send(&self, transition: &Transition, now: Timestamp) -> Result<(), Failure> {
        let alerts = postable(transition, now, self.expires_after);
        // Maps with text keys and timestamps: there is nothing JSON could refuse.
        let body = serde_json::to_vec(&alerts).unwrap_or_default();
        self.endpoint.post(HeaderMap::new(), body).await
    }
}

/// What is posted for a transition.
pub fn postable(
    transition: &Transition,
    now: Timestamp,
    expires_after: Duration,
) -> Vec<PostableAlert> {
    let alert = &transition.alert;
    let expiry = SignedDuration::try_from(expires_after)
        .and_then(|after| now.checked_add(after))
        .unwrap_or(Timestamp::MAX);
    let of = |severity, ends_at| PostableAlert {
        labels: labels(alert, severity),
        annotations: annotations(transition),
        // Alertmanager refuses what ends before it starts, and a provider's clock may be ahead.
        starts_at: transition.started_at.min(now),
        ends_at,
    };
    match transition.step() {
        Step::Fired => vec![of(alert.severity, expiry)],
        Step::Escalated => vec![of(Severity::Warning, now), of(Severity::Critical, expiry)],
        Step::Resolved => vec![of(alert.severity, now)],
    }
}

/// The identity.
fn labels(alert: &Alert, severity: Severity) -> BTreeMap<&'static str, String> {
    let mut labels = BTreeMap::from([
        ("alertname", alert.rule.clone()),
        ("severity", severity.as_str().to_owned()),
    ]);
    let (kind, provider, source) = match &alert.scope {
        Scope::Source { provider, source } => ("source", provider, source),
        Scope::MailboxProvider { provider, source, mailbox_provider } => {
            labels.insert("mailbox_provider", mailbox_provider.clone());
            ("mailbox_provider", provider, source)
        }
        Scope::Campaign { provider, source, campaign } => {
            labels.insert("campaign", campaign.clone());
            ("campaign", provider, source)
        }
    };
    labels.insert("scope", kind.to_owned());
    labels.insert("provider", provider.to_string());
    labels.insert("source", source.clone());
    labels
}

fn annotations(transition: &Transition) -> BTreeMap<&'static str, String> {
    let alert = &transition.alert;
    let mut annotations = BTreeMap::from([
        ("summary", alert.summary.clone()),
        ("episode_id", alert.episode_id.to_string()),
        ("metric", alert.metric.to_string()),
        ("width", alert.width.to_string()),
        ("threshold", alert.threshold.to_string()),
        ("volume", alert.volume.to_string()),
        ("at", transition.at.to_string()),
        ("runbook", alert.runbook.clone()),
    ]);
    annotations.extend(alert.value.map(|value| ("value", value.to_string())));
    annotations
}

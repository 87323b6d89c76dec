//! The channel `alertmanager`, which uses version 2 of Alertmanager's API
//! (<https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>).
//!
//! Alertmanager identifies an alert by its labels. They must therefore be the same when the alert
//! fires and when it resolves: `alertname` (the rule), `severity`, `scope`, and as far as the scope has
//! them `provider`, `source`, `mailbox_provider`, `campaign`, `sender_domain`, `sending_ip` and `tenant`.
//! Everything else is an annotation. The episode id is an annotation too, because a silence or an inhibition should also match the next
//! episode.
//!
//! `severity` is a label because routes depend on it, and because Alertmanager does not notify again
//! if only annotations change. If an episode becomes critical, the request that fires the critical
//! alert therefore also ends the warning. To get one page per episode, group by all labels except the
//! severity: `group_by: [alertname, scope, provider, source, mailbox_provider, campaign, sender_domain,
//! sending_ip, tenant]`.
//!
//! Every member of an Alertmanager cluster must receive every alert. Configure a channel for each.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderMap;
use serde::Serialize;
use window::{Alert, Severity};

use crate::endpoint::{DeliveryError, Endpoint};
use crate::transition::{Change, Transition};

/// Posts transitions to an Alertmanager.
#[derive(Debug)]
pub struct Alertmanager {
    endpoint: Endpoint,
    expires_after: Duration,
}

/// One element of the array in the request body. Times are in the format of RFC 3339.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PostableAlert {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: Timestamp,
    ends_at: Timestamp,
}

impl Alertmanager {
    /// The endpoint is `…/api/v2/alerts`. Alertmanager ends a firing alert after `expires_after` unless
    /// it is sent again or resolved.
    pub const fn new(endpoint: Endpoint, expires_after: Duration) -> Self {
        Self { endpoint, expires_after }
    }

    /// Posts the transition once. `now` is the current time.
    ///
    /// # Errors
    /// Fails if Alertmanager does not accept it.
    pub async fn send(&self, transition: &Transition, now: Timestamp) -> Result<(), DeliveryError> {
        let alerts = postable_alerts(transition, now, self.expires_after);
        // Text keys and timestamps can always be serialized.
        let body = serde_json::to_vec(&alerts).unwrap_or_default();
        self.endpoint.post(HeaderMap::new(), body).await
    }
}

/// Returns the alerts to post for a transition.
pub fn postable_alerts(
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
        // Alertmanager rejects an alert that ends before it starts. A provider's clock may be ahead.
        starts_at: transition.started_at.min(now),
        ends_at,
    };
    match transition.change() {
        Change::Fired => vec![of(alert.severity, expiry)],
        Change::Escalated => vec![of(Severity::Warning, now), of(Severity::Critical, expiry)],
        Change::Resolved => vec![of(alert.severity, now)],
    }
}

/// Returns the labels, which identify the alert.
fn labels(alert: &Alert, severity: Severity) -> BTreeMap<&'static str, String> {
    let scope = &alert.scope;
    let mut labels = BTreeMap::from([
        ("alertname", alert.rule.clone()),
        ("severity", severity.as_str().to_owned()),
        ("scope", scope.kind().as_str().to_owned()),
    ]);
    labels.extend(scope.provider().map(|provider| ("provider", provider.to_string())));
    labels.extend(scope.source().map(|source| ("source", source.to_owned())));
    labels.extend(scope.values().map(|(name, value)| (name, value.to_owned())));
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

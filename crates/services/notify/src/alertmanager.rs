//! The channel `alertmanager`, which uses version 2 of Alertmanager's API
//! (<https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>).
//!
//! An incident is one alert. While it is open, it is sent again every `resend` with an end `expires_after`
//! ahead, as Prometheus does, so that an Alertmanager that lost its data knows it again, and an alert of a
//! notify that has vanished ends.
//!
//! Alertmanager identifies an alert by its labels. They are therefore the same in all requests of an
//! incident: `alertname` (the family, because the leading rule can change), `incident` (the id), `family`,
//! `severity`, and of the incident's group `provider`, `source`, `tenant` or `mailbox_provider`. If group
//! or family change, the labels keep their first values. Everything else is an annotation.
//!
//! `severity` is a label because routes depend on it, and because Alertmanager does not notify again
//! if only annotations change. If an incident becomes more severe, the request therefore also ends the
//! alerts of the lower severities. To get one page per incident, set `group_by: [incident]`.
//!
//! Every member of an Alertmanager cluster must receive every alert. Configure a channel for each.

use std::collections::BTreeMap;
use std::time::Duration;

use alerting::{Change, Incident, IncidentGroup, IncidentState, Severity};
use courier::{DeliveryError, Endpoint};
use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderMap;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::message::{self, Message};
use crate::open_incidents::{Identity, OpenIncidents};
use crate::received::Received;
use alerting::page::Page;

/// The greatest number of alerts in one request.
const MAX_ALERTS: usize = 64;

/// Posts incidents to an Alertmanager.
#[derive(Debug)]
pub struct Alertmanager {
    endpoint: Endpoint,
    expires_after: Duration,
    resend: Duration,
    open: OpenIncidents,
    /// Requests are sent one after the other. Otherwise an open alert that is sent again could arrive
    /// after the request that ends it.
    in_order: Mutex<()>,
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
    /// The endpoint is `…/api/v2/alerts`. Open alerts are sent again every `resend`, and Alertmanager
    /// ends them after `expires_after` otherwise.
    pub fn new(endpoint: Endpoint, expires_after: Duration, resend: Duration) -> Self {
        let (open, in_order) = (OpenIncidents::default(), Mutex::new(()));
        Self { endpoint, expires_after, resend, open, in_order }
    }

    /// Returns how often open alerts are sent again.
    pub const fn resend(&self) -> Duration {
        self.resend
    }

    /// Returns the incidents that are sent again.
    pub const fn open(&self) -> &OpenIncidents {
        &self.open
    }

    /// Posts the incident once. `now` is the current time.
    ///
    /// # Errors
    /// Fails if Alertmanager does not accept it.
    pub async fn send(&self, message: &Message, now: Timestamp) -> Result<(), DeliveryError> {
        let Some(delivery) = &message.delivery else { return Ok(()) };
        let received = &delivery.received;
        let severity = received.incident.severity;
        let known = self.open.identity(received.id());
        let identity = known.unwrap_or_else(|| Identity::of(&received.incident));
        let mut alerts = vec![self.alert(received, &message.page, &identity, now)];
        // An escalation may have been combined with the start of the incident.
        if matches!(delivery.change, Change::Opened | Change::Escalated) {
            let lower = identity.severities.iter().filter(|lower| **lower < severity);
            alerts.extend(lower.map(|lower| PostableAlert {
                labels: labels(received, &identity, *lower),
                ends_at: now,
                ..self.alert(received, &message.page, &identity, now)
            }));
        }
        let _in_order = self.in_order.lock().await;
        self.post(&alerts).await
    }

    /// Posts all open incidents again.
    ///
    /// # Errors
    /// Fails if Alertmanager does not accept them.
    pub async fn send_again(&self, now: Timestamp) -> Result<(), DeliveryError> {
        let _in_order = self.in_order.lock().await;
        // Read inside the lock: an incident that is over by now has left the list, and the request that
        // ends its alert comes after this one.
        let open = self.open.list();
        for some in open.chunks(MAX_ALERTS) {
            let alerts: Vec<_> = some
                .iter()
                .map(|one| self.alert(&one.received, &one.page, &one.identity, now))
                .collect();
            self.post(&alerts).await?;
        }
        Ok(())
    }

    async fn post(&self, alerts: &[PostableAlert]) -> Result<(), DeliveryError> {
        // Text keys and timestamps can always be serialized.
        let body = serde_json::to_vec(alerts).unwrap_or_default();
        self.endpoint.post(HeaderMap::new(), body).await
    }

    fn alert(
        &self,
        received: &Received,
        page: &Page,
        identity: &Identity,
        now: Timestamp,
    ) -> PostableAlert {
        let incident = &received.incident;
        let expiry = SignedDuration::try_from(self.expires_after)
            .and_then(|after| now.checked_add(after))
            .unwrap_or(Timestamp::MAX);
        let is_over = incident.state == IncidentState::Resolved;
        PostableAlert {
            labels: labels(received, identity, incident.severity),
            annotations: annotations(incident, page),
            // Alertmanager rejects an alert that ends before it starts. A provider's clock may be ahead.
            starts_at: received.opened_at.min(now),
            ends_at: if is_over { now } else { expiry },
        }
    }
}

/// Returns the labels, which identify the alert.
fn labels(
    received: &Received,
    identity: &Identity,
    severity: Severity,
) -> BTreeMap<&'static str, String> {
    let family = message::family(identity.family);
    let mut labels = BTreeMap::from([
        ("alertname", format!("mailpulse_{family}")),
        ("family", family.to_owned()),
        ("incident", received.id().to_string()),
        ("severity", message::severity(severity).to_owned()),
    ]);
    match &identity.group {
        IncidentGroup::Source { of } => {
            let (provider, source) = of.split_once('/').unwrap_or(("", of));
            labels.insert("provider", provider.to_owned());
            labels.insert("source", source.to_owned());
        }
        IncidentGroup::Tenant { of } => drop(labels.insert("tenant", of.clone())),
        IncidentGroup::MailboxProvider { of } => {
            labels.insert("mailbox_provider", of.clone());
        }
        IncidentGroup::Provider { of } => drop(labels.insert("provider", of.clone())),
        IncidentGroup::Ours => {}
    }
    labels
}

fn annotations(incident: &Incident, page: &Page) -> BTreeMap<&'static str, String> {
    let lead = &incident.lead;
    let mut annotations = BTreeMap::from([
        ("summary", page.title.clone()),
        ("description", page.text()),
        ("rule", lead.rule.clone()),
        ("scope", lead.scope.to_string()),
        ("width", lead.width.clone()),
        ("threshold", lead.threshold.to_string()),
        ("numerator", lead.numerator.to_string()),
        ("volume", lead.volume.to_string()),
        ("episodes", incident.episodes.to_string()),
        ("runbook", lead.runbook.clone()),
        ("group", message::group_name(incident)),
    ]);
    annotations.extend(lead.value.map(|value| ("value", value.to_string())));
    annotations.extend(lead.bound.map(|bound| ("bound", bound.to_string())));
    annotations
}

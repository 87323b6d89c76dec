//! The channel `pagerduty`, which uses PagerDuty's Events API v2
//! (<https://developer.pagerduty.com/docs/events-api-v2-overview>).
//!
//! `dedup_key` is the id of the incident: PagerDuty adds events with the same key to one incident of its
//! own. A new or more severe incident, a reminder and a digest are `trigger` events, an acknowledgement
//! in Mailpulse is an `acknowledge` event, and the end is a `resolve` event.

use alerting::{Change, Severity};
use courier::{DeliveryError, Endpoint};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use service::Secret;

use crate::message::{self, Delivery, Kind, Message, limited};

/// The longest `summary`, in characters.
const MAX_SUMMARY: usize = 1024;

/// Sends events to PagerDuty.
#[derive(Debug)]
pub struct PagerDuty {
    endpoint: Endpoint,
    routing_key: Secret,
}

impl PagerDuty {
    /// The endpoint is `…/v2/enqueue`. The routing key is that of an integration of type Events API v2.
    pub const fn new(endpoint: Endpoint, routing_key: Secret) -> Self {
        Self { endpoint, routing_key }
    }

    /// Sends the event once.
    ///
    /// # Errors
    /// Fails if PagerDuty does not accept it.
    pub async fn send(&self, message: &Message) -> Result<(), DeliveryError> {
        let action = match message.kind {
            // PagerDuty never knew of it, and nobody needs to be called any more.
            Kind::Passed | Kind::QuietHours | Kind::Change(Change::Updated) => return Ok(()),
            Kind::Change(Change::Resolved) => "resolve",
            Kind::Change(Change::Handled) => "acknowledge",
            Kind::Change(_) => "trigger",
        };
        let Some(delivery) = &message.delivery else { return Ok(()) };
        let mut event = json!({
            "routing_key": self.routing_key.expose(),
            "event_action": action,
            "dedup_key": delivery.received.id().to_string(),
        });
        if action == "trigger" {
            event["payload"] = payload(message, delivery);
            event["client"] = "Mailpulse".into();
            event["links"] = links(delivery);
        }
        self.endpoint.post(HeaderMap::new(), event.to_string().into_bytes()).await
    }
}

fn payload(message: &Message, delivery: &Delivery) -> Value {
    let incident = &delivery.received.incident;
    let severity = match incident.severity {
        Severity::Warning => "warning",
        Severity::Critical => "error",
        Severity::Page => "critical",
    };
    json!({
        "summary": limited(&message.page.title, MAX_SUMMARY),
        "source": message::group_name(incident),
        "severity": severity,
        "timestamp": delivery.received.at.to_string(),
        "component": incident.lead.scope.to_string(),
        "group": message::group_name(incident),
        "class": message::family(incident.family),
        "custom_details": {
            "page": message.page.text(),
            "incident": incident.id.to_string(),
            "rule": incident.lead.rule,
            "numerator": incident.lead.numerator,
            "volume": incident.lead.volume,
            "threshold": incident.lead.threshold,
            "bound": incident.lead.bound,
        },
    })
}

/// Returns the runbook as a link. PagerDuty rejects links that are not absolute.
fn links(delivery: &Delivery) -> Value {
    let runbook = &delivery.received.incident.lead.runbook;
    let is_absolute = runbook.starts_with("https://") || runbook.starts_with("http://");
    if is_absolute { json!([{ "href": runbook, "text": "Runbook" }]) } else { json!([]) }
}

//! The channels that incidents are delivered to.

use alerting::{Change, Incident, IncidentState, Severity};
use courier::DeliveryError;
use jiff::Timestamp;

use crate::alertmanager::Alertmanager;
use crate::email::Email;
use crate::message::{self, Message};
use crate::pagerduty::PagerDuty;
use crate::quiet_hours::QuietHours;
use crate::route::Route;
use crate::slack::Slack;
use crate::teams::Teams;
use crate::webhook::Webhook;

/// A configured channel.
#[derive(Debug)]
pub struct Channel {
    /// The name in the settings, which is also a log field and a metric label.
    pub name: String,
    /// Which incidents the channel delivers.
    pub route: Route,
    /// When the channel holds warnings back.
    pub quiet_hours: Option<QuietHours>,
    /// The greatest number of messages per minute. Messages of the severity `page` are counted, but do
    /// not wait.
    pub max_per_minute: Option<std::num::NonZeroU32>,
    /// Where the channel sends incidents.
    pub target: Target,
}

/// The target of a channel.
#[derive(Debug)]
pub enum Target {
    /// The log of this process.
    Log,
    /// An Alertmanager, through its API.
    Alertmanager(Alertmanager),
    /// `PagerDuty`, through its Events API.
    PagerDuty(PagerDuty),
    /// A channel in Slack, through an incoming webhook.
    Slack(Slack),
    /// A channel or chat in Microsoft Teams, through a workflow.
    Teams(Teams),
    /// Recipients of e-mails.
    Email(Email),
    /// Any URL, with a signed request.
    Webhook(Webhook),
}

/// How changes that wait for a channel are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combining {
    /// All changes of an incident that wait become one message.
    PerIncident,
    /// Every change is a message of its own, because each has an id by which the receiver recognises it.
    Never,
}

impl Target {
    /// Returns whether the target needs to know about a change.
    pub const fn wants(&self, change: Change, incident: &Incident) -> bool {
        let is_over = matches!(incident.state, IncidentState::Resolved);
        match (self, change) {
            // An update changes the annotations. What people do is not known to Alertmanager, and a
            // digest has an alert only if its incident has one.
            (Self::Alertmanager(_), Change::Handled) => false,
            (Self::Alertmanager(_), Change::Digest) => !is_over && incident.page > 0,
            (Self::Alertmanager(_), _) => incident.page > 0,
            (Self::PagerDuty(_), Change::Handled) => {
                incident.people.acknowledged_by.is_some() && incident.page > 0
            }
            (Self::PagerDuty(_), Change::Digest) => !is_over,
            (_, change) => change.notifies(),
        }
    }

    /// Returns how changes that wait are combined.
    pub const fn combining(&self) -> Combining {
        match self {
            Self::Webhook(_) => Combining::Never,
            _ => Combining::PerIncident,
        }
    }

    /// Returns the Alertmanager, if it is one.
    pub const fn alertmanager(&self) -> Option<&Alertmanager> {
        match self {
            Self::Alertmanager(alertmanager) => Some(alertmanager),
            _ => None,
        }
    }
}

impl Channel {
    /// Makes one attempt to deliver the message. `now` is the current time.
    ///
    /// # Errors
    /// Fails if the target does not accept it.
    pub async fn send(&self, message: &Message, now: Timestamp) -> Result<(), DeliveryError> {
        match &self.target {
            Target::Log => {
                log(message);
                Ok(())
            }
            Target::Alertmanager(alertmanager) => alertmanager.send(message, now).await,
            Target::PagerDuty(pagerduty) => pagerduty.send(message).await,
            Target::Slack(slack) => slack.send(message).await,
            Target::Teams(teams) => teams.send(message).await,
            Target::Email(email) => email.send(message, now).await,
            Target::Webhook(webhook) => webhook.send(message, now).await,
        }
    }
}

macro_rules! log_at {
    ($level:ident, $message:expr) => {{
        let message = $message;
        let incident = message.delivery.as_ref().map(|one| &one.received.incident);
        tracing::$level!(
            severity = message::severity(message.severity),
            incident = incident.map(|incident| incident.id.to_string()),
            family = incident.map(|incident| message::family(incident.family)),
            rule = incident.map(|incident| incident.lead.rule.as_str()),
            scope = incident.map(|incident| incident.lead.scope.to_string()),
            value = incident.and_then(|incident| incident.lead.value),
            threshold = incident.map(|incident| incident.lead.threshold),
            volume = incident.map(|incident| incident.lead.volume),
            "incident {}: {}",
            message.kind.as_str(),
            message.page.text()
        );
    }};
}

fn log(message: &Message) {
    match message.severity {
        _ if message.kind.is_over() => log_at!(info, message),
        Severity::Warning | Severity::Critical => log_at!(warn, message),
        Severity::Page => log_at!(error, message),
    }
}

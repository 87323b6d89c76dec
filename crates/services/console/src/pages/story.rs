//! What happened to a message or a recipient, event by event.

use serde::Deserialize;

use super::TimeCell;
use crate::access::Role;
use crate::mask;
use crate::parameters::path;

/// The greatest number of events of a story.
pub(super) const MAX_EVENTS: usize = 1_000;

/// An event of a story, as ClickHouse returns it. Times are UTC microseconds.
#[derive(Debug, Deserialize)]
pub(super) struct StoryEvent {
    at: i64,
    received_at: i64,
    kind: String,
    pub(super) source: String,
    pub(super) recipient: String,
    pub(super) mailbox_provider: String,
    pub(super) campaign: String,
    detail: String,
    url: String,
    automation_reason: String,
    authentic: bool,
    message_id: String,
}

/// An event of a story as it is shown.
pub(super) struct StoryLine {
    pub(super) at: TimeCell,
    /// How long after the event it was received. Empty within a minute.
    pub(super) delay: String,
    pub(super) kind: String,
    /// Whether it is good (delivered, opened, clicked), bad (bounced, complained, dropped) or neither.
    pub(super) tone: &'static str,
    pub(super) detail: String,
    pub(super) url: String,
    /// Why a machine did it. Empty: a person.
    pub(super) machine: String,
    pub(super) is_authentic: bool,
    pub(super) recipient: String,
    /// Empty for a viewer.
    pub(super) recipient_link: String,
    pub(super) message_id: String,
    pub(super) message_link: String,
    pub(super) source: String,
    pub(super) campaign: String,
    pub(super) campaign_link: String,
}

impl StoryEvent {
    /// Returns the event as a visitor with this role sees it.
    pub(super) fn line(&self, role: Role) -> StoryLine {
        let (provider, source) = self.source.split_once('/').unwrap_or_default();
        let campaign_link = if self.campaign.is_empty() {
            String::new()
        } else {
            path(&["campaign", provider, source, &self.campaign])
        };
        StoryLine {
            at: TimeCell::new(self.at),
            delay: delay(self.received_at - self.at),
            tone: tone(&self.kind),
            kind: self.kind.clone(),
            detail: mask::text_about(role, &self.detail, &self.recipient),
            url: mask::url_about(role, &self.url, &self.recipient),
            machine: self.automation_reason.replace('_', " "),
            is_authentic: self.authentic,
            recipient: mask::address(role, &self.recipient),
            recipient_link: match role {
                Role::Investigator => path(&["recipient", &self.recipient]),
                Role::Viewer => String::new(),
            },
            message_link: path(&["message", &self.message_id]),
            message_id: self.message_id.clone(),
            source: self.source.clone(),
            campaign: self.campaign.clone(),
            campaign_link,
        }
    }
}

fn tone(kind: &str) -> &'static str {
    match kind {
        "delivered" | "opened" | "clicked" => "good",
        "bounced" | "complained" | "dropped" => "bad",
        "deferred" | "unsubscribed" => "warn",
        _ => "plain",
    }
}

fn delay(micros: i64) -> String {
    match micros / 1_000_000 {
        seconds if seconds < 60 => String::new(),
        seconds if seconds < 7_200 => format!("received {} min later", seconds / 60),
        seconds => format!("received {} h later", seconds / 3_600),
    }
}

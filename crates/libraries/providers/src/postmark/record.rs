use event::{Kind, Text};
use serde::Deserialize;

use super::bounces;
use crate::json;

/// The fields of all record types together: `RecordType` says which of them are there.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Record<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) record_type: Option<Text<'a>>,
    #[serde(borrow, default, rename = "ID", deserialize_with = "json::word")]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow, default, rename = "MessageID", deserialize_with = "json::word")]
    pub(super) message_id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) message_stream: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) recipient: Option<Text<'a>>,
    /// The recipient of a bounce or a complaint.
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) email: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    delivered_at: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    bounced_at: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) received_at: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) changed_at: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) tag: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) metadata: Metadata<'a>,
    #[serde(borrow, default, rename = "Type", deserialize_with = "json::word")]
    type_name: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    type_code: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) details: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) description: Option<Text<'a>>,
    #[serde(default, deserialize_with = "json::maybe_flag")]
    pub(super) suppress_sending: Option<bool>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    suppression_reason: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) user_agent: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) geo: Geo<'a>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) original_link: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
pub(super) struct Metadata<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) campaign: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) campaign_id: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
pub(super) struct Geo<'a> {
    #[serde(borrow, default, rename = "IP", deserialize_with = "json::word")]
    pub(super) ip: Option<Text<'a>>,
}

impl Record<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self.record_type.as_deref().unwrap_or_default() {
            "Delivery" => Kind::Delivered,
            "Bounce" => self.bounce_type().map_or(Kind::Bounced, |row| row.kind),
            "SpamComplaint" => Kind::Complained,
            "Open" => Kind::Opened,
            "Click" => Kind::Clicked,
            "SubscriptionChange" => self.subscription(),
            _ => Kind::Other,
        }
    }

    pub(super) fn bounce_type(&self) -> Option<&'static bounces::BounceType> {
        bounces::find(self.type_name.as_deref(), self.type_code.as_deref())
    }

    /// A bounce or a complaint also changes the subscription, and has an event of its own: only
    /// what the recipient asked for is an unsubscription.
    fn subscription(&self) -> Kind {
        match (self.suppress_sending, self.suppression_reason.as_deref()) {
            (Some(true), Some("HardBounce" | "SpamComplaint")) => Kind::Other,
            (Some(true), _) => Kind::Unsubscribed,
            (Some(false), _) => Kind::Subscribed,
            (None, _) => Kind::Other,
        }
    }

    /// Each record type has a name of its own for it.
    pub(super) fn time(&self) -> Option<&str> {
        [&self.delivered_at, &self.bounced_at, &self.received_at, &self.changed_at]
            .into_iter()
            .find_map(Option::as_deref)
    }
}

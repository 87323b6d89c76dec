use event::Kind;
use serde::Deserialize;

use super::bounces;
use crate::json::{LenientFlag, LenientObject, LenientText};

/// The fields of all record types. `RecordType` decides which of them are present.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PostmarkEvent<'a> {
    #[serde(borrow)]
    pub(super) record_type: LenientText<'a>,
    #[serde(rename = "ID")]
    pub(super) id: LenientText<'a>,
    #[serde(rename = "MessageID")]
    pub(super) message_id: LenientText<'a>,
    pub(super) message_stream: LenientText<'a>,
    pub(super) recipient: LenientText<'a>,
    /// The recipient of a bounce or a complaint.
    pub(super) email: LenientText<'a>,
    /// Only on bounces and complaints.
    pub(super) from: LenientText<'a>,
    delivered_at: LenientText<'a>,
    bounced_at: LenientText<'a>,
    pub(super) received_at: LenientText<'a>,
    pub(super) changed_at: LenientText<'a>,
    pub(super) tag: LenientText<'a>,
    pub(super) metadata: LenientObject<Metadata<'a>>,
    #[serde(rename = "Type")]
    type_name: LenientText<'a>,
    type_code: LenientText<'a>,
    pub(super) details: LenientText<'a>,
    pub(super) description: LenientText<'a>,
    pub(super) suppress_sending: LenientFlag,
    suppression_reason: LenientText<'a>,
    pub(super) user_agent: LenientText<'a>,
    pub(super) geo: LenientObject<Geo<'a>>,
    pub(super) original_link: LenientText<'a>,
}

#[derive(Default, Deserialize)]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub(super) campaign: LenientText<'a>,
    pub(super) campaign_id: LenientText<'a>,
}

#[derive(Default, Deserialize)]
pub(super) struct Geo<'a> {
    #[serde(borrow, rename = "IP")]
    pub(super) ip: LenientText<'a>,
    #[serde(rename = "CountryISOCode")]
    pub(super) country: LenientText<'a>,
    #[serde(rename = "RegionISOCode")]
    pub(super) region: LenientText<'a>,
    #[serde(rename = "City")]
    pub(super) city: LenientText<'a>,
}

impl PostmarkEvent<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self.record_type.as_deref().unwrap_or_default() {
            "Delivery" => Kind::Delivered,
            "Bounce" => self.bounce_type().map_or(Kind::Bounced, |row| row.kind),
            "SpamComplaint" => Kind::Complained,
            "Open" => Kind::Opened,
            "Click" => Kind::Clicked,
            "SubscriptionChange" => self.subscription_kind(),
            _ => Kind::Other,
        }
    }

    pub(super) fn bounce_type(&self) -> Option<&'static bounces::BounceType> {
        bounces::find(self.type_name.as_deref(), self.type_code.as_deref())
    }

    /// Returns the kind of a subscription change. Postmark also posts one after a bounce or complaint,
    /// in addition to that event. Only a change that the recipient requested is an unsubscription.
    fn subscription_kind(&self) -> Kind {
        match (self.suppress_sending.0, self.suppression_reason.as_deref()) {
            (Some(true), Some("HardBounce" | "SpamComplaint")) => Kind::Other,
            (Some(true), _) => Kind::Unsubscribed,
            (Some(false), _) => Kind::Subscribed,
            (None, _) => Kind::Other,
        }
    }

    /// Returns the times that are there. The field has a different name in each record type.
    pub(super) fn times(&self) -> [Option<&str>; 4] {
        [&self.delivered_at, &self.bounced_at, &self.received_at, &self.changed_at]
            .map(|time| time.as_deref())
    }
}

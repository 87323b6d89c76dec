use event::{Kind, Text, recipient_key};
use serde::Deserialize;

use super::wrapper::Element;
use crate::bounce::numbers::{self, Category};
use crate::json::{self, LenientText};
use crate::{Content, SplitBody, SplitError};

/// The fields that decide topic and key.
#[derive(Deserialize)]
struct SparkPostHead<'a> {
    #[serde(borrow, rename = "type")]
    event_type: LenientText<'a>,
    bounce_class: LenientText<'a>,
    rcpt_to: LenientText<'a>,
    /// The recipient before SparkPost lower-cased it.
    raw_rcpt_to: LenientText<'a>,
}

pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    let elements = json::objects::<Element<'_, SparkPostHead<'_>>>(json::text(body)?)?;
    let mut split = SplitBody::with_capacity(body, elements.len());
    for (element, raw) in &elements {
        if element.msys.as_ref().is_some_and(|msys| msys.class.is_none()) {
            continue;
        }
        let head = element.msys.as_ref().and_then(|msys| msys.event.as_ref());
        let address = head.and_then(|head| head.rcpt_to.as_ref().or(head.raw_rcpt_to.as_ref()));
        let kind = head.map_or(Kind::Other, |head| {
            kind(head.event_type.as_deref(), head.bounce_class.as_deref())
        });
        split.push(kind, &recipient_key(address.map_or("", Text::as_str)), raw.as_bytes());
    }
    Ok(if split.is_empty() { SplitBody::without_events(body, Content::Ping) } else { split })
}

/// Returns the kind of a `type`.
///
/// A message has a pixel at its top, reported as `initial_open`, and one at its end, reported as
/// `open`. A mail program fetches both, so only one may count: `open`, which SparkPost calls
/// "rendered".
///
/// Events about mail *to* SparkPost (`relay_…`) and about text messages do not concern sent mail.
pub(super) fn kind(event_type: Option<&str>, bounce_class: Option<&str>) -> Kind {
    match event_type.unwrap_or_default() {
        "injection" => Kind::Accepted,
        "delivery" => Kind::Delivered,
        "delay" => Kind::Deferred,
        "bounce" | "out_of_band" => match numbers::find(bounce_class).map(|found| found.category) {
            Some(Category::Admin) => Kind::Dropped,
            _ => Kind::Bounced,
        },
        "policy_rejection" | "generation_failure" | "generation_rejection" => Kind::Dropped,
        "spam_complaint" => Kind::Complained,
        "open" | "amp_open" => Kind::Opened,
        "click" | "amp_click" => Kind::Clicked,
        "list_unsubscribe" | "link_unsubscribe" => Kind::Unsubscribed,
        _ => Kind::Other,
    }
}

use event::{Kind, Text, recipient_key};
use serde::Deserialize;

use super::wrapper::Element;
use crate::bounce::numbers;
use crate::json::{self, LenientText};
use crate::{Content, SplitBody, SplitError, feedback};

/// The fields that decide topic and key.
#[derive(Deserialize)]
struct SparkPostHead<'a> {
    #[serde(borrow, rename = "type")]
    event_type: LenientText<'a>,
    bounce_class: LenientText<'a>,
    fbtype: LenientText<'a>,
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
            kind(&Terms {
                event_type: head.event_type.as_deref(),
                bounce_class: head.bounce_class.as_deref(),
                fbtype: head.fbtype.as_deref(),
            })
        });
        split.push(kind, &recipient_key(address.map_or("", Text::as_str)), raw.as_bytes());
    }
    Ok(if split.is_empty() { SplitBody::without_events(body, Content::Ping) } else { split })
}

/// The fields that decide the kind of an event.
pub(super) struct Terms<'a> {
    pub(super) event_type: Option<&'a str>,
    pub(super) bounce_class: Option<&'a str>,
    /// The type of the feedback report, on complaints.
    pub(super) fbtype: Option<&'a str>,
}

/// Returns the kind of an event.
///
/// A message has a pixel at its top, reported as `initial_open`, and one at its end, reported as
/// `open`. A mail program fetches both, so only one may count: `open`, which SparkPost calls
/// "rendered".
///
/// Events about mail *to* SparkPost (`relay_…`) and about text messages do not concern sent mail.
pub(super) fn kind(terms: &Terms<'_>) -> Kind {
    match terms.event_type.unwrap_or_default() {
        "injection" => Kind::Accepted,
        "delivery" => Kind::Delivered,
        "delay" => Kind::Deferred,
        "bounce" | "out_of_band" => numbers::kind_of_refusal(terms.bounce_class),
        "policy_rejection" | "generation_failure" | "generation_rejection" => Kind::Dropped,
        "spam_complaint" => feedback::kind(terms.fbtype),
        "open" | "amp_open" => Kind::Opened,
        "click" | "amp_click" => Kind::Clicked,
        "list_unsubscribe" | "link_unsubscribe" => Kind::Unsubscribed,
        _ => Kind::Other,
    }
}

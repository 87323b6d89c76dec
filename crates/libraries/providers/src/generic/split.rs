use event::{Kind, recipient_key};
use serde::Deserialize;

use crate::json::{self, LenientText};
use crate::{SplitBody, SplitError};

/// The fields that decide topic and key.
#[derive(Deserialize)]
struct GenericHead<'a> {
    #[serde(borrow)]
    event: LenientText<'a>,
    recipient: LenientText<'a>,
}

pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    let heads = json::objects::<GenericHead<'_>>(json::text(body)?)?;
    let mut split = SplitBody::with_capacity(body, heads.len());
    for (head, raw) in &heads {
        let recipient = recipient_key(head.recipient.as_deref().unwrap_or_default());
        split.push(kind(head.event.as_deref()), &recipient, raw.as_bytes());
    }
    Ok(split)
}

/// Returns the kind of an `event`, which is the name of a [`Kind`].
pub(crate) fn kind(event: Option<&str>) -> Kind {
    let name = event.unwrap_or_default();
    Kind::ALL.into_iter().find(|kind| kind.as_str() == name).unwrap_or(Kind::Other)
}

use event::recipient_key;
use serde::Deserialize;

use crate::json::{self, LenientObject, LenientText};
use crate::{SplitBody, SplitError, generic};

/// The fields that decide topic and key.
#[derive(Deserialize)]
struct StandardWebhooksHead<'a> {
    #[serde(borrow)]
    event: LenientText<'a>,
    recipient: LenientText<'a>,
    data: LenientObject<DataHead<'a>>,
}

#[derive(Default, Deserialize)]
struct DataHead<'a> {
    #[serde(borrow)]
    event: LenientText<'a>,
    recipient: LenientText<'a>,
}

pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    let heads = json::objects::<StandardWebhooksHead<'_>>(json::text(body)?)?;
    let mut split = SplitBody::with_capacity(body, heads.len());
    for (head, raw) in &heads {
        let (event, address) = match head.event.as_deref() {
            Some(event) => (Some(event), head.recipient.as_deref()),
            None => (head.data.event.as_deref(), head.data.recipient.as_deref()),
        };
        let recipient = recipient_key(address.unwrap_or_default());
        split.push(generic::kind(event), &recipient, raw.as_bytes());
    }
    Ok(split)
}

use event::recipient_key;

use super::event::PostalEvent;
use crate::{SplitBody, SplitError, json};

pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    let postal: PostalEvent<'_> = json::body(body)?;
    let address = postal.message().and_then(|message| message.to.as_deref());
    let mut split = SplitBody::new(body);
    split.push(postal.kind(), &recipient_key(address.unwrap_or_default()), body);
    Ok(split)
}

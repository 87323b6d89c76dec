use event::recipient_key;

use super::event::PostmarkEvent;
use crate::{SplitBody, SplitError, json};

pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    let postmark: PostmarkEvent<'_> = json::body(body)?;
    let address = postmark.recipient.as_deref().or(postmark.email.as_deref()).unwrap_or_default();
    let mut split = SplitBody::new(body);
    split.push(postmark.kind(), &recipient_key(address), body);
    Ok(split)
}

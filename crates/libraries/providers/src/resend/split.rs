use super::event::ResendEvent;
use crate::{SplitBody, SplitError, json};

pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    let resend: ResendEvent<'_> = json::body(body)?;
    let (kind, recipients) = (resend.kind(), resend.recipients());
    Ok(SplitBody::per_recipient(body, kind, &recipients))
}

use event::recipient_key;

use super::record::Record;
use crate::{RawEvent, Split, SplitError, json};

pub(crate) fn split(body: &[u8], sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    let record: Record<'_> = json::body(body)?;
    let recipient = record.recipient.as_deref().or(record.email.as_deref()).unwrap_or_default();
    sink(RawEvent { kind: record.kind(), recipient: &recipient_key(recipient), raw: body });
    Ok(Split::Events(1))
}

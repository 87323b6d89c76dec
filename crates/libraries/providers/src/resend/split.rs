use std::borrow::Cow;

use super::record::Record;
use crate::{RawEvent, Split, SplitError, json};

pub(crate) fn split(body: &[u8], sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    let record: Record<'_> = json::body(body)?;
    let kind = record.kind();
    let mut recipients = record.recipients();
    if recipients.is_empty() {
        recipients.push(Cow::Borrowed(""));
    }
    for recipient in &recipients {
        sink(RawEvent { kind, recipient, raw: body });
    }
    Ok(Split::Events(recipients.len()))
}

use std::borrow::Cow;

use super::address;
use super::record::{Notice, Record, Sns};
use crate::{RawEvent, Split, SplitError, json};

/// How the message begins that SES sends once, when an event destination is made.
const FIRST_MESSAGE: &str = "Successfully validated SNS topic";

pub(crate) fn split(body: &[u8], sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    let sns: Sns<'_> = json::body(body)?;
    let topic = sns.topic_arn.as_deref().unwrap_or_default().to_owned();
    match sns.notice().ok_or(SplitError::WrongShape("an SNS envelope of a known Type"))? {
        Notice::Notification => notification(&sns, body, sink),
        Notice::UnsubscribeConfirmation => Ok(Split::Unsubscribed { topic }),
        Notice::SubscriptionConfirmation => {
            let url = sns.subscribe_url.as_deref().unwrap_or_default();
            if !address::is_confirmation(url) {
                return Err(SplitError::WrongShape("a SubscribeURL of Amazon SNS"));
            }
            Ok(Split::ConfirmSubscription { subscribe_url: url.to_owned(), topic })
        }
    }
}

fn notification(
    sns: &Sns<'_>,
    body: &[u8],
    sink: &mut dyn FnMut(RawEvent<'_>),
) -> Result<Split, SplitError> {
    let message =
        sns.message.as_deref().ok_or(SplitError::WrongShape("an SNS envelope with a Message"))?;
    if message.starts_with(FIRST_MESSAGE) {
        return Ok(Split::Ping);
    }
    let record: Record<'_> = json::whole(message)?;
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

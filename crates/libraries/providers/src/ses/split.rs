use super::event::SesEvent;
use super::sns::{MessageType, SnsMessage};
use super::sns_url;
use crate::{Content, SplitBody, SplitError, json};

/// The start of the message that SES sends when an event destination is created.
const FIRST_MESSAGE: &str = "Successfully validated SNS topic";

pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    let sns: SnsMessage<'_> = json::body(body)?;
    let topic = sns.topic_arn.as_deref().unwrap_or_default().to_owned();
    let without_events = |content| Ok(SplitBody::without_events(body, content));
    match sns.message_type().ok_or(SplitError::WrongShape("an SNS envelope of a known Type"))? {
        MessageType::Notification => split_notification(&sns, body),
        MessageType::UnsubscribeConfirmation => without_events(Content::Unsubscribed { topic }),
        MessageType::SubscriptionConfirmation => {
            let url = sns.subscribe_url.as_deref().unwrap_or_default();
            if !sns_url::is_confirmation(url, &topic) {
                return Err(SplitError::WrongShape("a SubscribeURL of Amazon SNS"));
            }
            without_events(Content::ConfirmSubscription { subscribe_url: url.to_owned(), topic })
        }
    }
}

fn split_notification<'b>(
    sns: &SnsMessage<'_>,
    body: &'b [u8],
) -> Result<SplitBody<'b>, SplitError> {
    let message =
        sns.message.as_deref().ok_or(SplitError::WrongShape("an SNS envelope with a Message"))?;
    if message.starts_with(FIRST_MESSAGE) {
        return Ok(SplitBody::without_events(body, Content::Ping));
    }
    let per_recipient =
        |ses: &SesEvent<'_>| SplitBody::per_recipient(body, ses.kind(), &ses.recipients());
    json::single(message).map(|ses| per_recipient(&ses)).or_else(|error| {
        let repaired = json::repair(message.as_bytes()).ok_or(error)?;
        json::body(&repaired).map(|ses| per_recipient(&ses))
    })
}

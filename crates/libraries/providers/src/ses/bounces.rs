//! Amazon SES's terms for a refused message, from the contents of event data in the developer
//! guide. Resend sends through SES and uses the same terms.

use event::BounceClass::{
    Content, InvalidRecipient, MailboxFull, MessageTooLarge, RateLimited, Reputation, Suppressed,
    Technical,
};
use event::Permanence::{Hard, Soft, Undetermined};

use crate::bounce::{Row, meaning};

/// The values of `bounceType`.
pub(crate) const TYPES: &[Row] = &[
    ("Permanent", Some(Hard), None),
    ("Transient", Some(Soft), None),
    ("Undetermined", Some(Undetermined), None),
];

/// The values of `bounceSubType` and `delayType`.
pub(crate) const SUBTYPES: &[Row] = &[
    ("NoEmail", None, Some(InvalidRecipient)),
    ("Suppressed", Some(Hard), Some(Suppressed)),
    ("OnAccountSuppressionList", Some(Hard), Some(Suppressed)),
    ("UnsubscribedRecipient", None, Some(Suppressed)),
    ("MailboxFull", None, Some(MailboxFull)),
    ("MessageTooLarge", None, Some(MessageTooLarge)),
    ("ContentRejected", None, Some(Content)),
    ("AttachmentRejected", None, Some(Content)),
    ("CustomTimeoutExceeded", None, Some(Technical)),
    ("SpamDetected", None, Some(Content)),
    ("RecipientServerError", None, Some(Technical)),
    ("IPFailure", None, Some(Reputation)),
    ("TransientCommunicationFailure", None, Some(Technical)),
    ("BYOIPHostNameLookupUnavailable", None, Some(Technical)),
    ("SendingDeferral", None, Some(RateLimited)),
    ("InternalFailure", None, Some(Technical)),
    ("General", None, None),
    ("Undetermined", None, None),
];

/// True if the address is on a suppression list, or has left the contact list, and SES sent nothing.
/// Resend passes these terms on.
pub(crate) fn is_suppressed(sub_type: Option<&str>) -> bool {
    meaning(SUBTYPES, sub_type).class == Some(Suppressed)
}

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;
    use crate::bounce::rows;

    #[test]
    fn every_row() {
        let meanings = |key, table| {
            let record = format!(
                r#"{{"eventType":"Bounce","bounce":{{"timestamp":"2025-11-10T15:15:00Z",
                    "{key}":"WORD","bouncedRecipients":[{{"emailAddress":"ada@example.com"}}]}}}}"#
            );
            let template = serde_json::json!({
                "Type": "Notification", "MessageId": "m", "Timestamp": "2025-11-10T15:15:01Z",
                "Message": record,
            });
            rows::meanings(Provider::Ses, &template.to_string(), rows::terms(table))
        };
        insta::assert_snapshot!("types", meanings("bounceType", TYPES));
        insta::assert_snapshot!("subtypes", meanings("bounceSubType", SUBTYPES));
    }
}

//! Postal's own reasons for a refusal, from the text `details`. Postal writes them itself (its
//! classes `OutgoingMessageProcessor`, `SingleMessageProcessor` and `SMTPSender`), so they do not
//! depend on the receiving server. The text goes on after the beginning given here.

use event::BounceClass::{Content, Other, Policy, RateLimited, Suppressed, Technical};
use event::Permanence::{Hard, Soft, Undetermined};

use crate::bounce::Row;

/// The beginnings of `details`. `Permanent SMTP delivery error` and `Temporary SMTP delivery error`
/// have no row: they say only that the answer of the server is in `output`.
#[rustfmt::skip]
pub(super) const DETAILS: &[Row] = &[
    // Held before any attempt, as at every other provider with a list.
    ("Recipient (", Some(Undetermined), Some(Suppressed)),
    ("Credential is configured to hold", Some(Soft), Some(Policy)),
    ("Server is in development mode", Some(Soft), Some(Policy)),
    ("Mail server has been suspended", Some(Soft), Some(Policy)),
    ("Message held because send limit", Some(Soft), Some(RateLimited)),
    ("Message is likely spam", Some(Hard), Some(Content)),
    ("Message's domain no longer exist", Some(Hard), Some(Policy)),
    ("Message doesn't have an RCPT TO", Some(Hard), Some(Other)),
    ("Scope ", Some(Hard), Some(Other)),
    ("Raw message has been removed", Some(Hard), Some(Other)),
    // Each attempt has failed for a while, and `output` is empty.
    ("Maximum number of delivery attempts", Some(Soft), Some(Technical)),
    ("No SMTP servers were available", Some(Soft), Some(Technical)),
    ("An error occurred while sending", Some(Soft), Some(Technical)),
    ("An internal error occurred", Some(Soft), Some(Technical)),
];

/// The beginnings of `details` with which Postal fails a message without any attempt.
const NEVER_TRIED: [&str; 5] = [
    "Message is likely spam",
    "Message's domain no longer exist",
    "Message doesn't have an RCPT TO",
    "Scope ",
    "Raw message has been removed",
];

/// True if Postal itself refused the message, so that no server has refused it.
pub(super) fn was_never_tried(details: Option<&str>) -> bool {
    details.is_some_and(|text| NEVER_TRIED.iter().any(|start| text.starts_with(start)))
}

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;
    use crate::bounce::rows;

    #[test]
    fn every_row() {
        let template = r#"{"event":"MessageHeld","timestamp":1762787700.5,"uuid":"u",
            "payload":{"message":{"direction":"outgoing","to":"ada@example.com"},
            "status":"Held","details":"WORD and more","output":""}}"#;
        insta::assert_snapshot!(rows::meanings(Provider::Postal, template, rows::terms(DETAILS)));
    }
}

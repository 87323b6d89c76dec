//! Brevo's words for a refusal: transactional webhooks reference.

use event::BounceClass::{InvalidRecipient, Suppressed, Technical};
use event::Permanence::{Hard, Soft, Undetermined};

use crate::bounce::Row;

/// `event` of the events that refuse a message. Why is for `reason` to say, which is mostly what
/// the receiving server answered.
pub(super) const EVENTS: &[Row] = &[
    ("hard_bounce", Some(Hard), None),
    ("soft_bounce", Some(Soft), None),
    ("deferred", Some(Soft), None),
    ("invalid_email", Some(Hard), Some(InvalidRecipient)),
    // On Brevo's list: it bounced, complained, or unsubscribed before.
    ("blocked", Some(Undetermined), Some(Suppressed)),
    ("error", Some(Soft), Some(Technical)),
];

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;
    use crate::bounce::rows;

    #[test]
    fn every_row() {
        let template = r#"{"event":"WORD","email":"ada@example.com","message-id":"<m>",
            "ts_epoch":1762787700250}"#;
        insta::assert_snapshot!(rows::told(Provider::Brevo, template, rows::words(EVENTS)));
    }
}

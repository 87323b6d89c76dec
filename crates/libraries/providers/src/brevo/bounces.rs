//! Brevo's terms for a refused message, from the reference of transactional webhooks.

use event::BounceClass::{InvalidRecipient, Suppressed, Technical};
use event::Permanence::{Hard, Soft, Undetermined};

use crate::bounce::Row;

/// The values of `event` that report a refusal. The cause is in `reason`, which is mostly the
/// answer of the receiving server.
pub(super) const EVENTS: &[Row] = &[
    ("hard_bounce", Some(Hard), None),
    ("soft_bounce", Some(Soft), None),
    ("deferred", Some(Soft), None),
    ("invalid_email", Some(Hard), Some(InvalidRecipient)),
    // The address is on Brevo's list: it bounced, complained or unsubscribed before.
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
        insta::assert_snapshot!(rows::meanings(Provider::Brevo, template, rows::terms(EVENTS)));
    }
}

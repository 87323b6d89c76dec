//! SendGrid's terms for a refused message, from the reference of tracking events.

use event::BounceClass::{
    Content, InvalidRecipient, MailboxDisabled, Policy, RateLimited, Reputation, Suppressed,
    Technical,
};
use event::Permanence::{Hard, Soft, Undetermined};

use crate::bounce::Row;

/// The values of `type` of a `bounce` event.
pub(crate) const TYPES: &[Row] = &[("bounce", Some(Hard), None), ("blocked", Some(Soft), None)];

/// The values of `bounce_classification`. SendGrid's pages spell them differently.
pub(crate) const CLASSES: &[Row] = &[
    ("invalid", None, Some(InvalidRecipient)),
    ("mailbox unavailable", None, Some(MailboxDisabled)),
    ("content", None, Some(Content)),
    ("reputation", None, Some(Reputation)),
    ("frequency", None, Some(RateLimited)),
    ("technical", None, Some(Technical)),
    ("unclassified", None, None),
];

/// The values of `reason` of a `dropped` event.
pub(crate) const DROPS: &[Row] = &[
    ("bounced address", Some(Hard), Some(Suppressed)),
    ("unsubscribed address", Some(Undetermined), Some(Suppressed)),
    ("spam reporting address", Some(Undetermined), Some(Suppressed)),
    ("invalid smtpapi header", Some(Soft), Some(Policy)),
    ("invalid", Some(Hard), Some(InvalidRecipient)),
    ("spam content", Some(Soft), Some(Content)),
    ("recipient list over package quota", Some(Soft), Some(RateLimited)),
];

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;
    use crate::bounce::rows;

    #[test]
    fn every_row() {
        let meanings = |event: &str, key, table| {
            let template = format!(
                r#"{{"event":"{event}","timestamp":1762787700,"sg_event_id":"x","{key}":"WORD"}}"#
            );
            rows::meanings(Provider::SendGrid, &template, rows::terms(table))
        };
        insta::assert_snapshot!("types", meanings("bounce", "type", TYPES));
        insta::assert_snapshot!("classes", meanings("bounce", "bounce_classification", CLASSES));
        insta::assert_snapshot!("drops", meanings("dropped", "reason", DROPS));
    }
}

//! Mandrill's terms for a refused message, from the article on the webhook format.

use event::BounceClass::{
    AutoReply, Content, InvalidDomain, InvalidRecipient, MailboxDisabled, MailboxFull,
    MessageTooLarge, Policy, Reputation, Suppressed,
};
use event::Permanence::{Hard, Soft, Undetermined};

use crate::bounce::Row;

/// The values of `event`.
pub(crate) const EVENTS: &[Row] = &[
    ("hard_bounce", Some(Hard), None),
    ("soft_bounce", Some(Soft), None),
    ("deferral", Some(Soft), None),
    ("reject", Some(Undetermined), Some(Suppressed)),
];

/// The values of `msg.bounce_description`. `msg.bgtools_code` has more detail.
pub(crate) const DESCRIPTIONS: &[Row] = &[
    ("bad_mailbox", None, Some(InvalidRecipient)),
    ("invalid_domain", None, Some(InvalidDomain)),
    ("domain_not_found", None, Some(InvalidDomain)),
    ("mailbox_full", None, Some(MailboxFull)),
    ("message_too_large", None, Some(MessageTooLarge)),
    ("spam_block", None, Some(Reputation)),
    ("content_rejected", None, Some(Content)),
    ("virus", None, Some(Content)),
    ("policy_violation", None, Some(Policy)),
    ("inactive_mailbox", None, Some(MailboxDisabled)),
    ("out_of_office", None, Some(AutoReply)),
    ("general", None, None),
];

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;
    use crate::bounce::{numbers, rows};

    #[test]
    fn every_row() {
        let event = |event: &str, field: &str| {
            format!(r#"{{"event":"{event}","ts":1762787700,"_id":"m","msg":{{{field}}}}}"#)
        };
        let meanings = |template: String, terms: Vec<&str>| {
            rows::meanings(Provider::Mandrill, &template, terms)
        };
        let words = |table| rows::terms(table).collect();
        insta::assert_snapshot!("events", meanings(event("WORD", ""), words(EVENTS)));
        let described = event("soft_bounce", r#""bounce_description":"WORD""#);
        insta::assert_snapshot!("descriptions", meanings(described, words(DESCRIPTIONS)));
        let numbered = event("soft_bounce", r#""bgtools_code":WORD"#);
        let codes = numbers::NUMBERS.iter().map(|number| number.code).collect();
        insta::assert_snapshot!("numbers", meanings(numbered, codes));
    }
}

//! The providers' own words for a refusal. The documents they come from are named per table.

use event::BounceClass::{self, *};
use event::Kind;
use event::Permanence::{self, *};

/// What a provider's word says; what it leaves open is told from the server's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Meaning {
    pub(crate) permanence: Option<Permanence>,
    pub(crate) class: Option<BounceClass>,
}

impl Meaning {
    pub(crate) const SOFT: Self = Self { permanence: Some(Soft), class: None };

    /// This, and where it is silent what `other` says.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { permanence: self.permanence.or(other.permanence), class: self.class.or(other.class) }
    }
}

/// A word and its meaning.
pub(crate) type Row = (&'static str, Option<Permanence>, Option<BounceClass>);

/// What the first row says whose word the text starts with, whatever the case; nothing otherwise.
pub(crate) fn meaning(table: &[Row], text: Option<&str>) -> Meaning {
    let starts = |text: &str, word: &str| {
        text.as_bytes().get(..word.len()).is_some_and(|s| s.eq_ignore_ascii_case(word.as_bytes()))
    };
    let found = text.and_then(|text| table.iter().find(|(word, ..)| starts(text, word)));
    found.map_or_else(Meaning::default, |&(_, permanence, class)| Meaning { permanence, class })
}

/// SendGrid `type` of a `bounce`: tracking-events reference.
pub(crate) const SENDGRID_TYPES: &[Row] =
    &[("bounce", Some(Hard), None), ("blocked", Some(Soft), None)];

/// SendGrid `bounce_classification`: seven classes, spelled differently from page to page.
pub(crate) const SENDGRID_CLASSES: &[Row] = &[
    ("invalid", None, Some(InvalidRecipient)),
    ("mailbox unavailable", None, Some(MailboxDisabled)),
    ("content", None, Some(Content)),
    ("reputation", None, Some(Reputation)),
    ("frequency", None, Some(RateLimited)),
    ("technical", None, Some(Technical)),
    ("unclassified", None, None),
];

/// SendGrid `reason` of a `dropped`: tracking-events reference.
pub(crate) const SENDGRID_DROPS: &[Row] = &[
    ("bounced address", Some(Hard), Some(Suppressed)),
    ("unsubscribed address", Some(Undetermined), Some(Suppressed)),
    ("spam reporting address", Some(Undetermined), Some(Suppressed)),
    ("invalid smtpapi header", Some(Soft), Some(Policy)),
    ("invalid", Some(Hard), Some(InvalidRecipient)),
    ("spam content", Some(Soft), Some(Content)),
    ("recipient list over package quota", Some(Soft), Some(RateLimited)),
];

/// Mailgun `reason` of a `failed`: events reference. The set is open.
pub(crate) const MAILGUN_REASONS: &[Row] = &[
    ("suppress-bounce", Some(Hard), Some(Suppressed)),
    ("suppress-", Some(Undetermined), Some(Suppressed)),
    ("espblock", None, Some(Reputation)),
    ("greylisted", Some(Soft), Some(RateLimited)),
    ("old", Some(Soft), Some(Technical)),
];

/// Mailgun `severity` of a `failed`.
pub(crate) const MAILGUN_SEVERITIES: &[Row] =
    &[("permanent", Some(Hard), None), ("temporary", Some(Soft), None)];

/// Amazon SES `bounceType`: developer guide, contents of event data.
pub(crate) const SES_TYPES: &[Row] = &[
    ("permanent", Some(Hard), None),
    ("transient", Some(Soft), None),
    ("undetermined", Some(Undetermined), None),
];

/// Amazon SES `bounceSubType` and `delayType`.
pub(crate) const SES_SUBTYPES: &[Row] = &[
    ("noemail", None, Some(InvalidRecipient)),
    ("suppressed", Some(Hard), Some(Suppressed)),
    ("onaccountsuppressionlist", Some(Hard), Some(Suppressed)),
    ("mailboxfull", None, Some(MailboxFull)),
    ("messagetoolarge", None, Some(MessageTooLarge)),
    ("contentrejected", None, Some(Content)),
    ("attachmentrejected", None, Some(Content)),
    ("customtimeoutexceeded", None, Some(Technical)),
    ("spamdetected", None, Some(Content)),
    ("recipientservererror", None, Some(Technical)),
    ("ipfailure", None, Some(Reputation)),
    ("transientcommunicationfailure", None, Some(Technical)),
    ("byoiphostnamelookupunavailable", None, Some(Technical)),
    ("sendingdeferral", None, Some(RateLimited)),
    ("internalfailure", None, Some(Technical)),
];

/// Mandrill `event`.
pub(crate) const MANDRILL_EVENTS: &[Row] = &[
    ("hard_bounce", Some(Hard), None),
    ("soft_bounce", Some(Soft), None),
    ("deferral", Some(Soft), None),
    ("reject", Some(Undetermined), Some(Suppressed)),
];

/// Mandrill `msg.bounce_description`: webhook format article.
pub(crate) const MANDRILL_BOUNCES: &[Row] = &[
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

/// One of Postmark's bounce types, which are not all bounces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PostmarkType {
    pub(crate) name: &'static str,
    pub(crate) code: u32,
    pub(crate) kind: Kind,
    pub(crate) meaning: Meaning,
}

const fn postmark(
    name: &'static str,
    code: u32,
    kind: Kind,
    permanence: Permanence,
    class: Option<BounceClass>,
) -> PostmarkType {
    PostmarkType { name, code, kind, meaning: Meaning { permanence: Some(permanence), class } }
}

/// Postmark `Type` and `TypeCode`: bounce API reference and the vendor's client library. The name
/// decides: the vendor's own pages disagree about some numbers.
#[rustfmt::skip]
pub(crate) const POSTMARK_TYPES: &[PostmarkType] = &[
    postmark("HardBounce", 1, Kind::Bounced, Hard, Some(InvalidRecipient)),
    postmark("Transient", 2, Kind::Deferred, Soft, None),
    postmark("Unsubscribe", 16, Kind::Unsubscribed, Undetermined, None),
    postmark("Subscribe", 32, Kind::Subscribed, Undetermined, None),
    postmark("AutoResponder", 64, Kind::Other, Undetermined, Some(AutoReply)),
    postmark("AddressChange", 128, Kind::Other, Undetermined, Some(AutoReply)),
    postmark("DnsError", 256, Kind::Deferred, Soft, Some(Technical)),
    postmark("SpamNotification", 512, Kind::Bounced, Soft, Some(Content)),
    postmark("OpenRelayTest", 1024, Kind::Other, Undetermined, Some(Other)),
    postmark("Unknown", 2048, Kind::Bounced, Soft, None),
    postmark("SoftBounce", 4096, Kind::Bounced, Soft, None),
    postmark("VirusNotification", 8192, Kind::Bounced, Soft, Some(Content)),
    postmark("ChallengeVerification", 16384, Kind::Other, Undetermined, Some(AutoReply)),
    postmark("BadEmailAddress", 100_000, Kind::Bounced, Hard, Some(InvalidRecipient)),
    postmark("SpamComplaint", 100_001, Kind::Complained, Undetermined, None),
    postmark("ManuallyDeactivated", 100_002, Kind::Bounced, Hard, Some(Suppressed)),
    postmark("Unconfirmed", 100_003, Kind::Dropped, Undetermined, Some(Policy)),
    postmark("Blocked", 100_006, Kind::Bounced, Soft, Some(Reputation)),
    postmark("SMTPApiError", 100_007, Kind::Dropped, Soft, Some(Technical)),
    postmark("InboundError", 100_008, Kind::Other, Undetermined, Some(Technical)),
    postmark("DMARCPolicy", 100_009, Kind::Bounced, Soft, Some(Authentication)),
    postmark("TemplateRenderingFailed", 100_010, Kind::Dropped, Soft, Some(Content)),
];

/// By name, or by code where the name is new.
pub(crate) fn postmark_type(
    name: Option<&str>,
    code: Option<&str>,
) -> Option<&'static PostmarkType> {
    let code = code.and_then(|code| code.parse::<u32>().ok());
    POSTMARK_TYPES
        .iter()
        .find(|row| name.is_some_and(|name| name.eq_ignore_ascii_case(row.name)))
        .or_else(|| POSTMARK_TYPES.iter().find(|row| Some(row.code) == code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_reached() {
        let tables: [&[Row]; 9] = [
            SENDGRID_TYPES,
            SENDGRID_CLASSES,
            SENDGRID_DROPS,
            MAILGUN_REASONS,
            MAILGUN_SEVERITIES,
            SES_TYPES,
            SES_SUBTYPES,
            MANDRILL_EVENTS,
            MANDRILL_BOUNCES,
        ];
        for table in tables {
            for &(word, permanence, class) in table {
                assert_eq!(meaning(table, Some(word)), Meaning { permanence, class }, "{word}");
                let upper = word.to_ascii_uppercase();
                assert_eq!(meaning(table, Some(&upper)), Meaning { permanence, class }, "{word}");
            }
            assert_eq!(meaning(table, Some("é")), Meaning::default());
            assert_eq!(meaning(table, None), Meaning::default());
        }
    }

    #[test]
    fn every_postmark_type_is_reached_by_name_and_by_code() {
        for row in POSTMARK_TYPES {
            assert_eq!(postmark_type(Some(row.name), None), Some(row));
            assert_eq!(postmark_type(Some("New"), Some(&row.code.to_string())), Some(row));
        }
        // The vendor's samples give a spam complaint the code of a spam notification.
        let complaint = postmark_type(Some("SpamComplaint"), Some("512")).unwrap();
        assert_eq!(complaint.kind, Kind::Complained);
        assert_eq!(postmark_type(Some("New"), Some("7")), None);
    }
}

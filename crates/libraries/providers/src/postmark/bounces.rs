//! Postmark's bounce types. Not all of them are bounces.

use event::BounceClass::{self, *};
use event::Kind;
use event::Permanence::{self, *};

use crate::bounce::Meaning;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BounceType {
    pub(crate) name: &'static str,
    pub(super) code: u32,
    pub(super) kind: Kind,
    pub(super) meaning: Meaning,
}

const fn row(
    name: &'static str,
    code: u32,
    kind: Kind,
    permanence: Permanence,
    class: Option<BounceClass>,
) -> BounceType {
    BounceType { name, code, kind, meaning: Meaning { permanence: Some(permanence), class } }
}

/// The values of `Type` and `TypeCode`, from the bounce API reference and Postmark's client
/// library. The name takes precedence, because Postmark's pages disagree about some codes.
#[rustfmt::skip]
pub(crate) const TYPES: &[BounceType] = &[
    row("HardBounce", 1, Kind::Bounced, Hard, Some(InvalidRecipient)),
    row("Transient", 2, Kind::Deferred, Soft, None),
    row("Unsubscribe", 16, Kind::Unsubscribed, Undetermined, None),
    row("Subscribe", 32, Kind::Subscribed, Undetermined, None),
    row("AutoResponder", 64, Kind::Other, Undetermined, Some(AutoReply)),
    row("AddressChange", 128, Kind::Other, Undetermined, Some(AutoReply)),
    row("DnsError", 256, Kind::Deferred, Soft, Some(Technical)),
    row("SpamNotification", 512, Kind::Bounced, Soft, Some(Content)),
    row("OpenRelayTest", 1024, Kind::Other, Undetermined, Some(Other)),
    row("Unknown", 2048, Kind::Bounced, Soft, None),
    row("SoftBounce", 4096, Kind::Bounced, Soft, None),
    row("VirusNotification", 8192, Kind::Bounced, Soft, Some(Content)),
    row("ChallengeVerification", 16384, Kind::Other, Undetermined, Some(AutoReply)),
    row("BadEmailAddress", 100_000, Kind::Bounced, Hard, Some(InvalidRecipient)),
    row("SpamComplaint", 100_001, Kind::Complained, Undetermined, None),
    row("ManuallyDeactivated", 100_002, Kind::Dropped, Hard, Some(Suppressed)),
    row("Unconfirmed", 100_003, Kind::Dropped, Undetermined, Some(Policy)),
    row("Blocked", 100_006, Kind::Bounced, Soft, Some(Reputation)),
    row("SMTPApiError", 100_007, Kind::Dropped, Soft, Some(Technical)),
    row("InboundError", 100_008, Kind::Other, Undetermined, Some(Technical)),
    row("DMARCPolicy", 100_009, Kind::Bounced, Soft, Some(Authentication)),
    row("TemplateRenderingFailed", 100_010, Kind::Dropped, Soft, Some(Content)),
];

/// Finds a type by name, or by code if the name is unknown.
pub(super) fn find(name: Option<&str>, code: Option<&str>) -> Option<&'static BounceType> {
    let code = code.and_then(|code| code.parse::<u32>().ok());
    TYPES
        .iter()
        .find(|row| name.is_some_and(|name| name.eq_ignore_ascii_case(row.name)))
        .or_else(|| TYPES.iter().find(|row| Some(row.code) == code))
}

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;
    use crate::bounce::rows;

    #[test]
    fn every_type_is_reached_by_name_and_by_code() {
        for row in TYPES {
            assert_eq!(find(Some(row.name), None), Some(row));
            assert_eq!(find(Some("New"), Some(&row.code.to_string())), Some(row));
        }
        // Postmark's samples give a spam complaint the code of a spam notification.
        let complaint = find(Some("SpamComplaint"), Some("512")).unwrap();
        assert_eq!(complaint.kind, Kind::Complained);
        assert_eq!(find(Some("New"), Some("7")), None);
    }

    #[test]
    fn every_row() {
        let template = r#"{"RecordType":"Bounce","Type":"WORD","ID":1,"Email":"ada@example.com",
            "BouncedAt":"2025-11-10T15:15:00Z"}"#;
        insta::assert_snapshot!(rows::meanings(
            Provider::Postmark,
            template,
            TYPES.iter().map(|row| row.name)
        ));
    }
}

//! The type of a feedback report: the field `Feedback-Type` of RFC 5965 §3.1, RFC 6430 and RFC 6591.
//! Some providers pass it on with a complaint.

use event::Kind;

/// Returns the kind of a complaint with this feedback type.
///
/// With `not-spam` the reader took the message out of the spam folder, and `auth-failure` reports the
/// failure of SPF, DKIM or DMARC, not a reader. Both become [`Kind::Other`], so they count in no
/// complaint rate and suppress nobody. `opt-out` is the reader's request for no further mail. All
/// other types, and no type, are complaints.
pub(crate) fn kind(feedback_type: Option<&str>) -> Kind {
    let is =
        |name: &str| feedback_type.is_some_and(|given| given.trim().eq_ignore_ascii_case(name));
    if is("not-spam") || is("auth-failure") {
        Kind::Other
    } else if is("opt-out") || is("opt-out-list") {
        Kind::Unsubscribed
    } else {
        Kind::Complained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reports_by_a_reader_are_complaints() {
        for (given, expected) in [
            (None, Kind::Complained),
            (Some("abuse"), Kind::Complained),
            (Some("fraud"), Kind::Complained),
            (Some("virus"), Kind::Complained),
            (Some("other"), Kind::Complained),
            (Some("a new type"), Kind::Complained),
            (Some("not-spam"), Kind::Other),
            (Some("Not-Spam "), Kind::Other),
            (Some("auth-failure"), Kind::Other),
            (Some("opt-out"), Kind::Unsubscribed),
            (Some("opt-out-list"), Kind::Unsubscribed),
        ] {
            assert_eq!(kind(given), expected, "{given:?}");
        }
    }
}

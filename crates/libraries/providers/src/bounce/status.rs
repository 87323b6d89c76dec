//! Enhanced mail system status codes: those of RFC 3463, RFC 7372, RFC 7505 and the IANA registry,
//! and those that the large mailbox providers have added.

use event::BounceClass;

/// The meaning of a code. It does not depend on the first digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// Subject and detail, such as `1.1`. `*` matches every detail that has no row.
    code: &'static str,
    pub(super) class: BounceClass,
    /// True if all servers use the code in the same sense, so that it outweighs their wording.
    pub(super) certain: bool,
}

const fn sure(code: &'static str, class: BounceClass) -> Row {
    Row { code, class, certain: true }
}

const fn vague(code: &'static str, class: BounceClass) -> Row {
    Row { code, class, certain: false }
}

#[rustfmt::skip]
const ROWS: &[Row] = {
    use BounceClass::*;
    &[
        // Addresses
        sure("1.1", InvalidRecipient),  // bad destination mailbox address
        sure("1.2", InvalidDomain),     // bad destination system address
        sure("1.3", InvalidRecipient),  // bad destination mailbox address syntax
        vague("1.4", InvalidRecipient), // destination mailbox address ambiguous
        sure("1.6", InvalidRecipient),  // destination mailbox has moved
        vague("1.7", Policy),           // bad sender's mailbox address syntax
        vague("1.8", Policy),           // bad sender's system address
        vague("1.10", InvalidDomain),   // null MX (RFC 7505); Microsoft also uses it for an unknown recipient
        vague("1.*", InvalidRecipient),
        // Mailboxes
        vague("2.1", MailboxDisabled),  // disabled; Gmail also uses it for a rate limit
        sure("2.2", MailboxFull),
        sure("2.3", MessageTooLarge),   // exceeds administrative limit
        vague("2.4", Technical),        // mailing list expansion problem
        // Mail systems
        sure("3.4", MessageTooLarge),   // too big for system
        vague("3.*", Technical),
        // Network and routing
        vague("4.1", Technical),        // no answer; Microsoft also uses it for an unknown recipient
        vague("4.4", InvalidDomain),    // unable to route
        vague("4.5", RateLimited),      // mail system congestion
        vague("4.*", Technical),
        // Protocol
        sure("5.3", RateLimited),       // too many recipients
        vague("5.*", Technical),
        // Content and media
        vague("6.*", Content),
        // Security and policy
        sure("7.20", Authentication),   // no passing DKIM signature (RFC 7372)
        sure("7.21", Authentication),   // no acceptable DKIM signature
        sure("7.22", Authentication),   // no valid author-matched DKIM signature
        sure("7.23", Authentication),   // SPF validation failed
        sure("7.24", Authentication),   // SPF validation error
        sure("7.25", Authentication),   // reverse DNS validation failed
        sure("7.26", Authentication),   // multiple authentication checks failed
        sure("7.27", Authentication),   // sender has null MX (RFC 7505); Gmail: SPF failed
        sure("7.28", RateLimited),      // mail flood detected; Gmail: unusual rate
        sure("7.29", Authentication),   // ARC validation failure
        sure("7.30", Authentication),   // Gmail: DKIM failed
        sure("7.32", Authentication),   // Gmail: From header not aligned
        sure("7.40", Authentication),   // Gmail: DMARC missing
        sure("7.500", RateLimited),     // Microsoft: server busy
        sure("7.509", Authentication),  // Microsoft: DMARC failed
        sure("7.511", Reputation),      // Microsoft: banned sender
        sure("7.515", Authentication),  // Microsoft: bulk sender not authenticated
        sure("7.606", Reputation),      // Microsoft: banned sending IP
        sure("7.650", RateLimited),     // Microsoft: rate limited for IP reputation
        sure("7.651", RateLimited),     // Microsoft: rate limited for IP reputation
        sure("7.652", RateLimited),     // Microsoft: too many connections
        sure("7.708", Reputation),      // Microsoft: traffic not accepted from this IP
        vague("7.*", Policy),
    ]
};

/// Returns the row of a code such as `5.1.1`.
pub(super) fn lookup(status: &str) -> Option<Row> {
    let (_, code) = status.split_once('.')?;
    let (subject, _) = code.split_once('.')?;
    let any =
        |row: &&Row| row.code.strip_suffix("*").and_then(|s| s.strip_suffix('.')) == Some(subject);
    ROWS.iter().find(|row| row.code == code).or_else(|| ROWS.iter().find(any)).copied()
}

/// The codes, after a leading 5, which say that the address or its domain does not exist.
const ABSENT: [&str; 6] = ["1.1", "1.2", "1.3", "1.6", "1.10", "4.4"];

/// True if the code says that the address or its domain does not exist, and that this is permanent.
pub(super) fn proves_absence(status: &str) -> bool {
    status.strip_prefix("5.").is_some_and(|code| ABSENT.contains(&code))
}

/// True if the whole text is one code: class 2, 4 or 5, then subject and detail of up to three
/// digits.
pub(super) fn is_enhanced(text: &str) -> bool {
    let mut parts = text.split('.');
    let number =
        |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    matches!(parts.next(), Some("2" | "4" | "5"))
        && parts.next().is_some_and(number)
        && parts.next().is_some_and(number)
        && parts.next().is_none()
}

/// Finds the first code in a server's answer, such as `550-5.1.1 no such user`. It must not be a
/// part of a longer number.
pub(super) fn find(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .map(|word| word.trim_end_matches('.'))
        .find(|word| is_enhanced(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reached() {
        for (index, row) in ROWS.iter().enumerate() {
            let status = format!("5.{}", row.code.replace('*', "999"));
            assert_eq!(lookup(&status), Some(*row), "{}", row.code);
            let is_repeated = ROWS[..index].iter().any(|earlier| earlier.code == row.code);
            assert!(!is_repeated, "{} occurs twice", row.code);
        }
        assert_eq!(lookup("5.0.0"), None);
        assert_eq!(lookup("5.2.0"), None);
    }

    #[test]
    fn codes_are_found_if_they_stand_alone() {
        for (text, code) in [
            ("550 5.1.1 user unknown", Some("5.1.1")),
            ("smtp;550-5.7.26 This mail", Some("5.7.26")),
            ("failed (4.4.1).", Some("4.4.1")),
            ("said: 552 5.2.2.", Some("5.2.2")),
            ("from 192.0.2.1 and 4.16.55.1", None),
            ("version 3.1.1", None),
            ("", None),
        ] {
            assert_eq!(find(text), code, "{text}");
        }
        assert!(!is_enhanced("5.1"));
        assert!(!is_enhanced("5.1.1.1"));
        assert!(!is_enhanced("5.1.1111"));
    }
}

//! Classifies the wording of a server's answer, because many servers use one status code for
//! everything. The first row with a phrase that occurs in the answer decides. Precise phrases
//! therefore come before vague ones.

use event::BounceClass;

struct Row {
    class: BounceClass,
    /// In lower case. One of them must occur.
    phrases: &'static [&'static str],
    /// Answers that this row must classify.
    #[cfg_attr(not(test), allow(dead_code, reason = "only the test reads it"))]
    examples: &'static [&'static str],
}

const fn row(
    class: BounceClass,
    phrases: &'static [&'static str],
    examples: &'static [&'static str],
) -> Row {
    Row { class, phrases, examples }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // The provider's wording for a message that it did not send.
    row(BounceClass::Suppressed,
        &["address suppressed", "suppressed due to", "suppression list", "suppressed recipient",
          "previously bounced address", "previously unsubscribed", "previously complained"],
        &["554 5.7.1 recipient address suppressed due to customer policy",
          "Not delivering to previously bounced address"]),
    row(BounceClass::Authentication,
        &["dmarc", "dkim", "spf ", "spf)", "sender policy framework", "unauthenticated",
          "not authenticated", "authentication level", "reverse dns", "ptr record"],
        &["550 message rejected per DMARC policy of example.com",
          "550 SPF check failed",
          "550 cannot find a PTR record for your address"]),
    row(BounceClass::MailboxFull,
        &["over quota", "overquota", "quota exceeded", "exceeded quota", "mailbox full",
          "mailbox is full", "inbox is full", "inbox full", "out of storage",
          "exceeded storage", "exceeds allowed space"],
        &["552 The email account that you tried to reach is over quota and inactive.",
          "452 mailbox is full"]),
    // One word distinguishes the sender's address from the recipient's, so this row must come before
    // those about domains and recipients.
    row(BounceClass::Policy,
        &["sender address rejected", "sender rejected", "sender denied", "sender verify",
          "sender domain", "sender address is not", "invalid sender", "bad sender"],
        &["450 4.1.8 Sender address rejected: Domain not found",
          "550 Sender verify failed"]),
    row(BounceClass::InvalidDomain,
        &["domain not found", "domain does not exist", "no such domain", "unknown domain",
          "domain unknown", "host not found", "unrouteable", "unroutable", "nxdomain",
          "no mx record", "null mx", "find mx", "name service error", "does not accept mail"],
        &["550 Recipient address rejected: Domain not found",
          "undefined Unable to find MX of domain nowhere.example",
          "550 Unrouteable address"]),
    row(BounceClass::RateLimited,
        &["greylist", "graylist", "grey-list", "unusual rate", "rate limit", "ratelimit",
          "rate of", "at a rate", "throttl", "too many connections", "number of connections",
          "too many messages", "too many recipients", "too quickly", "too fast",
          "sending limit", "concurrent connections", "frequency limit", "server busy"],
        &["421 Our system has detected an unusual rate of unsolicited mail",
          "450 Recipient address rejected: Greylisted, try again",
          "450 The user you are trying to contact is receiving mail at a rate that is too high",
          "451 has exceeded the maximum number of connections"]),
    row(BounceClass::Reputation,
        &["spamhaus", "spamcop", "sorbs", "barracuda", "cloudmark", "senderscore",
          "dnsbl", " rbl", "(rbl", "blocklist", "block list", "blacklist", "black list",
          "denylist", "blocked using", "is listed", "reputation", "banned sending ip",
          "tss04", "tss05", "ts03", "user complaints", "ip has been blocked",
          "ip address blocked", "your network is blocked", "block for spam",
          "ipcheck.proofpoint"],
        &["554 Service unavailable; Client host blocked using zen.spamhaus.org",
          "421 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints",
          "550 part of their network is on our block list (S3140)",
          "554 poor sender reputation"]),
    row(BounceClass::MessageTooLarge,
        &["message too large", "message is too large", "message too big", "message size exceeds",
          "size limit", "exceeds size", "exceeds the maximum size", "maximum message size",
          "exceeded maximum size"],
        &["552 message size exceeds fixed limit"]),
    row(BounceClass::Content,
        &["spam", "virus", "malware", "phish", "unsolicited", "message content", "mail content",
          "its content", "content denied", "content rejected", "content filter", "attachment", "malicious", "suspicious"],
        &["554 message looks like SPAM to me",
          "552 message blocked because its content presents a potential security issue: attachment"]),
    row(BounceClass::InvalidRecipient,
        &["user unknown", "unknown user", "no such user", "no such recipient", "no such mailbox",
          "no such address", "does not exist", "doesn't exist", "not exist", "unknown recipient",
          "recipient unknown", "invalid recipient", "recipient not found", "user not found",
          "mailbox not found", "account not found", "address not found", "unknown address",
          "invalid address", "bad address", "invalid mailbox", "unknown mailbox", "mailbox unknown",
          "mailbox unavailable", "no mailbox here", "not a valid mailbox", "not a valid user",
          "address rejected", "recipient rejected", "undeliverable address", "unknown local part",
          "no longer valid", "not our customer", "user doesn't have", "user does not have"],
        &["550 The email account that you tried to reach does not exist.",
          "550 Recipient address rejected: Access denied",
          "500 unknown recipient",
          "550 No such user here"]),
    row(BounceClass::MailboxDisabled,
        &["disabled", "inactive", "deactivated", "suspended", "no longer active", "not active",
          "account closed", "account expired", "mailbox expired", "account locked",
          "account is locked"],
        &["550 This account has been disabled or discontinued",
          "550 The email account that you tried to reach is inactive."]),
    row(BounceClass::Policy,
        &["policy", "access denied", "not authorized", "unauthorized", "not permitted",
          "not allowed", "relay", "administrative prohibition", "administratively",
          "restricted", "prohibited", "blocked"],
        &["550 relaying denied",
          "554 refused by local policy"]),
    row(BounceClass::Technical,
        &["timed out", "timeout", "time out", "connection refused", "connection reset",
          "connection dropped", "lost connection", "unable to connect", "could not connect",
          "cannot connect", "failed to connect", "no route", "network", "dns ", "tls",
          "temporary lookup", "server error", "internal error", "system error",
          "insufficient system storage", "server is down", "host is down",
          "service unavailable", "service not available", "loop", "too many hops", "out of memory",
          "retry timeout", "too old"],
        &["421 Unable to connect to remote host",
          "connection timed out",
          "554 too many hops"]),
];

/// Returns the class of the first row with a phrase that occurs. Addresses are ignored: the name of
/// the mailbox `no-spam` does not mean that the message is spam.
pub(super) fn classify(diagnostic: &str) -> Option<BounceClass> {
    let mut words = String::with_capacity(diagnostic.len() + 2);
    words.push(' ');
    for word in diagnostic.split_ascii_whitespace().filter(|word| !word.contains('@')) {
        words.push_str(word);
        words.push(' ');
    }
    words.make_ascii_lowercase();
    let occurs = |row: &&Row| row.phrases.iter().any(|phrase| words.contains(phrase));
    ROWS.iter().find(occurs).map(|row| row.class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_classifies_its_examples() {
        for row in ROWS {
            assert!(!row.examples.is_empty());
            for example in row.examples {
                assert_eq!(classify(example), Some(row.class), "{example}");
            }
        }
    }

    #[test]
    fn every_phrase_is_in_lower_case_and_means_its_row() {
        for row in ROWS {
            for phrase in row.phrases {
                assert_eq!(**phrase, phrase.to_ascii_lowercase());
                assert_eq!(classify(phrase), Some(row.class), "an earlier row matches {phrase:?}");
            }
        }
    }

    #[test]
    fn addresses_are_ignored() {
        assert_eq!(
            classify("550 <no-spam@example.com>: user unknown"),
            Some(BounceClass::InvalidRecipient)
        );
        assert_eq!(classify("550 <no-spam@example.com>"), None);
        assert_eq!(classify("250 OK"), None);
    }
}

//! Mailjet's terms for a refused message, from the table of errors in the event API guide and the
//! states of the message resource in its reference.

use event::BounceClass::{
    Content, InvalidDomain, InvalidRecipient, MailboxDisabled, MailboxFull, Policy, RateLimited,
    Reputation, Suppressed, Technical,
};
use event::Permanence::{Hard, Soft, Undetermined};

use crate::bounce::Row;

/// The values of `error`. Sometimes they are in `error_related_to` instead.
#[rustfmt::skip]
pub(crate) const ERRORS: &[Row] = &[
    // recipient
    ("user unknown",               Some(Hard), Some(InvalidRecipient)),
    ("mailbox inactive",           Some(Hard), Some(MailboxDisabled)),
    ("quota exceeded",             Some(Soft), Some(MailboxFull)),
    ("blacklisted",                Some(Undetermined), Some(Suppressed)), // on Mailjet's own list
    ("spam reporter",              Some(Undetermined), Some(Suppressed)),
    // domain
    ("invalid domain",             Some(Hard), Some(InvalidDomain)),
    ("no mail host",               Some(Hard), Some(InvalidDomain)),
    ("relay/access denied",        Some(Soft), Some(Policy)),
    ("greylisted",                 Some(Soft), Some(RateLimited)),
    ("typofix",                    Some(Hard), Some(InvalidDomain)),
    // spam
    ("sender blocked",             Some(Soft), Some(Reputation)),
    ("content blocked",            Some(Soft), Some(Content)),
    ("policy issue",               Some(Soft), Some(Policy)),
    // content
    ("bad or empty template",      Some(Soft), Some(Content)),
    ("error in template language", Some(Soft), Some(Content)),
    // system
    ("system issue",               Some(Soft), Some(Technical)),
    ("protocol issue",             Some(Soft), Some(Technical)),
    ("connection issue",           Some(Soft), Some(Technical)),
    // mailjet
    ("preblocked",                 Some(Undetermined), Some(Suppressed)), // it bounced before
    ("spam preblocked",            Some(Soft), Some(Content)),
    ("duplicate in campaign",      Some(Undetermined), Some(Policy)),
];

/// The values of `error_related_to`, for errors that are not in [`ERRORS`].
#[rustfmt::skip]
pub(crate) const RELATED: &[Row] = &[
    ("recipient", None, Some(InvalidRecipient)),
    ("domain",    None, Some(InvalidDomain)),
    ("spam",      None, Some(Content)),
    ("content",   None, Some(Content)),
    ("system",    None, Some(Technical)),
    ("mailjet",   None, Some(Policy)),
];

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;
    use crate::bounce::rows;

    #[test]
    fn every_row() {
        let blocked = r#"{"event":"blocked","time":1762787700,"MessageID":1,
            "email":"ada@example.com","error_related_to":"X","error":"Y"}"#;
        let meanings = |words, template: &str| rows::meanings(Provider::Mailjet, template, words);
        let errors = || rows::terms(ERRORS).collect::<Vec<_>>();
        let by_error = meanings(errors(), &blocked.replace('Y', "WORD"));
        insta::assert_snapshot!("errors", by_error);
        // Sometimes the error is in the other field.
        assert_eq!(meanings(errors(), &blocked.replace('Y', "").replace('X', "WORD")), by_error);
        let related = rows::terms(RELATED).collect::<Vec<_>>();
        insta::assert_snapshot!("related", meanings(related, &blocked.replace('X', "WORD")));
    }
}

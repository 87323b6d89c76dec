//! Mailgun's terms for a refused message, from the events reference.

use event::BounceClass::{RateLimited, Reputation, Suppressed, Technical};
use event::Permanence::{Hard, Soft, Undetermined};

use crate::bounce::Row;

/// The values of `reason` of a `failed` event. Mailgun may add others.
pub(crate) const REASONS: &[Row] = &[
    ("suppress-bounce", Some(Hard), Some(Suppressed)),
    ("suppress-complaint", Some(Undetermined), Some(Suppressed)),
    ("suppress-unsubscribe", Some(Undetermined), Some(Suppressed)),
    ("suppress-", Some(Undetermined), Some(Suppressed)),
    ("espblock", None, Some(Reputation)),
    // The sender's address is on a list.
    ("blacklisted", None, Some(Reputation)),
    ("greylisted", Some(Soft), Some(RateLimited)),
    ("old", Some(Soft), Some(Technical)),
    // The severity and the server's answer have the cause.
    ("hardfail", None, None),
    ("bounce", None, None),
    ("generic", None, None),
];

/// The values of `severity` of a `failed` event.
pub(crate) const SEVERITIES: &[Row] =
    &[("permanent", Some(Hard), None), ("temporary", Some(Soft), None)];

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;
    use crate::bounce::rows;

    #[test]
    fn every_row() {
        let meanings = |key, table| {
            let template =
                format!(r#"{{"event":"failed","timestamp":1762787700.5,"id":"x","{key}":"WORD"}}"#);
            rows::meanings(Provider::Mailgun, &template, rows::terms(table))
        };
        insta::assert_snapshot!("reasons", meanings("reason", REASONS));
        insta::assert_snapshot!("severities", meanings("severity", SEVERITIES));
    }
}

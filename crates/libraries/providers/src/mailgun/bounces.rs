//! Mailgun's words for a refusal: events reference.

use event::BounceClass::{RateLimited, Reputation, Suppressed, Technical};
use event::Permanence::{Hard, Soft, Undetermined};

use crate::bounce::Row;

/// `reason` of a `failed`. The set is open.
pub(super) const REASONS: &[Row] = &[
    ("suppress-bounce", Some(Hard), Some(Suppressed)),
    ("suppress-complaint", Some(Undetermined), Some(Suppressed)),
    ("suppress-unsubscribe", Some(Undetermined), Some(Suppressed)),
    ("suppress-", Some(Undetermined), Some(Suppressed)),
    ("espblock", None, Some(Reputation)),
    ("greylisted", Some(Soft), Some(RateLimited)),
    ("old", Some(Soft), Some(Technical)),
    // What the server's answer and the severity tell.
    ("hardfail", None, None),
    ("bounce", None, None),
    ("generic", None, None),
];

/// `severity` of a `failed`.
pub(super) const SEVERITIES: &[Row] =
    &[("permanent", Some(Hard), None), ("temporary", Some(Soft), None)];

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;
    use crate::bounce::rows;

    #[test]
    fn every_row() {
        let told = |key, table| {
            let template =
                format!(r#"{{"event":"failed","timestamp":1762787700.5,"id":"x","{key}":"WORD"}}"#);
            rows::told(Provider::Mailgun, &template, rows::words(table))
        };
        insta::assert_snapshot!("reasons", told("reason", REASONS));
        insta::assert_snapshot!("severities", told("severity", SEVERITIES));
    }
}

//! SparkPost's own words for a refusal: events reference.

use event::BounceClass::{Content, Policy};
use event::Permanence::{Soft, Undetermined};

use crate::bounce::Row;

/// `type` of the events that refuse a message. What `bounce` and `out_of_band` leave open is in
/// `bounce_class`.
pub(super) const TYPES: &[Row] = &[
    ("delay", Some(Soft), None),
    // Mostly a suppressed recipient, which the reason then says.
    ("policy_rejection", Some(Undetermined), Some(Policy)),
    ("generation_rejection", Some(Undetermined), Some(Policy)),
    // The template could not be filled in.
    ("generation_failure", Some(Soft), Some(Content)),
];

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;
    use crate::bounce::{numbers, rows};

    /// `NUMBERS` lie with the bounces, since Mandrill has them too.
    #[test]
    fn every_row() {
        let template = r#"{"msys":{"message_event":{"type":"WORD","event_id":"1",
            "timestamp":"1762787700","rcpt_to":"ada@example.com"}}}"#;
        insta::assert_snapshot!(
            "types",
            rows::told(Provider::SparkPost, template, rows::words(TYPES))
        );
        let template = template.replace("WORD", r#"bounce","bounce_class":"WORD"#);
        let codes = numbers::NUMBERS.iter().map(|number| number.code).chain(["99"]);
        insta::assert_snapshot!("numbers", rows::told(Provider::SparkPost, &template, codes));
    }
}

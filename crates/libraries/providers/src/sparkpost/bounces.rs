//! SparkPost's terms for a refused message, from the events reference.

use event::BounceClass::{Content, Policy};
use event::Permanence::{Soft, Undetermined};

use crate::bounce::Row;

/// The values of `type` that report a refusal. For `bounce` and `out_of_band` the cause is in
/// `bounce_class`.
pub(crate) const TYPES: &[Row] = &[
    ("delay", Some(Soft), None),
    // Mostly a suppressed recipient; then the reason mentions it.
    ("policy_rejection", Some(Undetermined), Some(Policy)),
    ("generation_rejection", Some(Undetermined), Some(Policy)),
    // The template could not be rendered.
    ("generation_failure", Some(Soft), Some(Content)),
];

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;
    use crate::bounce::{numbers, rows};

    /// [`numbers`] has the classes, because Mandrill uses them too.
    #[test]
    fn every_row() {
        let template = r#"{"msys":{"message_event":{"type":"WORD","event_id":"1",
            "timestamp":"1762787700","rcpt_to":"ada@example.com"}}}"#;
        insta::assert_snapshot!(
            "types",
            rows::meanings(Provider::SparkPost, template, rows::terms(TYPES))
        );
        let template = template.replace("WORD", r#"bounce","bounce_class":"WORD"#);
        let codes = numbers::NUMBERS.iter().map(|number| number.code).chain(["99"]);
        insta::assert_snapshot!("numbers", rows::meanings(Provider::SparkPost, &template, codes));
    }
}

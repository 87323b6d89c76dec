//! What providers report about the sending of a message, besides its events: who sent it, and how
//! the connection to the recipient's server went.

use std::borrow::Cow;

use event::{Delivery, Text, addresses, domain_of, recipient_key};
use serde_json::value::RawValue;

use crate::times;

/// Returns the lower-cased bare address of a sender, written alone or as in the header `From`. Of
/// several addresses it is the first. Returns `None` if there is no address with a domain.
pub fn sender(written: Option<Text<'_>>) -> Option<Text<'_>> {
    fn key(written: &str) -> Option<Cow<'_, str>> {
        // A comma in a name without quotation marks begins another element.
        addresses(written).map(recipient_key).find(|key| !domain_of(key).is_empty())
    }
    match written?.0 {
        Cow::Borrowed(written) => key(written).map(Text),
        Cow::Owned(written) => key(&written).map(|key| Text::from(key.into_owned())),
    }
}

/// Returns a duration in seconds, a number or a text, as whole milliseconds.
pub(crate) fn millis_of_seconds(value: Option<&RawValue>) -> Option<u64> {
    let seconds: f64 = times::unquoted(value).ok()?.parse().ok()?;
    let millis = (seconds * 1_000.0).round();
    (0.0..=MAX_MILLIS).contains(&millis).then_some(millis as u64)
}

/// Returns a duration in milliseconds, a number or a text.
pub(crate) fn millis(value: Option<&RawValue>) -> Option<u64> {
    parsed_millis(times::unquoted(value).ok()?)
}

/// Reads a duration in milliseconds.
pub(crate) fn parsed_millis(text: &str) -> Option<u64> {
    let millis: f64 = text.parse().ok()?;
    (0.0..=MAX_MILLIS).contains(&millis).then_some(millis as u64)
}

/// A hundred days. No provider tries for longer, so a longer duration is a mistake.
const MAX_MILLIS: f64 = 8.64e9;

/// Returns the delivery if anything is known about it.
pub(crate) fn known(mut delivery: Delivery<'_>) -> Option<Delivery<'_>> {
    // Postal keeps the line break after an answer.
    delivery.response = delivery.response.and_then(|text| match text.0 {
        Cow::Borrowed(text) => Text::from(text.trim_end()).non_empty(),
        Cow::Owned(text) => Text::from(text.trim_end().to_owned()).non_empty(),
    });
    (!delivery.is_empty()).then_some(delivery)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_a_bare_address_with_a_domain() {
        let read = |text: &'static str| sender(Some(Text::from(text)));
        for (written, address) in [
            ("News@Shop.example", Some("news@shop.example")),
            ("Shop, Inc. <news@shop.example>", Some("news@shop.example")),
            ("\"Shop, Inc.\" <News@shop.example>, b@c.example", Some("news@shop.example")),
            ("<>", None),
            ("Shop", None),
            ("news@", None),
            ("", None),
        ] {
            assert_eq!(read(written).as_deref(), address, "{written}");
        }
        assert!(matches!(read("news@shop.example"), Some(Text(Cow::Borrowed(_)))));
        let escaped = sender(Some(Text::from("N <News@shop.example>".to_owned())));
        assert_eq!(escaped.as_deref(), Some("news@shop.example"));
    }

    #[test]
    fn durations_are_whole_milliseconds() {
        let raw = |json: &'static str| serde_json::from_str::<&RawValue>(json).unwrap();
        let seconds = |json| millis_of_seconds(Some(raw(json)));
        assert_eq!(seconds("0.4367"), Some(437));
        assert_eq!(seconds("\"2\""), Some(2_000));
        assert_eq!(millis(Some(raw("\"1180\""))), Some(1_180));
        assert_eq!(millis(Some(raw("1180.9"))), Some(1_180));
        for json in ["-1", "null", "{}", "\"soon\"", "1e300", "\"NaN\"", "\"\""] {
            assert_eq!((seconds(json), millis(Some(raw(json)))), (None, None), "{json}");
        }
        assert_eq!(millis(None), None);
    }
}

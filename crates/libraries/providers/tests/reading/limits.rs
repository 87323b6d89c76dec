//! Every text of an event has a maximum length, whatever the provider sends.

use event::{Provider, limits};
use serde_json::Value;

use crate::{read_one, samples};

/// Returns the length of the longest text in an event without the provider's bytes.
fn longest(event: &Value) -> usize {
    match event {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(longest).max().unwrap_or(0),
        Value::Object(fields) => fields.values().map(longest).max().unwrap_or(0),
        _ => 0,
    }
}

#[test]
fn no_text_of_an_event_is_longer_than_its_limit() {
    let long = "é".repeat(20_000);
    for provider in Provider::ALL {
        let address = format!("{long}@ropewalk.example");
        let found = read_one(provider, &samples::body(provider, &address, &long, "1762787700"));
        let event = found.event.clone().unwrap();
        assert!(longest(&event) <= limits::LONG_TEXT, "{provider}: {}", longest(&event));
        assert!(
            found.key.len() <= limits::RECIPIENT
                && found.field("/recipient") == Some(found.key.as_str())
        );
        let diagnostic = found.field("/bounce/diagnostic").unwrap();
        assert_eq!(diagnostic, &format!("550 {long}")[..limits::LONG_TEXT], "{provider}");
        for tag in event["tags"].as_array().into_iter().flatten() {
            assert!(tag.as_str().unwrap().len() <= limits::NAME, "{provider}");
        }
    }
}

#[test]
fn an_event_has_a_maximum_number_of_tags() {
    let many: Vec<String> = (0..10_000).map(|n| format!("tag-{n}")).collect();
    let body =
        serde_json::json!([{ "event": "open", "timestamp": 1_762_787_700, "category": many }]);
    let event = read_one(Provider::SendGrid, &body.to_string()).event.unwrap();
    assert_eq!(event["tags"].as_array().unwrap().len(), limits::TAGS);
}

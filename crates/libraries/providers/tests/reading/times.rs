//! An event without a usable time is still an event.

use event::Provider;

use crate::{RECEIVED_AT, read_one, samples};

#[test]
fn a_time_in_any_form_is_read() {
    for provider in Provider::ALL {
        for (time, micros) in [
            ("1762787700", 1_762_787_700_000_000_i64),
            ("\"1762787700\"", 1_762_787_700_000_000),
            ("\" 1762787700 \"", 1_762_787_700_000_000),
            ("1762787700.25", 1_762_787_700_250_000),
            ("\"1762787700.25\"", 1_762_787_700_250_000),
            ("1762787700250", 1_762_787_700_250_000),
            ("\"2025-11-10T15:15:00.25Z\"", 1_762_787_700_250_000),
            ("\"2025-11-10T16:15:00+01:00\"", 1_762_787_700_000_000),
        ] {
            let body = samples::body(provider, "jun@ropewalk.example", "no", time);
            let event = read_one(provider, &body).event.unwrap();
            assert_eq!(event["occurred_at"], micros, "{provider}: {time}");
            assert_eq!(event.get("time_fault"), None, "{provider}: {time}");
        }
    }
}

#[test]
fn an_event_without_a_usable_time_has_the_time_of_receipt_and_a_fault() {
    for provider in Provider::ALL {
        for (time, fault) in [
            ("null", "missing"),
            ("\"\"", "missing"),
            ("\"soon\"", "unreadable"),
            ("\"2025-11-10 15:15:00\"", "unreadable"),
            ("\"-1\"", "out_of_range"),
            ("\"2200-01-01T00:00:00Z\"", "out_of_range"),
        ] {
            let body = samples::body(provider, "jun@ropewalk.example", "no", time);
            let event = read_one(provider, &body).event.unwrap();
            assert_eq!(event["occurred_at"], RECEIVED_AT, "{provider}: {time}");
            assert_eq!(event["time_fault"], fault, "{provider}: {time}");
        }
    }
}

/// SES and MailerSend send two times; one of them may be unreadable.
#[test]
fn another_time_of_the_event_is_used_before_the_time_of_receipt() {
    let mailersend = r#"{"type":"activity.opened","created_at":"2025-11-10T15:15:01Z",
        "data":{"id":"1","created_at":"soon"}}"#;
    let event = read_one(Provider::MailerSend, mailersend).event.unwrap();
    assert_eq!(event["occurred_at"], 1_762_787_701_000_000_i64);
    let ses = r#"{"eventType":"Open","open":{"timestamp":"soon"},"mail":{}}"#;
    let ses = serde_json::json!({
        "Type": "Notification", "Message": ses, "Timestamp": "2025-11-10T15:15:01Z",
    });
    let event = read_one(Provider::Ses, &ses.to_string()).event.unwrap();
    assert_eq!(
        (event["occurred_at"].as_i64(), event.get("time_fault")),
        (Some(1_762_787_701_000_000), None)
    );
}

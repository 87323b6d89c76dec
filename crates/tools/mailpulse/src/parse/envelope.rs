//! Puts a raw event into the body in which its provider posts it. Raw topics, dead letters and the
//! providers' documentation have events without their body.

use event::Provider;
use serde_json::{Value, json};

/// Returns a complete body, or `None` if the bytes are not an event without its body.
pub(super) fn with_envelope(provider: Provider, event: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(event).ok()?.trim();
    let value: Value = serde_json::from_str(text).ok()?;
    let has = |key: &str| value.get(key).is_some();
    match provider {
        Provider::SendGrid if value.is_object() => Some(format!("[{text}]").into()),
        Provider::SparkPost if has("msys") => Some(format!("[{text}]").into()),
        Provider::Mailgun if has("event") => Some(format!("{{\"event-data\":{text}}}").into()),
        Provider::Mandrill => {
            let array = if value.is_array() { text.to_owned() } else { format!("[{text}]") };
            let mut form = form_urlencoded::Serializer::new(String::new());
            Some(form.append_pair("mandrill_events", &array).finish().into())
        }
        Provider::Ses if has("eventType") || has("notificationType") => {
            let envelope = json!({
                "Type": "Notification", "MessageId": "", "TopicArn": "", "Message": text,
                "Timestamp": "1970-01-01T00:00:00.000Z",
            });
            Some(envelope.to_string().into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_get_the_envelope_of_their_provider() {
        let of = |provider, text: &str| {
            with_envelope(provider, text.as_bytes()).map(|body| String::from_utf8(body).unwrap())
        };
        assert_eq!(of(Provider::SendGrid, " {\"a\":1.0}\n").unwrap(), "[{\"a\":1.0}]");
        let data = of(Provider::Mailgun, "{\"event\":\"opened\"}").unwrap();
        assert_eq!(data, "{\"event-data\":{\"event\":\"opened\"}}");
        assert_eq!(of(Provider::Mandrill, "[1]").unwrap(), "mandrill_events=%5B1%5D");
        assert_eq!(of(Provider::Mandrill, "{}").unwrap(), "mandrill_events=%5B%7B%7D%5D");
        assert!(of(Provider::Ses, "{\"eventType\":\"Send\"}").unwrap().contains("\\\"Send\\\""));
        for (provider, text) in [
            (Provider::SendGrid, "[{}]"),
            (Provider::Mailgun, "{\"signature\":{}}"),
            (Provider::Ses, "{\"Type\":\"Notification\"}"),
            (Provider::Postmark, "{}"),
            (Provider::Mandrill, "mandrill_events=%5B%5D"),
            (Provider::SparkPost, "\u{1}"),
        ] {
            assert_eq!(of(provider, text), None, "{provider} {text}");
        }
    }
}

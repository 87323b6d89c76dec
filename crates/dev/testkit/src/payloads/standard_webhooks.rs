use serde_json::{Value, json};

use super::generic;
use crate::MailEvent;
use crate::time_formats::iso_millis;

/// Returns the payload that the Standard Webhooks specification recommends, with Mailpulse's
/// generic JSON as its data.
pub fn standard_webhooks(event: &MailEvent) -> Option<Value> {
    let at = iso_millis(event.occurred_at_micros);
    let name = format!("email.{}", event.kind.as_str());
    Some(json!({"type": name, "timestamp": at, "data": generic(event)?}))
}

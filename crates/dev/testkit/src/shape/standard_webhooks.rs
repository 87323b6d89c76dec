use serde_json::{Value, json};

use super::generic;
use crate::Fact;
use crate::clock::iso_millis;

/// The payload that the Standard Webhooks specification recommends, around our own generic JSON.
pub fn standard_webhooks(fact: &Fact) -> Option<Value> {
    let at = iso_millis(fact.occurred_at_micros);
    let name = format!("email.{}", fact.kind.as_str());
    Some(json!({"type": name, "timestamp": at, "data": generic(fact)?}))
}

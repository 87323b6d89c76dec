//! The body of a `generic` source with a form of its own: `events`, `fields` and `kinds` of its table, read
//! backwards.

use event::{Kind, Permanence};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use testkit::MailEvent;
use toml::Table;

use crate::InputError;

/// The greatest index of an array in a pointer. Senders name the first elements.
const MAX_INDEX: usize = 31;

/// Returns the body with one event, or `None` if the source posts Mailpulse's own form.
///
/// # Errors
/// If no name of the sender means the kind, or if two pointers need the same place.
pub(super) fn body(options: &Table, event: &MailEvent) -> Result<Option<Value>, InputError> {
    if !["events", "fields", "kinds"].iter().any(|key| options.contains_key(*key)) {
        return Ok(None);
    }
    let at = Timestamp::from_microsecond(event.occurred_at_micros).unwrap_or_default();
    let at = Value::from(format!("{at:.3}"));
    let mut object = Value::Null;
    let mut set = |field: &str, default: &str, value: Value| {
        let pointer = options.get("fields").and_then(|fields| fields.get(field)?.as_str());
        place(&mut object, pointer.unwrap_or(default), value)
    };
    set("event", "/event", name_of(options, event)?.into())?;
    set("recipient", "/recipient", event.recipient.clone().into())?;
    set("timestamp", "/timestamp", at.clone())?;
    set("id", "/id", event.id().to_string().into())?;
    set("message_id", "/message_id", event.message_id.clone().into())?;
    set("campaign", "/campaign", event.campaign.clone().into())?;
    if event.kind == Kind::Bounced {
        set("permanence", "/bounce/permanence", "hard".into())?;
        set("status", "/bounce/status", "5.1.1".into())?;
        set("reason", "/bounce/diagnostic", "550 5.1.1 user unknown".into())?;
    }
    let mut body = Value::Null;
    place(
        &mut body,
        options.get("events").and_then(toml::Value::as_str).unwrap_or_default(),
        object,
    )?;
    // The signed time may be the one of the event, which is there already.
    if let Some(pointer) = options.get("timestamp").and_then(toml::Value::as_str)
        && body.pointer(pointer).is_none()
    {
        place(&mut body, pointer, at)?;
    }
    Ok(Some(body))
}

/// Returns the sender's name of the event.
fn name_of(options: &Table, event: &MailEvent) -> Result<String, InputError> {
    let kind = event.kind.as_str();
    let kinds = options.get("kinds").and_then(toml::Value::as_table);
    let meaning = |word: &str| kinds?.get(word)?.as_str();
    let hard = format!("{kind} {}", Permanence::Hard.as_str());
    for wanted in [hard.as_str(), kind] {
        let mut words = kinds.into_iter().flat_map(Table::iter);
        if let Some((word, _)) = words.find(|(_, meaning)| meaning.as_str() == Some(wanted)) {
            return Ok(word.clone());
        }
    }
    // Our own names mean themselves, unless the table says otherwise.
    if meaning(kind).is_none() && event.kind != Kind::Other {
        return Ok(kind.to_owned());
    }
    let text = format!("no name in `kinds` of the source means {kind}; choose another --kind");
    Err(InputError(text))
}

/// Writes a value at a JSON pointer, and what contains it. A step that is a number is an index.
fn place(document: &mut Value, pointer: &str, value: Value) -> Result<(), InputError> {
    let unplaced = || {
        InputError(format!(
            "the pointers of the source cannot be read backwards: `{pointer}` is inside of another value; post a \
             body of your own with `mailpulse sign`"
        ))
    };
    let mut target = document;
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let index = step.parse::<usize>().ok().filter(|index| *index <= MAX_INDEX);
        if target.is_null() {
            *target = if index.is_some() { json!([]) } else { Value::Object(Map::new()) };
        }
        target = match (target, index) {
            (Value::Array(items), Some(index)) => {
                if items.len() <= index {
                    items.resize(index + 1, Value::Null);
                }
                items.get_mut(index).ok_or_else(unplaced)?
            }
            (Value::Object(members), _) => members.entry(step).or_insert(Value::Null),
            _ => return Err(unplaced()),
        };
    }
    if !target.is_null() {
        return Err(unplaced());
    }
    *target = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;

    #[test]
    fn values_are_placed_where_the_pointer_finds_them() {
        let mut document = Value::Null;
        place(&mut document, "/a/0/b~1c", json!(1)).unwrap();
        place(&mut document, "/a/0/d", json!(2)).unwrap();
        place(&mut document, "/e", json!(3)).unwrap();
        assert_eq!(document, json!({"a": [{"b/c": 1, "d": 2}], "e": 3}));
        assert_eq!(document.pointer("/a/0/b~1c"), Some(&json!(1)));
        for taken in ["/e", "/e/f", "/a/b", ""] {
            let error = place(&mut document, taken, json!(4)).unwrap_err().to_string();
            assert!(error.contains("mailpulse sign"), "{taken}: {error}");
        }
        place(&mut document, "/a/99", json!(4)).unwrap_err();
    }

    #[test]
    fn a_kind_without_a_name_is_refused() {
        let options: Table =
            "kinds = { delivered = \"other\", mail = \"opened\" }".parse().unwrap();
        let event = |kind| MailEvent::new(Provider::Generic, "own", kind, "ada@example.com", 1);
        let error = body(&options, &event(Kind::Delivered)).unwrap_err().to_string();
        assert!(error.contains("means delivered"), "{error}");
        let opened = body(&options, &event(Kind::Opened)).unwrap().unwrap();
        assert_eq!(opened["event"], "mail");
        let clicked = body(&options, &event(Kind::Clicked)).unwrap().unwrap();
        assert_eq!(clicked["event"], "clicked", "our own names mean themselves");
        assert!(body(&Table::new(), &event(Kind::Opened)).unwrap().is_none());
    }
}

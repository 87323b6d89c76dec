//! Reads a provider's list.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::Value;

use super::{Format, Listed, Names};
use crate::Reason;

/// A file cannot be read. Nothing of it is used then.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("the file is neither JSON nor CSV: {0}")]
    NotReadable(String),
    #[error("entry {entry} has no address; expected one of the fields {expected}")]
    NoAddress { entry: usize, expected: String },
    #[error(
        "entry {entry} has no reason that is known, and the file does not tell it; pass --reason"
    )]
    NoReason { entry: usize },
}

/// The fields of an entry by their names in lower case, without punctuation.
type Fields = BTreeMap<String, String>;

/// Reads the entries of a file in the format of a provider: JSON (a list, objects with a list, which are pages, or one
/// object per line) or CSV with a line of names. SES also has CSV without names. `reason` is that of entries that do not tell theirs.
///
/// # Errors
/// If the file or one of its entries cannot be read. The number of the entry begins at 1.
pub fn read(format: Format, file: &str, reason: Option<Reason>) -> Result<Vec<Listed>, ReadError> {
    let file = file.strip_prefix('\u{feff}').unwrap_or(file).trim();
    let names = format.names();
    let entries = if file.starts_with(['{', '[']) {
        from_json(file, &names)?
    } else {
        from_csv(format, file)?
    };
    let entries = entries.into_iter().enumerate();
    entries.map(|(number, fields)| listed(format, &names, number + 1, &fields, reason)).collect()
}

fn listed(
    format: Format,
    names: &Names,
    entry: usize,
    fields: &Fields,
    otherwise: Option<Reason>,
) -> Result<Listed, ReadError> {
    let get = |names: &[&str]| {
        let found = names.iter().find_map(|name| fields.get(*name));
        found.map(String::as_str).filter(|value| !value.is_empty())
    };
    let address = get(names.address)
        .ok_or_else(|| ReadError::NoAddress { entry, expected: names.address.join(", ") })?;
    let word = get(names.reason);
    let known = word.and_then(|word| {
        names.words.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|it| it.1)
    });
    let reason = known.or_else(|| of_fields(format, fields)).or(otherwise);
    Ok(Listed {
        address: address.to_owned(),
        reason: reason.ok_or(ReadError::NoReason { entry })?,
        since: get(names.time).and_then(time),
        wording: get(names.wording).map(str::to_owned),
    })
}

/// Returns the reason that follows from the fields that an entry has.
fn of_fields(format: Format, fields: &Fields) -> Option<Reason> {
    match format {
        Format::Mailgun if fields.contains_key("tags") => Some(Reason::Unsubscribe),
        Format::Mailgun if fields.contains_key("code") => Some(Reason::HardBounce),
        _ => None,
    }
}

fn from_json(file: &str, names: &Names) -> Result<Vec<Fields>, ReadError> {
    let not_readable = |error: serde_json::Error| ReadError::NotReadable(error.to_string());
    let documents: Result<Vec<Value>, _> =
        serde_json::Deserializer::from_str(file).into_iter().collect();
    let mut entries = Vec::new();
    for document in documents.map_err(not_readable)? {
        match document {
            Value::Array(list) => list.into_iter().for_each(|it| add(it, names, &mut entries)),
            other => add(other, names, &mut entries),
        }
    }
    Ok(entries.iter().map(|entry| fields(entry, names)).collect())
}

/// Adds an entry, or the entries of a page: an object with a list.
fn add(value: Value, names: &Names, entries: &mut Vec<Value>) {
    let is_list = |(name, value): &(&String, &Value)| {
        value.is_array() && names.lists.contains(&&*plain(name))
    };
    let page = value.as_object().and_then(|object| object.iter().find(is_list));
    match page.and_then(|(_, list)| list.as_array()) {
        Some(list) => entries.extend(list.iter().cloned()),
        None => entries.push(value),
    }
}

fn fields(entry: &Value, names: &Names) -> Fields {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    match entry {
        Value::Object(object) => {
            object.iter().map(|(name, value)| (plain(name), text(value))).collect()
        }
        // A list of addresses alone.
        Value::String(address) => {
            let name = names.address.first().copied().unwrap_or_default();
            [(name.to_owned(), address.clone())].into()
        }
        _ => Fields::new(),
    }
}

fn from_csv(format: Format, file: &str) -> Result<Vec<Fields>, ReadError> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file.as_bytes());
    let mut head: Option<Vec<String>> = None;
    let mut entries = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| ReadError::NotReadable(error.to_string()))?;
        let head = match &head {
            Some(head) => head,
            None => {
                let names: Vec<String> = record.iter().map(plain).collect();
                let has_names = !record.iter().any(|field| field.contains('@'));
                if has_names {
                    head = Some(names);
                    continue;
                }
                let without: &[&str] = match format {
                    Format::Ses => &["emailaddress", "reason", "lastupdatetime"],
                    Format::SendGrid => &["email", "created"],
                    Format::Mailgun => &["address"],
                    Format::Postmark => &["emailaddress"],
                };
                head.insert(without.iter().map(|&name| name.to_owned()).collect())
            }
        };
        let values = record.iter().map(|value| value.trim().to_owned());
        entries.push(head.iter().cloned().zip(values).collect());
    }
    Ok(entries)
}

/// Returns a name in lower case without punctuation.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Reads seconds or milliseconds since 1970, RFC 3339, RFC 2822 or `2026-11-21 10:00:00`.
fn time(text: &str) -> Option<i64> {
    const MILLISECONDS_FROM: f64 = 1e11; // the year 5138 in seconds
    if let Ok(number) = text.parse::<f64>() {
        let seconds = if number >= MILLISECONDS_FROM { number / 1000.0 } else { number };
        return (seconds > 0.0 && seconds < MILLISECONDS_FROM).then_some(seconds as i64);
    }
    let timestamp = text.parse::<Timestamp>().ok();
    let timestamp = timestamp.or_else(|| {
        let mail = rfc2822::parse(&text.replace("UTC", "GMT")).ok()?;
        Some(mail.timestamp())
    });
    let timestamp = timestamp.or_else(|| {
        let civil: jiff::civil::DateTime = text.trim_end_matches(" UTC").parse().ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    });
    timestamp.map(Timestamp::as_second)
}

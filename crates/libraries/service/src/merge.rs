//! Overrides the defaults by a file and by environment variables. The defaults serve as the schema:
//! they define the known keys and the types of their values.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

use crate::error::nearest;
use crate::{ENVIRONMENT_PREFIX, SettingsError};

/// The only table with keys that we do not know, because librdkafka defines them.
const OPEN_TABLE: &str = "kafka.properties";

/// The files or variables that set keys, by dotted key. Keys with default values are absent.
#[derive(Clone, Default)]
pub(crate) struct Origins(BTreeMap<String, String>);

impl Origins {
    /// Returns the origin of `key` or of the closest key above it.
    pub(crate) fn of(&self, key: &str) -> &str {
        let mut rest = key;
        loop {
            if let Some(origin) = self.0.get(rest) {
                return origin;
            }
            match rest.rfind(['.', '[']) {
                Some(end) => rest = &rest[..end],
                None => return "default",
            }
        }
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Overrides values of `base` by those of `over`.
pub(crate) fn overlay(
    base: &mut Table,
    over: Table,
    origin: &str,
    origins: &mut Origins,
) -> Result<(), SettingsError> {
    overlay_at("", base, over, origin, origins)
}

fn overlay_at(
    path: &str,
    base: &mut Table,
    over: Table,
    origin: &str,
    origins: &mut Origins,
) -> Result<(), SettingsError> {
    for (name, value) in over {
        let key = join(path, &name);
        if path == OPEN_TABLE {
            origins.0.insert(key, origin.to_owned());
            base.insert(name, value);
            continue;
        }
        if !base.contains_key(&name) {
            let known = nearest(&name, base.keys().map(String::as_str));
            let nearest = known.map(|known| join(path, known));
            return Err(SettingsError::UnknownKey { key, origin: origin.to_owned(), nearest });
        }
        match (&mut base[&name], value) {
            (Value::Table(base), Value::Table(over)) => {
                overlay_at(&key, base, over, origin, origins)?;
            }
            (slot, value) if slot.same_type(&value) || is_integer_for_float(slot, &value) => {
                origins.0.insert(key, origin.to_owned());
                *slot = value;
            }
            (slot, value) => {
                return Err(wrong_type(key, origin, slot, kind(&value)));
            }
        }
    }
    Ok(())
}

/// Allows `threshold = 1` instead of `1.0`.
fn is_integer_for_float(slot: &Value, value: &Value) -> bool {
    slot.is_float() && value.is_integer()
}

/// Returns the key that an environment variable overrides, or `None` if it does not have our
/// prefix.
pub(crate) fn environment_key(name: &str) -> Option<Vec<String>> {
    let ours = name.get(..ENVIRONMENT_PREFIX.len())?.eq_ignore_ascii_case(ENVIRONMENT_PREFIX);
    let parts = || name[ENVIRONMENT_PREFIX.len()..].split("__").map(str::to_ascii_lowercase);
    ours.then(|| parts().collect())
}

/// Returns the table that sets `key` to `text`, parsed according to the type of its default.
pub(crate) fn environment_value(
    defaults: &Table,
    key: &[String],
    text: &str,
    variable: &str,
) -> Result<Table, SettingsError> {
    let mut key = key.to_vec();
    if let [section, table, property @ ..] = &key[..]
        && format!("{section}.{table}") == OPEN_TABLE
        && !property.is_empty()
    {
        // Names of variables cannot contain dots, and no librdkafka property has an underscore.
        let property = property.join(".").replace('_', ".");
        key = vec![section.clone(), table.clone(), property];
    }
    let refuse = |default: &Value| wrong_type(key.join("."), variable, default, "other text");
    let bare = text.trim();
    let value = match look_up(defaults, &key) {
        Some(d @ Value::Integer(_)) => Value::Integer(bare.parse().map_err(|_| refuse(d))?),
        Some(d @ Value::Float(_)) => Value::Float(bare.parse().map_err(|_| refuse(d))?),
        Some(d @ Value::Boolean(_)) => Value::Boolean(bare.parse().map_err(|_| refuse(d))?),
        Some(Value::Array(_)) => {
            bare.parse().map_err(|error| SettingsError::not_toml(variable, bare, &error))?
        }
        Some(Value::String(_) | Value::Datetime(_) | Value::Table(_)) | None => {
            Value::String(text.to_owned())
        }
    };
    let nested = key
        .iter()
        .rev()
        .fold(value, |inner, name| Value::Table(std::iter::once((name.clone(), inner)).collect()));
    Ok(nested.try_into().unwrap_or_default())
}

fn look_up<'a>(table: &'a Table, key: &[String]) -> Option<&'a Value> {
    let (first, rest) = key.split_first()?;
    let value = table.get(first)?;
    if rest.is_empty() { Some(value) } else { look_up(value.as_table()?, rest) }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn wrong_type(key: String, origin: &str, default: &Value, found: &'static str) -> SettingsError {
    let expected = match default {
        Value::Table(_) => format!("a table: write [{key}] and its keys below"),
        Value::Array(items) if items.iter().all(Value::is_table) => {
            format!("a list of tables: write [[{key}]] for each")
        }
        other => format!("{} such as {other}", kind(other)),
    };
    SettingsError::WrongType { key, origin: origin.to_owned(), expected, found }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

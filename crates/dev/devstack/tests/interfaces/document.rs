//! A description of an interface in `schemas/`, and validators for its parts.

use std::collections::BTreeSet;
use std::error::Error;

use jsonschema::{Retrieve, Uri, Validator};
use serde_json::{Value, json};

use crate::support::{read, yaml};

/// The files of `schemas/`, under addresses by which they can refer to each other.
const BASE: &str = "file:///schemas/";

/// Reads the files of `schemas/` to which others refer.
struct Files;

impl Retrieve for Files {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let path =
            uri.as_str().strip_prefix(BASE).ok_or_else(|| format!("{uri} is not in schemas/"))?;
        Ok(file(path))
    }
}

/// Reads a JSON or YAML file of `schemas/`.
pub fn file(path: &str) -> Value {
    let path = format!("schemas/{path}");
    if path.ends_with(".json") { serde_json::from_str(&read(&path)).unwrap() } else { yaml(&path) }
}

/// Returns the validator of the schema at `reference`, such as `asyncapi.yaml#/components/schemas/time`.
pub fn validator(reference: &str) -> Validator {
    let schema = json!({ "$ref": format!("{BASE}{reference}") });
    let options = jsonschema::options().with_retriever(Files);
    options.build(&schema).unwrap_or_else(|error| panic!("{reference}: {error}"))
}

/// Asserts that a value matches a schema.
pub fn assert_valid(validator: &Validator, value: &Value, what: &str) {
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}: {errors:?} in {value}");
}

/// Returns the names of the fields of an object.
pub fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// Returns the texts of a list. A missing list is empty.
pub fn texts(value: &Value) -> BTreeSet<String> {
    let items = value.as_array().into_iter().flatten();
    items.map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// Returns the literals in `source` that begin with `prefix`, without those of its unit tests.
pub fn literals(source: &str, prefix: &str) -> BTreeSet<String> {
    let code = source.split("#[cfg(test)]").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .filter(|literal| literal.starts_with(prefix))
        .map(str::to_owned)
        .collect()
}

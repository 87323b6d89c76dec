//! Stubs that enforce what vendors document: required fields, lengths, and the statuses of their errors.
//! The schemas are in `tests/schemas`, with the pages that they follow.

use jsonschema::Validator;

use super::{Answer, Hook, Posted};

/// `PagerDuty`, Events API v2. It answers a valid event with 202 and an invalid one with 400.
pub fn pagerduty() -> Hook {
    let accepted = r#"{"status":"success","message":"Event processed"}"#;
    let schema = include_str!("../schemas/pagerduty.json");
    stub(schema, 512 << 10, "/v2/enqueue", 202, accepted)
}

/// An incoming webhook of Slack.
pub fn slack() -> Hook {
    stub(include_str!("../schemas/slack.json"), 1 << 20, "/hook", 200, "ok")
}

/// A workflow of Microsoft Teams. Messages have at most 28 KB.
pub fn teams() -> Hook {
    stub(include_str!("../schemas/teams.json"), 28 << 10, "/hook", 202, "")
}

/// Answers what satisfies the schema with `status`, and everything else with 400 and the errors.
fn stub(schema: &str, max: usize, path: &'static str, status: u16, body: &'static str) -> Hook {
    let schema = serde_json::from_str(schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    Hook::answering(move |posted| {
        let errors = errors(&validator, posted, max, path);
        let is_valid = errors.is_empty();
        let body = if is_valid { body.to_owned() } else { errors };
        Some(Answer { body, ..Answer::status(if is_valid { status } else { 400 }) })
    })
}

fn errors(validator: &Validator, posted: &Posted, max: usize, path: &str) -> String {
    let mut errors: Vec<_> =
        validator.iter_errors(&posted.json()).map(|error| error.to_string()).collect();
    if posted.body.len() > max {
        errors.push(format!("{} bytes, at most {max}", posted.body.len()));
    }
    if posted.path != path {
        errors.push(format!("{} is not {path}", posted.path));
    }
    if posted.headers["content-type"] != "application/json" {
        errors.push("the content type is not application/json".to_owned());
    }
    errors.join("; ")
}

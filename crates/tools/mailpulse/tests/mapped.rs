//! `mailpulse parse` with the mapping of a `generic` source, as the documentation writes it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tool;

use std::path::Path;

use serde_json::{Value, json};
use tool::{Output, Tool};

/// Returns a file of the repository.
fn file(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    std::fs::read_to_string(root.join(name)).unwrap()
}

/// Returns the examples of `docs/sources.md` for senders with a form of their own.
fn documented() -> Vec<String> {
    let text = file("docs/sources.md");
    let blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.filter(|toml| toml.contains("\"generic\"")).map(str::to_owned).collect()
}

/// Returns the example of the reference, without its comment marks.
fn reference() -> String {
    let text = file("deploy/mailpulse.toml");
    let from = text.rfind("# [[source]]\n# provider = \"generic\"").unwrap();
    let lines = text[from..].lines().take_while(|line| line.starts_with('#'));
    lines.filter_map(|line| line.strip_prefix("# ")).collect::<Vec<_>>().join("\n")
}

fn parse(toml: &str, body: &Value) -> Output {
    let tool = Tool::new();
    tool.write("own.toml", toml.replace("env:OWN_SECRET", "secret"));
    tool.write("body.json", body.to_string());
    let arguments = ["parse", "--provider", "generic", "--source", "own", "--config", "own.toml"];
    tool.run(&[&arguments[..], &["body.json"]].concat())
}

/// Returns kind, recipient, permanence and class of each event.
fn briefs(output: &Output) -> Vec<Value> {
    assert_eq!(output.code, 0, "{output:?}");
    let brief = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        json!([
            event["kind"],
            event["recipient"],
            event["provider_event_id"],
            event["bounce"]["permanence"],
        ])
    };
    output.text.lines().map(brief).collect()
}

fn wide(kind: &str) -> Value {
    json!({
        "event_type": kind, "event_id": "e-1", "timestamp": 1_795_255_100,
        "data": { "email": "Ada@Example.com", "reason": "550 no such user" },
    })
}

#[test]
fn the_documented_sources_read_the_documented_envelopes() {
    let at = 1_795_255_100;
    let event =
        |id, kind| json!({ "id": id, "type": kind, "email": "Ada@Example.com", "timestamp": at });
    let bodies = [
        json!({ "events": [event("1", "email.delivered"), event("2", "email.bounced")] }),
        json!({ "sent_at": at, "event": event("1", "email.bounced") }),
        wide("email.bounced"),
        json!({ "result": "risky", "id": "7", "email": "ada@example.com", "timestamp": at }),
    ];
    let expected = [
        vec![
            json!(["delivered", "ada@example.com", "1", null]),
            json!(["bounced", "ada@example.com", "2", "hard"]),
        ],
        vec![json!(["bounced", "ada@example.com", "1", "hard"])],
        vec![json!(["bounced", "ada@example.com", "e-1", "hard"])],
        vec![json!(["verified", "ada@example.com", "7", null])],
    ];
    let documented = documented();
    assert_eq!(documented.len(), bodies.len());
    for ((toml, body), expected) in documented.iter().zip(&bodies).zip(expected) {
        assert_eq!(briefs(&parse(toml, body)), expected, "{toml}");
    }
}

#[test]
fn the_reference_reads_events_with_data() {
    let toml = reference();
    let output = parse(&toml, &wide("email.clicked"));
    assert_eq!(briefs(&output), [json!(["clicked", "ada@example.com", "e-1", null])], "{toml}");
    assert_eq!(briefs(&parse(&toml, &wide("email.bounced")))[0][3], "hard");
    assert_eq!(briefs(&parse(&toml, &wide("email.other")))[0][0], "other");
}

#[test]
fn a_raw_event_without_its_body_is_parsed_too() {
    let toml = &documented()[0];
    let event = json!({ "id": "1", "type": "email.delivered", "email": "ada@example.com",
        "timestamp": 1_795_255_100 });
    let output = parse(toml, &event);
    assert_eq!(briefs(&output), [json!(["delivered", "ada@example.com", "1", null])]);
}

#[test]
fn a_body_of_another_form_is_a_dead_letter_and_a_wrong_mapping_an_error() {
    let toml = &documented()[0];
    let output = parse(toml, &json!([7]));
    assert_ne!(output.code, 0);
    assert!(output.text.contains("wrong_shape") && output.text.contains("`events`"), "{output:?}");
    let wrong = toml.replace("\"/email\"", "\"email\"");
    let output = parse(&wrong, &json!({}));
    assert!(output.err.contains("fields.recipient") && output.err.contains("own"), "{output:?}");
}

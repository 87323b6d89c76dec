//! `mailpulse parse` on bodies of every provider, made by code that shares nothing with the parsers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tool;

use std::path::Path;

use event::{Kind, Provider};
use serde_json::Value;
use testkit::MailEvent;
use tool::{AT, Output, Tool, body, shared};

fn lines(output: &Output) -> Vec<Value> {
    output.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_kind_of_every_provider_is_parsed_correctly() {
    let tool = Tool::new();
    for provider in testkit::PROVIDERS {
        for kind in Kind::ALL {
            let Some(body) = body(provider, kind) else { continue };
            tool.write("body", body);
            let name = provider.as_str();
            let output = tool.run(&["parse", "--provider", name, "--received-at", AT, "body"]);
            assert_eq!(output.code, 0, "{provider} {kind}: {output:?}");
            let [event] = &lines(&output)[..] else { panic!("{provider} {kind}: {output:?}") };
            let reported = MailEvent::new(provider, "acme", kind, "ada@example.com", 7);
            // SendGrid's events of the kind `other` concern an account and have no recipient.
            if (provider, kind) != (Provider::SendGrid, Kind::Other) {
                assert_eq!(event["recipient"], "ada@example.com", "{provider} {kind}");
            }
            if kind != Kind::Other {
                assert_eq!(event["message_id"], reported.message_id.as_str(), "{provider} {kind}");
                assert_eq!(event["occurred_at"], reported.occurred_at_micros, "{provider} {kind}");
            }
            assert_eq!(event["kind"], kind.as_str(), "{provider} {kind}");
            assert_eq!(event["provider"], name);
            assert_eq!(event["received_at"], 1_795_255_200_000_000_i64);
            if kind == Kind::Bounced {
                assert_eq!(event["bounce"]["permanence"], "hard", "{provider}: {event}");
            }
        }
    }
}

#[test]
fn signed_requests_and_bare_bodies_are_the_same_event() {
    let tool = Tool::new();
    for provider in testkit::PROVIDERS {
        // For these, `sign` wraps the body in an envelope, whose id becomes part of the event id.
        if matches!(provider, Provider::Mailgun | Provider::Mandrill | Provider::Ses) {
            continue;
        }
        let request = tool.signed(provider);
        tool.write("request.http", &request);
        let parse = |file: &str, input: &[u8]| {
            let name = provider.as_str();
            let output = tool.run_with(
                &["parse", "--provider", name, "--received-at", AT, "--source", "s", file],
                input,
            );
            assert_eq!(output.code, 0, "{provider}: {output:?}");
            output.text
        };
        let bare = parse("body", b"");
        assert_eq!(bare, parse("request.http", b""), "{provider}");
        assert_eq!(bare, parse("-", &request), "{provider}");
        assert!(bare.contains("\"source\":\"s\",") && bare.contains("\"request_id\":\"parse\""));
    }
}

#[test]
fn each_recipient_is_a_line_and_an_unreadable_event_is_a_dead_letter() {
    let tool = Tool::new();
    let two = body(Provider::Resend, Kind::Delivered)
        .unwrap()
        .replace("[\"ada@example.com\"]", "[\"ada@example.com\",\"Grace <GRACE@example.org>\"]");
    tool.write("two", two);
    let output = tool.run(&["parse", "--provider", "resend", "two"]);
    let recipients: Vec<Value> =
        lines(&output).iter().map(|line| line["recipient"].clone()).collect();
    assert_eq!(
        (output.code, &recipients[..]),
        (0, &["ada@example.com".into(), "grace@example.org".into()][..])
    );
    assert_eq!(output.err, "2 events, 0 dead letters\n");

    let timeless = r#"[7, {"event":"open","email":"ada@example.com"}]"#;
    tool.write("timeless", timeless);
    let output = tool.run(&["parse", "--provider", "sendgrid", "--received-at", AT, "timeless"]);
    assert_eq!((output.code, &*output.err), (1, "1 event, 1 dead letter\n"));
    let [dead_letter, event] = &lines(&output)[..] else { panic!("{output:?}") };
    let dead_letter = &dead_letter["dead_letter"];
    assert_eq!(
        (&dead_letter["stage"], &dead_letter["reason"]),
        (&"enrich".into(), &"wrong_shape".into())
    );
    assert_eq!((&dead_letter["bytes"], &dead_letter["value"]), (&1.into(), &"7".into()));
    assert_eq!((&event["kind"], &event["time_fault"]), (&"opened".into(), &"missing".into()));
    assert_eq!(event["occurred_at"], event["received_at"]);

    tool.write("broken", b"[{\"event\":\xff");
    let output = tool.run(&["parse", "--provider", "sendgrid", "broken"]);
    let [dead_letter] = &lines(&output)[..] else { panic!("{output:?}") };
    assert_eq!((output.code, &dead_letter["dead_letter"]["stage"]), (1, &"ingress".into()));
    assert_eq!(dead_letter["dead_letter"]["reason"], "not_utf8", "{dead_letter}");
}

#[test]
fn pings_have_no_events_and_unusable_arguments_exit_with_2() {
    let tool = Tool::new();
    tool.write("ping", "[{\"msys\":{}}]");
    let ping = tool.run(&["parse", "--provider", "sparkpost", "ping"]);
    assert_eq!((ping.code, &*ping.text), (0, ""), "{ping:?}");
    tool.write("empty", "mandrill_events=%5B%5D");
    let ping = tool.run(&["parse", "--provider", "mandrill", "empty"]);
    assert_eq!(
        (ping.code, &*ping.err),
        (0, "0 events, 0 dead letters; the body is a test without events\n")
    );

    tool.write("not.http", "{}");
    for arguments in [
        &["--provider", "sendgrid", "not.http"][..],
        &["--provider", "sendgrid", "absent"],
        &["--provider", "fax", "ping"],
        &["--provider", "sendgrid"],
        &["--provider", "sendgrid", "--received-at", "soon", "ping"],
    ] {
        let output = tool.run(&[&["parse"], arguments].concat());
        assert_eq!((output.code, &*output.text), (2, ""), "{arguments:?}: {output:?}");
    }
}

/// The fixtures of the crate `providers`: every event and every unreadable body is a line.
#[test]
fn fixtures_of_every_provider_are_parsed() {
    let tool = Tool::new();
    for provider in Provider::ALL {
        let folder = format!("../../libraries/providers/src/{provider}/fixtures");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            let body = std::fs::read(&path).unwrap();
            let split = providers::split(provider, &body);
            let expected = split.as_ref().map_or(1, |split| split.len());
            let path = path.to_str().unwrap();
            let output = tool.run(&["parse", "--provider", provider.as_str(), path]);
            let lines = lines(&output);
            assert_eq!(lines.len(), expected, "{path}: {output:?}");
            let has_dead_letter = lines.iter().any(|line| line["dead_letter"].is_object());
            assert_eq!(output.code, i32::from(has_dead_letter), "{path}: {output:?}");
        }
    }
}

/// Captured payloads, whole or as their documentation prints them.
#[test]
#[ignore = "needs ../shared"]
fn shared_payloads_become_events() {
    let tool = Tool::new();
    let mut parsed = 0;
    for folder in std::fs::read_dir(shared("samples")).unwrap() {
        let folder = folder.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap();
        let Ok(provider) = name.parse::<Provider>() else { continue };
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            // SNS messages that are not SES's; the crate `providers` has a test for each.
            let is_foreign = name.contains("docs_sns") || name.contains("lambda");
            if is_foreign || name.contains("subscription") && provider == Provider::Ses {
                continue;
            }
            let path = path.to_str().unwrap();
            let output = tool.run(&["parse", "--provider", provider.as_str(), path]);
            let is_readable = output.code == 0 || name.contains("sns");
            assert!(is_readable, "{provider} {name}: {output:?}");
            parsed += 1;
        }
    }
    assert!(parsed > 0, "no payloads were found");
}

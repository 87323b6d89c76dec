//! `mailpulse parse`: bodies of every provider, worded by code that shares nothing with the parsers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tool;

use event::{Kind, Provider};
use serde_json::Value;
use testkit::Fact;
use tool::{AT, Said, Tool, body, shared};

fn lines(said: &Said) -> Vec<Value> {
    said.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_kind_of_every_provider_is_read_as_it_was_meant() {
    let tool = Tool::new();
    for provider in Provider::ALL {
        for kind in Kind::ALL {
            let Some(body) = body(provider, kind) else { continue };
            tool.write("body", body);
            let name = provider.as_str();
            let said = tool.run(&["parse", "--provider", name, "--received-at", AT, "body"]);
            assert_eq!(said.code, 0, "{provider} {kind}: {said:?}");
            let [event] = &lines(&said)[..] else { panic!("{provider} {kind}: {said:?}") };
            let fact = Fact::new(provider, "acme", kind, "ada@example.com", 7);
            // An account's event names nobody and no message.
            if (provider, kind) != (Provider::SendGrid, Kind::Other) {
                assert_eq!(event["recipient"], "ada@example.com", "{provider} {kind}");
            }
            if kind != Kind::Other {
                assert_eq!(event["message_id"], fact.message_id.as_str(), "{provider} {kind}");
                assert_eq!(event["occurred_at"], fact.occurred_at_micros, "{provider} {kind}");
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
    for provider in Provider::ALL {
        // Mailgun's, Mandrill's and SES's body is put around it: its own id is part of the event's.
        if matches!(provider, Provider::Mailgun | Provider::Mandrill | Provider::Ses) {
            continue;
        }
        let request = tool.signed(provider);
        tool.write("request.http", &request);
        let parse = |file: &str, input: &[u8]| {
            let name = provider.as_str();
            let said = tool.run_with(
                &["parse", "--provider", name, "--received-at", AT, "--source", "s", file],
                input,
            );
            assert_eq!(said.code, 0, "{provider}: {said:?}");
            said.text
        };
        let bare = parse("body", b"");
        assert_eq!(bare, parse("request.http", b""), "{provider}");
        assert_eq!(bare, parse("-", &request), "{provider}");
        assert!(bare.contains("\"source\":\"s\",") && bare.contains("\"request_id\":\"parse\""));
    }
}

#[test]
fn recipients_are_a_line_each_and_what_cannot_be_read_is_a_dead_letter() {
    let tool = Tool::new();
    let two = body(Provider::Resend, Kind::Delivered)
        .unwrap()
        .replace("[\"ada@example.com\"]", "[\"ada@example.com\",\"Grace <GRACE@example.org>\"]");
    tool.write("two", two);
    let said = tool.run(&["parse", "--provider", "resend", "two"]);
    let recipients: Vec<Value> =
        lines(&said).iter().map(|line| line["recipient"].clone()).collect();
    assert_eq!(
        (said.code, &recipients[..]),
        (0, &["ada@example.com".into(), "grace@example.org".into()][..])
    );
    assert_eq!(said.err, "2 events, 0 dead letters\n");

    let timeless = r#"[{"event":"open","email":"ada@example.com"}, {"event":"open","email":"ada@example.com","timestamp":1795255200}]"#;
    tool.write("timeless", timeless);
    let said = tool.run(&["parse", "--provider", "sendgrid", "timeless"]);
    assert_eq!((said.code, &*said.err), (1, "1 event, 1 dead letter\n"));
    let [letter, event] = &lines(&said)[..] else { panic!("{said:?}") };
    let letter = &letter["dead_letter"];
    assert_eq!((&letter["stage"], &letter["reason"]), (&"enrich".into(), &"missing_time".into()));
    assert_eq!((&letter["key"], &letter["bytes"]), (&"ada@example.com".into(), &42.into()));
    assert_eq!(letter["value"], timeless[1..43]);
    assert_eq!(event["kind"], "opened");

    tool.write("broken", b"[{\"event\":\xff");
    let said = tool.run(&["parse", "--provider", "sendgrid", "broken"]);
    let [letter] = &lines(&said)[..] else { panic!("{said:?}") };
    assert_eq!((said.code, &letter["dead_letter"]["stage"]), (1, &"ingress".into()));
    assert_eq!(letter["dead_letter"]["reason"], "not_utf8", "{letter}");
}

#[test]
fn signs_of_life_have_no_events_and_what_cannot_be_used_is_2() {
    let tool = Tool::new();
    tool.write("ping", "[{\"msys\":{}}]");
    let ping = tool.run(&["parse", "--provider", "sparkpost", "ping"]);
    assert_eq!((ping.code, &*ping.text), (0, ""), "{ping:?}");
    tool.write("empty", "mandrill_events=%5B%5D");
    let ping = tool.run(&["parse", "--provider", "mandrill", "empty"]);
    assert_eq!((ping.code, &*ping.err), (0, "0 events, 0 dead letters; a sign of life\n"));

    tool.write("not.http", "{}");
    for arguments in [
        &["--provider", "sendgrid", "not.http"][..],
        &["--provider", "sendgrid", "absent"],
        &["--provider", "fax", "ping"],
        &["--provider", "sendgrid"],
        &["--provider", "sendgrid", "--received-at", "soon", "ping"],
    ] {
        let said = tool.run(&[&["parse"], arguments].concat());
        assert_eq!((said.code, &*said.text), (2, ""), "{arguments:?}: {said:?}");
    }
}

/// Captured payloads, whole or as their documentation prints them, where they are at hand.
#[test]
fn captured_payloads_become_events() {
    let tool = Tool::new();
    for provider in Provider::ALL {
        let Some(folder) = shared(&format!("samples/{provider}")) else { continue };
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            // Messages of SNS that are not SES's: each has a test in the providers crate.
            let is_alien = name.contains("docs_sns") || name.contains("lambda");
            if is_alien || name.contains("subscription") && provider == Provider::Ses {
                continue;
            }
            let path = path.to_str().unwrap();
            let said = tool.run(&["parse", "--provider", provider.as_str(), path]);
            assert!(said.code == 0 || name.contains("sns"), "{provider} {name}: {said:?}");
        }
    }
}

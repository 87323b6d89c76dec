//! Edits with their audit, the delta feed, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use common::{OPERATOR, READER, Setup, digest};
use event::Kind;
use harness::{DEADLINE, Outgoing, eventually};
use serde_json::{Value, json};

const NEWS: &str = "?list=ses/news";

#[test]
fn operators_add_and_lift_and_audit_has_it() {
    let setup = Setup::with_tables("suppress_edits");
    let (member, other) = (setup.start("one", ""), setup.start("two", ""));
    setup.process(&[setup.bounce("ada@x.com", 1, ("hard", "recipient"))]);
    member.await_reasons("ada@x.com", NEWS, &["hard_bounce"]);
    let path = format!("/suppressions/ada@x.com{NEWS}");
    let body = r#"{"reason":"manual","note":"ada@x.com asked us"}"#;
    let added = member.send("PUT", &path, OPERATOR, body);
    assert_eq!(added.status, 200, "{}", added.text);
    assert_eq!(added.json()["reasons"], json!(["hard_bounce", "manual"]));
    other.await_reasons("ada@x.com", NEWS, &["hard_bounce", "manual"]);

    let lifted =
        member.send("DELETE", &format!("{path}&reason=hard_bounce&note=typo"), OPERATOR, "");
    assert_eq!((lifted.status, &lifted.json()["lifted"]), (200, &json!(1)), "{}", lifted.text);
    assert_eq!(member.reasons("ada@x.com", NEWS), ["manual"], "at once");
    other.await_reasons("ada@x.com", NEWS, &["manual"]);
    let rest = other.send("DELETE", &path, OPERATOR, "");
    assert_eq!(rest.json()["lifted"], 1, "{}", rest.text);
    member.await_reasons("ada@x.com", NEWS, &[]);
    let none = member.send("DELETE", &path, OPERATOR, "");
    assert_eq!(none.json()["lifted"], 0, "nothing is left, and nothing is written");

    // An older bounce that arrives late does not undo the lift, but a new one does.
    setup.process(&[setup.bounce("ada@x.com", 2, ("hard", "recipient"))]);
    member.await_reasons("ada@x.com", NEWS, &[]);
    let in_2099 = 2_300_000_000;
    setup.process(&[setup.bounce("ada@x.com", in_2099, ("hard", "recipient"))]);
    member.await_reasons("ada@x.com", NEWS, &["hard_bounce"]);

    let database = setup.database.as_ref().unwrap();
    let rows: String = database.one(
        "SELECT arrayStringConcat(groupArray(command || ' ' || result), ', ') FROM \
         (SELECT * FROM audit ORDER BY at, result DESC)",
    );
    let count = |text: &str| rows.matches(text).count();
    assert_eq!((count("suppressions add"), count("suppressions lift")), (2, 4), "{rows}");
    assert_eq!((count("started"), count("done")), (3, 3), "{rows}");
    let subjects: u64 = database
        .one(&format!("SELECT count() FROM audit WHERE subject = '{}'", digest("ada@x.com")));
    let named: u64 = database.one(
        "SELECT count() FROM audit WHERE detail LIKE '%x.com%' OR NOT startsWith(who, 'token desk@')",
    );
    assert_eq!((subjects, named), (6, 0), "rows name the recipient by the digest only");
}

#[test]
fn without_audit_nothing_is_changed() {
    let setup = Setup::new("suppress-no-audit");
    let member = setup.start("", "");
    let refused = member.send("PUT", &format!("/suppressions/ada@x.com{NEWS}"), OPERATOR, "");
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("audit_unavailable")));
    assert!(member.reasons("ada@x.com", NEWS).is_empty());
    assert!(setup.cluster.read_settled(&setup.cluster.topics.suppressions).is_empty());
}

#[test]
fn many_addresses_are_checked_at_once() {
    let setup = Setup::new("suppress-check");
    let member = setup.start("", "");
    let bounced =
        |number: usize| setup.bounce(&format!("r{number}@x.com"), 1, ("hard", "recipient"));
    let events: Vec<Outgoing> = (0..10_000).step_by(1_000).map(bounced).collect();
    setup.process(&events);
    member.await_reasons("r9000@x.com", NEWS, &["hard_bounce"]);
    let check = |addresses: &[String], more: &str| {
        let body = format!("{{\"addresses\":{}{more}}}", json!(addresses));
        member.send("POST", "/suppressions/check", READER, &body)
    };
    let mut addresses: Vec<String> = (0..10_000).map(|number| format!("R{number}@x.com")).collect();
    addresses[1] = "nobody".to_owned();
    let answer = eventually("ten recipients to be suppressed", DEADLINE, || {
        let answer = check(&addresses, r#","list":"ses/news""#).json();
        let found = answer["suppressed"].as_array().unwrap().len();
        if found == 10 { Ok(answer) } else { Err(found.to_string()) }
    });
    assert_eq!(answer["checked"], 10_000);
    assert_eq!(answer["invalid"], json!(["nobody"]));
    assert_eq!(
        answer["suppressed"][3],
        json!({"address": "R3000@x.com", "reasons": ["hard_bounce"]})
    );
    let answer = check(&addresses[..1], r#","recipients":true"#).json();
    assert_eq!(answer["recipients"][0]["recipient"], digest("r0@x.com"));
    let twice = [&addresses[..2], &addresses[..2]].concat();
    let answer = check(&twice, "").json();
    assert_eq!((&answer["checked"], &answer["invalid"]), (&json!(4), &json!(["nobody"])));
    assert_eq!(answer["suppressed"].as_array().unwrap().len(), 1, "each address is answered once");

    addresses.push("one@too.many".to_owned());
    let code = |response: harness::Response| {
        (response.status, response.json()["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(code(check(&addresses, "")), (413, "too_many_addresses".to_owned()));
    let long = vec!["x".repeat(1 << 20); 5];
    assert_eq!(code(check(&long, "")), (413, "too_large".to_owned()));
    assert_eq!(code(check(&[], r#","lists":"x""#)), (400, "invalid_body".to_owned()));
    assert_eq!(code(check(&[], r#","list":"ses/nwes""#)), (400, "unknown_list".to_owned()));
}

#[test]
fn requests_without_a_token_or_sense_are_refused() {
    let setup = Setup::new("suppress-refused");
    let member = setup.start("", "");
    for (method, path, token, status, code) in [
        ("GET", "/suppressions/ada@x.com", "wrong", 401, "wrong_token"),
        ("POST", "/suppressions/check", "wrong", 401, "wrong_token"),
        ("GET", "/suppressions", "wrong", 401, "wrong_token"),
        ("PUT", "/suppressions/ada@x.com", READER, 403, "operators_only"),
        ("DELETE", "/suppressions/ada@x.com", READER, 403, "operators_only"),
        ("GET", "/suppressions/ada", READER, 400, "no_address"),
        ("GET", "/suppressions/ada@x.com?lst=a", READER, 400, "invalid_parameter"),
        ("GET", "/suppressions/ada@x.com?list=ses/nwes", READER, 400, "unknown_list"),
        ("GET", "/suppressions?since=x", READER, 400, "invalid_cursor"),
        ("GET", "/suppressions?since=MTo1OjEsMiwz", READER, 410, "cursor_too_old"),
        ("POST", "/suppressions", READER, 405, "method_not_allowed"),
        ("GET", "/other", READER, 404, "not_found"),
    ] {
        let response = member.send(method, path, token, "");
        let found = response.json()["code"].as_str().unwrap().to_owned();
        assert_eq!((response.status, &*found), (status, code), "{method} {path}");
    }
}

#[test]
fn a_slow_client_of_the_delta_feed_misses_nothing() {
    let setup = Setup::with_tables("suppress_delta");
    let member = setup.start("", "");
    let (first, cursor) = member.follow("", 2);
    assert!(first.is_empty());
    let complain = |number: i64| {
        setup.event(Kind::Complained, &format!("r{number}@x.com"), number, &json!({}))
    };
    setup.process(&(0..20).map(complain).collect::<Vec<_>>());
    let state = |changes: &[Value], state: &mut BTreeMap<String, Value>| {
        for change in changes {
            let key = ["recipient", "reason", "author"].map(|name| change[name].to_string());
            state.insert(key.join("|"), change["state"].clone());
        }
    };
    member.await_reasons("r19@x.com", NEWS, &["complaint"]);
    let (changes, seen) = member.follow_until(&cursor, 3, 20);
    assert!(changes.iter().all(|change| change["state"] == "suppressed"));

    // While the client is away, an entry is added and lifted.
    let path = format!("/suppressions/r3@x.com{NEWS}");
    let noted = format!("{path}&note=secret");
    assert_eq!(member.send("DELETE", &noted, OPERATOR, "").json()["lifted"], 1);
    setup.process(&[setup.event(Kind::Subscribed, "r4@x.com", 99, &json!({}))]);
    member.await_reasons("r3@x.com", NEWS, &[]);
    let (late, _) = member.follow_until(&seen, 1_000, 2);
    let told = late.iter().any(|it| it.get("note").is_some() || it.get("who").is_some());
    assert!(!told, "readers do not learn what operators wrote: {late:?}");
    let mut lifted: Vec<_> =
        late.iter().map(|it| (it["author"].clone(), it["state"].clone())).collect();
    lifted.sort_by_key(|it| it.0.to_string());
    assert_eq!(lifted, [(json!("event"), json!("lifted")), (json!("lift"), json!("lifted"))]);

    // A client that asks rarely and a client that begins now end with the same state.
    let (mut slow, mut new) = (BTreeMap::new(), BTreeMap::new());
    state(&changes, &mut slow);
    state(&late, &mut slow);
    state(&member.follow("", 7).0, &mut new);
    assert_eq!(slow, new);
    assert_eq!(new.len(), 22);
}

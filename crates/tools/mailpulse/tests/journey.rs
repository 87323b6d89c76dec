//! `mailpulse send`, `tail`, `trace` and `load` on all services, from the ingress to ClickHouse.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod installation;

use event::{Kind, Provider};
use harness::{DEADLINE, Metrics, eventually, free_port, http, records, seen};
use installation::{Installation, Output, private_key};
use record::names;
use serde_json::Value;
use testkit::{MailEvent, sign};

const ADA: &str = "ada.lovelace@example.com";

#[allow(clippy::disallowed_methods, reason = "signatures are valid for a limited time")]
fn now_micros() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

fn steps(output: &Output) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    output.lines().iter().map(|line| (text(&line["step"]), text(&line["text"]))).collect()
}

fn names_of(output: &Output) -> Vec<String> {
    steps(output).into_iter().map(|(name, _)| name).collect()
}

fn text_of(output: &Output, step: &str) -> String {
    let mut found = steps(output).into_iter().filter(|(name, _)| name == step);
    found.next().unwrap_or_else(|| panic!("{step} in {output:?}")).1
}

#[test]
fn an_event_is_sent_tailed_and_traced() {
    let mut it = Installation::start("journey");
    send(&it);
    tail(&it);
    trace(&it);
    duplicates_are_traced(&it);
    dead_letters_are_traced(&it);
    load(&it);
    top(&it);
    canary(&it);
    what_does_not_arrive_is_missing(&mut it);
}

fn send(it: &Installation) {
    let sent = it.run(&["send", "blue-shop", "--wait", "5m", "--json"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    assert_eq!(names_of(&sent), ["answered", "raw", "events", "row"], "{sent:?}");
    let times: Vec<f64> = sent.lines().iter().map(|it| it["seconds"].as_f64().unwrap()).collect();
    assert!(times.is_sorted() && times[0] > 0.0, "{times:?}");
    assert!(text_of(&sent, "raw").contains("mail.raw.delivered/"), "{sent:?}");
    let row: (String, String, String, String) =
        it.database.one("SELECT source, recipient, campaign, event_id FROM events");
    assert_eq!((&*row.0, &*row.1), ("blue-shop", "mailpulse-test@mailpulse.invalid"));
    assert_eq!(row.2, "mailpulse-test");
    assert!(text_of(&sent, "events").ends_with(&row.3), "{sent:?}");
    // docs/tool.md tells analysts to leave test events out with these conditions.
    let left: u64 = it.database.one(
        "SELECT count() FROM events WHERE recipient_domain != 'mailpulse.invalid' AND NOT startsWith(message_id, \
         'mailpulse-test-') AND NOT startsWith(message_id, '7777777')",
    );
    assert_eq!(left, 0);

    let key = private_key("sendgrid-key.pem");
    let arguments =
        ["send", "sendgrid/acme", "--kind", "bounced", "--recipient", ADA, "--wait", "5m"];
    let without = it.run(&arguments);
    assert_eq!((without.code, &*without.out), (2, ""), "{without:?}");
    assert!(without.err.contains("--secret-file"), "{without:?}");
    let with = it.run(&[&arguments[..], &["--secret-file", &key]].concat());
    assert_eq!(with.code, 0, "{with:?}");
    assert!(with.err.contains("may be suppressed"), "{with:?}");
    assert_eq!(with.out.lines().count(), 4, "{with:?}");

    std::fs::write(it.path("wrong.txt"), "a wrong key").unwrap();
    let refused = it.run(&["send", "blue-shop", "--secret-file", "wrong.txt", "--json"]);
    assert_eq!((refused.code, names_of(&refused)), (1, vec!["refused".to_owned()]), "{refused:?}");
    assert!(text_of(&refused, "refused").contains("wrong_signature"), "{refused:?}");
    let away = it.run(&["send", "blue-shop", "--url", "http://127.0.0.1:1", "--json"]);
    assert_eq!((away.code, names_of(&away)), (1, vec!["unanswered".to_owned()]), "{away:?}");
    let path =
        it.run(&["send", "blue-shop", "--url", &format!("http://{}/x", it.listen), "--json"]);
    assert_eq!((path.code, names_of(&path)), (1, vec!["refused".to_owned()]), "{path:?}");
    for (source, problem) in
        [("nobody", "mailgun/blue-shop"), ("postal/blue-shop", "no [[source]]")]
    {
        let unknown = it.run(&["send", source]);
        assert!(unknown.code == 2 && unknown.err.contains(problem), "{unknown:?}");
    }
}

/// Every success is a heartbeat, and a failure is none.
fn canary(it: &Installation) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/beat", listener.local_addr().unwrap());
    let start = |to: &str| {
        let admin = format!("127.0.0.1:{}", free_port());
        let arguments = ["canary", "blue-shop", "--every", "1s", "--wait", "5m", "--url", to];
        let more = ["--heartbeat", &url, "--admin", &admin];
        (it.start_tool(&[&arguments[..], &more].concat()), admin)
    };
    let metric = |admin: &str, name: &str, labels: &[(&str, &str)]| {
        Metrics::new(http::get(admin, "/metrics")?.body().to_owned()).get(name, labels)
    };
    let attempts = "mailpulse_canary_attempts_total";
    let (_away, away) = start("http://127.0.0.1:1");
    eventually("a canary that fails", DEADLINE, || {
        seen(metric(&away, attempts, &[("result", "unanswered")]), |it| *it >= Some(1.0))
    });
    assert!(listener.accept().is_err(), "a failure is no heartbeat");
    let (_fine, fine) = start(&format!("http://{}", it.listen));
    let mut beat = eventually("a heartbeat", DEADLINE, || {
        listener.accept().map(|(stream, _)| stream).map_err(|error| error.to_string())
    });
    std::io::Write::write_all(&mut beat, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    assert!(metric(&fine, attempts, &[("result", "row")]) >= Some(1.0));
    let succeeded = metric(&fine, "mailpulse_canary_last_success_timestamp_seconds", &[]);
    let age = now_micros() / 1_000_000 - succeeded.unwrap() as i64;
    assert!((0..600).contains(&age), "{age} s");
    assert!(metric(&fine, "mailpulse_canary_step_seconds", &[("step", "row")]) > Some(0.0));
}

fn tail(it: &Installation) {
    let all = it.run(&["tail", "--from-beginning", "--no-follow", "--json"]);
    assert_eq!((all.code, all.lines().len()), (0, 2), "{all:?}");
    assert!(!all.out.contains("lovelace") && all.out.contains("ada…@example.com"), "{all:?}");
    let hers = ["tail", "--since", "1h", "--no-follow", "--recipient", "Ada.Lovelace@example.com"];
    let hers = it.run(&[&hers[..], &["--json", "--addresses"]].concat());
    let [event] = &hers.lines()[..] else { panic!("{hers:?}") };
    assert_eq!((&event["kind"], &event["recipient"]), (&"bounced".into(), &ADA.into()));
    assert!(event["raw"].is_object(), "{event}");
    let none = it.run(&["tail", "--from-beginning", "--no-follow", "--kind", "clicked"]);
    assert_eq!((none.code, &*none.out), (0, ""), "{none:?}");

    let mut next = it.start_tool(&["tail", "--source", "blue-shop", "--count", "1"]);
    let mut endless = it.start_tool(&["tail"]);
    // A tail that has just started may begin behind the first events.
    let sent = eventually("the tail to see an event", DEADLINE, || {
        let sent = it.run(&["send", "blue-shop", "--wait", "5m"]);
        assert_eq!(sent.code, 0, "{sent:?}");
        let out = endless.out();
        if out.contains("mailgun/blue-shop") { Ok(out) } else { Err(out) }
    });
    assert!(sent.contains("delivered"), "{sent}");
    eventually("the tail of one event", DEADLINE, || {
        it.run(&["send", "blue-shop", "--wait", "5m"]);
        seen(next.out(), |out| out.lines().count() == 1)
    });
    assert_eq!(next.end(), Some(0));
    endless.interrupt();
    assert_eq!(endless.end(), Some(0), "Ctrl-C is no failure");
}

fn trace(it: &Installation) {
    let (event, message, request): (String, String, String) = it.database.one(&format!(
        "SELECT event_id, message_id, request_id FROM events WHERE recipient = '{ADA}'"
    ));
    for id in [&event, &message, &request] {
        let traced = it.run(&["trace", id, "--json"]);
        assert_eq!(traced.code, 0, "{traced:?}");
        let expected = ["occurred", "received", "raw", "enriched", "passed", "row"];
        assert_eq!(names_of(&traced), expected, "{id}: {traced:?}");
        assert!(text_of(&traced, "raw").contains("mail.raw.bounced/"), "{traced:?}");
        // After `occurred`, which is by another clock, each step is later than the one before.
        let times: Vec<i64> =
            traced.lines()[1..].iter().map(|it| it["at"].as_i64().unwrap() / 1000).collect();
        assert!(times.is_sorted(), "{times:?}");
        assert!(traced.lines().iter().all(|it| it["event_id"] == *event));
    }
    let text = it.run(&["trace", &event]);
    assert!(text.out.contains("ada…@example.com") && !text.out.contains("lovelace"), "{text:?}");
    assert!(it.run(&["trace", &event, "--addresses"]).out.contains(ADA));
    let unknown = it.run(&["trace", "0123456789abcdef0123456789abcdef"]);
    assert_eq!((unknown.code, &*unknown.out), (1, ""), "{unknown:?}");
    assert!(unknown.err.contains("nothing is known"), "{unknown:?}");
}

/// Posts an event of the generic source `inhouse`, and returns the id of its request.
fn post(it: &Installation, event: &MailEvent) -> String {
    let requests =
        sign::events(&it.credentials, std::slice::from_ref(event), now_micros() / 1_000_000);
    let request = &requests[0];
    let (path, headers) = (&request.path, &request.headers);
    let response = http::send(&it.listen, "POST", path, headers, &request.body).unwrap();
    assert_eq!(response.status, 200, "{}", response.text);
    let receipt: Value = serde_json::from_str(response.body()).unwrap();
    receipt["request_id"].as_str().unwrap().to_owned()
}

fn duplicates_are_traced(it: &Installation) {
    let mut event =
        MailEvent::new(Provider::Generic, "inhouse", Kind::Opened, "eve@example.org", 1);
    event.occurred_at_micros = now_micros() / 1000 * 1000;
    let first = post(it, &event);
    let sql = format!("SELECT event_id FROM events WHERE request_id = '{first}'");
    let id: String = eventually("the event to be a row", DEADLINE, || it.database.try_one(&sql));
    let second = post(it, &event);
    let traced = eventually("the duplicate to be found", DEADLINE, || {
        let traced = it.run(&["trace", &second, "--json"]);
        if traced.out.contains("duplicate") { Ok(traced) } else { Err(format!("{traced:?}")) }
    });
    assert_eq!(traced.code, 0, "the event itself is a row: {traced:?}");
    assert!(text_of(&traced, "duplicate").contains(&first), "{traced:?}");
    let both = it.run(&["trace", &id, "--json"]);
    let expected = ["occurred", "received", "raw", "enriched", "passed", "row", "raw", "duplicate"];
    assert_eq!(names_of(&both), expected, "{both:?}");
}

fn dead_letters_are_traced(it: &Installation) {
    let record =
        records::raw(&it.cluster.topics, Provider::SendGrid, "acme", Kind::Opened, ADA, "no JSON");
    let request = "0123456789abcdef-dead-letter";
    let mut record = record;
    record.headers.retain(|(name, _)| name != names::REQUEST_ID);
    it.cluster.produce(&[record.header(names::REQUEST_ID, request)]);
    let traced = eventually("the dead letter to be found", DEADLINE, || {
        let traced = it.run(&["trace", request, "--json"]);
        if traced.out.contains("dead_letter") { Ok(traced) } else { Err(format!("{traced:?}")) }
    });
    assert_eq!(traced.code, 1, "{traced:?}");
    assert!(names_of(&traced).contains(&"raw".to_owned()), "{traced:?}");
    let failure = text_of(&traced, "dead_letter");
    assert!(failure.starts_with("enrich, not_json, "), "{failure}");
    let id = failure.rsplit(' ').next().unwrap().trim_end_matches('`');
    let shown = it.run(&["dead-letters", "show", id]);
    assert_eq!(shown.code, 0, "the trace names the command that shows it: {shown:?}");
}

fn load(it: &Installation) {
    let count =
        "SELECT count() FROM events WHERE recipient LIKE 'mailpulse-test-%@mailpulse.invalid'";
    let loaded = it.run(&["load", "--source", "blue-shop", "--rate", "50", "--duration", "2s"]);
    assert_eq!(loaded.code, 0, "{loaded:?}");
    assert!(loaded.err.contains("count like real ones"), "{loaded:?}");
    let accepted = loaded.out.lines().find_map(|line| line.trim().strip_suffix("  200"));
    let accepted: u64 = accepted.unwrap().parse().unwrap();
    assert!((50..=100).contains(&accepted), "{loaded:?}");
    assert!(loaded.out.lines().any(|line| line.trim_start().starts_with("1 s ")), "{loaded:?}");
    assert!(loaded.out.contains("p50 ") && loaded.out.contains("p99 "), "{loaded:?}");
    eventually("every accepted event to be a row", DEADLINE, || {
        seen(it.database.one::<u64>(count), |rows| *rows == accepted)
    });
    let wrong = ["load", "--source", "blue-shop", "--rate", "5", "--duration", "1s"];
    let wrong = it.run(&[&wrong[..], &["--secret-file", "wrong.txt"]].concat());
    assert!(wrong.code == 1 && wrong.out.contains("406 wrong_signature"), "{wrong:?}");
    for (option, value) in [("--rate", "20001"), ("--duration", "2h"), ("--connections", "0")] {
        let mut arguments = vec!["load", "--source", "blue-shop", option, value];
        if option != "--rate" {
            arguments.extend(["--rate", "1"]);
        }
        assert_eq!(it.run(&arguments).code, 2, "{option} {value}");
    }
}

fn top(it: &Installation) {
    let member = format!("ingress={}", it.ingress.admin());
    let frame = eventually("a frame without lag", DEADLINE, || {
        assert_eq!(it.run(&["send", "blue-shop", "--wait", "5m"]).code, 0);
        let frame = it.run(&["top", "--once", "--member", &member]);
        assert_eq!(frame.code, 0, "{frame:?}");
        let lag = frame.out.lines().find(|line| line.starts_with("lag ")).unwrap().to_owned();
        let is_read = ["dedupe 0", "archive 0"].iter().all(|stage| lag.contains(stage));
        if is_read { Ok(frame) } else { Err(lag) }
    });
    let words: Vec<Vec<&str>> =
        frame.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let line = |begin: &[&str]| {
        let found = words.iter().find(|words| words.starts_with(begin));
        found.unwrap_or_else(|| panic!("{begin:?} in {}", frame.out))
    };
    assert_eq!(line(&["ingress", it.ingress.admin()])[2], "ready,");
    assert!(
        !frame.out.contains("suppress "),
        "services that are not there are left out: {}",
        frame.out
    );
    line(&["mailgun/blue-shop"]);
    line(&["open", "incidents:", "0"]);
    assert!(frame.out.contains("freshness      the newest event"), "{}", frame.out);
    assert!(!frame.out.contains('\x1b'), "text for programs: {}", frame.out);
    assert_eq!(it.run(&["top", "--once", "--member", "ingress"]).code, 2);
}

/// Each step names the service that may be the reason.
fn what_does_not_arrive_is_missing(it: &mut Installation) {
    it.archive.kill();
    let no_row = it.run(&["send", "blue-shop", "--wait", "3s", "--json"]);
    assert_eq!((no_row.code, names_of(&no_row).last().map(String::as_str)), (1, Some("missing")));
    assert!(text_of(&no_row, "missing").contains("archive"), "{no_row:?}");
    let event = text_of(&no_row, "events").rsplit(' ').next().unwrap().to_owned();
    let traced = it.run(&["trace", &event, "--json"]);
    assert_eq!(traced.code, 1, "{traced:?}");
    assert!(text_of(&traced, "missing").contains("archive"), "{traced:?}");
    it.enrich.kill();
    let no_event = it.run(&["send", "blue-shop", "--wait", "2s", "--json"]);
    assert_eq!(names_of(&no_event), ["answered", "raw", "missing"], "{no_event:?}");
    assert!(text_of(&no_event, "missing").contains("enrich"), "{no_event:?}");
}

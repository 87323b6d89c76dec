//! The console on a real Kafka and ClickHouse, with known content.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use alerting::{Change, IncidentState};
use common::{CAMPAIGN, Console, INVESTIGATOR, MINUTE, Setup, VIEWER};
use event::Counter::{BouncedHard, Delivered};
use harness::{DEADLINE, Response, Service, eventually, seen};
use serde_json::Value;
use window::Counts;

/// Returns the part of a page from a text up to the end of the table row.
fn row<'a>(page: &'a Response, name: &str) -> &'a str {
    let body = page.body();
    let start =
        body.find(&format!("data-name=\"{name}\"")).unwrap_or_else(|| panic!("{name}: {body}"));
    let row = &body[start..];
    &row[..row.find("</tr>").unwrap()]
}

/// Returns numerator and denominator of all rates in a part of a page.
fn rates(part: &str) -> Vec<(u64, u64)> {
    let number = |text: &str| -> u64 { text.split('"').next().unwrap().parse().unwrap() };
    let cells = part.split("data-numerator=\"").skip(1);
    cells
        .map(|cell| (number(cell), number(cell.split("data-denominator=\"").nth(1).unwrap())))
        .collect()
}

/// Follows `GET /live` until an event is the awaited one, and returns it.
fn await_live(console: &Console, what: &str, is_awaited: impl Fn(&Value) -> bool) -> Value {
    let stream = TcpStream::connect(&console.0).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let head = format!(
        "GET /live HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {VIEWER}\r\n\r\n",
        console.0
    );
    (&stream).write_all(head.as_bytes()).unwrap();
    let mut last = String::new();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap_or_else(|error| panic!("{what}: {error}; seen last: {last}"));
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let snapshot: Value = serde_json::from_str(data).unwrap();
        if is_awaited(&snapshot) {
            return snapshot;
        }
        data.clone_into(&mut last);
    }
    panic!("{what}: the stream has ended; seen last: {last}");
}

#[test]
fn the_numbers_of_pages_and_data_equal_the_mail() {
    let setup = Setup::new("console_numbers");
    setup.insert_mail();
    let (_service, console) = setup.start("");

    let page = console.page(VIEWER, "/");
    assert_eq!(page.status, 200, "{}", page.text);
    // Bounces, deferrals, complaints, opens and clicks.
    let gmail = [(5, 100), (0, 100), (0, 0), (30, 95), (0, 95)];
    let yahoo = [(10, 50), (0, 50), (1, 40), (0, 40), (0, 40)];
    assert_eq!(rates(row(&page, "gmail")), gmail);
    assert_eq!(rates(row(&page, "yahoo")), yahoo);
    assert!(row(&page, "sendgrid/acme").contains("data-value=\"181\""), "{}", page.text);
    let page = console.page(VIEWER, "/mailbox-providers?source=sendgrid/acme");
    assert_eq!(rates(row(&page, "gmail")), gmail);
    assert!(
        page.body().contains("data-chart=\"{&#34;unit&#34;:&#34;percent&#34;"),
        "{}",
        page.text
    );
    let other = console.page(VIEWER, "/mailbox-providers?source=ses/acme");
    assert!(other.body().contains("No mail was sent in this time"), "{}", other.text);

    let data = console.json(VIEWER, "/dashboard/data").json();
    assert_eq!(data["total"], 181);
    for (kind, events) in [("delivered", 135), ("bounced", 15), ("opened", 30), ("complained", 1)] {
        assert_eq!(data["by_kind"][kind], events, "{data}");
    }
    assert_eq!(data["rates"]["bounce"]["numerator"], 15, "{data}");
    assert_eq!(data["rates"]["bounce"]["rate"], 0.1, "{data}");
    assert_eq!(data["rates"]["complaint"]["denominator"], 40, "{data}");
    assert_eq!(data["by_provider"]["sendgrid"]["sent"], 150, "{data}");
    assert_eq!(data["by_mailbox_provider"]["gmail"]["rates"]["open"]["numerator"], 30, "{data}");
    let (sent, opened) = (setup.sent_at / 1_000_000, (setup.sent_at + 5 * MINUTE) / 1_000_000);
    let series = serde_json::json!([{ "at": sent, "events": 151 }, { "at": opened, "events": 30 }]);
    assert_eq!((&data["step"], &data["series"]), (&60.into(), &series), "{data}");
    assert_eq!(data["sources"][0]["source"], "sendgrid/acme", "{data}");
    assert_eq!(data["sources"][0]["last_heard"], opened + 1, "{data}");
    let nothing = console.json(VIEWER, "/dashboard/data?source=ses/acme").json();
    assert_eq!((&nothing["total"], &nothing["rates"]["bounce"]["rate"]), (&0.into(), &Value::Null));
}

#[test]
fn stories_and_campaigns_are_complete_and_escaped() {
    let setup = Setup::new("console_stories");
    setup.insert_mail();
    let (_service, console) = setup.start("");

    let id = "%3Cgmail%2F7@mail.example%3E";
    let story = console.page(INVESTIGATOR, &format!("/message/{id}"));
    assert_eq!(story.status, 200, "{}", story.text);
    let kinds: Vec<_> = story.body().split("data-kind=\"").skip(1).collect();
    assert!(
        kinds.len() == 2 && kinds[0].starts_with("delivered") && kinds[1].starts_with("opened")
    );
    let of_recipient = "<a href=\"/recipient/person7@gmail.example\">person7@gmail.example</a>";
    assert!(story.body().contains(of_recipient), "{}", story.text);
    let link = "/campaign/sendgrid/acme/spring%20%3Csale%3E%20%26%20%27co%27%2F1";
    assert!(story.body().contains(&format!("href=\"{link}\"")), "{}", story.text);
    let form = console.page(INVESTIGATOR, "/message?id=%3Cgmail%2F7@mail.example%3E");
    assert_eq!(form.body(), story.body());
    assert_eq!(console.page(VIEWER, "/message/unknown").status, 404);

    let campaign = console.page(VIEWER, link);
    assert_eq!(campaign.status, 200, "{}", campaign.text);
    assert!(!campaign.body().contains("<sale>"), "{CAMPAIGN} is not escaped");
    for (step, messages) in
        [("Sent", 150), ("Delivered", 135), ("Opened by people", 30), ("Clicked by people", 0)]
    {
        let expected = format!("data-name=\"{step}\" data-value=\"{messages}\"");
        assert!(campaign.body().contains(&expected), "{expected}: {}", campaign.text);
    }
    // All of them bounced for one reason.
    assert!(
        campaign.body().contains("<td class=\"number\">15</td><td class=\"number\">100.0 %</td>")
    );
    let unknown = console.page(VIEWER, "/campaign/sendgrid/acme/x');%20DROP%20TABLE%20events");
    assert_eq!(unknown.status, 404, "{}", unknown.text);

    let recipient = console.page(INVESTIGATOR, "/recipient/Person7@GMAIL.example");
    assert_eq!(recipient.status, 200, "{}", recipient.text);
    assert_eq!(recipient.body().matches("data-kind=\"").count(), 2);
}

#[test]
fn a_viewer_sees_no_address() {
    let setup = Setup::new("console_masks");
    setup.insert_mail();
    setup.insert_dead_letters();
    let (_service, console) = setup.start("");

    let bounced = "/message/%3Cgmail%2F1001@mail.example%3E";
    let (shown, masked) = (console.page(INVESTIGATOR, bounced), console.page(VIEWER, bounced));
    assert!(
        shown.body().contains("550 &#60;person1001@gmail.example&#62; unknown"),
        "{}",
        shown.text
    );
    assert_eq!(masked.status, 200, "{}", masked.text);
    assert!(masked.body().contains("550 &#60;per…@gmail.example&#62; unknown"), "{}", masked.text);
    assert!(!masked.body().contains("person1001"), "{}", masked.text);
    assert!(!masked.body().contains("/recipient"), "there is no form: {}", masked.text);

    let campaign = "/campaign/sendgrid/acme/spring%20%3Csale%3E%20%26%20%27co%27%2F1";
    let (shown, masked) = (console.page(INVESTIGATOR, campaign), console.page(VIEWER, campaign));
    assert!(shown.body().contains("(person100"), "an example of a bounce: {}", shown.text);
    assert!(masked.body().contains("(per…)"), "{}", masked.text);
    assert!(!masked.body().contains("person100"), "{}", masked.text);

    let clicked = setup.insert_click();
    for path in [format!("/message/{clicked}"), "/campaign/sendgrid/acme/links".to_owned()] {
        let (shown, masked) = (console.page(INVESTIGATOR, &path), console.page(VIEWER, &path));
        assert!(shown.body().contains("/u/person7@gmail.example"), "{path}: {}", shown.text);
        assert_eq!(masked.status, 200, "{}", masked.text);
        assert!(masked.body().contains("https://shop.example/u/per…@gmail.example"), "{path}");
        assert!(!masked.body().contains("person7"), "{path}: {}", masked.text);
    }

    let refused = console.page(VIEWER, "/recipient/person7@gmail.example");
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert!(refused.body().contains("data-code=\"investigators_only\""), "{}", refused.text);

    let shown = console.page(INVESTIGATOR, "/dead-letters");
    let masked = console.page(VIEWER, "/dead-letters");
    assert!(shown.body().contains("ada.lovelace@mail.example"), "{}", shown.text);
    assert!(!masked.body().to_lowercase().contains("lovelace"), "{}", masked.text);
    assert!(masked.body().contains("ada…@mail.example"), "{}", masked.text);
    // One is in the table twice, and one was redriven.
    assert!(masked.body().contains("data-value=\"2\">2</td>"), "{}", masked.text);
    assert!(!masked.body().contains("wrong_shape"), "{}", masked.text);
}

/// Returns the values of an attribute in a part of a page.
fn attributes<'a>(part: &'a str, name: &str) -> Vec<&'a str> {
    let begin = format!("{name}=\"");
    let attributes = part.split(&begin).skip(1);
    attributes.map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn suppressions_are_counted_and_a_viewer_sees_no_recipient() {
    let setup = Setup::new("console_suppressions");
    setup.insert_suppressions();
    let (_service, console) = setup.start("");
    let (shown, masked) =
        (console.page(INVESTIGATOR, "/suppressions"), console.page(VIEWER, "/suppressions"));
    for page in [&shown, &masked] {
        assert_eq!(page.status, 200, "{}", page.text);
        for (name, entries, provisional) in [
            ("sendgrid/acme hard_bounce", "12", "3"),
            ("sendgrid/acme complaint", "5", "0"),
            // Of the two that were lifted, one was also forgotten.
            ("sendgrid/acme unsubscribe", "2", "0"),
            ("global manual", "1", "0"),
        ] {
            let row = row(page, name);
            assert_eq!(attributes(row, "data-value"), [entries], "{row}");
            assert_eq!(attributes(row, "data-provisional"), [provisional], "{row}");
        }
        assert!(page.body().contains("data-tile=\"entries\">20</dd>"), "{}", page.text);
        let incident = format!("/incidents/{}", "f0".repeat(16));
        assert_eq!(page.body().matches(&incident).count(), 1, "{}", page.text);
        assert_eq!(attributes(page.body(), "data-state").len(), 24, "22 entries and two lifts");
        assert!(page.body().contains("550 &#60;b&#62; see"), "{}", page.text);
        assert!(!page.body().contains("asked by phone"), "{}", page.text);
        let chart = attributes(page.body(), "data-chart")[0].replace("&#34;", "\"");
        let chart: Value = serde_json::from_str(&chart).unwrap();
        let sums: Vec<(&str, f64)> = chart["lines"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| {
                let values = line["values"].as_array().unwrap();
                assert_eq!(values.len(), 30, "{chart}");
                (line["label"].as_str().unwrap(), values.iter().filter_map(Value::as_f64).sum())
            })
            .collect();
        let expected = [
            ("complaint", 5.0),
            ("hard_bounce", 12.0),
            ("manual", 1.0),
            ("unsubscribe", 4.0),
            ("ended", 2.0),
        ];
        assert_eq!(sums, expected);
    }
    let digest = format!("{:032x}", 99);
    assert!(shown.body().contains(&digest) && !masked.body().contains(&digest));
    assert!(shown.body().contains("ada.lovelace@mail.example"), "{}", shown.text);
    assert!(masked.body().contains("ada…@mail.example"), "{}", masked.text);
    assert!(!masked.body().contains("lovelace"), "{}", masked.text);
}

#[test]
fn what_rules_have_done_is_added_up() {
    let setup = Setup::new("console_automation");
    setup.insert_actions();
    let (_service, console) = setup.start("");
    let page = console.page(VIEWER, "/automation");
    assert_eq!(page.status, 200, "{}", page.text);
    let sums = |name: &str| {
        let row = row(&page, name);
        ["data-value", "data-recipients", "data-follow-ups"].map(|it| attributes(row, it)[0])
    };
    assert_eq!(sums("vip points"), ["40", "10", "10"]);
    assert_eq!(sums("warm segment.add"), ["6", "6", "0"]);
    assert_eq!(sums("warm segment.remove"), ["2", "2", "0"]);
    let of_vip = row(&page, "vip points");
    assert!(of_vip.contains("<b>0.20 s</b><small>0.00 s to 0.40 s</small>"), "{of_vip}");
    assert!(row(&page, "warm segment.add").contains("<b>unknown</b></td>"), "{}", page.text);
    let segment = row(&page, "warm &#60;leads&#62;");
    let found = ["data-value", "data-added", "data-removed"].map(|it| attributes(segment, it)[0]);
    assert_eq!(found, ["4", "6", "2"], "{segment}");
    assert!(!page.body().contains("person"), "{}", page.text);
}

#[test]
fn predictions_have_intervals_and_are_unknown_where_they_are_not_to_be_trusted() {
    let setup = Setup::new("console_predictions");
    let (_service, console) = setup.start("");
    let page = console.page(VIEWER, "/predictions");
    assert_eq!(page.body().matches("class=\"empty\"").count(), 2, "{}", page.text);
    setup.insert_predictions();
    let page = console.page(VIEWER, "/predictions");
    assert_eq!(page.status, 200, "{}", page.text);
    let shop = row(&page, "shop");
    // 600 recipients, 200 of each probability: 120 are expected, with a variance of 92.
    assert!(
        shop.contains("<b data-next>20.0 %</b><small class=\"interval\">18.0 % to 22.0 %</small>"),
        "{shop}"
    );
    assert!(shop.contains("<b>70</b><small>of 600</small>"), "{shop}");
    for (source, status) in [("tiny", "unknown"), ("off", "miscalibrated")] {
        let row = row(&page, source);
        assert!(row.contains(&format!("<b>{status}</b>")) && !row.contains('%'), "{row}");
    }
    let cards: Vec<&str> = page.body().split("<section class=\"card score\"").skip(1).collect();
    assert_eq!(cards.len(), 4, "{}", page.text);
    let next =
        cards.iter().find(|it| it.starts_with(" data-source=\"shop\" data-prediction=\"next\""));
    let next = next.unwrap();
    assert_eq!(next.matches("data-bin").count(), 10, "{next}");
    assert!(next.contains("<b data-ece>0.012</b> <small>0.000 to "), "{next}");
    // Wilson's interval of 1700 of 2000.
    assert!(next.contains("<b data-coverage>85.0 %</b> <small>83.4 % to 86.5 %</small>"), "{next}");
    assert!(
        next.contains(
            "<title>5.00 % predicted, 5.00 % happened (2.74 % to 8.96 %), of 200</title>"
        ),
        "{next}"
    );
    assert!(!page.body().contains("person"), "{}", page.text);
}

#[test]
fn the_log_tells_whose_data_an_investigator_has_seen() {
    let setup = Setup::new("console_audit");
    setup.insert_mail();
    setup.insert_dead_letters();
    let key = b"a key of the tests alone";
    let privacy = format!("[privacy]\nerasure_key = {:?}\n", str::from_utf8(key).unwrap());
    let (service, console) = setup.start(&privacy);
    let digest = |address: &str| privacy::ErasureKey::new(key).unwrap().digest(address).to_string();
    let message = "/message/%3Cgmail%2F7@mail.example%3E";
    for (path, page, recipient) in [
        ("/recipient/Person8@GMAIL.example", "recipient", "person8@gmail.example"),
        (message, "message", "person7@gmail.example"),
        ("/dead-letters", "dead-letters", "ada.lovelace@mail.example"),
    ] {
        console.page(VIEWER, path);
        assert!(!service.log().contains(&digest(recipient)), "a viewer sees no address: {path}");
        assert_eq!(console.page(INVESTIGATOR, path).status, 200, "{path}");
        service.await_log(&digest(recipient));
        let log = service.log();
        let line = log.lines().find(|line| line.contains(&digest(recipient))).unwrap();
        assert!(line.contains("desk") && line.contains(page), "{line}");
        assert!(!log.contains(recipient), "{log}");
    }
}

#[test]
fn an_incident_is_live_and_recomputed() {
    let setup = Setup::new("console_incidents");
    setup.insert_mail();
    setup.commit_archived();
    let (_service, console) = setup.start("");
    assert_eq!(console.page(VIEWER, "/incidents").body().matches("/incidents/f0f0").count(), 0);

    setup.produce_incident(&setup.incident(1, 5));
    let snapshot = await_live(&console, "an open incident", |it| it["open_incidents"] == 1);
    assert_eq!(snapshot["incidents"][0]["severity"], "page", "{snapshot}");
    let path = format!("/incidents/{}", "f0".repeat(16));
    let page = console.page(VIEWER, &path);
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.body().contains("at &#60;gmail&#62;"), "{}", page.text);
    assert!(page.body().contains("data-verdict=\"equal\""), "{}", page.text);
    assert_eq!(rates(row(&page, "alert")), [(5, 100)]);
    assert_eq!(rates(row(&page, "events")), [(5, 100)]);

    setup.produce_incident(&setup.incident(2, 6));
    let different = eventually("a different number", DEADLINE, || {
        seen(console.page(VIEWER, &path), |page| page.body().contains("data-verdict=\"different\""))
    });
    assert_eq!(rates(row(&different, "alert")), [(6, 100)]);

    let mut over = setup.incident(3, 5);
    (over.state, over.change) = (IncidentState::Resolved, Change::Resolved);
    setup.produce_incident(&over);
    setup.insert_incident(&over);
    await_live(&console, "no open incident", |it| it["open_incidents"] == 0);
    assert_eq!(console.page(VIEWER, &path).status, 200, "it comes from ClickHouse");
    let list = console.page(VIEWER, "/incidents");
    assert!(list.body().contains("No incident is open"), "{}", list.text);
    assert!(list.body().contains(&path), "{}", list.text);
    assert_eq!(console.page(VIEWER, &format!("/incidents/{}", "0".repeat(32))).status, 404);
    assert_eq!(console.page(VIEWER, "/incidents/1").status, 400);
}

#[test]
fn rates_arrive_while_clickhouse_is_away() {
    let setup = Setup::new("console_away");
    let (service, console) = setup.start("");
    let away = "[clickhouse]\nurl = \"http://127.0.0.1:1\"\n";
    drop((service, console));
    let address = format!("127.0.0.1:{}", harness::free_port());
    let _service = harness::Launch::new("console", env!("CARGO_BIN_EXE_console"), &setup.cluster)
        .config(&format!(
            "{away}[console]\nlisten = {address:?}\ntokens = [{{ name = \"team\", role = \
             \"viewer\", secret = {VIEWER:?} }}]\n"
        ))
        .start();
    let console = Console(address);
    let page = console.page(VIEWER, "/");
    assert_eq!(page.status, 200, "{}", page.text);
    assert_eq!(page.body().matches("data-code=\"clickhouse_away\"").count(), 4, "{}", page.text);
    let page = console.page(VIEWER, "/suppressions");
    assert_eq!(page.body().matches("data-code=\"clickhouse_away\"").count(), 4, "{}", page.text);
    let campaign = console.page(VIEWER, "/campaign/ses/acme/x");
    assert_eq!(campaign.status, 503, "{}", campaign.text);
    assert!(campaign.body().contains("ClickHouse cannot be reached"), "{}", campaign.text);
    let data = console.json(VIEWER, "/dashboard/data");
    assert_eq!((data.status, &data.json()["code"]), (503, &"clickhouse_away".into()));

    let counts = Counts::of([(Delivered, 95), (BouncedHard, 5)]);
    setup.produce_rate(setup.sent_at + MINUTE, counts);
    let snapshot = await_live(&console, "the minute", |it| it["hour"]["sent"] == 100);
    assert_eq!(snapshot["sources"][0]["source"], "sendgrid/acme", "{snapshot}");
    assert_eq!(snapshot["hour"]["bounced"], 5, "{snapshot}");
}

#[test]
fn nobody_gets_in_without_a_token() {
    let setup = Setup::new("console_access");
    let (service, console) = setup.start("");
    let html = ("accept", "text/html");
    let stranger = console.send("GET", "/", &[html], "");
    assert_eq!((stranger.status, stranger.header("location")), (303, Some("/login".to_owned())));
    for path in ["/dashboard/data", "/live", "/message/x"] {
        let refused = console.send("GET", path, &[], "");
        assert_eq!((refused.status, &refused.json()["code"]), (401, &"not_logged_in".into()));
    }
    assert_eq!(console.json("a wrong token of somebody", "/").json()["code"], "wrong_token");

    let form = format!("token={}", VIEWER.replace(' ', "+"));
    let login = console.send("POST", "/login", &[html], &form);
    assert_eq!((login.status, login.header("location")), (303, Some("/".to_owned())));
    let cookie = login.text.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let session = cookie.split(';').next().unwrap();
    let page = console.send("GET", "/", &[html, ("cookie", session)], "");
    assert!(page.status == 200 && page.body().contains("Log out"), "{}", page.text);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let refused = console.send("GET", "/dashboard/data", &[], "");
    for response in [&page, &refused] {
        assert_eq!(response.header("cache-control").as_deref(), Some("no-store"));
        assert_eq!(response.header("referrer-policy").as_deref(), Some("no-referrer"));
        assert_eq!(response.header("x-content-type-options").as_deref(), Some("nosniff"));
        assert_eq!(response.header("x-frame-options").as_deref(), Some("deny"));
    }
    let script = console.send("GET", "/assets/console.js", &[], "");
    assert_eq!(script.header("cache-control").as_deref(), Some("private, max-age=300"));
    assert!(!page.body().contains("<script>") && !page.body().contains("style="), "{}", page.text);

    let other_site =
        console.send("POST", "/login", &[html, ("sec-fetch-site", "cross-site")], &form);
    assert_eq!(other_site.status, 403, "{}", other_site.text);
    let posted = console.send("POST", "/", &[("cookie", session)], "");
    assert_eq!((posted.status, &posted.json()["code"]), (405, &"method_not_allowed".into()));
    let logout = |method, site| console.send(method, "/logout", &[("sec-fetch-site", site)], "");
    assert_eq!(logout("GET", "same-origin").status, 405, "a link logs nobody out");
    assert_eq!(logout("POST", "cross-site").status, 403);
    let out = logout("POST", "same-origin");
    assert!(out.status == 303 && out.text.contains("Max-Age=0"), "{}", out.text);
    let large = console.send("POST", "/login", &[], &"x".repeat(5_000));
    assert_eq!(large.json()["code"], "too_large", "{}", large.text);

    for _ in 0..9 {
        console.send("POST", "/login", &[html], "token=wrong");
    }
    eventually("a refusal of wrong tokens", DEADLINE, || {
        seen(console.send("POST", "/login", &[html], "token=wrong"), |limited| {
            limited.status == 429
        })
    });
    let login = console.send("POST", "/login", &[html], &form);
    assert_eq!(login.status, 303, "wrong tokens lock nobody out: {}", login.text);
    let page = console.send("GET", "/", &[html, ("cookie", session)], "");
    assert_eq!(page.status, 200, "a session goes on");
    assert!(service.metric("mailpulse_console_wrong_tokens_total", &[]) >= 9.0);
    let log = service.log();
    assert!(!log.contains(VIEWER) && !log.contains(session), "{log}");
}

#[test]
fn parameters_and_live_clients_are_limited() {
    let setup = Setup::new("console_limits");
    let (service, console) = setup.start("max_live = 1\n");
    for path in [
        "/dashboard/data?from=2026-01-01&to=2026-02-01",
        "/dashboard/data?source=acme",
        "/mailbox-providers?from=yesterday",
        "/message?id=",
        "/%ff",
        &format!("/message/{}", "x".repeat(2_001)),
    ] {
        let refused = console.json(VIEWER, path);
        assert_eq!((refused.status, &refused.json()["code"]), (400, &"invalid_parameter".into()));
    }
    assert_eq!(console.json(VIEWER, "/nothing").json()["code"], "not_found");

    let mut first = TcpStream::connect(&console.0).unwrap();
    let head = format!("GET /live HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {VIEWER}\r\n\r\n");
    first.write_all(head.as_bytes()).unwrap();
    service.await_metric("mailpulse_console_live_clients", &[], |clients| clients == 1.0);
    let second = console.json(VIEWER, "/live");
    assert_eq!((second.status, &second.json()["code"]), (503, &"too_many_live".into()));
    drop(first);
    service.await_metric("mailpulse_console_live_clients", &[], |clients| clients == 0.0);
    stops_in_time(service, &console);
}

#[test]
fn closed_connections_are_counted() {
    let setup = Setup::new("console_closed");
    let (service, console) = setup.start("");
    let connections: Vec<_> = (0..33).map(|_| TcpStream::connect(&console.0).unwrap()).collect();
    let closed = "mailpulse_console_closed_connections_total";
    service.await_metric(closed, &[("limit", "connections_per_client")], |closed| closed == 1.0);
    // None of the others sends a request.
    service.await_metric(closed, &[("limit", "head_timeout")], |closed| closed == 32.0);
    drop(connections);
}

/// A stream that goes on does not keep the process from ending.
fn stops_in_time(mut service: Service, console: &Console) {
    let mut live = TcpStream::connect(&console.0).unwrap();
    let head = format!("GET /live HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {VIEWER}\r\n\r\n");
    live.write_all(head.as_bytes()).unwrap();
    service.await_metric("mailpulse_console_live_clients", &[], |clients| clients == 1.0);
    service.stop();
}

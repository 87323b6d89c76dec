//! `mailpulse report` on a real ClickHouse, with known numbers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stored;

use serde_json::Value;
use stored::{HOUR, Output, SECOND, Setup, Stored, T0, alert, incident};

/// What was stored at 09:00 UTC of 2025-10-09, and half an hour before midnight UTC.
fn setup(name: &str) -> Setup {
    let setup = Setup::new(name);
    let event = |number: u64, at: i64, source, counts| Stored {
        partition: 0,
        offset: number,
        at,
        source,
        campaign: if number.is_multiple_of(2) { "spring" } else { "autumn" },
        counts,
        sent: Some(at),
        corrections: "",
    };
    let delivered = (0..90).map(|number| event(number, T0 + SECOND, "acme", "delivered"));
    let bounced = (90..100).map(|number| event(number, T0 + 2 * HOUR, "acme", "bounced_hard"));
    let late = T0 + 14 * HOUR + HOUR / 2; // 23:30 UTC
    let other = (100..105).map(|number| event(number, late, "globex", "delivered"));
    let all: Vec<_> = delivered.chain(bounced).chain(other).collect();
    setup.insert_events(&all);
    // It takes back one delivery, and counts as a late bounce.
    let correction = format!("campaign:-delivered@{}", T0 + SECOND);
    let corrected =
        Stored { corrections: &correction, ..event(105, T0 + 3 * HOUR, "acme", "late_bounces") };
    setup.insert_events(&[corrected]);
    setup.insert_incidents(&[incident('a', &alert('1', 2, 10, [(0, 10), (1, 3)]))]);
    setup
}

fn report(setup: &Setup, further: &[&str]) -> Output {
    let output = setup.run(&[&["report", "--from", "2025-10-09"], further].concat());
    assert_eq!(output.code, 0, "{output:?}");
    output
}

fn json(setup: &Setup, further: &[&str]) -> Value {
    let output = report(setup, &[&["--format", "json"], further].concat());
    serde_json::from_str(&output.out).unwrap()
}

fn rate<'r>(report: &'r Value, metric: &str) -> &'r Value {
    report["rates"].as_array().unwrap().iter().find(|line| line["metric"] == metric).unwrap()
}

#[test]
fn the_numbers_are_those_that_were_stored() {
    let setup = setup("report");
    let all = json(&setup, &[]);
    assert_eq!(all["totals"]["events"], 106);
    assert_eq!(all["totals"]["sent"], 104, "90 + 10 + 5, and one was taken back");
    assert_eq!(all["totals"]["active_campaigns"], 4, "two at each source");
    let bounce = rate(&all, "bounce");
    assert_eq!((&bounce["numerator"], &bounce["denominator"]), (&10.into(), &104.into()));
    assert!((bounce["rate"].as_f64().unwrap() - 10.0 / 104.0).abs() < 1e-12);
    assert_eq!(rate(&all, "late_bounce")["numerator"], 1);
    assert_eq!(rate(&all, "complaint")["rate"], Value::Null, "its denominator is 0");
    assert_eq!(all["kinds"][0]["events"], 106);
    assert_eq!(all["processing"]["max"].as_f64().map(|max| max > 0.0), Some(true));

    // 91 events in the minute of T0, 90 of them in the hour; 24 hours have passed.
    assert_eq!(all["pace"]["per_hour"]["peak"], 90);
    assert_eq!(all["pace"]["per_hour"]["peak_at"], "2025-10-09T09:00:00+00:00");
    assert_eq!(all["pace"]["per_minute"]["peak"], 90);
    assert!((all["pace"]["per_hour"]["avg"].as_f64().unwrap() - 106.0 / 24.0).abs() < 1e-12);
    let points = all["course"]["points"].as_array().unwrap();
    assert_eq!((points.len(), &all["course"]["step"]), (24, &"hour".into()));
    assert_eq!((&points[9]["events"], &points[9]["sent"]), (&90.into(), &89.into()));
    assert_eq!(points[11]["bounce_rate"], 1.0);
    assert_eq!(points[10]["bounce_rate"], Value::Null);

    let incidents = all["incidents"].as_array().unwrap();
    assert_eq!(incidents.len(), 1);
    assert_eq!(incidents[0]["opened_at"], "2025-10-09T09:00:00+00:00");

    let acme = json(&setup, &["--source", "sendgrid/acme"]);
    assert_eq!(acme["totals"]["events"], 101);
    let other = json(&setup, &["--source", "globex"]);
    assert_eq!((&other["totals"]["events"], &other["totals"]["sent"]), (&5.into(), &5.into()));
    assert_eq!(other["incidents"], Value::Array(Vec::new()), "it is about acme");
    assert_eq!(json(&setup, &["--source", "ses/acme"])["totals"]["events"], 0);
}

/// The view `report` and the tool ask in their own ways.
#[test]
fn the_view_has_the_same_numbers() {
    let setup = setup("report_view");
    // Its events disagree about the campaign, so the correction belongs to `(several)`.
    let correction = format!("mailbox_provider:-delivered@{}", T0 + SECOND);
    setup.insert_events(&[Stored {
        partition: 1,
        offset: 1,
        at: T0 + 4 * HOUR,
        source: "acme",
        campaign: "spring",
        counts: "late_bounces",
        sent: None,
        corrections: &correction,
    }]);
    let several: i64 =
        setup.database.one("SELECT sum(delivered) FROM traffic WHERE campaign = '(several)'");
    assert_eq!(several, -1);
    // Both sources send to the same seven addresses, and some events have none.
    setup.database.execute(
        "ALTER TABLE events UPDATE recipient = concat('u', toString(kafka_offset % 7), '@example.com') \
         WHERE kafka_offset % 5 != 0 SETTINGS mutations_sync = 2",
    );
    // Readers in two countries, a machine in a third one, and a reader somewhere.
    for (offset, country, counts) in [
        (0, "DE", "['opened']"),
        (1, "DE", "['clicked']"),
        (2, "FR", "['clicked']"),
        (3, "US", "['machine_opened']"),
        (4, "", "['opened']"),
    ] {
        setup.database.execute(&format!(
            "INSERT INTO traffic_country SELECT 'acme', 'sendgrid', '2025-10-09', '{country}', '', {offset}, \
             has({counts}, 'opened'), has({counts}, 'clicked'), 0, has({counts}, 'machine_opened'), 0"
        ));
    }
    let tool = json(&setup, &[]);
    let of_view = |what: &str, section: &str| {
        format!(
            "SELECT {what} FROM report(from = '2025-10-09 00:00:00', to = '2025-10-10 00:00:00') \
             WHERE section = '{section}'"
        )
    };
    let number = |section: &str, item: &str| -> f64 {
        let sql = of_view("toFloat64(assumeNotNull(value))", section);
        setup.database.one(&format!("{sql} AND item = '{item}'"))
    };
    let same = |view: f64, tool: &Value| {
        assert!((view - tool.as_f64().unwrap()).abs() < 1e-9, "{view} and {tool}");
    };
    same(number("recipients", "unique"), &tool["totals"]["unique_recipients"]);
    assert_eq!(tool["totals"]["unique_recipients"], 7);
    same(number("total", "events"), &tool["totals"]["events"]);
    same(number("total", "sent"), &tool["totals"]["sent"]);
    same(number("rate", "bounce"), &rate(&tool, "bounce")["rate"]);
    same(number("minute", "avg"), &tool["pace"]["per_minute"]["avg"]);
    assert!((number("minute", "avg") - 107.0 / 1440.0).abs() < 1e-9, "over all minutes of the day");
    same(number("minute", "max"), &tool["pace"]["per_minute"]["peak"]);
    let countries: String = setup.database.one(&of_view(
        "arrayStringConcat(arraySort(groupArray(concat(item, ' ', toString(value)))), ',')",
        "country",
    ));
    let of_tool = tool["countries"].as_array().unwrap().iter().map(|it| {
        let sum = it["opened"].as_u64().unwrap() + it["clicked"].as_u64().unwrap();
        format!("{} {sum}", it["country"].as_str().unwrap())
    });
    let of_tool: Vec<_> = of_tool.collect();
    assert_eq!((&*countries, &*of_tool.join(",")), ("DE 2,FR 1", "DE 2,FR 1"));
    let campaigns: String = setup
        .database
        .one(&of_view("arrayStringConcat(arraySort(groupArray(item)), ',')", "campaign"));
    let names = tool["campaigns"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    assert_eq!((campaigns.as_str(), names.join(",")), ("autumn,spring", campaigns.clone()));
}

#[test]
fn days_are_those_of_the_zone() {
    let setup = setup("report_zone");
    let events = |further: &[&str]| json(&setup, further)["totals"]["events"].as_u64().unwrap();
    assert_eq!(events(&[]), 106);
    // 23:30 UTC is the next day there.
    assert_eq!(events(&["--zone", "Europe/Berlin"]), 101);
    assert_eq!(events(&["--zone", "Europe/Berlin", "--to", "2025-10-10"]), 106);
    // The hours of Kolkata begin at half past, those of Adelaide too.
    let kolkata = json(&setup, &["--zone", "Asia/Kolkata"]);
    assert_eq!(kolkata["pace"]["per_hour"]["peak_at"], "2025-10-09T14:00:00+05:30");
    let sum = |report: &Value| {
        let points = report["course"]["points"].as_array().unwrap();
        points.iter().map(|point| point["events"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(sum(&kolkata), 101);
    let month = json(&setup, &["--zone", "Australia/Adelaide", "--to", "2025-10-31"]);
    assert_eq!((sum(&month), &month["course"]["step"]), (106, &"day".into()));
}

#[test]
fn the_terminal_and_the_page_have_the_same_numbers() {
    let setup = setup("report_formats");
    let text = report(&setup, &[]).out;
    for line in [
        "Mailpulse report: 2025-10-09 (UTC), all sources",
        "  Events                      106",
        "  Bounce rate                  9.62 %            10 of          104  ██▎",
        "  sendgrid          104",
        "2025-10-09T09:00:00+00:00",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    let page = report(&setup, &["--format", "html"]).out;
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    for part in ["<b>9.62 %</b>", "10 of 104", "2025-10-09T09:00:00+00:00: 90 events, 89 sent"] {
        assert!(page.contains(part), "{part:?} is not in {page}");
    }
    for request in ["http://", "https://", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(request), "the page loads something: {request}");
    }
}

#[test]
fn names_cannot_leave_their_place() {
    let setup = Setup::new("report_names");
    let name = r"<script>alert(1)</script>\u001b[2J";
    let stored = Stored {
        partition: 0,
        offset: 1,
        at: T0,
        source: "acme",
        campaign: name,
        counts: "delivered",
        sent: Some(T0),
        corrections: "",
    };
    setup.insert_events(&[stored]);
    let page = report(&setup, &["--format", "html"]).out;
    assert!(page.contains("&#60;script&#62;") && !page.contains("<script>"), "{page}");
    let text = report(&setup, &[]).out;
    assert!(text.contains("<script>") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn arguments_that_cannot_be_used_are_refused() {
    let setup = Setup::new("report_arguments");
    let refused = |arguments: &[&str]| {
        let output = setup.run(&[&["report"], arguments].concat());
        assert_eq!(output.code, 2, "{output:?}");
        output.err
    };
    let error = refused(&["--from", "yesterday"]);
    assert!(error.contains("write a date such as 2026-11-01"), "{error}");
    let error = refused(&["--from", "2025-10-09", "--zone", "Mars/Olympus"]);
    assert!(error.contains("Europe/Berlin"), "{error}");
    let error = refused(&["--from", "2025-10-09", "--to", "2025-10-08"]);
    assert!(error.contains("is before --from"), "{error}");
    let error = refused(&["--from", "2020-10-09", "--to", "2025-10-08"]);
    assert!(error.contains("at most 400"), "{error}");
    let empty = report(&setup, &[]);
    assert!(empty.out.contains("Events                        0"), "{}", empty.out);
}

//! The pages in Chromium: what a person sees equals the mail, also what arrives live.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{MINUTE, Setup};
use event::Counter::{BouncedHard, Complained, Delivered, Opened};
use harness::{DEADLINE, Database, Launch, eventually, free_port};
use std::process::Command;
use window::Counts;

/// Renders a page, lets its scripts run, and returns the document.
fn rendered(url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(fetch::chromium().unwrap())
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--window-size=1280,1600", "--timeout=20000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the text of the element with an attribute.
fn text<'a>(document: &'a str, attribute: &str) -> &'a str {
    let (_, rest) =
        document.split_once(attribute).unwrap_or_else(|| panic!("{attribute}: {document}"));
    let (_, rest) = rest.split_once('>').unwrap();
    rest.split('<').next().unwrap()
}

#[test]
fn the_numbers_in_a_browser_equal_the_mail() {
    let setup = Setup::new("console_browser");
    setup.insert_mail();
    setup.commit_archived();
    let address = format!("127.0.0.1:{}", free_port());
    let Database { url, name, .. } = &setup.database;
    let service = Launch::new("console", env!("CARGO_BIN_EXE_console"), &setup.cluster)
        .config(&format!(
            "[clickhouse]\nurl = {url:?}\ndatabase = {name:?}\n\
             [console]\nlisten = {address:?}\nopen = true\n"
        ))
        .start();
    let mail = Counts::of([(Delivered, 12_135), (BouncedHard, 15), (Opened, 30), (Complained, 1)]);
    setup.produce_rate(setup.sent_at + MINUTE, mail);
    setup.produce_rate(setup.sent_at + 3 * MINUTE, Counts::of([(Delivered, 50)]));
    setup.produce_incident(&setup.incident(1, 5));

    let page = eventually("the live numbers", DEADLINE, || {
        let page = rendered(&format!("http://{address}/"));
        // The script writes a narrow space between thousands.
        let found = text(&page, "data-live=\"sent\"").to_owned();
        if found == "12\u{202f}200" { Ok(page) } else { Err(found) }
    });
    assert_eq!(text(&page, "data-live=\"bounced\""), "15");
    assert_eq!(text(&page, "data-live-share=\"bounced\""), "0.12 %");
    assert_eq!(text(&page, "data-live=\"open_incidents\""), "1");
    assert!(page.contains("hard bounces of sendgrid/acme at &lt;gmail&gt;"), "{page}");
    assert!(!page.contains("<gmail></gmail>"), "a script has made an element of a name: {page}");
    assert!(page.contains("<canvas"), "the chart is drawn: {page}");
    let gmail = &page[page.find("data-name=\"gmail\"").unwrap()..];
    assert!(gmail.contains("data-numerator=\"5\" data-denominator=\"100\""), "{page}");

    let charts = rendered(&format!("http://{address}/mailbox-providers"));
    assert_eq!(charts.matches("<canvas").count(), 6, "{charts}");
    let story = rendered(&format!("http://{address}/message/%3Cgmail%2F7@mail.example%3E"));
    assert!(story.contains("person7@gmail.example"), "{story}");

    setup.insert_suppressions();
    setup.insert_actions();
    setup.insert_predictions();
    let suppressions = rendered(&format!("http://{address}/suppressions"));
    assert_eq!(text(&suppressions, "data-tile=\"entries\""), "20");
    assert_eq!(suppressions.matches("<canvas").count(), 1, "{suppressions}");
    let automation = rendered(&format!("http://{address}/automation"));
    assert_eq!(text(&automation, "data-recipients=\"10\""), "10");
    assert_eq!(automation.matches("<canvas").count(), 1, "{automation}");
    let predictions = rendered(&format!("http://{address}/predictions"));
    assert_eq!(text(&predictions, "data-next"), "20.0 %");
    assert_eq!(predictions.matches("<circle").count(), 40, "{predictions}");
    drop(service);
}

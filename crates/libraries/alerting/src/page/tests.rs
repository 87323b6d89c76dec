use event::Provider;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use window::{Metric, Scope};

use super::*;
use crate::incidents::samples::*;
use crate::{
    Alert, AlertState, Family, IncidentId, IncidentSettings, Measure, ResolveReason, Share,
};

mod rules;

fn settings() -> PageSettings {
    PageSettings {
        dashboard_url: "https://mail.example/incidents/".into(),
        runbook_base: "https://mail.example/runbooks".into(),
        zone: TimeZone::get("Europe/Berlin").unwrap(),
    }
}

/// Returns the incident of some alerts that were received 38 seconds after the breach.
fn incident(alerts: &[Alert]) -> Incident {
    let mut run = Run::new(IncidentSettings::default());
    run.pass(38 * SECOND);
    for alert in alerts {
        run.receive(alert);
    }
    run.records.pop().unwrap()
}

/// Replaces the ids, which depend on digests, and returns the page.
fn text(incident: &Incident, explanation: Option<&Explanation>) -> String {
    let text = page(incident, explanation, &settings()).text();
    let text = text.replace(&incident.id.to_string(), "INCIDENT");
    text.replace(&incident.lead.episode_id.to_string(), "EPISODE")
}

fn summed_up(alert: Alert, summary: &str) -> Alert {
    Alert { summary: summary.to_owned(), ..alert }
}

fn bad_list() -> Vec<Alert> {
    let whole = summed_up(
        with_severity(alert("hard_bounces", source("acme")), Severity::Page),
        "acme at SendGrid: hard bounces 16.4 % in 5 min (82 of 501 sent), limit 10 %, lower bound 11.4 %",
    );
    let domain = Scope::SenderDomain {
        provider: Provider::SendGrid,
        source: "acme".into(),
        sender_domain: "news.acme.example".into(),
    };
    vec![
        whole,
        with_counts(alert("hard_bounces", campaign("acme", "spring-sale")), 80, 120),
        with_counts(alert("hard_bounces", mailbox("acme", "gmail")), 61, 300),
        with_counts(alert("hard_bounces", mailbox("acme", "outlook")), 15, 100),
        with_counts(alert("hard_bounces", domain), 82, 500),
    ]
}

fn explanation() -> Explanation {
    let answer = |count, status: &str, wording: &str, example: &str| Answer {
        count,
        status: status.into(),
        wording: wording.into(),
        example: mask_address(example),
        ..Answer::default()
    };
    Explanation {
        answers: vec![
            answer(
                61,
                "550 5.1.1",
                "The email account that you tried to reach does not exist",
                "ada.lovelace@gmail.com",
            ),
            answer(
                15,
                "550 5.5.0",
                "Requested action not taken: mailbox unavailable",
                "bob@outlook.com",
            ),
        ],
        per_minute: Some(500),
        hour_before: Some((25, 4_120)),
        unavailable: None,
    }
}

#[test]
fn hard_bounces_of_one_campaign() {
    let mut incident = incident(&bad_list());
    incident.people.acknowledged_by = Some("ada".into());
    let expected = "\
[PAGE] acme at SendGrid: hard bounces 16.4 % in 5 min (82 of 501 sent), limit 10 %, lower bound 11.4 %
Cause     campaign spring-sale: 80 of the 82 (gmail 61, outlook 15). Everything else of acme is at 0.525 % of 381.
Servers   61× 550 5.1.1 \"The email account that you tried to reach does not exist\"  ada…@gmail.com
          15× 550 5.5.0 \"Requested action not taken: mailbox unavailable\"  b…@outlook.com
Since     22:13:20 UTC (23:13 Berlin), 38 s ago; the hour before: 0.607 % of 4,120. Still sending, about 500 a minute.
Do        stop spring-sale at SendGrid now; then https://mail.example/runbooks/hard-bounces
Look      https://mail.example/incidents/INCIDENT  verify: mailpulse alerts verify EPISODE
Also      4 more alerts without pages of their own: sending domain news.acme.example, mailbox provider gmail, mailbox provider outlook; incident INCIDENT, notification 1, acknowledged by ada.";
    assert_eq!(text(&incident, Some(&explanation())), expected);
    assert_eq!(page(&incident, None, &settings()).one_line(), expected.lines().next().unwrap());
}

#[test]
fn the_cause_says_of_which_moment_it_is() {
    let mut incident = incident(&bad_list());
    let cause = incident.cause.as_mut().unwrap();
    (cause.numerator, cause.rest_numerator, cause.to) = (48, 1, cause.to - 30_000_000);
    let text = text(&incident, None);
    let line = "\nCause     campaign spring-sale: 48 of the 49 at 22:12:50 UTC. Everything else of acme is at 0.262 % of 381.\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn a_page_without_clickhouse_says_so() {
    let unavailable = Explanation::unavailable("ClickHouse did not answer within 800 ms");
    let text = text(&incident(&bad_list()), Some(&unavailable));
    assert!(
        text.contains("\nServers   not known: ClickHouse did not answer within 800 ms.\n"),
        "{text}"
    );
    assert!(text.contains(", 38 s ago.\n"), "{text}");
}

#[test]
fn blocks_at_several_sources() {
    let block = |number: usize| {
        let summary = format!(
            "s{number} at SendGrid, mailbox provider gmail: blocks 98 % in 15 min (490 of 500 sent), limit 10 %, lower bound 95.3 %"
        );
        summed_up(alert("blocks", mailbox(&format!("s{number}"), "gmail")), &summary)
    };
    let incident = incident(&(0..12).map(block).collect::<Vec<_>>());
    let expected = "\
[CRITICAL] 12 sources at gmail, such as s0 at SendGrid, mailbox provider gmail: blocks 98 % in 15 min (490 of 500 sent), limit 10 %, lower bound 95.3 %
Cause     the same at sendgrid/s0, sendgrid/s1, sendgrid/s10, sendgrid/s11, sendgrid/s2 and 7 more.
Since     22:13:20 UTC (23:13 Berlin), 38 s ago.
Do        slow down mail to gmail, do not retry by hand; then https://mail.example/runbooks/blocks
Look      https://mail.example/incidents/INCIDENT  verify: mailpulse alerts verify EPISODE
Also      11 more alerts without pages of their own: mailbox provider gmail; incident INCIDENT, notification 1.";
    assert_eq!(text(&incident, None), expected);
}

fn of(rule: &str, metric: Measure, family: Family, scope: Scope, summary: &str) -> Alert {
    Alert { metric, family, ..summed_up(alert(rule, scope), summary) }
}

#[test]
fn every_other_family_has_a_page() {
    let complaints = of(
        "complaints_arrival",
        Measure::Rate(Metric::Complaint),
        Family::Complaints,
        source("acme"),
        "acme at SendGrid: complaints 0.31 % in 24 h (31 of 10,000 accepted by providers that report complaints), limit 0.3 %, lower bound 0.2 %",
    );
    let engagement = of(
        "spam_foldering",
        Measure::Rate(Metric::Engagement),
        Family::Engagement,
        mailbox("acme", "outlook"),
        "mailbox provider outlook of acme at SendGrid: engagement 3.1 % of mail sent 2 to 26 h ago (62 of 2,000 accepted), limit 7 %, upper bound 4.6 %",
    );
    let silence = of(
        "silence",
        Measure::Share(Share::Gap),
        Family::Silence,
        source("acme"),
        "acme at SendGrid: no events for 12 min, expected 240",
    );
    let lists = of(
        "list_ignored",
        Measure::Share(Share::Suppressed),
        Family::ListQuality,
        source("acme"),
        "acme at SendGrid: suppressed 1.4 % in 24 h (140 of 10,000 injected or dropped), limit 1 %, lower bound 1.1 %",
    );
    for (alert, instructions) in [
        (
            complaints,
            "find and stop the newest campaign at SendGrid; then https://mail.example/runbooks/complaints-arrival",
        ),
        (
            engagement,
            "send a test to outlook and look into spam; then https://mail.example/runbooks/spam-foldering",
        ),
        (
            silence,
            "check that webhooks are switched on at SendGrid; then https://mail.example/runbooks/silence",
        ),
        (
            lists,
            "clean the list before the next send; then https://mail.example/runbooks/list-ignored",
        ),
    ] {
        let incident = incident(std::slice::from_ref(&alert));
        let expected = format!(
            "[CRITICAL] {}
Since     22:13:20 UTC (23:13 Berlin), 38 s ago.
Do        {instructions}
Look      https://mail.example/incidents/INCIDENT  verify: mailpulse alerts verify EPISODE
Also      incident INCIDENT, notification 1.",
            alert.summary
        );
        assert_eq!(text(&incident, None), expected);
    }
}

#[test]
fn ends_merges_digests_and_reminders() {
    let mut run = Run::new(IncidentSettings::default());
    let first = summed_up(alert("hard_bounces", source("acme")), "acme at SendGrid: hard bounces");
    run.receive(&first);
    run.pass(25 * HOUR);
    let reminder = text(run.last(), None);
    assert!(reminder.starts_with("[CRITICAL] Still open: acme at SendGrid"), "{reminder}");
    assert!(
        reminder.contains("Since     2023-11-14 22:13:20 UTC (23:13 Berlin), 25 h ago.\n"),
        "{reminder}"
    );
    run.receive(&resolved(&first));
    let mut ended = run.last().clone();
    let expected = "\
[RESOLVED] acme at SendGrid: hard bounces
Lasted    25 h from 2023-11-14 22:13:20 UTC (23:13 Berlin) to 23:13:20 UTC (2023-11-16 00:13 Berlin): recovered.
Look      https://mail.example/incidents/INCIDENT  verify: mailpulse alerts verify EPISODE
Also      incident INCIDENT, notification 3.";
    assert_eq!(text(&ended, None), expected);

    ended.reason = Some(ResolveReason::Closed);
    ended.people.closed_by = Some("ada".into());
    assert!(text(&ended, None).contains(": closed by ada.\n"));
    ended.merged_into = Some(IncidentId::try_from("00".repeat(16)).unwrap());
    let merged =
        format!("Merged    other sources have the same problem: see incident {}.", "00".repeat(16));
    assert!(text(&ended, None).contains(&merged));
    ended.change = Change::Digest;
    ended.held_back = [("hard_bounces".to_owned(), 7), ("blocks".to_owned(), 1)].into();
    let digest = text(&ended, None);
    assert!(digest.contains("[RESOLVED] Over before you were told: acme"), "{digest}");
    assert!(
        digest.contains("8 notifications of the last hour, by rule: blocks 1, hard_bounces 7."),
        "{digest}"
    );
}

#[test]
fn stale_incidents_and_zones() {
    let first = alert("hard_bounces", source("acme"));
    let stale = next(&first, AlertState::Stale, Severity::Critical);
    let incident = incident(&[first, stale]);
    assert!(text(&incident, None).contains("Too little mail since then to judge it."));
    let plain = page(&incident, None, &PageSettings::default()).text();
    assert!(plain.contains("\nSince     22:13:20 UTC, 38 s ago."), "{plain}");
    assert!(plain.contains("\nDo        find and stop the newest list at SendGrid.\n"), "{plain}");
    assert!(plain.contains("\nLook      verify: mailpulse alerts verify "), "{plain}");
}

#[test]
fn addresses_are_masked() {
    for (address, masked) in [
        ("ada.lovelace@gmail.com", "ada…@gmail.com"),
        ("adam@gmail.com", "ada…@gmail.com"),
        ("ada@gmail.com", "a…@gmail.com"),
        ("ä@gmail.com", "ä…@gmail.com"),
        ("\"a@b\"@gmail.com", "\"a@…@gmail.com"),
        ("no address", "no …"),
        ("@gmail.com", "…@gmail.com"),
        ("", "…"),
    ] {
        assert_eq!(mask_address(address), masked, "{address}");
    }
}

proptest! {
    /// Whatever senders write into names, and however long links are.
    #[test]
    fn a_page_has_at_most_1000_characters_and_no_line_of_its_own_for_names(
        name in "\\PC{0,300}|[\\x00-\\x1f\u{202e}]{0,9}",
        wording in "(?s).{0,400}",
        url in "https://[a-z/]{0,400}",
        severity in prop_oneof![Just(Severity::Warning), Just(Severity::Page)],
        sources in 1..5_usize,
    ) {
        let mut alerts = Vec::new();
        for number in 0..sources {
            let source_name = format!("{name}{number}");
            let first = summed_up(alert("blocks", source(&source_name)), &wording);
            alerts.push(with_severity(first, severity));
            alerts.push(with_counts(alert("blocks", mailbox(&source_name, &name)), 80, 120));
            alerts.push(with_counts(alert("blocks", campaign(&source_name, &wording)), 80, 110));
        }
        let incident = incident(&alerts);
        let answer = Answer {
            count: 61,
            status: wording.clone(),
            wording: wording.clone(),
            mailbox_provider: name.clone(),
            example: mask_address(&wording),
            class: name.clone(),
        };
        let explanation = Explanation { answers: vec![answer; 9], ..explanation() };
        let settings = PageSettings { dashboard_url: url.clone(), runbook_base: url, ..settings() };
        let page = page(&incident, Some(&explanation), &settings);
        let text = page.full_text();
        prop_assert!(text.chars().count() <= Page::MAX_CHARACTERS, "{}", text);
        prop_assert_eq!(text.lines().count(), page.lines.len() + 1);
        prop_assert!(!text.replace('\n', "").contains(char::is_control));
    }
}

use window::Scope;

use super::samples::*;
use super::*;
use crate::Change::{Digest, Escalated, Opened, Reminder, Resolved, Updated};
use crate::{Family, IncidentState, Severity};

pub(super) fn run() -> Run {
    Run::new(IncidentSettings::default())
}

#[test]
fn episodes_of_one_source_and_family_are_one_incident_with_a_cause() {
    let mut run = run();
    let whole = alert("hard_bounces", source("acme"));
    let spring = with_counts(alert("hard_bounces", campaign("acme", "spring")), 80, 300);
    let gmail = with_counts(alert("hard_bounces", mailbox("acme", "gmail")), 40, 250);
    for alert in [&gmail, &whole, &spring] {
        run.receive(alert);
    }
    assert_eq!(run.changes(), [Opened]);
    let last = run.last();
    assert_eq!((last.seq, last.page, last.change), (3, 1, Updated));
    assert_eq!(last.lead.scope, source("acme"), "the widest scope");
    assert_eq!((last.others.len(), last.episodes, last.open_episodes), (2, 3, 3));
    let cause = last.cause.as_ref().unwrap();
    assert_eq!(cause.scope, campaign("acme", "spring"));
    assert_eq!((cause.numerator, cause.rest_numerator, cause.rest_volume), (80, 2, 201));

    run.pass(HOUR);
    run.receive(&resolved(&whole));
    run.receive(&resolved(&gmail));
    assert_eq!(run.changes(), [Opened]);
    run.receive(&resolved(&spring));
    assert_eq!(run.changes(), [Opened, Resolved]);
    let last = run.last();
    assert_eq!(
        (last.state, last.reason),
        (IncidentState::Resolved, Some(ResolveReason::Recovered))
    );
    run.receive(&alert_again(&whole));
    assert_eq!(run.changes(), [Opened, Resolved, Opened], "another incident");
}

/// Returns the first alert of the next episode of the same rule and scope.
pub(super) fn alert_again(alert: &Alert) -> Alert {
    let as_of = [(0, alert.as_of.get(&0).copied().unwrap_or(0) + 1)].into();
    let episode_id = EpisodeId::of(&alert.rule, &alert.scope, &as_of);
    Alert { episode_id, as_of, seq: 1, ..alert.clone() }
}

#[test]
fn families_and_tenants_have_their_own_incidents() {
    let mut run = run();
    run.receive(&alert("hard_bounces", source("acme")));
    run.receive(&alert("complaints_arrival", source("acme")));
    run.receive(&alert("hard_bounces", Scope::Tenant { tenant: "acme".into() }));
    assert_eq!(run.changes(), [Opened; 3]);
    assert_eq!(run.state.open_incidents(), 3);
}

#[test]
fn a_block_under_forty_campaigns_is_one_notification() {
    let mut run = run();
    // Whichever comes first: the bounce rate counts blocks too.
    run.receive(&alert("bounce_rate", mailbox("acme", "gmail")));
    run.receive(&alert("blocks", mailbox("acme", "gmail")));
    run.receive(&alert("bounce_rate", source("acme")));
    for number in 0..40 {
        run.pass(SECOND);
        run.receive(&alert("bounce_rate", campaign("acme", &format!("c{number}"))));
    }
    assert_eq!(run.changes(), [Opened]);
    run.pass(MINUTE);
    let last = run.last();
    assert_eq!((last.episodes, last.family, last.others.len()), (43, Family::Blocks, 20));
    // A bad list is another incident.
    run.receive(&alert("hard_bounces", campaign("acme", "c3")));
    assert_eq!(run.changes(), [Opened, Opened]);
    assert_eq!(run.last().family, Family::Bounces);
}

fn block_at_sources(run: &mut Run, count: usize, between: i64) {
    for number in 0..count {
        let name = format!("s{number}");
        // The order in which the scopes of a source come differs.
        let mut alerts = vec![
            alert("bounce_rate", source(&name)),
            alert("blocks", mailbox(&name, "gmail")),
            alert("bounce_rate", mailbox(&name, "gmail")),
            alert("bounce_rate", campaign(&name, "spring")),
        ];
        alerts.rotate_left(number % 4);
        for alert in &alerts {
            run.receive(alert);
        }
        run.pass(between);
    }
}

#[test]
fn a_block_at_forty_sources_is_one_notification() {
    for between in [0, SECOND, 20 * SECOND, MINUTE - SECOND] {
        let mut run = run();
        block_at_sources(&mut run, 40, between);
        run.pass_slowly(HOUR, 10 * SECOND);
        assert_eq!(run.changes(), [Opened], "{between}");
        let last = run.last();
        let group = IncidentGroup::MailboxProvider { of: "gmail".into() };
        assert_eq!((&last.group, last.family), (&group, Family::Blocks));
        assert_eq!((last.source_count, last.episodes, run.state.open_incidents()), (40, 160, 1));
        // All of them end together.
        for number in 0..40 {
            let name = format!("s{number}");
            run.receive(&resolved(&alert("bounce_rate", source(&name))));
            run.receive(&resolved(&alert("blocks", mailbox(&name, "gmail"))));
            run.receive(&resolved(&alert("bounce_rate", mailbox(&name, "gmail"))));
            run.receive(&resolved(&alert("bounce_rate", campaign(&name, "spring"))));
        }
        assert_eq!(run.changes(), [Opened, Resolved]);
        assert_eq!(run.state.open_episodes(), 0);
    }
}

#[test]
fn two_sources_are_two_incidents_and_the_second_one_waits() {
    let mut run = run();
    block_at_sources(&mut run, 2, SECOND);
    assert_eq!(run.changes(), [Opened]);
    run.pass(run.settings.join_wait - SECOND);
    assert_eq!(run.changes(), [Opened, Opened]);
    // The third one makes it one incident. People are told that the second one is part of it.
    let third = alert("blocks", mailbox("s2", "gmail"));
    run.receive(&third);
    assert_eq!(run.changes(), [Opened, Opened, Resolved]);
    let notified = run.notifications();
    assert_eq!(notified[2].id, notified[1].id);
    assert_eq!(notified[2].merged_into, Some(notified[0].id));
    assert_eq!(run.last().id, notified[0].id);
    assert_eq!(run.last().source_count, 3);
}

#[test]
fn the_second_source_waits_for_the_alerts_of_the_slowest_shard() {
    let mut run = run();
    run.clock(0, START, BTreeMap::new());
    run.clock(1, START, BTreeMap::new());
    block_at_sources(&mut run, 2, 0);
    // Shard 0 is ahead. Shard 1 has not judged the mail of this time yet.
    run.clock(0, START + 10 * MINUTE, BTreeMap::new());
    assert_eq!(run.changes(), [Opened]);
    run.restart();
    run.clock(0, START + 11 * MINUTE, BTreeMap::new());
    assert_eq!((run.changes(), run.state.now()), (vec![Opened], START));
    run.receive(&alert("blocks", mailbox("s2", "gmail")));
    run.clock(1, START + 10 * MINUTE, BTreeMap::new());
    assert_eq!(run.changes(), [Opened], "three sources are one incident");
    assert_eq!((run.state.now(), run.last().source_count), (START + 10 * MINUTE, 3));
}

#[test]
fn a_shard_that_stands_still_holds_nothing_up_for_long() {
    let mut run = run();
    run.clock(0, START, BTreeMap::new());
    run.clock(1, START, BTreeMap::new());
    block_at_sources(&mut run, 2, 0);
    run.clock(0, START + 15 * MINUTE, BTreeMap::new());
    assert_eq!(run.changes(), [Opened]);
    run.clock(0, START + 15 * MINUTE + run.settings.join_wait, BTreeMap::new());
    assert_eq!(run.changes(), [Opened, Opened]);
}

#[test]
fn the_clock_of_a_shard_does_not_go_back_and_a_shard_that_is_gone_is_forgotten() {
    let mut run = run();
    for shard in [0, 1] {
        run.clock(shard, START + 10 * MINUTE, BTreeMap::new());
    }
    run.clock(1, START, BTreeMap::new());
    run.restart();
    run.clock(0, START + 12 * MINUTE, BTreeMap::new());
    assert_eq!(run.state.now(), START + 10 * MINUTE);
    run.state.keep_shards(1);
    run.clock(0, START + 13 * MINUTE, BTreeMap::new());
    run.restart();
    assert_eq!(run.state.now(), START + 13 * MINUTE);
    run.clock(0, START + 14 * MINUTE, BTreeMap::new());
    assert_eq!(run.state.now(), START + 14 * MINUTE);
}

#[test]
fn a_slow_shard_holds_a_page_up_for_30_seconds() {
    let mut run = run();
    let page = |name| with_severity(alert("hard_bounces", source(name)), Severity::Page);
    run.clock(0, START, BTreeMap::new());
    run.clock(1, START, BTreeMap::new());
    run.receive(&page("s0"));
    run.receive(&page("s1"));
    run.restart();
    run.clock(0, START + 20 * SECOND, BTreeMap::new());
    assert_eq!(run.changes(), [Opened]);
    run.clock(0, START + 30 * SECOND, BTreeMap::new());
    assert_eq!(run.changes(), [Opened, Opened]);
    assert_eq!((run.state.now(), run.last().at), (START, START + 30 * SECOND));
}

#[test]
fn the_cause_is_known_from_earlier_alerts_also_after_a_restart() {
    let mut run = run();
    let at = |seq: u32, second: i64, scope: &Scope, numerator, volume| {
        let to = START + second * SECOND;
        let counts = with_counts(alert("hard_bounces", scope.clone()), numerator, volume);
        Alert { seq, width: "1m".to_owned(), from: to - MINUTE, to, ..counts }
    };
    let (acme, spring) = (source("acme"), campaign("acme", "spring"));
    run.receive(&at(1, 30, &acme, 48, 303));
    run.receive(&at(1, 30, &spring, 48, 291));
    run.restart();
    run.receive(&at(2, 60, &acme, 57, 307));
    let cause = run.last().cause.as_ref().unwrap();
    assert_eq!((&cause.scope, cause.to), (&spring, START + 30 * SECOND));
}

#[test]
fn a_page_waits_for_two_seconds_only() {
    let mut run = run();
    let page = |name| with_severity(alert("hard_bounces", source(name)), Severity::Page);
    run.receive(&page("s0"));
    run.receive(&page("s1"));
    assert_eq!(run.changes(), [Opened]);
    run.pass(2 * SECOND);
    assert_eq!(run.changes(), [Opened, Opened]);
    // While it waits as critical, it becomes a page.
    run.receive(&alert("hard_bounces", source("s2")));
    run.receive(&next(&alert("hard_bounces", source("s2")), AlertState::Firing, Severity::Page));
    run.pass(SECOND);
    assert_eq!(run.changes(), [Opened, Opened]);
    run.pass(SECOND);
    // The third source of one ESP: it is the incident of the ESP.
    assert_eq!(run.changes(), [Opened, Opened, Resolved]);
    assert_eq!(run.last().group, IncidentGroup::Provider { of: "sendgrid".into() });
}

#[test]
fn bad_lists_at_three_sources_are_not_an_incident_of_the_esp_if_it_has_many_sources() {
    let mut run = run();
    run.clock(0, START, [(Provider::SendGrid, 100)].into());
    run.clock(1, START, [(Provider::SendGrid, 100)].into());
    for name in ["s0", "s1", "s2"] {
        run.receive(&alert("hard_bounces", source(name)));
        // The list has mostly addresses at Gmail, but the campaign is the cause.
        run.receive(&with_counts(alert("hard_bounces", mailbox(name, "gmail")), 60, 400));
    }
    run.pass(run.settings.join_wait);
    assert_eq!(run.changes(), [Opened; 3]);
}

#[test]
fn all_sources_of_several_esps_are_our_incident() {
    let mut run = run();
    run.clock(0, START, [(Provider::SendGrid, 3), (Provider::Ses, 1)].into());
    let silent = |scope| Alert { family: Family::Silence, ..alert("silence", scope) };
    let ses = Scope::Source { provider: Provider::Ses, source: "s3".into() };
    for scope in [source("s0"), source("s1"), ses, source("s2")] {
        run.receive(&silent(scope));
        run.pass(SECOND);
    }
    run.pass(run.settings.join_wait);
    assert_eq!(run.changes(), [Opened]);
    assert_eq!((run.last().group.clone(), run.last().source_count), (IncidentGroup::Ours, 4));
}

#[test]
fn higher_severities_are_told_at_once_and_reminders_when_they_are_due() {
    let mut run = run();
    let first = with_severity(alert("hard_bounces", source("acme")), Severity::Warning);
    run.receive(&first);
    let critical = next(&first, AlertState::Firing, Severity::Critical);
    run.receive(&critical);
    run.receive(&critical);
    assert_eq!(run.changes(), [Opened, Escalated]);
    run.pass_slowly(25 * HOUR, MINUTE);
    assert_eq!(run.changes(), [Opened, Escalated, Reminder]);
    let page = next(&critical, AlertState::Stale, Severity::Page);
    run.receive(&page);
    assert_eq!(run.last().state, IncidentState::Stale);
    run.pass_slowly(9 * HOUR, MINUTE);
    assert_eq!(run.changes()[3..], [Escalated, Reminder, Reminder]);
    let own = Alert { remind: Some(HOUR), seq: 5, ..page.clone() };
    run.receive(&own);
    run.pass_slowly(90 * MINUTE, MINUTE);
    assert_eq!(run.changes()[6..], [Reminder, Reminder]);
}

#[test]
fn a_flapping_source_has_six_notifications_an_hour_and_a_digest() {
    let mut run = run();
    let mut flapping = alert("hard_bounces", source("acme"));
    for _ in 0..10 {
        flapping = alert_again(&flapping);
        run.receive(&flapping);
        run.pass(MINUTE);
        run.receive(&resolved(&flapping));
        run.pass(MINUTE);
    }
    assert_eq!(run.changes(), [Opened, Resolved].repeat(3));
    run.pass_slowly(2 * HOUR, MINUTE);
    assert_eq!(run.changes()[6..], [Digest]);
    let digest = run.notifications()[6];
    assert_eq!(digest.state, IncidentState::Resolved);
    assert_eq!(digest.held_back["hard_bounces"], 7, "incidents of which nobody was told");
    assert_eq!(digest.at, run.notifications()[0].at + HOUR);

    // An incident that is worse is told in spite of the limit.
    let mut run = self::run();
    for _ in 0..4 {
        flapping = alert_again(&flapping);
        run.receive(&flapping);
        run.receive(&resolved(&flapping));
    }
    assert_eq!(run.changes().len(), 6);
    let worse = with_severity(alert_again(&flapping), Severity::Page);
    run.receive(&worse);
    assert_eq!(run.changes()[6..], [Opened]);
}

#[test]
fn an_end_that_was_held_back_is_told_later_and_a_new_episode_cancels_it() {
    let mut run = run();
    let lasting = alert("complaints_arrival", source("acme"));
    run.receive(&lasting);
    let mut flapping = alert("hard_bounces", source("acme"));
    for _ in 0..3 {
        flapping = alert_again(&flapping);
        run.receive(&flapping);
        run.receive(&resolved(&flapping));
    }
    assert_eq!(run.changes().len(), 6);
    run.receive(&resolved(&lasting));
    run.receive(&alert_again(&lasting));
    run.receive(&resolved(&alert_again(&lasting)));
    assert_eq!(run.changes().len(), 6);
    run.pass(HOUR);
    let changes = run.changes();
    assert_eq!(changes.iter().filter(|change| **change == Resolved).count(), 4, "{changes:?}");
    let ends = run.notifications().into_iter().filter(|end| end.change == Resolved);
    assert_eq!(ends.filter(|end| end.family == Family::Complaints).count(), 1);
}

#[test]
fn a_source_that_has_recovered_is_no_longer_part_of_a_joined_incident() {
    let mut run = run();
    let blocks = ["s0", "s1", "s2"].map(|name| alert("blocks", mailbox(name, "gmail")));
    for block in &blocks {
        run.receive(block);
    }
    run.receive(&resolved(&blocks[2]));
    assert_eq!(run.last().sources, ["sendgrid/s0", "sendgrid/s1"]);
    run.receive(&alert("blocks", mailbox("s2", "yahoo")));
    run.pass(run.settings.join_wait);
    assert_eq!((run.changes(), run.state.open_incidents()), (vec![Opened, Opened], 2));
    run.receive(&alert_again(&blocks[2]));
    assert_eq!(run.last().group, IncidentGroup::MailboxProvider { of: "gmail".into() });
}

/// Lets a source use up its notifications of the hour.
fn use_up_limit(run: &mut Run, of: Scope) {
    let mut flapping = alert("hard_bounces", of);
    for _ in 0..3 {
        flapping = alert_again(&flapping);
        run.receive(&flapping);
        run.receive(&resolved(&flapping));
    }
    assert_eq!(run.changes(), [Opened, Resolved].repeat(3));
}

#[test]
fn one_digest_sums_up_all_incidents_that_were_held_back() {
    let mut run = run();
    use_up_limit(&mut run, source("acme"));
    let mild = with_severity(alert("complaints_arrival", source("acme")), Severity::Warning);
    run.receive(&mild);
    run.receive(&alert("blocks", mailbox("acme", "gmail")));
    assert_eq!(run.changes().len(), 6);
    run.pass_slowly(2 * HOUR, MINUTE);
    assert_eq!(run.changes()[6..], [Digest]);
    let digest = run.notifications()[6];
    assert_eq!((digest.family, digest.page), (Family::Blocks, 1), "the most severe one");
    let held_back = [("blocks".to_owned(), 1), ("complaints_arrival".to_owned(), 1)];
    assert_eq!(digest.held_back, held_back.into());
    run.pass_slowly(24 * HOUR, 10 * MINUTE);
    assert_eq!(run.changes()[7..], [Reminder, Reminder]);
}

#[test]
fn what_was_held_back_for_a_source_does_not_follow_its_incident_to_a_mailbox_provider() {
    let mut run = run();
    use_up_limit(&mut run, source("s0"));
    for name in ["s0", "s1", "s2"] {
        run.receive(&alert("blocks", mailbox(name, "gmail")));
        run.pass(SECOND);
    }
    run.pass_slowly(2 * HOUR, MINUTE);
    assert_eq!(run.changes()[6..], [Opened], "the limit of the mailbox provider allows it");
    assert_eq!(run.last().source_count, 3);
    assert!(run.state.limits.is_empty());
}

#[test]
fn a_block_that_only_general_measures_show_at_some_sources_is_one_notification() {
    let mut run = run();
    run.receive(&alert("blocks", mailbox("s0", "gmail")));
    for name in ["s1", "s2"] {
        run.receive(&alert("bounce_rate", source(name)));
        run.receive(&alert("bounce_rate", mailbox(name, "gmail")));
    }
    assert_eq!(run.state.open_incidents(), 3, "it may still be a bad list");
    run.pass(run.settings.join_wait);
    assert_eq!((run.changes(), run.state.open_incidents()), (vec![Opened], 1));
    assert_eq!((run.last().family, run.last().source_count), (Family::Blocks, 3));
}

#[test]
fn everything_is_bounded() {
    let settings = IncidentSettings {
        max_open: 3,
        max_ended: 2,
        max_episodes: 4,
        max_all_episodes: 60,
        join_sources: 0,
        ..IncidentSettings::default()
    };
    let mut run = Run::new(settings);
    for number in 0..10 {
        run.receive(&alert("hard_bounces", source(&format!("s{number}"))));
    }
    assert_eq!(run.state.open_incidents(), 4);
    assert_eq!(run.last().group, IncidentGroup::Ours);
    for number in 0..50 {
        run.receive(&with_counts(
            alert("hard_bounces", campaign("s0", &number.to_string())),
            50,
            99,
        ));
    }
    let of_s0 = run.records.iter().rev().find(|record| record.sources == ["sendgrid/s0"]).unwrap();
    assert_eq!((of_s0.episodes, of_s0.open_episodes, of_s0.others.len()), (51, 51, 3));
    let further = alert("blocks", source("s1"));
    let mut out = Vec::new();
    let received = run.state.receive(&further, run.now, &run.settings, &mut out);
    assert_eq!((received, out.len()), (Received::TooMany, 0));
    // The episodes whose alerts are not kept end as the others do.
    run.restart();
    for number in 0..50 {
        run.receive(&resolved(&alert("hard_bounces", campaign("s0", &number.to_string()))));
    }
    for number in 0..10 {
        run.receive(&resolved(&alert("hard_bounces", source(&format!("s{number}")))));
    }
    assert_eq!((run.state.open_incidents(), run.state.open_episodes()), (0, 0));
    assert_eq!(run.changelog.keys().filter(|key| key.starts_with("incident/")).count(), 2);
}

/// The changelogs of running installations contain this form.
#[test]
fn the_keys_of_the_changelog_do_not_change() {
    let mut run = run();
    run.receive(&alert("hard_bounces", source("acme")));
    let id = run.last().id;
    let kinds: Vec<_> =
        run.changelog.keys().map(|key| key.replace(&id.to_string(), "ID")).collect();
    let episode = format!("episode/{}", String::from(run.last().lead.episode_id));
    assert_eq!(kinds, ["clock", &episode, "group/source/sendgrid/acme", "incident/ID"]);
    let mut restore = IncidentsRestore::default();
    assert!(restore.apply(b"incidents/x", Some(b"{}")).is_err());
    assert!(restore.apply(b"clock", Some(b"[]x")).is_err());
}

use event::Counter::{Complained, DeliveredFbl, Engaged, Opened};

use super::*;
use crate::RuleSet;
use crate::rule::Facts;

pub(super) const HOUR: i64 = 60 * MINUTE;

/// Monday, 2026-01-05, 00:00 UTC.
pub(super) const MONDAY: i64 = 1_767_571_200_000_000;

fn defaults(scope: &Scope) -> Vec<RuleInForce> {
    RuleSet::defaults().for_scope(scope, Facts::default())
}

pub(super) fn only(name: &str, scope: &Scope) -> Run {
    let mut rules = defaults(scope);
    rules.retain(|rule| rule.name == name);
    assert_eq!(rules.len(), 1, "{name}");
    Run { scope: scope.clone(), ..Run::new(rules) }
}

/// The windows of all widths, with the same counts.
fn all_windows(end: i64, bounced: i64, sent: i64) -> Sample {
    let windows = Width::JUDGED.into_iter();
    windows.fold(Sample::at(end), |sample, width| sample.with(width, bounced, sent))
}

fn five_minutes(minutes: i64, bounced: i64) -> Sample {
    Sample::at(MONDAY + minutes * MINUTE).with(Width::M5, bounced, 1000)
}

#[test]
fn a_page_has_the_documented_summary_and_numbers() {
    let mut run = only("hard_bounces", &scope());
    run.judge(&Sample::at(MONDAY).with(Width::M5, 82, 501).with(Width::M60, 90, 4500));
    let [alert] = run.alerts.as_slice() else { panic!("{:?}", run.alerts) };
    assert_eq!(
        alert.summary,
        "acme at SendGrid: hard bounces 16.4 % in 5 min (82 of 501 sent), limit 10 %, lower bound 11.4 %"
    );
    assert_eq!((alert.severity, alert.state, alert.seq), (Severity::Page, AlertState::Firing, 1));
    assert_eq!((alert.numerator, alert.volume, alert.threshold), (82, 501, 0.1));
    let by_window = [("5m".to_owned(), (82, 501)), ("60m".to_owned(), (90, 4500))];
    assert_eq!(alert.by_window, BTreeMap::from(by_window));
    assert_eq!((alert.from, alert.to, alert.width.as_str()), (MONDAY - 5 * MINUTE, MONDAY, "5m"));
    assert_eq!(alert.as_of, BTreeMap::from([(0, 1)]));
    assert_eq!(alert.episode_id, EpisodeId::of("hard_bounces", &scope(), &alert.as_of));
    assert_eq!(alert.remind, Some(4 * HOUR));
}

#[test]
fn a_healthy_scope_opens_nothing_and_costs_no_state() {
    let mut run = Run::new(defaults(&scope()));
    // 3 % is above the warning of hard_bounces, but not evidently so in 1,000 mails.
    let cohort = mail(3, 1000) + Counts::of([(Opened, 200), (Engaged, 220)]);
    run.judge(&Sample { cohort, ..all_windows(MONDAY, 30, 1000) });
    assert!(run.episodes.is_empty() && run.alerts.is_empty(), "{:?}", run.alerts);
}

#[test]
fn a_tiny_campaign_with_one_bounce_of_five_is_no_alert() {
    for scope in [scope(), campaign()] {
        let mut run = Run { scope: scope.clone(), ..Run::new(defaults(&scope)) };
        let tiny = Sample { campaign: Some((MONDAY, mail(1, 5))), ..all_windows(MONDAY, 1, 5) };
        run.judge(&tiny);
        run.pass(MONDAY + HOUR, &tiny);
        assert!(run.alerts.is_empty(), "{:?}", run.alerts);
    }
}

#[test]
fn few_messages_are_at_most_a_warning() {
    let mut run = only("hard_bounces", &scope());
    let few = all_windows(MONDAY, 25, 50);
    run.judge(&few);
    run.pass(MONDAY + MINUTE, &few);
    let [alert] = run.alerts.as_slice() else { panic!("{:?}", run.alerts) };
    assert_eq!((alert.severity, alert.at), (Severity::Warning, MONDAY + MINUTE));
    assert_eq!(alert.width, "60m", "the shortest window in which few messages are enough");
}

#[test]
fn severity_rises_at_once_and_never_falls() {
    let mut run = only("hard_bounces", &scope());
    for (minutes, bounced) in [(0, 60), (1, 60), (2, 200), (3, 60), (4, 200), (5, 60)] {
        run.judge(&five_minutes(minutes, bounced));
    }
    let severities: Vec<_> = run.transitions().iter().map(|it| (it.0 - MONDAY, it.2)).collect();
    assert_eq!(severities, [(MINUTE, Severity::Warning), (2 * MINUTE, Severity::Page)]);
}

#[test]
fn a_burst_followed_by_silence_becomes_stale_and_ends_and_does_not_come_again() {
    let mut run = only("hard_bounces", &scope());
    // The window of a day has the bounces all the time.
    let day = |end| Sample::at(end).with(Width::H24, 82, 501);
    run.judge(&day(MONDAY).with(Width::M5, 82, 501));
    let empty = day(MONDAY + 5 * MINUTE).with(Width::M5, 0, 0);
    run.advance(MONDAY + 5 * MINUTE, &empty);
    run.pass(MONDAY + 3 * HOUR, &empty);
    let stale = MONDAY + 20 * MINUTE;
    assert_eq!(
        run.alerts[1].summary,
        "acme at SendGrid: no mail since 00:00 UTC, last seen hard bounces 16.4 % in 5 min (82 of 501 sent)"
    );
    assert_eq!(
        run.transitions(),
        [
            (MONDAY, AlertState::Firing, Severity::Page, None),
            (stale, AlertState::Stale, Severity::Page, None),
            (stale + HOUR, AlertState::Resolved, Severity::Page, Some(ResolveReason::NoTraffic)),
        ]
    );
    // A mail comes: the day is as bad as before, but because of the old mail.
    let one = day(MONDAY + 4 * HOUR).with(Width::M5, 0, 1);
    run.judge(&one);
    run.pass(MONDAY + 5 * HOUR, &one);
    assert_eq!(run.transitions(), []);
    // New bounces are a new episode.
    run.judge(&day(MONDAY + 6 * HOUR).with(Width::M5, 90, 500));
    assert_eq!(run.transitions().len(), 1);
    // Later nothing is kept.
    let good = Sample::at(MONDAY + 40 * HOUR).with(Width::M5, 0, 1000);
    run.judge(&good);
    run.pass(MONDAY + 60 * HOUR, &good);
    assert!(run.episodes.is_empty());
}

#[test]
fn what_was_due_before_new_counts_happens_first() {
    let mut run = only("hard_bounces", &scope());
    run.judge(&five_minutes(0, 200));
    run.judge(&five_minutes(1, 1));
    // Nobody has called `advance` meanwhile.
    run.judge(&five_minutes(60, 200));
    let ids: Vec<_> = run.alerts.iter().map(|alert| alert.episode_id).collect();
    assert_eq!(
        run.transitions(),
        [
            (MONDAY, AlertState::Firing, Severity::Page, None),
            (
                MONDAY + 31 * MINUTE,
                AlertState::Resolved,
                Severity::Page,
                Some(ResolveReason::Recovered)
            ),
            (MONDAY + 60 * MINUTE, AlertState::Firing, Severity::Page, None),
        ]
    );
    assert!(ids[0] == ids[1] && ids[1] != ids[2]);
}

/// Returns evidence at minute 5 with what is then known about the minutes before; all are warnings, unless they are
/// good.
fn known_at_five(good: &[i64]) -> Sample {
    let bounced = |minute| if good.contains(&minute) { 1 } else { 60 };
    let earlier = (0..5).map(|minute| five_minutes(minute, bounced(minute))).collect();
    Sample { earlier, ..five_minutes(5, 60) }
}

/// Each commit has the bounces of the minute before: the rule seems to be good.
#[test]
fn hold_counts_from_the_first_end_that_is_broken_by_what_is_known_now() {
    for (good, at) in [(&[][..], 1), (&[0, 1], 3), (&[3], 5), (&[4], 6)] {
        let mut run = only("hard_bounces", &scope());
        let sample = known_at_five(good);
        run.judge(&sample);
        run.pass(MONDAY + 7 * MINUTE, &Sample { earlier: Vec::new(), ..sample });
        let fired: Vec<_> = run.transitions().iter().map(|it| (it.0 - MONDAY) / MINUTE).collect();
        assert_eq!(fired, [at], "good: {good:?}");
    }
}

#[test]
fn a_pending_episode_begins_anew_if_it_is_judged_at_an_earlier_end() {
    let mut run = only("hard_bounces", &scope());
    run.judge(&five_minutes(5, 60));
    for minute in 3..=5 {
        run.judge(&five_minutes(minute, 60));
    }
    let fired: Vec<_> = run.transitions().iter().map(|it| (it.0 - MONDAY) / MINUTE).collect();
    assert_eq!(fired, [4]);
}

/// Every commit also has an event of an earlier pane. Cohorts are not looked back at, and neither are rules that hold for
/// longer than the look-back reaches.
#[test]
fn late_events_do_not_begin_anew_what_is_not_looked_back_at() {
    let long = rule(
        "name = 'long'\nmetric = 'hard_bounce'\nwindows = ['5m']\nwarning = 0.02\n\
         hold = { warning = '11m' }",
    );
    let cohort = mail(0, 10_000) + Counts::of([(Complained, 20), (DeliveredFbl, 10_000)]);
    for (mut run, fired_at) in
        [(only("complaints_cohort", &scope()), 1), (Run::new(vec![long]), 11)]
    {
        for step in 0..72 {
            for late in [2, 0] {
                let end = MONDAY + (step - late) * 10 * SECOND;
                run.judge(&Sample { cohort, ..Sample::at(end) }.with(Width::M5, 60, 1000));
            }
        }
        let [alert, ..] = run.alerts.as_slice() else { panic!("{:?}", run.episodes) };
        // The first end is 20 s before.
        assert_eq!(alert.at - MONDAY, fired_at * MINUTE - 20 * SECOND, "{}", alert.rule);
    }
}

/// The next episode begins after the end of the one before, also if its windows were broken sooner.
#[test]
fn episodes_of_a_rule_do_not_overlap() {
    let rule = || {
        rule(
            "name = 'short'\nmetric = 'hard_bounce'\nwindows = ['5m']\nwarning = 0.02\n\
             hold = { warning = '1m' }\nresolve = { for = '2m' }",
        )
    };
    let bad_since = |from: i64, to: i64| {
        let earlier = (from..to).map(|minute| five_minutes(minute, 60)).collect();
        Sample { earlier, ..five_minutes(to, 60) }
    };
    let mut run = Run::new(vec![rule()]);
    run.judge(&five_minutes(0, 60));
    run.pass(MONDAY + MINUTE, &five_minutes(1, 60));
    run.judge(&five_minutes(2, 1));
    run.pass(MONDAY + 4 * MINUTE, &five_minutes(4, 1));
    run.restart();
    run.judge(&bad_since(0, 6));
    let at = |run: &mut Run| -> Vec<_> {
        run.transitions().iter().map(|it| ((it.0 - MONDAY) / MINUTE, it.1)).collect()
    };
    let expected = [(1, AlertState::Firing), (4, AlertState::Resolved), (6, AlertState::Firing)];
    let id = run.alerts[2].episode_id;
    assert_eq!(at(&mut run), expected);

    // A person closes the second one at minute 7. The first window that begins later ends at minute 12.
    let Run { scope, rules, episodes, alerts, .. } = &mut run;
    assert!(episodes.close(&id, scope, rules, MONDAY + 7 * MINUTE, alerts));
    run.pass(MONDAY + 12 * MINUTE, &five_minutes(12, 1));
    run.judge(&bad_since(5, 15));
    assert_eq!(at(&mut run), [(7, AlertState::Resolved), (13, AlertState::Firing)]);
    for hours in [1, 2, 4, 6] {
        run.pass(MONDAY + hours * HOUR, &Sample::at(MONDAY + hours * HOUR));
    }
    assert!(run.episodes.is_empty(), "{:?}", run.episodes);
}

#[test]
fn windows_of_an_episode_that_a_person_has_closed_are_not_looked_back_at() {
    let mut run = only("hard_bounces", &scope());
    run.judge(&Sample { earlier: Vec::new(), ..known_at_five(&[]) });
    run.pass(MONDAY + 6 * MINUTE, &five_minutes(6, 60));
    let id = run.alerts[0].episode_id;
    let Run { scope, rules, episodes, alerts, .. } = &mut run;
    assert!(episodes.close(&id, scope, rules, MONDAY + 6 * MINUTE, alerts));
    // The first window that begins after the end is that of minute 11.
    let earlier = (7..13).map(|minute| five_minutes(minute, 60)).collect();
    run.judge(&Sample { earlier, ..five_minutes(13, 60) });
    let fired: Vec<_> = run.transitions().iter().map(|it| (it.0 - MONDAY) / MINUTE).collect();
    assert_eq!(fired, [6, 6, 12]);
}

#[test]
fn a_closed_episode_does_not_open_again_by_the_same_windows() {
    let mut run = only("hard_bounces", &scope());
    run.judge(&five_minutes(0, 200));
    let id = run.alerts[0].episode_id;
    let Run { rules, episodes, alerts, .. } = &mut run;
    assert!(episodes.close(&id, &scope(), rules, MONDAY + MINUTE, alerts));
    assert!(!episodes.close(&id, &scope(), rules, MONDAY + MINUTE, alerts));
    assert_eq!(run.alerts[1].reason, Some(ResolveReason::Closed));
    run.judge(&five_minutes(2, 200));
    run.judge(&five_minutes(5, 200));
    assert_eq!(run.alerts.len(), 2);
    run.judge(&five_minutes(6, 200));
    assert_eq!(run.alerts.len(), 3, "the window begins at the closing");
    assert_ne!(run.alerts[2].episode_id, id);
}

#[test]
fn an_episode_ends_when_its_rule_is_removed() {
    let mut run = only("hard_bounces", &scope());
    run.judge(&five_minutes(0, 200));
    run.rules.clear();
    assert_eq!(run.episodes.due(&run.rules), Some(i64::MIN));
    run.advance(MONDAY, &five_minutes(0, 200));
    assert_eq!(run.alerts[1].reason, Some(ResolveReason::RuleRemoved));
    assert_eq!(
        run.alerts[1].summary,
        "acme at SendGrid: ended because the rule was removed, last seen hard bounces 20 % in 5 min \
         (200 of 1,000 sent)"
    );
    assert!(run.episodes.is_empty());
}

#[test]
fn nothing_changes_while_kinds_are_not_aligned_or_rates_unknown() {
    for (aligned, rates_known) in [(false, true), (true, false)] {
        let mut run = only("hard_bounces", &scope());
        let bad = Sample { aligned, rates_known, ..all_windows(MONDAY, 500, 1000) };
        run.judge(&bad);
        run.pass(MONDAY + HOUR, &bad);
        assert!(run.episodes.is_empty() && run.alerts.is_empty());
        // An open episode stays open.
        run.judge(&all_windows(MONDAY + HOUR, 500, 1000));
        let good = Sample { aligned, rates_known, ..all_windows(MONDAY + HOUR, 0, 1000) };
        run.judge(&good);
        run.pass(MONDAY + 9 * HOUR, &good);
        assert_eq!(run.transitions().len(), 1);
    }
}

/// The changelogs of running installations contain this form.
#[test]
fn an_episode_of_an_earlier_release_is_read_and_ends_under_its_id() {
    let json = r##"{"bounce_rate":{"severity":"critical","started_at":10,"reading":{"width":"5m","part":15,"volume":200},"held_at":50000000,"metric":"bounce","threshold":0.05,"runbook":"docs/runbooks.md#bounce-rate"}}"##;
    let mut run = only("bounce_rate", &scope());
    run.episodes = serde_json::from_str(json).unwrap();
    let good = all_windows(MONDAY, 1, 1000);
    run.judge(&good);
    run.restart();
    run.pass(MONDAY + HOUR, &good);
    let [alert] = run.alerts.as_slice() else { panic!("{:?}", run.alerts) };
    assert_eq!((alert.state, alert.severity), (AlertState::Resolved, Severity::Critical));
    assert_eq!((alert.at, alert.reason), (MONDAY + 30 * MINUTE, Some(ResolveReason::Recovered)));
    let old = EpisodeId::of_first_release("bounce_rate", &scope(), 10);
    assert_eq!((alert.episode_id, alert.started_at), (old, 10));

    // The rule is gone after the upgrade.
    let mut run = Run::new(Vec::new());
    run.episodes = serde_json::from_str(json).unwrap();
    run.advance(MONDAY, &good);
    assert_eq!(run.alerts[0].reason, Some(ResolveReason::RuleRemoved));
    assert_eq!(run.alerts[0].runbook, "docs/runbooks.md#bounce-rate");
}

/// The id of an episode of the first release, as its alerts have it, must never change.
#[test]
fn ids_of_the_first_release_are_the_same() {
    let scope = Scope::Source { provider: Provider::Ses, source: "acme".into() };
    let id = EpisodeId::of_first_release("bounce_rate", &scope, 10);
    assert_eq!(id.to_string(), "6d9631a182317e6f632723979c6bbf76");
}

fn campaign() -> Scope {
    let (provider, source) = (Provider::SendGrid, "acme".to_owned());
    Scope::Campaign { provider, source, campaign: "spring-sale".to_owned() }
}

#[test]
fn a_campaign_that_has_just_begun_has_no_alarm_for_low_engagement() {
    let mut rules = defaults(&campaign());
    rules.retain(|rule| rule.name.starts_with("low_"));
    let mut run = Run { scope: campaign(), ..Run::new(rules) };
    run.judge(&Sample { campaign: Some((MONDAY, mail(0, 467))), ..all_windows(MONDAY, 0, 467) });
    assert!(run.episodes.is_empty());
    // A day later, only 1 % of the mail was opened.
    let cohort = mail(0, 20_000) + Counts::of([(Opened, 200), (Engaged, 200)]);
    let old = Sample { cohort, ..Sample::at(MONDAY + 30 * HOUR) };
    run.judge(&old);
    run.pass(MONDAY + 30 * HOUR + MINUTE, &old);
    let summaries: Vec<_> = run.alerts.iter().map(|it| it.summary.as_str()).collect();
    assert_eq!(
        summaries,
        [
            "campaign spring-sale of acme at SendGrid: engagement 1 % of mail sent 24 to 48 h ago \
             (200 of 20,000 accepted), limit 7.5 %, upper bound 1.3 %",
            "campaign spring-sale of acme at SendGrid: opens 1 % of mail sent 24 to 48 h ago \
             (200 of 20,000 accepted), limit 5 %, upper bound 1.3 %",
        ]
    );
    assert_eq!((run.alerts[0].to, run.alerts[0].from), (MONDAY + 6 * HOUR, MONDAY - 18 * HOUR));
}

#[test]
fn a_bad_campaign_stops_early() {
    let sample = |bounced, sent, last_minute| Sample {
        campaign: Some((MONDAY - HOUR, mail(bounced, sent))),
        ..Sample::at(MONDAY).with(Width::M1, bounced, last_minute)
    };
    let mut run = only("campaign_early_stop", &campaign());
    run.judge(&sample(12, 500, 50));
    assert!(run.alerts.is_empty());
    run.judge(&sample(14, 120, 50));
    assert_eq!((run.alerts[0].severity, run.alerts[0].from), (Severity::Warning, MONDAY - HOUR));
    let summary = &run.alerts[0].summary;
    assert!(summary.contains("11.7 % since the campaign began (14 of 120 sent)"), "{summary}");

    // With many mails a minute, the bounces of the last minute do not count yet.
    let mut run = only("campaign_early_stop", &campaign());
    run.judge(&sample(14, 120, 120));
    assert!(run.alerts.is_empty());
    // Neither do those of its first minute.
    run.judge(&Sample {
        campaign: Some((MONDAY - 30 * SECOND, mail(5, 5))),
        ..Sample::at(MONDAY).with(Width::M1, 5, 5)
    });
    assert!(run.alerts.is_empty());
}

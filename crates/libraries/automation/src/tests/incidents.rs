use alerting::{Change, Family, IncidentId, Severity};

use std::collections::BTreeMap;

use alerting::Incident;
use serde_json::{Value, json};

use super::*;

const PAUSE: &str = r#"
[[rule]]
name = "pause"
when = { incidents = { families = ["bounces", "complaints"], severities = ["critical", "page"], sources = ["ac*"], changes = ["opened", "escalated"] } }
do = [ { type = "task", url = "https://tasks.example", title = "Pause {{ incident.campaign }}: {{ incident.summary }}" } ]
"#;

/// A change of an incident with a number.
fn incident(number: u8, change: Change, at: i64) -> IncidentFacts {
    let id = IncidentId::try_from(format!("{number:032x}")).unwrap();
    IncidentFacts { id, change, at, ..IncidentFacts::sample() }
}

/// Judges a change as the two stages do, and returns what followed for each rule.
fn judge(
    rules: &RuleSet,
    state: &mut LimitState,
    incident: &IncidentFacts,
) -> Vec<(Verdict, Vec<EventId>)> {
    let intents = decide_incident(rules, 0, incident).into_iter();
    let judged = intents.map(|intent| {
        let rule = rules.rule(&intent.rule).unwrap();
        let verdict = state.decide(Some(rule), &intent);
        if verdict == Verdict::Allowed {
            state.allow(rule, &intent).unwrap();
        }
        let ids = ActionRecord::all(rule, &intent).iter().map(|it| it.0.action_id).collect();
        (verdict, ids)
    });
    judged.collect()
}

/// Returns the change of an incident that a record of `mail.incidents` starts rules with.
fn change_of(more: Value) -> Option<Change> {
    let lead = json!({
        "episode_id": "e".repeat(32), "rule": "hard_bounces", "severity": "page", "state": "firing", "metric": "hard_bounce",
        "scope": "source", "provider": "ses", "source": "acme", "width": "5m", "value": 0.2, "threshold": 0.1,
        "numerator": 200, "volume": 1000, "started_at": T0, "at": T0, "runbook": "r", "summary": "s",
        "family": "bounces", "basis": "arrival", "seq": 1, "from": T0, "to": T0, "as_of": {},
    });
    let mut record = json!({
        "id": "a".repeat(32), "seq": 1, "page": 1, "change": "opened", "state": "open", "severity": "page",
        "family": "bounces", "group": "source", "of": "ses/acme", "opened_at": T0, "at": T0, "lead": lead, "episodes": 1,
        "open_episodes": 1, "opened_by": "e".repeat(32),
    });
    record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let incident: Incident = serde_json::from_value(record).unwrap();
    IncidentFacts::of(&incident).map(|facts| facts.change)
}

/// Whatever people hear of first is the opening, and an incident that becomes part of another one is not over.
#[test]
fn the_first_notification_opens_and_a_merge_resolves_nothing() {
    for (more, expected) in [
        (json!({}), Some(Change::Opened)),
        (json!({"change": "escalated"}), Some(Change::Opened)),
        (json!({"change": "digest"}), Some(Change::Opened)),
        (json!({"change": "reminder"}), Some(Change::Opened)),
        (json!({"change": "escalated", "page": 2}), Some(Change::Escalated)),
        (json!({"change": "digest", "page": 2}), None),
        (json!({"change": "digest", "state": "resolved"}), None),
        (json!({"change": "updated", "page": 0}), None),
        (json!({"change": "resolved", "state": "resolved"}), Some(Change::Resolved)),
        (json!({"change": "resolved", "state": "resolved", "merged_into": "b".repeat(32)}), None),
    ] {
        assert_eq!(change_of(more.clone()), expected, "{more}");
    }
}

#[test]
fn a_rule_starts_only_with_the_incidents_of_when() {
    let rules = rules(PAUSE);
    assert!(rules.reads_incidents());
    assert!(Kind::ALL.into_iter().all(|kind| !rules.reads(kind)));
    let event = facts(1, Kind::Clicked, T0);
    let decision = step(&rules, &event, &mut RecipientState::default());
    assert!(decision.intents.is_empty(), "it starts from incidents alone");
    let opened = incident(1, Change::Opened, T0);
    let text = |text: &str| text.to_owned();
    let other = |source: &str| IncidentFacts {
        source: Some(text(source)),
        sources: vec![format!("ses/{source}")],
        ..opened.clone()
    };
    let cases = [
        (opened.clone(), true),
        (IncidentFacts { change: Change::Escalated, ..opened.clone() }, true),
        (IncidentFacts { change: Change::Resolved, ..opened.clone() }, false),
        (IncidentFacts { change: Change::Reminder, ..opened.clone() }, false),
        (IncidentFacts { severity: Severity::Warning, ..opened.clone() }, false),
        (IncidentFacts { family: Family::Silence, ..opened.clone() }, false),
        (other("bolt"), false),
        (
            IncidentFacts { sources: vec![text("ses/bolt"), text("ses/acme")], ..other("bolt") },
            true,
        ),
    ];
    for (incident, acts) in cases {
        let intents = decide_incident(&rules, 0, &incident);
        assert_eq!(intents.len(), usize::from(acts), "{incident:?}");
    }
    let of_campaign = PAUSE.replace("sources =", "campaigns =").replace("ac*", "spring-*");
    let rules = super::rules(&of_campaign);
    assert_eq!(decide_incident(&rules, 0, &opened).len(), 1);
    let none = IncidentFacts { campaign: None, ..opened };
    assert!(decide_incident(&rules, 0, &none).is_empty());
}

#[test]
fn a_transition_acts_once_and_reminders_only_if_asked_for() {
    let text = PAUSE.replace(r#""escalated""#, r#""escalated", "reminder", "resolved""#);
    let (rules, mut state) = (rules(&text), LimitState::default());
    let repeated = Verdict::Refused(Refusal::Repeated);
    let mut judge = |incident: &IncidentFacts| {
        let [(verdict, ids)] = &judge(&rules, &mut state, incident)[..] else { panic!() };
        (*verdict, ids.clone())
    };
    let opened = incident(1, Change::Opened, T0);
    let (verdict, first) = judge(&opened);
    assert_eq!(verdict, Verdict::Allowed);
    let later = IncidentFacts { seq: 9, at: T0 + HOUR, ..opened.clone() };
    assert_eq!(judge(&later), (repeated, first.clone()), "it was published again");
    let mut ids = first;
    for (change, severity, seq, wanted) in [
        (Change::Escalated, Severity::Critical, 2, Verdict::Allowed),
        (Change::Escalated, Severity::Page, 3, Verdict::Allowed),
        (Change::Escalated, Severity::Page, 4, repeated),
        (Change::Reminder, Severity::Page, 5, Verdict::Allowed),
        (Change::Reminder, Severity::Page, 5, repeated),
        (Change::Reminder, Severity::Page, 6, Verdict::Allowed),
        (Change::Resolved, Severity::Page, 7, Verdict::Allowed),
        (Change::Resolved, Severity::Page, 8, repeated),
    ] {
        let change = IncidentFacts { severity, seq, ..incident(1, change, T0 + HOUR) };
        let (verdict, of_change) = judge(&change);
        assert_eq!(verdict, wanted, "{change:?}");
        ids.extend(of_change.into_iter().filter(|_| verdict == Verdict::Allowed));
    }
    ids.extend(judge(&incident(2, Change::Opened, T0)).1);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 7, "each transition has an id of its own");
}

#[test]
fn ids_of_actions_about_incidents_do_not_change() {
    let (rules, mut state) = (rules(PAUSE), LimitState::default());
    let judged = judge(&rules, &mut state, &incident(1, Change::Opened, T0));
    assert_eq!(
        judged[0].1[0].to_string(),
        "d75033f2d72f3dccc24453dda29c13e3",
        "ids of earlier releases must not change"
    );
}

#[test]
fn a_cooldown_is_that_of_the_group_and_limits_count() {
    let text =
        PAUSE.replace("do =", "cooldown = \"5h\"\nlimit = { count = 2, per = \"1h\" }\ndo =");
    let (rules, mut state) = (rules(&text), LimitState::default());
    let group = |group: &str, incident| IncidentFacts { group: group.to_owned(), ..incident };
    let at = |number, at| incident(number, Change::Opened, at);
    let (cooling, limited) = (Refusal::Cooldown, Refusal::Limit);
    for (incident, wanted) in [
        (at(1, T0), Verdict::Allowed),
        (at(2, T0 + 5 * HOUR - 1), Verdict::Refused(cooling)),
        (at(1, T0 + 6 * HOUR), Verdict::Refused(Refusal::Repeated)),
        (at(2, T0 + 5 * HOUR), Verdict::Allowed),
        (group("provider/ses", at(3, T0 + 5 * HOUR)), Verdict::Allowed),
        (group("ours", at(4, T0 + 5 * HOUR)), Verdict::Refused(limited)),
        (group("ours", at(4, T0 + 6 * HOUR)), Verdict::Allowed),
    ] {
        assert_eq!(judge(&rules, &mut state, &incident)[0].0, wanted, "{incident:?}");
    }
}

#[test]
fn what_is_remembered_of_incidents_is_restored_and_ends() {
    let text = PAUSE.replace("do =", "cooldown = \"5h\"\ndo =");
    let rules = rules(&text);
    let rule = rules.rule("pause").unwrap();
    let (mut state, mut changelog) = (LimitState::default(), BTreeMap::<String, Vec<u8>>::new());
    for number in 0..150 {
        let at = T0 + i64::from(number) * 24 * HOUR;
        let intents = decide_incident(&rules, 0, &incident(number, Change::Opened, at));
        assert_eq!(state.decide(Some(rule), &intents[0]), Verdict::Allowed);
        for (key, value) in state.allow(rule, &intents[0]).unwrap() {
            match value {
                Some(value) => drop(changelog.insert(key, value)),
                None => drop(changelog.remove(&key)),
            }
        }
        let mut restore = LimitRestore::default();
        for (key, value) in &changelog {
            restore.apply(key, Some(value)).unwrap();
        }
        assert_eq!(restore.finish(Some(rule)), state);
    }
    assert_eq!(changelog.len(), 100 + 1, "transitions of 100 days, and one group");
}

#[test]
fn what_needs_a_recipient_is_refused() {
    let cases = [
        ("do =", "and = [{ segment = \"vip\" }]\ndo =", "and[0]", "needs_recipient"),
        (
            "do =",
            "and = [{ hours = \"08-20\", zone = \"recipient\" }]\ndo =",
            "and[0]",
            "needs_recipient",
        ),
        ("do = [", "do = [{ type = \"points\", add = 1 }, ", "do[0]", "needs_recipient"),
        ("do = [", "do = [{ type = \"segment.add\", name = \"x\" }, ", "do[0]", "needs_recipient"),
        (
            "do = [",
            "do = [{ type = \"followup\", after = \"1h\", do = [] }, ",
            "do[0]",
            "needs_recipient",
        ),
        ("incidents = {", "kinds = [\"clicked\"], incidents = {", "when", "incidents_alone"),
        ("incidents = {", "human = false, incidents = {", "when", "incidents_alone"),
        (r#""opened""#, r#""updated""#, "when.incidents.changes", "change"),
        (r#""bounces""#, r#""bounce""#, "when.incidents.families", "family"),
        (r#""page""#, r#""pager""#, "when.incidents.severities", "severity"),
        ("incident.summary", "event.recipient", "do[0].title", "template"),
        (
            "do = [",
            "do = [{ type = \"crm\", url = \"https://x.example\", fields = { a = \"event.recipient\" } }, ",
            "do[0].fields.a",
            "field_source",
        ),
    ];
    for (from, to, field, code) in cases {
        let error = try_rules(&PAUSE.replacen(from, to, 1)).unwrap_err();
        assert_eq!((&*error.field, error.code()), (field, code), "{to}: {error}");
    }
    let mail = |to: &str, text: &str, when: &str| {
        format!(
            "[[template]]\nname = \"t\"\nsubject = \"s\"\ntext = \"{text}\"\n\
             [[rule]]\nname = \"r\"\nwhen = {when}\ndo = [{{ type = \"email\", template = \"t\"{to} }}]\n"
        )
    };
    let (ops, incidents) = (", to = \"ops@acme.example\"", "{ incidents = {} }");
    try_rules(&mail(ops, "{{ incident.id }}", incidents)).unwrap();
    try_rules(&mail("", "{{ event.url }}", "{}")).unwrap();
    for (to, text, when, field, code) in [
        ("", "{{ incident.id }}", incidents, "do[0].to", "no_address"),
        (", to = \"ops\"", "{{ incident.id }}", incidents, "do[0].to", "address"),
        (ops, "{{ event.url }}", incidents, "do[0].template", "template"),
        (ops, "{{ event.url }}", "{}", "do[0].to", "address_of_event"),
        ("", "{{ incident.id }}", "{}", "do[0].template", "template"),
    ] {
        let error = try_rules(&mail(to, text, when)).unwrap_err();
        assert_eq!((&*error.field, error.code()), (field, code), "{to} {text} {when}: {error}");
    }
}

#[test]
fn hours_of_a_zone_are_those_of_the_change() {
    // T0 is 08:00 UTC.
    for (hours, acts) in [("08-09", true), ("09-20", false)] {
        let text = PAUSE.replace("do =", &format!("and = [{{ hours = \"{hours}\" }}]\ndo ="));
        let intents = decide_incident(&rules(&text), 0, &incident(1, Change::Opened, T0));
        assert_eq!(intents.len(), usize::from(acts), "{hours}");
    }
}

#[test]
fn intents_and_actions_about_incidents_are_read_as_they_were_written() {
    let rules = rules(PAUSE);
    let intent = decide_incident(&rules, 3, &incident(1, Change::Opened, T0)).remove(0);
    let json = serde_json::to_value(&intent).unwrap();
    assert!(json.get("event").is_none() && json["incident"]["campaign"] == "spring-sale");
    assert_eq!(serde_json::from_str::<Intent>(&json.to_string()).unwrap(), intent);
    for (record, action) in ActionRecord::all(rules.rule("pause").unwrap(), &intent) {
        let json = serde_json::to_vec(&record).unwrap();
        assert_eq!(serde_json::from_slice::<ActionRecord>(&json).unwrap(), record);
        let Action::Task { title, .. } = action else { panic!("{action:?}") };
        let title = title.render(&record.subject, "r", "id").unwrap();
        assert!(title.starts_with("Pause spring-sale: source/ses/acme: bounce rate"), "{title}");
    }
    let sample = Subject::Incident(IncidentFacts::sample()).json();
    for field in IncidentFacts::FIELDS {
        assert!(sample.get(field).is_some(), "{field}");
    }
}

#[test]
fn a_replay_decides_about_incidents_like_the_stages() {
    let rules = rules(&PAUSE.replace("do =", "cooldown = \"5h\"\ndo ="));
    let mut replay = Replay::new(&rules);
    let mut receive = |number, at| replay.receive_incident(&incident(number, Change::Opened, at));
    let [Outcome::Acted(records)] = &receive(1, T0)[..] else { panic!() };
    assert_eq!(records.len(), 1);
    let [Outcome::Refused(_, Refusal::Repeated)] = &receive(1, T0 + 9 * HOUR)[..] else { panic!() };
    let [Outcome::Refused(_, Refusal::Cooldown)] = &receive(2, T0 + HOUR)[..] else { panic!() };
}

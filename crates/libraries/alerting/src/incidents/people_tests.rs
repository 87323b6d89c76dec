use window::Scope;

use super::samples::*;
use super::tests::{alert_again, run};
use super::*;
use crate::Change::{Escalated, Opened, Reminder, Resolved};
use crate::{Change, Family, Severity};

#[test]
fn people_handle_incidents() {
    let mut run = run();
    let first = alert("hard_bounces", source("acme"));
    run.receive(&first);
    let (incident, by) = (run.last().id, "ada".to_owned());
    run.handle(&Action::Acknowledge { incident, by: by.clone() }).unwrap();
    run.handle(&Action::Assign { incident, by: by.clone(), to: "bob".into() }).unwrap();
    let until = run.now + HOUR;
    run.handle(&Action::Snooze { incident, by: by.clone(), until }).unwrap();
    let people = &run.last().people;
    assert_eq!(people.acknowledged_by.as_deref(), Some("ada"));
    assert_eq!(people.assigned_to.as_deref(), Some("bob"));
    assert_eq!((people.snoozed_until, run.last().change), (Some(until), Change::Handled));
    run.receive(&resolved(&first));
    run.receive(&alert_again(&first));
    assert_eq!(run.changes(), [Opened], "it is snoozed");
    run.pass(HOUR);
    assert_eq!(run.changes(), [Opened, Reminder], "the snooze is over, and the incident is open");
    run.handle(&Action::Snooze { incident, by: by.clone(), until: run.now + HOUR }).unwrap();
    let again = alert_again(&first);
    run.receive(&next(&again, AlertState::Firing, Severity::Page));
    assert_eq!(run.changes(), [Opened, Reminder, Escalated]);
    assert_eq!(run.last().people.snoozed_until, None);

    run.handle(&Action::Close { incident, by: by.clone() }).unwrap();
    assert_eq!((run.last().change, run.last().reason), (Resolved, Some(ResolveReason::Closed)));
    let closed = run.records.len();
    run.receive(&Alert { seq: 3, ..next(&again, AlertState::Stale, Severity::Page) });
    run.receive(&Alert { seq: 4, ..resolved(&again) });
    assert_eq!(run.records.len(), closed, "its episodes stay closed");
    let judgement = Judgement::False;
    run.handle(&Action::Judge { incident, by: by.clone(), judgement }).unwrap();
    assert_eq!(run.last().people.judged.as_deref(), Some("false"));
    let ended = run.handle(&Action::Acknowledge { incident, by }).unwrap_err();
    assert_eq!(ended, ActionError::Ended(incident));
    run.pass(run.settings.keep_ended);
    let left: Vec<_> = run.changelog.keys().collect();
    assert_eq!(left, ["clock"], "all other state is forgotten");
}

#[test]
fn a_closed_incident_opens_again_if_an_episode_becomes_worse() {
    let mut run = run();
    let first = with_severity(alert("hard_bounces", source("acme")), Severity::Warning);
    run.receive(&first);
    let incident = run.last().id;
    run.handle(&Action::Close { incident, by: "ada".into() }).unwrap();
    run.receive(&next(&first, AlertState::Firing, Severity::Critical));
    assert_eq!(run.changes(), [Opened, Resolved, Opened]);
    assert_ne!(run.last().id, incident);
}

#[test]
fn a_planned_send_holds_back_all_but_pages_until_its_end() {
    let mut run = run();
    let plan = |campaign: Option<&str>, from, until| Action::PlanSend {
        by: "ada".into(),
        source: "sendgrid/acme".into(),
        campaign: campaign.map(str::to_owned),
        from,
        until,
    };
    run.handle(&plan(Some("spring"), START, START + HOUR)).unwrap();
    run.receive(&alert("hard_bounces", campaign("acme", "autumn")));
    assert_eq!(run.changes(), [Opened], "another campaign");
    run.handle(&plan(None, START, START + HOUR)).unwrap();
    run.receive(&alert("complaints_arrival", source("acme")));
    assert_eq!((run.changes().len(), run.last().page), (1, 0));
    let mild = with_severity(
        alert("hard_bounces", Scope::Tenant { tenant: "t".into() }),
        Severity::Warning,
    );
    run.receive(&mild);
    run.receive(&next(&mild, AlertState::Firing, Severity::Critical));
    assert_eq!(run.changes()[1..], [Opened, Escalated], "a plan is about a source");
    let changes = run.changes().len();
    let mild = with_severity(alert("spam_foldering", source("acme")), Severity::Warning);
    let mild = Alert { family: Family::Engagement, ..mild };
    run.receive(&mild);
    run.receive(&next(&mild, AlertState::Firing, Severity::Critical));
    assert_eq!(run.changes().len(), changes, "no page");
    run.receive(&with_severity(alert("blocks", mailbox("acme", "gmail")), Severity::Page));
    assert_eq!(run.changes()[changes..], [Opened]);
    run.pass(HOUR);
    assert_eq!(run.changes()[changes + 1..], [Opened, Opened], "both are still open");
}

#[test]
fn actions_that_are_not_possible_have_no_effect() {
    let mut run = run();
    run.receive(&alert("hard_bounces", source("acme")));
    let (incident, records) = (run.last().id, run.records.len());
    let unknown = IncidentId::try_from("00112233445566778899aabbccddeeff".to_owned()).unwrap();
    let by = || "ada".to_owned();
    let long = "x".repeat(201);
    let late = run.now + Action::MAX_SNOOZE + 1;
    for (action, expected) in [
        (Action::Close { incident: unknown, by: by() }, ActionError::UnknownIncident(unknown)),
        (Action::Close { incident, by: String::new() }, ActionError::Empty("by")),
        (
            Action::Assign { incident, by: by(), to: long },
            ActionError::TooLong { field: "to", characters: 201 },
        ),
        (Action::Snooze { incident, by: by(), until: late }, ActionError::WrongTime),
    ] {
        assert_eq!(run.handle(&action), Err(expected));
    }
    assert_eq!(run.records.len(), records);
    let json = r#"{"action":"judge","incident":"00112233445566778899aabbccddeeff","by":"ada","judgement":"duplicate"}"#;
    let action: Action = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&action).unwrap(), json);
    assert!(serde_json::from_str::<Action>(&json.replace("by", "from")).is_err());
}

use std::collections::BTreeSet;

use event::{Kind, Permanence, Provider};

use super::*;
use crate::traffic::ReportedKinds;

fn event(provider: Provider, kind: Kind) -> MailEvent {
    MailEvent::new(provider, "acme", kind, "ada@example.com", 7)
}

#[test]
fn every_provider_reports_the_kinds_it_has_events_for() {
    use Kind::*;
    let unreported = |provider: Provider| -> &[Kind] {
        match provider {
            Provider::Mailgun | Provider::Mandrill => &[Subscribed],
            Provider::Postmark => &[Accepted, Dropped, Other],
            Provider::Ses => &[Other],
            Provider::SparkPost | Provider::Brevo => &[Subscribed],
            Provider::Resend => &[Unsubscribed, Subscribed],
            Provider::Mailjet => &[Accepted, Deferred, Subscribed, Other],
            Provider::MailerSend => &[Deferred, Dropped, Subscribed],
            Provider::Postal => &[Accepted, Complained, Unsubscribed, Subscribed, Other],
            _ => &[],
        }
    };
    let is_our_form = |provider| matches!(provider, Provider::Generic | Provider::StandardWebhooks);
    for provider in crate::PROVIDERS {
        for kind in Kind::ALL {
            let payload = json(&event(provider, kind));
            assert_eq!(
                payload.is_none(),
                kind == Verified && !is_our_form(provider) || unreported(provider).contains(&kind),
                "{provider} {kind}"
            );
            let Some(payload) = payload else { continue };
            let has_recipient = (provider, kind) != (Provider::SendGrid, Other);
            assert_eq!(payload.to_string().contains("ada@example.com"), has_recipient);
        }
    }
}

#[test]
fn reported_kinds_match_the_payloads() {
    for provider in crate::PROVIDERS {
        let reported = ReportedKinds::of(provider);
        let has_payload = |kind| json(&event(provider, kind)).is_some();
        let soft = event(provider, Kind::Bounced);
        let soft = MailEvent { permanence: Some(Permanence::Soft), ..soft };
        assert_eq!(reported.accepted, has_payload(Kind::Accepted), "{provider}");
        assert_eq!(reported.deferred, has_payload(Kind::Deferred), "{provider}");
        assert_eq!(reported.soft_bounced, json(&soft).is_some(), "{provider}");
        assert_eq!(reported.complained, has_payload(Kind::Complained), "{provider}");
        assert_eq!(reported.unsubscribed, has_payload(Kind::Unsubscribed), "{provider}");
        for always in [Kind::Delivered, Kind::Bounced, Kind::Opened, Kind::Clicked] {
            assert!(has_payload(always), "{provider} {always}");
        }
        let person = event(provider, Kind::Opened);
        let machine = MailEvent { machine: true, ..person.clone() };
        let without_user_agent =
            |event: &MailEvent| json(event).unwrap().to_string().replace(user_agent(event), "");
        let has_flag = without_user_agent(&machine) != without_user_agent(&person);
        assert_eq!(reported.machine_opened, has_flag, "{provider}");
    }
}

#[test]
fn repeated_opens_have_different_ids() {
    for provider in [Provider::SendGrid, Provider::Mailgun, Provider::Generic] {
        let first = event(provider, Kind::Opened);
        let second = MailEvent { n: 8, ..first.clone() };
        let (first, second) = (json(&first).unwrap(), json(&second).unwrap());
        let id = |event: &Value| {
            let name = if provider == Provider::SendGrid { "sg_event_id" } else { "id" };
            event[name].clone()
        };
        assert_ne!(id(&first), id(&second), "{provider}");
    }
}

#[test]
fn message_ids_are_distinct_and_have_the_providers_format() {
    for provider in crate::PROVIDERS {
        // Numbers may differ in any of their bytes, also if the id is shorter.
        let numbers = (1..100_u128).flat_map(|n| [n, n << 64, n << 96]);
        let ids: BTreeSet<String> = numbers.map(|n| message_id(provider, n)).collect();
        assert_eq!(ids.len(), 297, "{provider}");
    }
    assert_eq!(message_id(Provider::Mandrill, 1).len(), 32);
    assert_eq!(message_id(Provider::SendGrid, 1).len(), 22);
    assert!(!message_id(Provider::SendGrid, 1).contains('.'));
    assert_eq!(message_id(Provider::Postmark, 1), "00000000-0000-0000-0000-000000000001");
    let id: i64 = message_id(Provider::Mailjet, u128::MAX).parse().unwrap();
    assert!(id > 1 << 53, "a double cannot represent it");
}

#[test]
fn bounces_are_hard_or_soft() {
    let both = |provider| {
        let hard = event(provider, Kind::Bounced);
        let soft = MailEvent { permanence: Some(Permanence::Soft), ..hard.clone() };
        (json(&hard).unwrap(), json(&soft).unwrap())
    };
    let soft =
        MailEvent { permanence: Some(Permanence::Soft), ..event(Provider::Mailgun, Kind::Bounced) };
    assert_eq!(json(&soft), None, "Mailgun has no soft bounce");
    let (hard, soft) = both(Provider::SendGrid);
    assert_eq!((&hard["type"], &soft["type"]), (&"bounce".into(), &"blocked".into()));
    let (hard, soft) = both(Provider::Postmark);
    assert_eq!((&hard["TypeCode"], &soft["TypeCode"]), (&1.into(), &4096.into()));
    let (hard, soft) = both(Provider::Ses);
    assert_eq!(hard["bounce"]["bounceType"], "Permanent");
    assert_eq!(soft["bounce"]["bounceType"], "Transient");
    let (hard, soft) = both(Provider::Mandrill);
    assert_eq!((&hard["event"], &soft["event"]), (&"hard_bounce".into(), &"soft_bounce".into()));
    assert_eq!(hard["msg"]["bgtools_code"], 10);
}

#[test]
fn opens_by_machines_are_marked() {
    let machine =
        |provider| json(&MailEvent { machine: true, ..event(provider, Kind::Opened) }).unwrap();
    assert_eq!(machine(Provider::SendGrid)["sg_machine_open"], true);
    assert_eq!(machine(Provider::Mailgun)["client-info"]["bot"], "apple");
    assert_eq!(machine(Provider::Generic)["machine"], true);
    assert_eq!(machine(Provider::StandardWebhooks)["data"]["machine"], true);
    assert_eq!(machine(Provider::Brevo)["event"], "proxy_open");
    let track = &machine(Provider::SparkPost)["msys"]["track_event"];
    assert_eq!(track["user_agent_parsed"]["is_prefetched"], true);
    for provider in [Provider::Postmark, Provider::Ses, Provider::Mandrill] {
        assert!(machine(provider).to_string().contains("GoogleImageProxy"));
    }
}

/// Compares with captured payloads: every key of a sample must exist here with the same type.
#[test]
#[ignore = "needs ../shared"]
fn shared_samples_have_no_other_keys() {
    let root = format!("{}/../../../../shared/samples", env!("CARGO_MANIFEST_DIR"));
    let cases = [
        ("postmark/official_bounce.json", Provider::Postmark, Kind::Bounced),
        ("postmark/official_click.json", Provider::Postmark, Kind::Clicked),
        ("postmark/official_delivery.json", Provider::Postmark, Kind::Delivered),
        ("postmark/official_open.json", Provider::Postmark, Kind::Opened),
        ("postmark/official_spamcomplaint.json", Provider::Postmark, Kind::Complained),
        ("postmark/official_subscriptionchange.json", Provider::Postmark, Kind::Unsubscribed),
        ("ses/docs_event_bounce.json", Provider::Ses, Kind::Bounced),
        ("ses/docs_event_click.json", Provider::Ses, Kind::Clicked),
        ("ses/docs_event_complaint.json", Provider::Ses, Kind::Complained),
        ("ses/docs_event_delivery.json", Provider::Ses, Kind::Delivered),
        ("ses/docs_event_deliverydelay.json", Provider::Ses, Kind::Deferred),
        ("ses/docs_event_open.json", Provider::Ses, Kind::Opened),
        ("ses/docs_event_subscription.json", Provider::Ses, Kind::Unsubscribed),
        ("mailgun/docs_eventdata_opened.json", Provider::Mailgun, Kind::Opened),
        ("mailgun/docs_eventdata_complained.json", Provider::Mailgun, Kind::Complained),
        ("sendgrid/docs_bounce.json", Provider::SendGrid, Kind::Bounced),
        ("sendgrid/docs_open.json", Provider::SendGrid, Kind::Opened),
        ("mandrill/rails_send.json", Provider::Mandrill, Kind::Accepted),
        ("mandrill/rails_click.json", Provider::Mandrill, Kind::Clicked),
        ("sparkpost/anymail_delivery_event.json", Provider::SparkPost, Kind::Delivered),
        ("resend/anymail_clicked_event.json", Provider::Resend, Kind::Clicked),
        ("brevo/symfony_delivered.json", Provider::Brevo, Kind::Delivered),
        ("brevo/symfony_click.json", Provider::Brevo, Kind::Clicked),
        ("mailjet/symfony_bounce.json", Provider::Mailjet, Kind::Bounced),
        ("mailjet/symfony_click.json", Provider::Mailjet, Kind::Clicked),
        ("mailjet/symfony_sent.json", Provider::Mailjet, Kind::Delivered),
        ("mailersend/symfony_clicked.json", Provider::MailerSend, Kind::Clicked),
        ("postal/anymail_delivered_event.json", Provider::Postal, Kind::Delivered),
    ];
    for (file, provider, kind) in cases {
        let text = std::fs::read_to_string(format!("{root}/{file}")).unwrap();
        let sample: Value = serde_json::from_str(&text).unwrap();
        let sample = sample.get(0).unwrap_or(&sample);
        let payload = json(&event(provider, kind)).unwrap();
        for (key, value) in sample.as_object().unwrap() {
            let Some(found) = payload.get(key) else { panic!("{file}: {key} is missing") };
            let same = std::mem::discriminant(value) == std::mem::discriminant(found);
            assert!(same || key == "category", "{file}: {key} is {found}, not {value}");
        }
    }
}

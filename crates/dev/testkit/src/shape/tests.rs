use std::collections::BTreeSet;

use event::{Kind, Permanence, Provider};

use super::*;
use crate::traffic::Says;

fn fact(provider: Provider, kind: Kind) -> Fact {
    Fact::new(provider, "acme", kind, "ada@example.com", 7)
}

#[test]
fn every_provider_words_the_kinds_it_knows() {
    use Kind::*;
    let silent = |provider: Provider| -> &[Kind] {
        match provider {
            Provider::SendGrid | Provider::Generic => &[],
            Provider::Mailgun | Provider::Mandrill => &[Subscribed],
            Provider::Postmark => &[Accepted, Dropped, Other],
            Provider::Ses => &[Other],
            Provider::StandardWebhooks => &[],
            Provider::SparkPost | Provider::Brevo => &[Subscribed],
            Provider::Resend => &[Unsubscribed, Subscribed],
            Provider::Mailjet => &[Accepted, Deferred, Subscribed, Other],
            Provider::MailerSend => &[Deferred, Dropped, Subscribed],
            Provider::Postal => &[Accepted, Complained, Unsubscribed, Subscribed, Other],
        }
    };
    for provider in Provider::ALL {
        for kind in Kind::ALL {
            let worded = json(&fact(provider, kind));
            assert_eq!(worded.is_none(), silent(provider).contains(&kind), "{provider} {kind}");
            let Some(worded) = worded else { continue };
            let names_recipient = (provider, kind) != (Provider::SendGrid, Other);
            assert_eq!(worded.to_string().contains("ada@example.com"), names_recipient);
        }
    }
}

/// The traffic has no fact that its provider could not tell, and leaves out none that it can.
#[test]
fn traffic_says_what_there_are_words_for() {
    for provider in Provider::ALL {
        let says = Says::of(provider);
        let worded = |kind| json(&fact(provider, kind)).is_some();
        let soft = fact(provider, Kind::Bounced);
        let soft = Fact { permanence: Some(Permanence::Soft), ..soft };
        assert_eq!(says.accepted, worded(Kind::Accepted), "{provider}");
        assert_eq!(says.deferred, worded(Kind::Deferred), "{provider}");
        assert_eq!(says.soft_bounced, json(&soft).is_some(), "{provider}");
        assert_eq!(says.complained, worded(Kind::Complained), "{provider}");
        assert_eq!(says.unsubscribed, worded(Kind::Unsubscribed), "{provider}");
        for always in [Kind::Delivered, Kind::Bounced, Kind::Opened, Kind::Clicked] {
            assert!(worded(always), "{provider} {always}");
        }
        let person = fact(provider, Kind::Opened);
        let machine = Fact { machine: true, ..person.clone() };
        let but_for_agent =
            |fact: &Fact| json(fact).unwrap().to_string().replace(user_agent(fact), "");
        let told = but_for_agent(&machine) != but_for_agent(&person);
        assert_eq!(says.machine_opened, told, "{provider}");
    }
}

#[test]
fn repeats_differ_in_nothing_but_their_id() {
    for provider in [Provider::SendGrid, Provider::Mailgun, Provider::Generic] {
        let first = fact(provider, Kind::Opened);
        let again = Fact { n: 8, ..first.clone() };
        let (first, again) = (json(&first).unwrap(), json(&again).unwrap());
        let id = |event: &Value| {
            let name = if provider == Provider::SendGrid { "sg_event_id" } else { "id" };
            event[name].clone()
        };
        assert_ne!(id(&first), id(&again), "{provider}");
    }
}

#[test]
fn message_ids_are_distinct_and_of_the_providers_form() {
    for provider in Provider::ALL {
        // Numbers may differ anywhere, also in what is too high for the form of the id.
        let numbers = (1..100_u128).flat_map(|n| [n, n << 64, n << 96]);
        let ids: BTreeSet<String> = numbers.map(|n| message_id(provider, n)).collect();
        assert_eq!(ids.len(), 297, "{provider}");
    }
    assert_eq!(message_id(Provider::Mandrill, 1).len(), 32);
    assert_eq!(message_id(Provider::SendGrid, 1).len(), 22);
    assert!(!message_id(Provider::SendGrid, 1).contains('.'));
    assert_eq!(message_id(Provider::Postmark, 1), "00000000-0000-0000-0000-000000000001");
    let id: i64 = message_id(Provider::Mailjet, u128::MAX).parse().unwrap();
    assert!(id > 1 << 53, "no double can hold it");
}

#[test]
fn bounces_say_whether_they_are_final() {
    let both = |provider| {
        let hard = fact(provider, Kind::Bounced);
        let soft = Fact { permanence: Some(Permanence::Soft), ..hard.clone() };
        (json(&hard).unwrap(), json(&soft).unwrap())
    };
    let soft =
        Fact { permanence: Some(Permanence::Soft), ..fact(Provider::Mailgun, Kind::Bounced) };
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
fn machines_are_flagged_where_the_provider_can() {
    let machine = |provider| json(&Fact { machine: true, ..fact(provider, Kind::Opened) }).unwrap();
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

/// The shapes are measured against captured payloads, where these are at hand: nothing that every
/// sample of a type has is missing from ours.
#[test]
fn sample_keys_are_all_there() {
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
        let Ok(text) = std::fs::read_to_string(format!("{root}/{file}")) else { continue };
        let sample: Value = serde_json::from_str(&text).unwrap();
        let sample = sample.get(0).unwrap_or(&sample);
        let ours = json(&fact(provider, kind)).unwrap();
        for (key, value) in sample.as_object().unwrap() {
            let Some(our) = ours.get(key) else { panic!("{file}: {key} is missing") };
            let same = std::mem::discriminant(value) == std::mem::discriminant(our);
            assert!(same || key == "category", "{file}: {key} is {our}, not {value}");
        }
    }
}

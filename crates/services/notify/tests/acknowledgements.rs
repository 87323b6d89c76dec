//! Webhooks of PagerDuty become actions in `mail.alerts`. On a real Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use harness::{Cluster, DEADLINE, Launch, Service, eventually, free_port, http, layout, seen};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

const INCIDENT: &str = "48c0b3026c5df4d4b4ea72268e6d7ba0";

fn start(cluster: &Cluster, address: &str) -> Service {
    Launch::new("notify", env!("CARGO_BIN_EXE_notify"), cluster)
        .config(&format!(
            "[notify]\nexplain = false\n\
             [notify.acknowledgements]\nlisten = \"{address}\"\n\
             secrets = [\"an old secret\", \"env:PAGERDUTY_WEBHOOK_SECRET\"]\n"
        ))
        .env("PAGERDUTY_WEBHOOK_SECRET", "an invented secret")
        .start()
}

fn webhook(kind: &str, agent: &str) -> String {
    json!({ "event": {
        "id": "01CABCDEF",
        "event_type": kind,
        "resource_type": "incident",
        "occurred_at": "2026-11-29T02:15:00.000Z",
        "agent": { "id": "PADA", "type": agent, "summary": "Ada Example" },
        "client": null,
        "data": { "id": "Q1", "type": "incident", "number": 7, "incident_key": INCIDENT },
    }})
    .to_string()
}

fn signature(secret: &str, body: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    format!("v1={}", hex::encode(mac.chain_update(body).finalize().into_bytes()))
}

/// Posts a body and returns the status and the code.
fn post(address: &str, path: &str, signature: &str, body: &str) -> (u16, String) {
    let headers = [("x-pagerduty-signature".to_owned(), signature.to_owned())];
    let response = http::send(address, "POST", path, &headers, body.as_bytes()).unwrap();
    (response.status, response.json()["code"].as_str().unwrap().to_owned())
}

#[test]
fn what_a_person_acknowledges_in_pagerduty_becomes_an_action() {
    let cluster = Cluster::without_topics("notify-acknowledgements", layout(1, 1));
    let address = format!("127.0.0.1:{}", free_port());
    let mut notify = start(&cluster, &address);
    let post = |path: &str, signature: &str, body: &str| post(&address, path, signature, body);

    let body = webhook("incident.acknowledged", "user_reference");
    let right = signature("an invented secret", &body);
    // While a secret is rotated, PagerDuty signs with both.
    let both = format!("v1={},{right}", "0".repeat(64));
    assert_eq!(post("/pagerduty", &both, &body), (202, "accepted".to_owned()));
    let old = signature("an old secret", &body);
    assert_eq!(post("/pagerduty", &old, &body), (202, "accepted".to_owned()));

    for (path, signature, body, expected) in [
        ("/pagerduty", "", body.as_str(), (401, "wrong_signature")),
        ("/pagerduty", &signature("another secret", &body), &body, (401, "wrong_signature")),
        ("/pagerduty", &right, &body.replace("Ada", "Eve"), (401, "wrong_signature")),
        ("/pagerduty", &signature("an old secret", "[1]"), "[1]", (400, "not_a_webhook")),
        ("/other", &right, &body, (404, "not_found")),
        ("/pagerduty", &right, &" ".repeat(70_000), (413, "too_large")),
    ] {
        let (status, code) = post(path, signature, body);
        assert_eq!((status, code.as_str()), expected, "{path} {signature}");
    }
    // What the channel itself has acknowledged is not taken over again.
    let own = webhook("incident.acknowledged", "events_api_v2_inbound_integration_reference");
    let signature = signature("an invented secret", &own);
    assert_eq!(post("/pagerduty", &signature, &own), (202, "accepted".to_owned()));

    let actions = eventually("two actions", DEADLINE, || {
        let records = cluster.read_settled(&cluster.topics.alerts);
        seen(records, |records| records.len() >= 2)
    });
    assert_eq!(actions.len(), 2);
    for action in actions {
        assert_eq!(action.key, b"action");
        let expected = json!({ "action": "acknowledge", "incident": INCIDENT, "by": "Ada Example (PagerDuty)" });
        assert_eq!(serde_json::from_str::<Value>(action.text()).unwrap(), expected);
    }
    let outcome = |name| {
        notify.metric("mailpulse_notify_acknowledgement_requests_total", &[("outcome", name)])
    };
    assert_eq!((outcome("acknowledged"), outcome("wrong_signature")), (2.0, 3.0));
    assert_eq!(outcome("ignored_automatic"), 1.0);
    notify.stop();
}

#[test]
fn acknowledgements_without_a_secret_are_an_invalid_setting() {
    let cluster = Cluster::without_topics("notify-acknowledgements-settings", layout(1, 1));
    let (status, log) = Launch::new("notify", env!("CARGO_BIN_EXE_notify"), &cluster)
        .config("[notify.acknowledgements]\nlisten = \"127.0.0.1:0\"\nsecrets = []\n")
        .run();
    assert!(!status.success());
    assert!(log.contains("notify.acknowledgements.secrets"), "{log}");
}

//! One body of every provider, with places for an address, a time and any other text.

use event::{Kind, Provider};

/// A bounce, or what comes nearest to it. `ADDRESS`, `TEXT` and `TIME` are replaced by JSON strings
/// without their quotation marks, `TIME` with them.
pub(crate) const BODIES: [(Provider, Kind, &str); 13] = [
    (
        Provider::SendGrid,
        Kind::Bounced,
        r#"[{"event":"bounce","email":"ADDRESS","timestamp":TIME,"sg_event_id":"c2cx","type":"bounce",
            "sg_message_id":"hb1.recvd-1.0","status":"5.1.1","reason":"550 TEXT","category":["TEXT"]}]"#,
    ),
    (
        Provider::Mailgun,
        Kind::Bounced,
        r#"{"signature":{},"event-data":{"event":"failed","severity":"permanent","id":"mg1",
            "timestamp":TIME,"recipient":"ADDRESS","tags":["TEXT"],
            "delivery-status":{"message":"550 TEXT"}}}"#,
    ),
    (
        Provider::Postmark,
        Kind::Bounced,
        r#"{"RecordType":"Bounce","Type":"HardBounce","ID":7,"MessageID":"pm1","Email":"ADDRESS",
            "BouncedAt":TIME,"Details":"550 TEXT","Tag":"TEXT"}"#,
    ),
    (
        Provider::Mandrill,
        Kind::Bounced,
        r#"[{"event":"hard_bounce","_id":"md1","ts":TIME,"msg":{"_id":"md1","email":"ADDRESS",
            "diag":"550 TEXT","tags":["TEXT"]}}]"#,
    ),
    (
        Provider::SparkPost,
        Kind::Bounced,
        r#"[{"msys":{"message_event":{"type":"bounce","event_id":"1","message_id":"sp1",
            "bounce_class":"10","timestamp":TIME,"rcpt_to":"ADDRESS","raw_reason":"550 TEXT",
            "rcpt_tags":["TEXT"]}}}]"#,
    ),
    (
        Provider::Resend,
        Kind::Bounced,
        r#"{"type":"email.bounced","created_at":TIME,"data":{"email_id":"re1","to":["ADDRESS"],
            "bounce":{"type":"Permanent","subType":"General","diagnosticCode":["550 TEXT"]},
            "tags":{"note":"TEXT"}}}"#,
    ),
    (
        Provider::Mailjet,
        Kind::Bounced,
        r#"[{"event":"bounce","time":TIME,"MessageID":17,"email":"ADDRESS","hard_bounce":true,
            "comment":"550 TEXT","customcampaign":"TEXT"}]"#,
    ),
    (
        Provider::MailerSend,
        Kind::Bounced,
        r#"{"type":"activity.hard_bounced","data":{"id":"ms1","created_at":TIME,"email":{
            "message":{"id":"m1"},"recipient":{"email":"ADDRESS"},"tags":["TEXT"]},
            "morph":{"reason":"550 TEXT"}}}"#,
    ),
    (
        Provider::Brevo,
        Kind::Bounced,
        r#"{"event":"hard_bounce","email":"ADDRESS","ts_epoch":TIME,"message-id":"<br1>",
            "reason":"550 TEXT","tags":["TEXT"]}"#,
    ),
    (
        Provider::Postal,
        Kind::Bounced,
        r#"{"event":"MessageDeliveryFailed","timestamp":TIME,"uuid":"po1","payload":{"message":{
            "to":"ADDRESS","message_id":"po1","tag":"TEXT"},"output":"550 TEXT"}}"#,
    ),
    (
        Provider::Generic,
        Kind::Bounced,
        r#"[{"event":"bounced","id":"ge1","recipient":"ADDRESS","timestamp":TIME,"tags":["TEXT"],
            "bounce":{"permanence":"hard","diagnostic":"550 TEXT"}}]"#,
    ),
    (
        Provider::StandardWebhooks,
        Kind::Bounced,
        r#"{"type":"x","timestamp":TIME,"data":{"event":"bounced","id":"sw1","recipient":"ADDRESS",
            "tags":["TEXT"],"bounce":{"permanence":"hard","diagnostic":"550 TEXT"}}}"#,
    ),
    (
        Provider::Ses,
        Kind::Bounced,
        r#"{"eventType":"Bounce","bounce":{"bounceType":"Permanent","bounceSubType":"General",
            "timestamp":TIME,"bouncedRecipients":[{"emailAddress":"ADDRESS",
            "diagnosticCode":"550 TEXT"}]},"mail":{"messageId":"se1","tags":{"note":["TEXT"]}}}"#,
    ),
];

/// Returns the body as the provider posts it, with an address and a text as JSON writes them between
/// quotation marks, and a time.
pub(crate) fn body(provider: Provider, address: &str, text: &str, time: &str) -> String {
    let (.., template) = BODIES.iter().find(|(known, ..)| *known == provider).unwrap();
    let json = template.replace("ADDRESS", address).replace("TEXT", text).replace("TIME", time);
    wrap(provider, json)
}

/// Wraps events in what a provider puts around their JSON.
pub(crate) fn wrap(provider: Provider, json: String) -> String {
    match provider {
        Provider::Ses => serde_json::json!({
            "Type": "Notification", "MessageId": "sns-1", "Message": json,
            "TopicArn": "arn:aws:sns:eu-west-1:123456789012:mail-events",
        })
        .to_string(),
        Provider::Mandrill => form_urlencoded::Serializer::new(String::new())
            .append_pair("mandrill_events", &json)
            .finish(),
        _ => json,
    }
}

#[test]
fn every_provider_has_a_body() {
    for provider in Provider::ALL {
        let read =
            crate::read_one(provider, &body(provider, "jun@ropewalk.example", "no", "1762787700"));
        let (_, kind, _) = BODIES.iter().find(|(known, ..)| *known == provider).unwrap();
        assert_eq!((read.kind, read.key.as_str()), (*kind, "jun@ropewalk.example"), "{provider}");
        assert_eq!(read.event.unwrap()["occurred_at"], 1_762_787_700_000_000_i64, "{provider}");
    }
}

//! A word has the same meaning wherever a provider passes it on.

use event::{Kind, Provider};

use crate::{Read, read_one, samples};

fn ses(message: &str) -> Read {
    read_one(Provider::Ses, &samples::wrap(Provider::Ses, message.to_owned()))
}

fn ses_bounce(bounce_type: &str, sub_type: &str, details: &str) -> Read {
    ses(&format!(
        r#"{{"eventType":"Bounce","mail":{{"messageId":"m"}},"bounce":{{"bounceType":"{bounce_type}",
            "bounceSubType":"{sub_type}","timestamp":"2025-11-10T15:15:00Z","bouncedRecipients":[
            {{"emailAddress":"jun@ropewalk.example",{details}}}]}}}}"#
    ))
}

fn resend_bounce(bounce_type: &str, sub_type: &str) -> Read {
    read_one(
        Provider::Resend,
        &format!(
            r#"{{"type":"email.bounced","created_at":"2025-11-10T15:15:00Z","data":{{"email_id":"e",
                "to":["jun@ropewalk.example"],"bounce":{{"type":"{bounce_type}","subType":"{sub_type}",
                "message":"Resend's own words."}}}}}}"#
        ),
    )
}

#[test]
fn only_a_report_by_a_reader_is_a_complaint() {
    for (report, kind) in [
        ("null", Kind::Complained),
        ("\"abuse\"", Kind::Complained),
        ("\"not-spam\"", Kind::Other),
        ("\"auth-failure\"", Kind::Other),
        ("\"opt-out\"", Kind::Unsubscribed),
    ] {
        let found = ses(&format!(
            r#"{{"notificationType":"Complaint","mail":{{"messageId":"m"}},"complaint":{{
                "complaintFeedbackType":{report},"timestamp":"2025-11-10T15:15:00Z",
                "complainedRecipients":[{{"emailAddress":"jun@ropewalk.example"}}]}}}}"#
        ));
        assert_eq!(
            (found.kind, found.field("/provider_event")),
            (kind, Some("Complaint")),
            "{report}"
        );
        let body = format!(
            r#"[{{"msys":{{"message_event":{{"type":"spam_complaint","event_id":"1","fbtype":{report},
                "timestamp":"1762787700","rcpt_to":"jun@ropewalk.example"}}}}}}]"#
        );
        let found = read_one(Provider::SparkPost, &body);
        assert_eq!(found.kind, kind, "{report}");
        assert_eq!(found.field("/provider_event"), Some("spam_complaint"));
    }
}

/// Resend passes SES's words on.
#[test]
fn a_suppressed_address_was_not_tried_by_ses_nor_by_resend() {
    for sub_type in ["Suppressed", "OnAccountSuppressionList", "UnsubscribedRecipient"] {
        for found in [
            ses_bounce("Permanent", sub_type, r#""action":"failed""#),
            resend_bounce("Permanent", sub_type),
        ] {
            assert_eq!(found.kind, Kind::Dropped, "{sub_type}");
            assert_eq!(found.field("/bounce/class"), Some("suppressed"), "{sub_type}");
            assert_eq!(found.field("/bounce/permanence"), Some("hard"), "{sub_type}");
        }
    }
    let bounced = resend_bounce("Permanent", "General");
    assert_eq!((bounced.kind, bounced.field("/bounce/permanence")), (Kind::Bounced, Some("hard")));
}

/// Mandrill's numbers are SparkPost's.
#[test]
fn a_number_has_one_kind() {
    for (number, kind) in [("10", Kind::Bounced), ("25", Kind::Dropped), ("26", Kind::Dropped)] {
        let sparkpost = format!(
            r#"[{{"msys":{{"message_event":{{"type":"bounce","event_id":"1","timestamp":1762787700,
                "bounce_class":"{number}"}}}}}}]"#
        );
        assert_eq!(read_one(Provider::SparkPost, &sparkpost).kind, kind, "{number}");
        let mandrill = format!(
            r#"[{{"event":"soft_bounce","_id":"m","ts":1762787700,"msg":{{"bgtools_code":{number}}}}}]"#
        );
        let mandrill = samples::wrap(Provider::Mandrill, mandrill);
        assert_eq!(read_one(Provider::Mandrill, &mandrill).kind, kind, "{number}");
    }
}

#[test]
fn a_soft_bounce_with_proof_that_the_address_does_not_exist_is_hard() {
    let permanence = |details| {
        let found = ses_bounce("Transient", "General", details);
        found.field("/bounce/permanence").unwrap().to_owned()
    };
    for details in [
        r#""status":"5.4.4","diagnosticCode":"smtp; 550 5.4.4 Invalid domain""#,
        r#""status":"5.1.1","diagnosticCode":"smtp; 550 5.1.1 no such user""#,
        r#""diagnosticCode":"smtp; DNS lookup failed: NXDOMAIN""#,
    ] {
        assert_eq!(permanence(details), "hard", "{details}");
    }
    for details in [
        r#""status":"4.4.4","diagnosticCode":"smtp; 450 4.4.4 NXDOMAIN""#,
        r#""status":"5.2.2","diagnosticCode":"smtp; 552 5.2.2 full""#,
        r#""status":"5.4.4","diagnosticCode":"smtp; 550 5.4.4 too many connections""#,
        r#""status":"5.0.0","diagnosticCode":"smtp; 550 no""#,
    ] {
        assert_eq!(permanence(details), "soft", "{details}");
    }
}

/// The rule holds for every provider that has a soft bounce, and never for a deferral.
#[test]
fn a_deferral_stays_soft() {
    let mailgun = |severity: &str| {
        let body = format!(
            r#"{{"event-data":{{"event":"failed","severity":"{severity}","id":"1","timestamp":1762787700.5,
                "reason":"old","delivery-status":{{"message":"550 5.1.1 no such user"}}}}}}"#
        );
        let found = read_one(Provider::Mailgun, &body);
        (found.kind, found.field("/bounce/permanence").unwrap().to_owned())
    };
    assert_eq!(mailgun("permanent"), (Kind::Bounced, "hard".to_owned()));
    assert_eq!(mailgun("temporary"), (Kind::Deferred, "soft".to_owned()));
    let mailersend = r#"{"type":"activity.soft_bounced","data":{"id":"1","created_at":1762787700,
        "morph":{"reason":"550 5.1.1 no such user"}}}"#;
    let found = read_one(Provider::MailerSend, mailersend);
    assert_eq!(found.field("/bounce/permanence"), Some("hard"));
    assert_eq!(found.field("/provider_event"), Some("activity.soft_bounced"), "its word is kept");
}

#[test]
fn mailgun_names_a_listed_sender() {
    let body = r#"{"event-data":{"event":"failed","severity":"temporary","id":"1","timestamp":1762787700.5,
        "reason":"blacklisted","delivery-status":{"message":"refused"}}}"#;
    let found = read_one(Provider::Mailgun, body);
    assert_eq!((found.kind, found.field("/bounce/class")), (Kind::Deferred, Some("reputation")));
}

//! Writes the events of a message in the form of their providers: the bodies of the testkit, with the
//! fields that the metrics need.

use event::{Kind, Permanence, Provider};
use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::{MailEvent, payloads};

use super::message::{Bounce, By, Cause, Fact, Message, Moment, What};
use super::sources::Carried;

const SECOND: i64 = 1_000_000;
const IN_1970: i64 = 10 * SECOND;
/// The first of July 2299.
const IN_2299: i64 = 10_397_894_400 * SECOND;
/// Less than the hour for which a provider's clock may be ahead.
const AHEAD: i64 = 55 * 60 * SECOND;

/// Mail Privacy Protection sends exactly this text.
const PRIVACY_PROXY: &str = "Mozilla/5.0";
const SCANNER: &str = "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/534+ BingPreview/1.0b";

/// Returns the JSON of an event. `run` distinguishes the messages of several runs, `now` is in
/// microseconds. `None` means that the provider does not report such events.
pub(crate) fn json(message: &Message, fact: &Fact, run: u64, now: i64) -> Option<Value> {
    let provider = message.source.provider;
    let event = mail_event(message, fact, run, now);
    let mut whole = payloads::json(&event)?;
    // The part that describes the event.
    let json = match provider {
        Provider::SparkPost => whole.get_mut("msys")?.as_object_mut()?.values_mut().next()?,
        Provider::StandardWebhooks => whole.get_mut("data")?,
        _ => &mut whole,
    };
    properties(json, message, Carried::by(provider, fact.what));
    reader(json, provider, fact.what);
    refusal(json, provider, fact.what);
    Some(whole)
}

fn mail_event(message: &Message, fact: &Fact, run: u64, now: i64) -> MailEvent {
    let Message { source, number, recipient, campaign, .. } = message;
    let is_soft =
        matches!(fact.what, What::Bounced(Bounce::Soft)) && source.provider != Provider::Mailgun;
    MailEvent {
        provider: source.provider,
        source: source.name.to_owned(),
        kind: kind(source.provider, fact.what),
        recipient: recipient.clone(),
        message_id: payloads::message_id(
            source.provider,
            u128::from(run) << 32 | u128::from(*number),
        ),
        campaign: (*campaign).to_owned(),
        occurred_at_micros: match fact.at {
            Moment::At(micros) => micros,
            Moment::In1970 => IN_1970,
            Moment::In2299 => IN_2299,
            Moment::AnHourAhead => (now + AHEAD) / SECOND * SECOND,
        },
        // `properties` writes when the message was sent.
        sent_at_micros: None,
        permanence: Some(if is_soft { Permanence::Soft } else { Permanence::Hard }),
        machine: matches!(fact.what, What::Opened(By::Machine) | What::Clicked(By::Machine)),
        n: fact.n,
    }
}

/// Returns the kind of which the testkit has a body.
pub(crate) fn kind(provider: Provider, what: What) -> Kind {
    match what {
        What::Accepted => Kind::Accepted,
        What::Delivered => Kind::Delivered,
        What::Deferred(_) => Kind::Deferred,
        What::Bounced(_) | What::LateBounced | What::AutoReplied => Kind::Bounced,
        // They report it as a bounce of its own type.
        What::Suppressed if matches!(provider, Provider::Postmark | Provider::Ses) => Kind::Bounced,
        What::Dropped if provider == Provider::SparkPost => Kind::Bounced,
        What::Suppressed if provider == Provider::SparkPost => Kind::Bounced,
        What::Dropped | What::Suppressed => Kind::Dropped,
        What::Opened(_) => Kind::Opened,
        What::Clicked(_) => Kind::Clicked,
        What::Complained => Kind::Complained,
        What::Unsubscribed => Kind::Unsubscribed,
    }
}

/// Adds sender, sending address, stream and send time, as far as the event carries them.
fn properties(json: &mut Value, message: &Message, carried: Carried) {
    let Message { recipient, sending_ip, stream, sent_at, .. } = message;
    let (sender, _) = message.sender;
    let iso = |micros| text(Timestamp::from_microsecond(micros).map(|at| at.to_string()));
    let seconds = sent_at / SECOND;
    match message.source.provider {
        Provider::SendGrid => {
            json["sender"] = sender.into();
            set_if(json, carried.sending_ip, "ip", sending_ip);
            if carried.stream {
                json["pool"] = json!({"name": stream, "id": 210});
            }
        }
        Provider::Mailgun => {
            if carried.sender {
                json["message"]["headers"]["from"] = sender.into();
                json["envelope"] =
                    json!({"sender": sender, "transport": "smtp", "targets": recipient});
            } else {
                // Opens and clicks have only the id of the message.
                let id = json["message"]["headers"]["message-id"].take();
                json["message"] = json!({"headers": {"message-id": id}});
            }
            if carried.sending_ip {
                json["envelope"]["sending-ip"] = sending_ip.as_str().into();
            }
        }
        Provider::Postmark => {
            json["MessageStream"] = (*stream).into();
            json["Metadata"]["sender"] = sender.into();
            if json.get("From").is_some() {
                json["From"] = sender.into();
            }
        }
        Provider::Ses => {
            let mail = &mut json["mail"];
            mail["timestamp"] = iso(*sent_at);
            mail["source"] = sender.into();
            mail["commonHeaders"]["from"] = json!([sender]);
            mail["tags"]["ses:configuration-set"] = json!([stream]);
            remove(&mut mail["tags"], &["ses:outgoing-ip"]);
            if carried.sending_ip {
                mail["tags"]["ses:outgoing-ip"] = json!([sending_ip]);
            }
        }
        Provider::Mandrill => {
            json["msg"]["ts"] = seconds.into();
            json["msg"]["sender"] = sender.into();
            if carried.sending_ip {
                json["msg"]["smtp_events"] = json!([{
                    "ts": json["ts"], "type": "sent", "diag": "250 2.0.0 OK",
                    "source_ip": sending_ip, "destination_ip": "192.0.2.25", "size": 2048,
                }]);
            }
        }
        Provider::SparkPost => {
            json["friendly_from"] = sender.into();
            json["injection_time"] = iso(*sent_at);
            remove(json, &["sending_ip"]);
            set_if(json, carried.sending_ip, "sending_ip", sending_ip);
        }
        Provider::Resend => {
            json["data"]["created_at"] = iso(*sent_at);
            json["data"]["from"] = format!("News <{sender}>").into();
        }
        Provider::Brevo => set_if(json, carried.sending_ip, "sending_ip", sending_ip),
        Provider::MailerSend => {
            json["data"]["email"]["created_at"] = iso(*sent_at);
            json["data"]["email"]["from"] = sender.into();
        }
        Provider::Postal => {
            json["payload"]["message"]["timestamp"] = (seconds as f64).into();
            json["payload"]["message"]["from"] = sender.into();
        }
        Provider::Generic | Provider::StandardWebhooks => {
            json["sender"] = sender.into();
            json["sent_at"] = iso(*sent_at);
            json["sending_ip"] = sending_ip.as_str().into();
        }
        _ => {}
    }
}

fn set_if(json: &mut Value, condition: bool, name: &str, value: &str) {
    if condition {
        json[name] = value.into();
    }
}

fn text<E>(text: Result<String, E>) -> Value {
    text.map_or(Value::Null, Value::from)
}

/// Sets the user agent of machines for which the provider has no flag.
fn reader(json: &mut Value, provider: Provider, what: What) {
    let agent = match what {
        What::Opened(By::Machine) => PRIVACY_PROXY,
        What::Clicked(By::Machine) => SCANNER,
        _ => return,
    };
    match provider {
        Provider::SendGrid => json["useragent"] = agent.into(),
        Provider::Postmark => json["UserAgent"] = agent.into(),
        Provider::Ses => {
            let report = if what == What::Opened(By::Machine) { "open" } else { "click" };
            json[report]["userAgent"] = agent.into();
        }
        Provider::Mandrill | Provider::Brevo => json["user_agent"] = agent.into(),
        Provider::Resend => json["data"]["click"]["userAgent"] = agent.into(),
        Provider::Mailjet => json["agent"] = agent.into(),
        Provider::MailerSend => json["data"]["morph"]["user_agent"] = agent.into(),
        Provider::Postal => json["payload"]["user_agent"] = agent.into(),
        // Mailgun, SparkPost and the generic form have flags, which the testkit sets.
        _ => {}
    }
}

/// Returns the answer of the recipient's server.
pub(crate) fn answer(what: What) -> Option<&'static str> {
    Some(match what {
        What::Deferred(Cause::Technical) => "451 4.3.0 Temporary lookup failure",
        What::Deferred(Cause::Rate) => {
            "421 4.7.28 Our system has detected an unusual rate of unsolicited mail from your IP address."
        }
        What::Deferred(Cause::Complaints) => {
            "421 4.7.0 [TSS04] Messages from 198.51.100.7 temporarily deferred due to unexpected volume \
             or user complaints"
        }
        What::Deferred(Cause::Listed) => {
            "421 4.7.1 Client host [198.51.100.7] blocked using zen.spamhaus.org"
        }
        What::Bounced(Bounce::Hard) | What::LateBounced => "550 5.1.1 user unknown",
        What::Bounced(Bounce::HardUnclassified) => "550 no",
        What::Bounced(Bounce::Soft) => "452 4.2.2 mailbox full",
        What::Bounced(Bounce::Block) => {
            "550 5.7.1 Client host [198.51.100.7] blocked using zen.spamhaus.org"
        }
        What::Bounced(Bounce::Unauthenticated) => {
            "550 5.7.26 This mail has been blocked because the sender is unauthenticated."
        }
        What::AutoReplied => "I am out of the office until Monday",
        _ => return None,
    })
}

/// Writes why the message was refused, in the terms of the provider.
fn refusal(json: &mut Value, provider: Provider, what: What) {
    let is_refusal = matches!(
        what,
        What::Deferred(_)
            | What::Bounced(_)
            | What::LateBounced
            | What::AutoReplied
            | What::Dropped
            | What::Suppressed
    );
    if !is_refusal {
        return;
    }
    match provider {
        Provider::SendGrid => sendgrid(json, what),
        Provider::Mailgun => mailgun(json, what),
        Provider::Postmark => postmark(json, what),
        Provider::Ses => ses(json, what),
        Provider::Mandrill => mandrill(json, what),
        Provider::SparkPost => sparkpost(json, what),
        Provider::Resend => resend(json, what),
        Provider::Brevo => brevo(json, what),
        Provider::Mailjet => mailjet(json, what),
        Provider::MailerSend => mailersend(json, what),
        Provider::Postal => postal(json, what),
        _ => generic(json, what),
    }
}

fn sendgrid(json: &mut Value, what: What) {
    match what {
        What::Deferred(_) => json["response"] = answer(what).into(),
        What::Dropped => json["reason"] = "Spam Content".into(),
        What::Suppressed => json["reason"] = "Bounced Address".into(),
        _ => {
            let is_hard = matches!(
                what,
                What::Bounced(Bounce::Hard | Bounce::HardUnclassified)
                    | What::LateBounced
                    | What::AutoReplied
            );
            json["type"] = if is_hard { "bounce" } else { "blocked" }.into();
            json["reason"] = answer(what).into();
            remove(json, &["bounce_classification", "status"]);
        }
    }
    // Late bounces have only the Message-ID.
    if what == What::LateBounced {
        remove(json, &["sg_message_id"]);
    }
}

fn mailgun(json: &mut Value, what: What) {
    if what == What::Suppressed {
        return;
    }
    let status = &mut json["delivery-status"];
    status["message"] = answer(what).into();
    remove(status, &["enhanced-code", "bounce-code", "code"]);
    if what == What::LateBounced {
        json["flags"] = json!({"is-delayed-bounce": true, "is-test-mode": false});
    }
}

fn postmark(json: &mut Value, what: What) {
    let (name, code) = match what {
        What::Bounced(Bounce::Soft) => ("SoftBounce", 4_096),
        What::Bounced(Bounce::Block) => ("Blocked", 100_006),
        What::Bounced(Bounce::Unauthenticated) => ("DMARCPolicy", 100_009),
        What::AutoReplied => ("AutoResponder", 64),
        What::Suppressed => ("ManuallyDeactivated", 100_002),
        What::Deferred(_) => ("Transient", 2),
        _ => ("HardBounce", 1),
    };
    json["Type"] = name.into();
    json["Name"] = name.into();
    json["TypeCode"] = code.into();
    json["Details"] = answer(what).map_or(String::new(), |answer| format!("smtp;{answer}")).into();
}

fn ses(json: &mut Value, what: What) {
    let diagnostic = answer(what).map(|answer| format!("smtp; {answer}"));
    let (report, recipients) = match what {
        What::Deferred(_) => ("deliveryDelay", "delayedRecipients"),
        What::Dropped => return,
        _ => ("bounce", "bouncedRecipients"),
    };
    let recipient = &mut json[report][recipients][0];
    recipient["diagnosticCode"] = diagnostic.into();
    remove(recipient, &["status"]);
    if report == "bounce" {
        let (of_type, sub_type) = match what {
            What::Bounced(Bounce::Soft) => ("Transient", "MailboxFull"),
            What::Bounced(Bounce::Block) | What::AutoReplied => ("Transient", "General"),
            What::Bounced(Bounce::Undetermined) => ("Undetermined", "Undetermined"),
            What::Suppressed => ("Permanent", "OnAccountSuppressionList"),
            _ => ("Permanent", "General"),
        };
        json[report]["bounceType"] = of_type.into();
        json[report]["bounceSubType"] = sub_type.into();
    }
}

fn mandrill(json: &mut Value, what: What) {
    let (event, description) = match what {
        What::Deferred(_) => {
            json["msg"]["smtp_events"][0]["diag"] = answer(what).into();
            json["msg"]["smtp_events"][0]["type"] = "deferred".into();
            return;
        }
        What::Dropped | What::Suppressed => return,
        What::Bounced(Bounce::Soft) => ("soft_bounce", "mailbox_full"),
        What::Bounced(Bounce::Block) => ("soft_bounce", "spam_block"),
        What::Bounced(Bounce::Unauthenticated) => ("soft_bounce", "general"),
        What::AutoReplied => ("soft_bounce", "out_of_office"),
        _ => ("hard_bounce", "bad_mailbox"),
    };
    json["event"] = event.into();
    json["msg"]["bounce_description"] = description.into();
    json["msg"]["diag"] = answer(what).map(|answer| format!("smtp;{answer}")).into();
    remove(&mut json["msg"], &["bgtools_code"]);
}

fn sparkpost(json: &mut Value, what: What) {
    let class = match what {
        What::Deferred(_) => "20",
        What::Bounced(Bounce::Soft) => "22",
        What::Bounced(Bounce::Block) => "51",
        What::Bounced(Bounce::Unauthenticated) => "50",
        What::Bounced(Bounce::Undetermined) => "1",
        What::AutoReplied => "60",
        What::Dropped => "25",
        What::Suppressed => "26",
        _ => "10",
    };
    json["bounce_class"] = class.into();
    json["raw_reason"] = answer(what).into();
    json["reason"] = answer(what).into();
    remove(json, &["error_code"]);
    if what == What::LateBounced {
        json["type"] = "out_of_band".into();
    }
}

fn generic(json: &mut Value, what: What) {
    let permanence = match what {
        What::Dropped | What::Suppressed => return,
        What::Bounced(Bounce::Undetermined) => "undetermined",
        What::Deferred(_) | What::Bounced(Bounce::Soft | Bounce::Block) => "soft",
        _ => "hard",
    };
    json["bounce"] = json!({"permanence": permanence, "diagnostic": answer(what)});
}

fn resend(json: &mut Value, what: What) {
    let (of_type, sub_type) = match what {
        What::Deferred(_) | What::Dropped => return,
        What::Suppressed => {
            json["type"] = "email.suppressed".into();
            json["data"]["suppressed"] = json!({"type": "OnAccountSuppressionList", "message": "The address is suppressed."});
            remove(&mut json["data"], &["failed"]);
            return;
        }
        What::Bounced(Bounce::Soft) => ("Transient", "MailboxFull"),
        What::Bounced(Bounce::Block) | What::AutoReplied => ("Transient", "General"),
        What::Bounced(Bounce::Undetermined) => ("Undetermined", "Undetermined"),
        _ => ("Permanent", "General"),
    };
    let diagnostic: Vec<String> =
        answer(what).map(|answer| format!("smtp; {answer}")).into_iter().collect();
    json["data"]["bounce"] = json!({
        "type": of_type, "subType": sub_type, "message": "See the diagnostic code.",
        "diagnosticCode": diagnostic,
    });
}

fn brevo(json: &mut Value, what: What) {
    let event = match what {
        What::Deferred(_) => "deferred",
        What::Dropped => "error",
        What::Suppressed => "blocked",
        What::Bounced(Bounce::Soft | Bounce::Block) | What::AutoReplied => "soft_bounce",
        _ => "hard_bounce",
    };
    json["event"] = event.into();
    if let Some(answer) = answer(what) {
        json["reason"] = answer.into();
    } else if what == What::Dropped {
        json["reason"] = "The template could not be rendered".into();
    }
}

fn mailjet(json: &mut Value, what: What) {
    let (related, error) = match what {
        What::Suppressed => return,
        What::Dropped => ("mailjet", "duplicate in campaign"),
        What::Bounced(Bounce::Soft) => ("recipient", "quota exceeded"),
        What::Bounced(Bounce::Block) => ("spam", "sender blocked"),
        What::Bounced(Bounce::Unauthenticated) => ("spam", "policy issue"),
        What::AutoReplied => ("", ""),
        _ => ("recipient", "user unknown"),
    };
    json["error_related_to"] = related.into();
    json["error"] = error.into();
    if what != What::Dropped {
        let is_hard = matches!(what, What::Bounced(Bounce::Hard) | What::LateBounced);
        json["hard_bounce"] = is_hard.into();
        json["comment"] = answer(what).into();
    }
}

fn mailersend(json: &mut Value, what: What) {
    let is_soft = matches!(what, What::Bounced(Bounce::Soft | Bounce::Block) | What::AutoReplied);
    let name = if is_soft { "soft_bounced" } else { "hard_bounced" };
    json["type"] = format!("activity.{name}").into();
    json["data"]["type"] = name.into();
    json["data"]["morph"]["reason"] = answer(what).into();
}

fn postal(json: &mut Value, what: What) {
    let timestamp = json["timestamp"].clone();
    let payload = &mut json["payload"];
    match what {
        What::LateBounced => {
            let original = payload["message"].take();
            *payload = json!({
                "original_message": original,
                "bounce": {
                    "id": 1_564, "token": "zw6psSlgo6kj", "direction": "incoming",
                    "message_id": "bounce@mx.example.com", "to": "news@psrp.example.com",
                    "from": "MAILER-DAEMON@mx.example.com", "subject": "Undelivered Mail",
                    "timestamp": timestamp, "spam_status": "NotChecked", "tag": null,
                },
            });
            json["event"] = "MessageBounced".into();
        }
        What::Dropped => payload["details"] = "Server is in development mode.".into(),
        What::Suppressed => {
            payload["details"] = "Recipient (ada@example.com) is on the suppression list".into();
        }
        _ => payload["output"] = answer(what).into(),
    }
}

fn remove(json: &mut Value, names: &[&str]) {
    if let Some(object) = json.as_object_mut() {
        names.iter().for_each(|name| drop(object.remove(*name)));
    }
}

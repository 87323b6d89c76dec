//! A recipient is a bare address, wherever and however the provider writes it.

use event::{Kind, Provider};

use crate::{read, read_one, samples};

#[test]
fn display_names_are_no_part_of_a_recipient() {
    for provider in Provider::ALL {
        for written in [
            "Jun Ito <Jun@Ropewalk.example>",
            r#"\"Ito, Jun\" <jun@ropewalk.example>"#,
            r#"\"Jun <the rope> Ito\" <JUN@ropewalk.example>"#,
            " <jun@ropewalk.example> ",
        ] {
            let found = read_one(provider, &samples::body(provider, written, "no", "1762787700"));
            assert_eq!(found.key, "jun@ropewalk.example", "{provider}: {written}");
            assert_eq!(found.field("/recipient"), Some("jun@ropewalk.example"), "{provider}");
            assert_eq!(found.field("/recipient_domain"), Some("ropewalk.example"), "{provider}");
            let diagnostic = found.field("/bounce/diagnostic");
            assert_eq!(diagnostic, Some("550 no"), "{provider}: the details of this recipient");
        }
    }
}

#[test]
fn a_message_that_mailgun_rejected_has_the_recipients_of_its_headers() {
    let rejected = |inner: &str| {
        let body = format!(
            r#"{{"signature":{{}},"event-data":{{"event":"rejected","id":"r1","timestamp":1762787700.5,
                "reject":{{"reason":"no"}},{inner}}}}}"#
        );
        read(Provider::Mailgun, &body)
            .into_iter()
            .map(|read| (read.kind, read.key))
            .collect::<Vec<_>>()
    };
    let dropped = |keys: &[&str]| {
        keys.iter().map(|key| (Kind::Dropped, (*key).to_owned())).collect::<Vec<_>>()
    };
    let to = r#""message":{"headers":{"to":"\"Ito, Jun\" <Jun@ropewalk.example>, odile@quayside.example"}}"#;
    assert_eq!(rejected(to), dropped(&["jun@ropewalk.example", "odile@quayside.example"]));
    let targets = format!(r#""envelope":{{"targets":"mina@buoy.example"}},{to}"#);
    assert_eq!(rejected(&targets), dropped(&["mina@buoy.example"]));
    let direct = format!(r#""recipient":"mina@buoy.example",{to}"#);
    assert_eq!(rejected(&direct), dropped(&["mina@buoy.example"]));
    assert_eq!(rejected(r#""message":{}"#), dropped(&[""]));
}

#[test]
fn what_mailgun_stored_was_sent_to_us_and_a_member_is_a_person() {
    let stored = r#"{"signature":{},"event-data":{"event":"stored","id":"s1","timestamp":1762787700.5,
        "message":{"recipients":["inbox@harbour.example"],"headers":{"to":"inbox@harbour.example"}}}}"#;
    assert_eq!(read_one(Provider::Mailgun, stored).key, "");
    let member = r#"{"signature":{},"event-data":{"event":"list_member_uploaded","id":"l1",
        "timestamp":1762787700.5,"member":{"address":"Jun <jun@ropewalk.example>"}}}"#;
    assert_eq!(read_one(Provider::Mailgun, member).key, "jun@ropewalk.example");
}

#[test]
fn an_ses_event_without_a_destination_has_the_recipients_of_its_headers() {
    let ses = r#"{"eventType":"Send","send":{},"mail":{"messageId":"m1","timestamp":"2025-11-10T15:15:00Z",
        "commonHeaders":{"to":["Jun <jun@ropewalk.example>, odile@quayside.example"]}}}"#;
    let keys = read(Provider::Ses, &samples::wrap(Provider::Ses, ses.to_owned()));
    let keys: Vec<_> = keys.into_iter().map(|read| read.key).collect();
    assert_eq!(keys, ["jun@ropewalk.example", "odile@quayside.example"]);
}

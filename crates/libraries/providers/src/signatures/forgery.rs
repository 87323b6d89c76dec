use proptest::prelude::*;

use super::*;

/// One byte changed: of the body, or of a header that is signed, which are all but the last.
fn changed(sent: &Sent, place: prop::sample::Index, difference: u8) -> Sent {
    let mut changed = sent.clone();
    let signed = changed.headers.len() - 1;
    let in_header = changed.headers[..signed].iter().map(|(_, value)| value.len()).sum::<usize>();
    match place.index(in_header + changed.body.len()).checked_sub(in_header) {
        Some(offset) => changed.body[offset] ^= difference,
        None => {
            let mut offset = place.index(in_header + changed.body.len());
            for (_, value) in &mut changed.headers[..signed] {
                if let Some(byte) = value.get_mut(offset) {
                    *byte ^= difference;
                    break;
                }
                offset -= value.len();
            }
        }
    }
    changed
}

proptest! {
    #[test]
    fn no_signed_byte_can_be_changed(place: prop::sample::Index, difference in 1..=255_u8) {
        let cases = [
            (authenticator(Provider::SendGrid, &[&ECDSA[0].public], Options::default()),
                sendgrid(&ECDSA[0], NOW)),
            (authenticator(Provider::Generic, &["key"], Options::default()), generic("key", NOW)),
            (authenticator(Provider::Resend, &[WHSEC], Options::default()),
                standard_webhooks(SVIX, NOW)),
            (authenticator(Provider::StandardWebhooks, &[WHSEC], Options::default()),
                standard_webhooks(SPECIFIED, NOW)),
            (authenticator(Provider::MailerSend, &["key"], Options::default()), mailersend("key")),
            (authenticator(Provider::Postal, &[POSTAL_KEY], Options::default()),
                postal(&[POSTAL_SHA256])),
            (authenticator(Provider::Postal, &[POSTAL_KEY], Options::default()),
                postal(&[POSTAL_SHA1])),
        ];
        for (authenticator, sent) in cases {
            prop_assert_eq!(sent.verify(&authenticator, NOW), Ok(()));
            prop_assert!(changed(&sent, place, difference).verify(&authenticator, NOW).is_err());
        }
    }

    /// Mailgun covers the timestamp and the token; any change elsewhere shows in the content.
    #[test]
    fn a_changed_event_is_other_content(place: prop::sample::Index, difference in 1..=255_u8) {
        let source = authenticator(Provider::Mailgun, &["key"], Options::default());
        for sent in [mailgun(&mailgun_signature("key", NOW)), schemes::mailgun_form("key", NOW)] {
            let once = |sent: &Sent| sent.verified(&source, NOW).ok().and_then(|good| good.once);
            let first = once(&sent).unwrap();
            let mut other = sent.clone();
            other.body[place.index(sent.body.len())] ^= difference;
            if let Some(second) = once(&other) {
                prop_assert_eq!(first.token, second.token);
                let same = schemes::same_event(&sent.body, &other.body);
                prop_assert_eq!(first.content == second.content, same);
            }
        }
    }

    #[test]
    fn no_decoded_byte_of_a_form_can_be_changed(place: prop::sample::Index, difference in 1..=255_u8) {
        let options = Options { public_url: Some(URL.into()), ..Options::default() };
        let authenticator = authenticator(Provider::Mandrill, &["key"], options);
        let sent = mandrill("key", "[{\"event\":\"send\",\"msg\":{\"subject\":\"a+b é\"}}]");
        prop_assert_eq!(sent.verify(&authenticator, NOW), Ok(()));
        let mut other = sent.clone();
        let offset = place.index(other.body.len());
        other.body[offset] ^= difference;
        // `%5b` and `%5B` are the same byte.
        let same = crate::mandrill::same_fields(&sent.body, &other.body);
        prop_assert_eq!(other.verify(&authenticator, NOW).is_ok(), same);
    }

    #[test]
    fn no_covered_field_of_an_envelope_can_be_changed(
        field in prop::sample::select(&["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type", "Signature"]),
        place: prop::sample::Index,
        letter in "[a-zA-Z0-9]",
    ) {
        let sent = sns(|envelope| {
            let text = envelope[field].as_str().unwrap();
            let offset = place.index(text.len());
            let other = format!("{}{letter}{}", &text[..offset], &text[offset..]);
            envelope[field] = other.into();
        });
        prop_assert!(sent.verify(&ses(Options::default()), NOW).is_err());
    }
}

//! No address is left in a rewritten body, whatever the format of the body and the spelling of the
//! address.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use event::recipient_key;
use privacy::Pseudonymizer;
use proptest::prelude::*;
use serde_json::{Value, json};

fn pseudonymizer() -> Pseudonymizer {
    Pseudonymizer::new(b"a key of the tests alone").unwrap()
}

/// Generates addresses. The local part ends with a letter that is not a hexadecimal digit, so the end
/// of a pseudonym never equals a local part.
fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-zA-Z0-9][a-zA-Z0-9.+_=-]{0,9}[g-zG-Z]@[a-zA-Z0-9]{1,8}(\\.[a-z]{2,5}){0,2}",
        // A quoted local part, with an address inside (RFC 5321 §4.1.2).
        1 => "\"[a-z]{1,4}[g-z]@[a-z]{1,4}[g-z]\"@[a-z]{1,8}\\.[a-z]{2,5}",
    ]
}

/// How a text is escaped.
#[derive(Debug, Clone)]
enum Spelling {
    Plain,
    /// The characters at the bits of the mask are percent-encoded this number of times.
    Percent(u64, usize),
    /// The characters at the bits of the mask are written as `\uXXXX`.
    Unicode(u64),
}

fn spelling() -> impl Strategy<Value = Spelling> {
    prop_oneof![
        Just(Spelling::Plain),
        (any::<u64>(), 1_usize..4).prop_map(|(mask, times)| Spelling::Percent(mask, times)),
        any::<u64>().prop_map(Spelling::Unicode),
    ]
}

impl Spelling {
    fn escape(&self, text: &str) -> String {
        let chosen = |mask: u64, at: usize| mask >> (at % 64) & 1 == 1;
        let each = text.chars().enumerate().map(|(at, c)| match *self {
            Self::Percent(mask, times) if chosen(mask, at) => {
                format!("%{}{:02X}", "25".repeat(times - 1), u32::from(c))
            }
            Self::Unicode(mask) if chosen(mask, at) => format!("\\u{:04x}", u32::from(c)),
            _ => c.to_string(),
        });
        each.collect()
    }
}

/// Returns an event with an address in the fields in which providers put addresses.
fn event(address: &str, escaped: &str) -> Value {
    json!({
        "email": address,
        "smtp-id": "<1@mx.test>",
        "to": [format!("Ada <{escaped}>"), escaped],
        "reason": format!("550 5.1.1 <{escaped}>: no such user, see https://help.test/?a=1"),
        "url": format!("https://shop.test/u?a=1&email={escaped}&x=2#top"),
        "link": format!("https://shop.test/u/{escaped}/end"),
        address: escaped,
    })
}

/// Returns bodies in all formats that contain the event.
fn bodies(address: &str, spelling: &Spelling) -> Vec<Vec<u8>> {
    let event = event(address, &spelling.escape(address));
    let text = event.to_string();
    let escaped = match spelling {
        // JSON allows these escapes only inside its strings.
        Spelling::Unicode(_) => text.replace(address, &spelling.escape(address)),
        _ => text.clone(),
    };
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("mandrill_events", &text)
        .append_pair("recipient", address)
        .finish();
    let part = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    vec![
        escaped.into_bytes(),
        json!({"Type": "Notification", "Message": text}).to_string().into_bytes(),
        json!([[json!([text]).to_string()]]).to_string().into_bytes(),
        form.into_bytes(),
        format!("recipient={}&event=opened", spelling.escape(address)).into_bytes(),
        format!("{}{}--b--\r\n", part("recipient", address), part("x", &text)).into_bytes(),
        format!("\u{feff}{} wrote", spelling.escape(address)).into_bytes(),
        [b"\xff ", address.as_bytes()].concat(),
    ]
}

/// Returns a body in lower case with all its escapes decoded.
fn decoded(body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(body).to_lowercase();
    loop {
        let mut next = text.replace('\\', "");
        for byte in 0x21..0x7f_u8 {
            let character = char::from(byte).to_string();
            next = next.replace(&format!("%{byte:02x}"), &character);
            next = next.replace(&format!("u{byte:04x}"), &character);
        }
        if next == text {
            return text.to_lowercase();
        }
        text = next;
    }
}

proptest! {
    #[test]
    fn rewritten_bodies_contain_no_address(address in address(), spelling in spelling()) {
        for body in bodies(&address, &spelling) {
            let published = pseudonymizer().rewrite_body(&body).into_owned();
            let text = decoded(&published);
            prop_assert!(decoded(&body).contains(&address.to_lowercase()), "the original body contains it");
            prop_assert!(
                !text.contains(&address.to_lowercase()),
                "{address}\n{}\n{}", String::from_utf8_lossy(&body), String::from_utf8_lossy(&published)
            );
        }
    }

    /// Truncated bodies cannot be split and go to the dead letters.
    #[test]
    fn rewritten_truncated_bodies_contain_no_address(
        address in address(),
        spelling in spelling(),
        which in 0_usize..8,
        share in 0.0..1.0_f64,
    ) {
        let body = &bodies(&address, &spelling)[which];
        let cut = &body[..(body.len() as f64 * share) as usize];
        let text = decoded(&pseudonymizer().rewrite_body(cut));
        prop_assert!(
            !text.contains(&address.to_lowercase()),
            "{address}\n{}\n{text}", String::from_utf8_lossy(cut)
        );
    }

    #[test]
    fn an_event_changes_only_in_its_addresses(address in address(), spelling in spelling()) {
        let pseudonymizer = pseudonymizer();
        let body = &bodies(&address, &spelling)[0];
        let published: Value = serde_json::from_slice(&pseudonymizer.rewrite_body(body)).unwrap();
        let email = recipient_key(published["email"].as_str().unwrap()).into_owned();
        prop_assert_eq!(Some(email), pseudonymizer.pseudonym(&address));
        prop_assert_eq!(&published["smtp-id"], "<1@mx.test>");
        let url = published["url"].as_str().unwrap();
        prop_assert!(url.starts_with("https://shop.test/u?a=1&email="), "{}", url);
        prop_assert!(url.ends_with("&x=2#top"), "{}", url);
    }

    #[test]
    fn arbitrary_bytes_always_give_the_same_result(
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        prop_assert_eq!(pseudonymizer().rewrite_body(&body), pseudonymizer().rewrite_body(&body));
    }

    #[test]
    fn text_of_special_characters_stays_text(body in "[-a@.%40u\\\\\"{}\\[\\]:,=&;<> \r\n/?é]{0,60}") {
        let published = pseudonymizer().rewrite_body(body.as_bytes()).into_owned();
        prop_assert!(String::from_utf8(published).is_ok());
    }
}

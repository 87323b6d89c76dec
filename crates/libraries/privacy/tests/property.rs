//! Whatever the body and however an address is written in it: it is not found in what is
//! published.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use event::recipient_key;
use privacy::Pseudonyms;
use proptest::prelude::*;
use serde_json::{Value, json};

fn pseudonyms() -> Pseudonyms {
    Pseudonyms::new(b"a key of the tests alone").unwrap()
}

/// An address in any case. Its local part ends with a letter that no hexadecimal digit is, so that
/// the end of a pseudonym is never taken for it.
fn address() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9][a-zA-Z0-9.+_=-]{0,9}[g-zG-Z]@[a-zA-Z0-9]{1,8}(\\.[a-z]{2,5}){0,2}"
}

/// How a text is written.
#[derive(Debug, Clone)]
enum Spelling {
    AsItIs,
    /// Each character percent-encoded where the mask has a bit, so many times over.
    Percent(u64, usize),
    /// Each character as `\uXXXX` where the mask has a bit.
    Unicode(u64),
}

fn spelling() -> impl Strategy<Value = Spelling> {
    prop_oneof![
        Just(Spelling::AsItIs),
        (any::<u64>(), 1_usize..4).prop_map(|(mask, times)| Spelling::Percent(mask, times)),
        any::<u64>().prop_map(Spelling::Unicode),
    ]
}

impl Spelling {
    fn of(&self, text: &str) -> String {
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

/// Where providers put addresses.
fn event(address: &str, spelled: &str) -> Value {
    json!({
        "email": address,
        "smtp-id": "<1@mx.test>",
        "to": [format!("Ada <{spelled}>"), spelled],
        "reason": format!("550 5.1.1 <{spelled}>: no such user, see https://help.test/?a=1"),
        "url": format!("https://shop.test/u?a=1&email={spelled}&x=2#top"),
        "link": format!("https://shop.test/u/{spelled}/end"),
        address: spelled,
    })
}

/// The bodies that an event comes in.
fn bodies(address: &str, spelling: &Spelling) -> Vec<Vec<u8>> {
    let event = event(address, &spelling.of(address));
    let text = event.to_string();
    let escaped = match spelling {
        // Within its strings only.
        Spelling::Unicode(_) => text.replace(address, &spelling.of(address)),
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
        format!("recipient={}&event=opened", spelling.of(address)).into_bytes(),
        format!("{}{}--b--\r\n", part("recipient", address), part("x", &text)).into_bytes(),
        format!("\u{feff}{} wrote", spelling.of(address)).into_bytes(),
        [b"\xff ", address.as_bytes()].concat(),
    ]
}

/// A body with everything undone that a reader might undo, in lower case.
fn laid_bare(body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(body).to_lowercase();
    loop {
        let mut undone = text.replace('\\', "");
        for byte in 0x21..0x7f_u8 {
            let character = char::from(byte).to_string();
            undone = undone.replace(&format!("%{byte:02x}"), &character);
            undone = undone.replace(&format!("u{byte:04x}"), &character);
        }
        if undone == text {
            return text.to_lowercase();
        }
        text = undone;
    }
}

proptest! {
    #[test]
    fn no_address_is_found_in_what_is_published(address in address(), spelling in spelling()) {
        for body in bodies(&address, &spelling) {
            let published = pseudonyms().body(&body).into_owned();
            let bare = laid_bare(&published);
            prop_assert!(laid_bare(&body).contains(&address.to_lowercase()), "the test looks for it");
            prop_assert!(
                !bare.contains(&address.to_lowercase()),
                "{address}\n{}\n{}", String::from_utf8_lossy(&body), String::from_utf8_lossy(&published)
            );
        }
    }

    /// Garbage that begins like a body, as dead letters do.
    #[test]
    fn nor_in_what_is_left_of_a_body(
        address in address(),
        spelling in spelling(),
        which in 0_usize..8,
        share in 0.0..1.0_f64,
    ) {
        let body = &bodies(&address, &spelling)[which];
        let cut = &body[..(body.len() as f64 * share) as usize];
        let bare = laid_bare(&pseudonyms().body(cut));
        prop_assert!(!bare.contains(&address.to_lowercase()), "{address}\n{}\n{bare}", String::from_utf8_lossy(cut));
    }

    #[test]
    fn an_event_stays_what_it_was_but_for_its_addresses(address in address(), spelling in spelling()) {
        let pseudonyms = pseudonyms();
        let body = &bodies(&address, &spelling)[0];
        let published: Value = serde_json::from_slice(&pseudonyms.body(body)).unwrap();
        let email = recipient_key(published["email"].as_str().unwrap()).into_owned();
        prop_assert_eq!(Some(email), pseudonyms.of(&address));
        prop_assert_eq!(&published["smtp-id"], "<1@mx.test>");
        let url = published["url"].as_str().unwrap();
        prop_assert!(url.starts_with("https://shop.test/u?a=1&email="), "{}", url);
        prop_assert!(url.ends_with("&x=2#top"), "{}", url);
    }

    #[test]
    fn any_bytes_are_taken_and_give_the_same_again(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(pseudonyms().body(&body), pseudonyms().body(&body));
    }

    #[test]
    fn any_text_of_our_alphabet_is_taken(body in "[-a@.%40u\\\\\"{}\\[\\]:,=&;<> \r\n/?é]{0,60}") {
        let published = pseudonyms().body(body.as_bytes()).into_owned();
        prop_assert!(String::from_utf8(published).is_ok());
    }
}

//! What a viewer sees of texts that contain addresses of recipients.

use alerting::page::{mask_address, mask_addresses, mask_text_about};

use crate::access::Role;

/// Returns an address, or for a viewer its masked form: `ada…@example.com`.
pub fn address(role: Role, address: &str) -> String {
    match role {
        Role::Investigator => address.to_owned(),
        Role::Viewer => mask_address(address),
    }
}

/// Returns a text, for a viewer with every address in it masked.
pub fn text(role: Role, text: &str) -> String {
    match role {
        Role::Investigator => text.to_owned(),
        Role::Viewer => mask_addresses(text),
    }
}

/// Returns a text about a recipient. Servers often name the local part alone, such as `550 ada.lovelace: unknown`, so
/// a viewer does not see that either.
pub fn text_about(role: Role, text: &str, recipient: &str) -> String {
    match role {
        Role::Investigator => text.to_owned(),
        Role::Viewer => mask_text_about(text, recipient),
    }
}

/// Returns a URL, for a viewer without query and fragment, which often name the recipient.
pub fn url(role: Role, url: &str) -> String {
    text(role, shown_part(role, url))
}

/// Returns a URL that a recipient has followed, for a viewer without query, fragment and the recipient.
pub fn url_about(role: Role, url: &str, recipient: &str) -> String {
    text_about(role, shown_part(role, url), recipient)
}

fn shown_part(role: Role, url: &str) -> &str {
    match role {
        Role::Investigator => url,
        Role::Viewer => url.split(['?', '#']).next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_sees_no_address() {
        let shown = |it| text(Role::Viewer, it);
        for (text, expected) in [
            ("550 <ada.example@mail.example>: unknown", "550 <ada…@mail.example>: unknown"),
            ("to=b@c.example,d", "to=…@c.example,d"),
            ("grüße an jo@x.example!", "grüße an j…@x.example!"),
            ("550 5.1.1 unknown", "550 5.1.1 unknown"),
            ("'o'brien@x.example'", "'o'b…@x.example'"),
            ("\"ada lovelace\"@x.example", "\"ad…@x.example"),
            ("ada@[192.0.2.1], bob@x", "a…[192.0.2.1], b…@x"),
            ("a@b@c.example", "a…@c.example"),
            ("@ @@ 100% \\ %2", "… @… 100% \\ %2"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        let link = "https://shop.example/u/ada%40mail.example/x?email=ada@mail.example";
        assert_eq!(url(Role::Viewer, link), "https://shop.example/u/a…@mail.example/x");
        assert_eq!(address(Role::Viewer, "adalove@mail.example"), "ada…@mail.example");
    }

    #[test]
    fn a_viewer_sees_no_address_in_another_spelling() {
        for text_of in [
            "bounce+ada=example.com@acme.example",
            "x ada%2540example.com y",
            "ada%252540example.com",
            "{\"to\":\"ada\\u0040example.com\"}",
            "SRS0=ab=cd=example.com=ada@acme.example",
            "bounces-ada%40example.com@acme.example",
        ] {
            for shown in [text(Role::Viewer, text_of), url(Role::Viewer, text_of)] {
                assert!(!shown.contains("ada") && shown.contains('…'), "{text_of}: {shown}");
            }
        }
    }

    #[test]
    fn a_viewer_does_not_see_the_local_part_of_the_recipient_alone() {
        let shown = |it| text_about(Role::Viewer, it, "ada.lovelace+news@example.com");
        for (text, expected) in [
            ("550 ada.lovelace+news... User unknown", "550 ada…... User unknown"),
            ("550 Ada.Lovelace: full", "550 ada…: full"),
            ("ADA.LOVELACE+NEWS@example.com", "ADA…@example.com"),
            ("grüße, ada.lovelace", "grüße, ada…"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        let link = "https://shop.example/u/ada.lovelace%2bnews/x?y";
        let shown = url_about(Role::Viewer, link, "ada.lovelace+news@example.com");
        assert_eq!(shown, "https://shop.example/u/ada…/x");
        let short = "550 jo: unknown";
        assert_eq!(text_about(Role::Viewer, short, "jo@example.com"), short);
        assert_eq!(text_about(Role::Viewer, short, "no address"), short);
    }

    #[test]
    fn an_investigator_sees_everything() {
        let text_of = "550 <ada@mail.example>?x";
        assert_eq!(text(Role::Investigator, text_of), text_of);
        assert_eq!(text_about(Role::Investigator, text_of, "ada@mail.example"), text_of);
        assert_eq!(url(Role::Investigator, text_of), text_of);
        assert_eq!(url_about(Role::Investigator, text_of, "ada@mail.example"), text_of);
        assert_eq!(address(Role::Investigator, "ada@mail.example"), "ada@mail.example");
    }
}

//! An event as a line.

use std::borrow::Cow;
use std::io::{self, Write};

use alerting::page::{mask_address, mask_addresses, mask_text_about};
use event::{Kind, Provider};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::text;

/// The fields of an event that are printed. Texts of servers and clients, links and the provider's bytes are left
/// out, because addresses can be hidden in them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TailedEvent<'a> {
    #[serde(borrow)]
    pub(super) event_id: Cow<'a, str>,
    pub(super) kind: Kind,
    pub(super) provider: Provider,
    #[serde(borrow)]
    pub(super) source: Cow<'a, str>,
    /// UTC microseconds.
    pub(super) occurred_at: i64,
    /// UTC microseconds.
    pub(super) received_at: i64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) recipient: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    mailbox_provider: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    message_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    campaign: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    tenant: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    bounce: Option<Bounce<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    automation: Option<Automation<'a>>,
    #[serde(borrow)]
    request_id: Cow<'a, str>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Bounce<'a> {
    #[serde(borrow, default)]
    permanence: Cow<'a, str>,
    #[serde(borrow, default)]
    class: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    status: Option<Cow<'a, str>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Automation<'a> {
    #[serde(borrow)]
    reason: Cow<'a, str>,
}

/// The place of the record in `mail.events`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

#[derive(Serialize)]
struct JsonLine<'a> {
    #[serde(flatten)]
    event: TailedEvent<'a>,
    partition: i32,
    offset: i64,
}

/// How events are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    pub(super) json: bool,
    /// Whether addresses are shown.
    pub(super) addresses: bool,
}

impl Format {
    /// Writes one line. `value` is the whole event as JSON.
    pub(super) fn write(
        self,
        out: &mut impl Write,
        event: &TailedEvent<'_>,
        value: &[u8],
        at: Position,
    ) -> io::Result<()> {
        if self.json && self.addresses {
            // Between tokens the provider's bytes may have line ends, which strings cannot contain.
            let line: Vec<u8> = value
                .iter()
                .map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte })
                .collect();
            out.write_all(&line)?;
            return out.write_all(b"\n");
        }
        let event = if self.addresses { event.clone() } else { masked(event) };
        if self.json {
            let Position { partition, offset } = at;
            serde_json::to_writer(&mut *out, &JsonLine { event, partition, offset })?;
            return out.write_all(b"\n");
        }
        writeln!(out, "{}", text::escape_line(line(&event).as_bytes()))
    }
}

fn masked<'a>(event: &TailedEvent<'a>) -> TailedEvent<'a> {
    let recipient = event.recipient.as_deref().unwrap_or_default();
    // An id or a campaign can contain the address of whom it is about.
    let mask = |text: &Option<Cow<'_, str>>| {
        text.as_deref().map(|text| {
            let masked = if recipient.is_empty() {
                mask_addresses(text)
            } else {
                mask_text_about(text, recipient)
            };
            Cow::Owned(masked)
        })
    };
    TailedEvent {
        recipient: event.recipient.as_deref().map(|address| Cow::Owned(mask_address(address))),
        message_id: mask(&event.message_id),
        campaign: mask(&event.campaign),
        ..event.clone()
    }
}

fn line(event: &TailedEvent<'_>) -> String {
    let or_dash = |text: &Option<Cow<'_, str>>| match text.as_deref() {
        None | Some("") => "-".to_owned(),
        Some(text) => text::truncate_line(text.as_bytes(), 48),
    };
    let at = Timestamp::from_microsecond(event.occurred_at).unwrap_or_default();
    let mut detail: Vec<&str> = Vec::new();
    if let Some(bounce) = &event.bounce {
        detail.extend([&*bounce.permanence, &*bounce.class]);
        detail.extend(bounce.status.as_deref());
    }
    if let Some(automation) = &event.automation {
        detail.extend(["machine", &*automation.reason]);
    }
    format!(
        "{at:.3} {:<12} {:<24} {:<32} {:<10} {:<20} {} {}",
        event.kind.as_str(),
        format!("{}/{}", event.provider, event.source),
        or_dash(&event.recipient),
        or_dash(&event.mailbox_provider),
        or_dash(&event.campaign),
        event.event_id,
        detail.join(" "),
    )
    .trim_end()
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"event_id":"895b","kind":"bounced","provider":"sendgrid","source":"acme",
        "occurred_at":1795255199000000,"received_at":1795255200000000,"recipient":"ada.l@example.com",
        "mailbox_provider":"gmail","message_id":"m-ada.l@example.com","campaign":"spring\nada.l",
        "bounce":{"permanence":"hard","class":"invalid_recipient","side":"recipient","status":"5.1.1",
        "diagnostic":"550 ada.l@example.com unknown"},"provider_event":"bounce","request_id":"r1","raw":{"a":
        1}}"#;

    fn written(format: Format) -> String {
        let event: TailedEvent<'_> = serde_json::from_str(EVENT).unwrap();
        let mut out = Vec::new();
        let at = Position { partition: 3, offset: 77 };
        format.write(&mut out, &event, EVENT.as_bytes(), at).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn addresses_are_masked_unless_they_are_asked_for() {
        for json in [false, true] {
            let text = written(Format { json, addresses: false });
            assert!(!text.contains("ada.l"), "{text}");
            assert!(text.contains("ada…@example.com"), "{text}");
            let text = written(Format { json, addresses: true });
            assert!(text.contains("ada.l@example.com"), "{text}");
        }
    }

    #[test]
    fn every_event_is_one_line() {
        for json in [false, true] {
            for addresses in [false, true] {
                let text = written(Format { json, addresses });
                assert_eq!(text.lines().count(), 1, "{text}");
                assert!(text.ends_with('\n'));
            }
        }
        let line = written(Format { json: false, addresses: false });
        assert!(line.starts_with("2026-11-21T09:59:59.000Z bounced"), "{line}");
        assert!(line.contains("sendgrid/acme") && line.contains("hard invalid_recipient 5.1.1"));
    }

    #[test]
    fn json_has_the_place_or_the_whole_event() {
        let masked: serde_json::Value =
            serde_json::from_str(&written(Format { json: true, addresses: false })).unwrap();
        assert_eq!((&masked["partition"], &masked["offset"]), (&3.into(), &77.into()));
        assert!(masked.get("raw").is_none() && masked["bounce"].get("diagnostic").is_none());
        let whole: serde_json::Value =
            serde_json::from_str(&written(Format { json: true, addresses: true })).unwrap();
        assert_eq!(whole["raw"]["a"], 1);
    }
}

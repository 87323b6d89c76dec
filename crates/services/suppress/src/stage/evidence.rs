//! Why an entry changes, for people.

use event::{Event, Kind};
use suppression::entry::{Evidence, name};
use suppression::{Signal, wording};

/// Returns why an entry changes, without what identifies a person.
pub(super) fn evidence(event: &Event<'_>, signal: Signal) -> Evidence {
    let text = |text: &event::Text<'_>| name(text.as_str()).into_owned();
    let bounce = event.bounce.as_ref();
    let diagnostic = bounce.and_then(|bounce| bounce.diagnostic.as_ref());
    let recipient = event.recipient.as_deref().unwrap_or_default();
    let note = match signal {
        Signal::Subscribe => Some("subscribed"),
        Signal::Works if event.kind == Kind::Opened => Some("opened"),
        Signal::Works => Some("delivered"),
        _ => None,
    };
    Evidence {
        event_id: Some(event.event_id.to_string()),
        provider: Some(event.provider.as_str().to_owned()),
        mailbox_provider: event.mailbox_provider.as_ref().map(text),
        status: bounce.and_then(|bounce| bounce.status.as_ref()).map(text),
        wording: diagnostic.map(|it| wording::without_addresses(it.as_str(), recipient)),
        note: note.map(str::to_owned),
        who: None,
        incident: None,
    }
}

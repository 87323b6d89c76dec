//! A body cut into events by the code of the ingress, as an operator has it: whole, or a piece.

use event::Provider;
use providers::{Split, SplitError, split};

use super::wrap::wrapped;

/// One event at one recipient: the key and the value of its record.
pub(super) struct Piece {
    /// Empty where the event names nobody.
    pub(super) recipient: String,
    /// The provider's own bytes.
    pub(super) bytes: Vec<u8>,
}

/// What is in a body.
pub(super) struct Cut {
    pub(super) events: Vec<Piece>,
    /// What there is to say of the body itself.
    pub(super) said: Option<String>,
}

/// Cuts a body; one that cannot be cut is tried again as a piece of one.
pub(super) fn cut(provider: Provider, body: &[u8]) -> Result<Cut, SplitError> {
    cut_whole(provider, body).or_else(|error| {
        let whole = wrapped(provider, body).ok_or(error)?;
        let Cut { events, .. } = cut_whole(provider, &whole).map_err(|_| error)?;
        let said = Some("taken as a piece of a body, without its envelope".to_owned());
        Ok(Cut { events, said })
    })
}

fn cut_whole(provider: Provider, body: &[u8]) -> Result<Cut, SplitError> {
    let mut events = Vec::new();
    let what = split(provider, body, &mut |event| {
        events.push(Piece { recipient: event.recipient.to_owned(), bytes: event.raw.to_owned() });
    })?;
    Ok(Cut { events, said: nothing_in_it(&what) })
}

/// Why a body that was split has no events.
fn nothing_in_it(what: &Split) -> Option<String> {
    match what {
        Split::Events(_) => None,
        Split::Ping => Some("a sign of life".to_owned()),
        Split::ConfirmSubscription { topic, .. } => {
            Some(format!("SNS asks whether {topic} may post; the ingress would confirm it"))
        }
        Split::Unsubscribed { topic } => Some(format!("SNS will send nothing more of {topic}")),
    }
}

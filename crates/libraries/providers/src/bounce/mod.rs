//! Classifies refusals of messages by the provider's terms, the enhanced status code, and the
//! answer of the receiving server. The rules are tables in which every row has a test: the
//! providers' terms are in their folders (`bounces.rs`), the other tables are here.

#[cfg(test)]
mod answers;
mod meaning;
pub(crate) mod numbers;
mod phrases;
#[cfg(test)]
pub(crate) mod rows;
mod status;
mod wording;

use std::borrow::Cow;

use event::{Bounce, BounceClass, Event, Kind, Permanence, Text};

pub(crate) use meaning::{Meaning, Row, meaning};

/// The parts of an event from which we classify a refusal.
#[derive(Debug, Default)]
pub(crate) struct Evidence<'a> {
    /// The meaning of the provider's terms.
    pub(crate) provider: Meaning,
    /// The enhanced status code, if the event has a field for it.
    pub(crate) status: Option<Text<'a>>,
    /// The answer of the receiving server.
    pub(crate) diagnostic: Option<Text<'a>>,
    /// True if the message had already been reported as delivered.
    pub(crate) late: bool,
}

impl<'a> Evidence<'a> {
    /// Classifies the refusal.
    pub(crate) fn bounce(self) -> Bounce<'a> {
        let given = self.status.filter(|status| status::is_enhanced(status));
        let status = given.or_else(|| self.diagnostic.as_ref().and_then(status_in));
        let class = classify(self.provider.class, status.as_deref(), self.diagnostic.as_deref());
        Bounce {
            permanence: self.provider.permanence.unwrap_or_else(|| permanence(status.as_deref())),
            class,
            side: class.side(),
            status,
            diagnostic: self.diagnostic,
            late: self.late,
        }
    }

    /// Classifies the refusal, and keeps the provider's remark if there is no answer of the server.
    /// The remark is not used to classify: it adds nothing to [`Evidence::provider`], and it may
    /// mention causes that do not apply, as in "mailbox full, or disabled".
    pub(crate) fn bounce_or(self, remark: Option<Text<'a>>) -> Bounce<'a> {
        let bounce = self.bounce();
        Bounce { diagnostic: bounce.diagnostic.or(remark), ..bounce }
    }
}

/// Makes a soft bounce hard if the answer of the server proves that the address or its domain does not
/// exist. Some providers call a bounce soft that they did not classify, and retries of it would
/// damage the sender's reputation. `docs/decisions/0007-soft-and-certain.md` has the reasons.
///
/// A deferral stays soft: the provider is still trying.
pub(crate) fn corrected(mut event: Event<'_>) -> Event<'_> {
    let bounce = event.bounce.as_mut().filter(|_| event.kind == Kind::Bounced);
    if let Some(bounce) = bounce
        && bounce.permanence == Permanence::Soft
        && matches!(bounce.class, BounceClass::InvalidRecipient | BounceClass::InvalidDomain)
        && proves_absence(bounce)
    {
        bounce.permanence = Permanence::Hard;
    }
    event
}

/// True if the status code, or else the wording, says that there is no such address or domain.
fn proves_absence(bounce: &Bounce<'_>) -> bool {
    match bounce.status.as_deref() {
        Some(status) if status::proves_absence(status) => true,
        Some(status) if status.starts_with('4') => false,
        _ => bounce.diagnostic.as_deref().is_some_and(|text| {
            text.as_bytes().windows(8).any(|word| word.eq_ignore_ascii_case(b"nxdomain"))
        }),
    }
}

/// Uses the most reliable evidence first. If an address is on a suppression list, no server has
/// answered. Some status codes have the same meaning everywhere, unless the answer names
/// the sender or a full mailbox; the others are less precise than the wording of the answer.
fn classify(
    provider: Option<BounceClass>,
    status: Option<&str>,
    diagnostic: Option<&str>,
) -> BounceClass {
    if let Some(class @ (BounceClass::Suppressed | BounceClass::AutoReply)) = provider {
        return class;
    }
    let known = status.and_then(status::lookup);
    let answer = diagnostic.and_then(wording::read);
    known
        .filter(|row| row.certain && !answer.is_some_and(|said| said.contradicts(row.class)))
        .map(|row| row.class)
        .or(answer.map(|said| said.class))
        .or(provider)
        .or_else(|| known.map(|row| row.class))
        .unwrap_or(BounceClass::Other)
}

/// RFC 3463 §2: the first digit shows whether a retry can succeed.
fn permanence(status: Option<&str>) -> Permanence {
    match status.and_then(|status| status.bytes().next()) {
        Some(b'5') => Permanence::Hard,
        Some(b'4') => Permanence::Soft,
        _ => Permanence::Undetermined,
    }
}

/// Finds the enhanced status code in a server's answer, such as `550 5.1.1 user unknown`.
fn status_in<'a>(diagnostic: &Text<'a>) -> Option<Text<'a>> {
    fn beginning(text: &str) -> &str {
        &text[..text.floor_char_boundary(wording::MAX_BYTES)]
    }
    match &diagnostic.0 {
        Cow::Borrowed(text) => status::find(beginning(text)).map(Text::from),
        Cow::Owned(text) => {
            status::find(beginning(text)).map(|status| Text::from(status.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use event::BounceSide;

    use super::*;

    fn classified<'a>(class: Option<BounceClass>, diagnostic: &'a str) -> Bounce<'a> {
        let provider = Meaning { class, permanence: None };
        Evidence { provider, diagnostic: Some(Text::from(diagnostic)), ..Evidence::default() }
            .bounce()
    }

    #[test]
    fn the_most_reliable_evidence_wins() {
        let suppressed = classified(Some(BounceClass::Suppressed), "550 5.1.1 user unknown");
        assert_eq!(suppressed.class, BounceClass::Suppressed);
        let certain_code = classified(Some(BounceClass::Content), "550 5.1.1 <spam detected> no");
        assert_eq!(certain_code.class, BounceClass::InvalidRecipient);
        let wording = classified(Some(BounceClass::Technical), "550 5.7.1 blocked using a DNSBL");
        assert_eq!(wording.class, BounceClass::Reputation);
        let provider = classified(Some(BounceClass::Content), "550 5.7.1 no");
        assert_eq!(provider.class, BounceClass::Content);
        assert_eq!(classified(None, "550 5.7.1 no").class, BounceClass::Policy);
        assert_eq!(classified(None, "550 no").class, BounceClass::Other);
        let unknown_sender = classified(None, "550 5.1.1 Sender address rejected: user unknown");
        assert_eq!(unknown_sender.class, BounceClass::Policy);
        assert_eq!(unknown_sender.side, BounceSide::Sender);
    }

    #[test]
    fn the_status_decides_what_the_provider_does_not_say() {
        let hard = classified(None, "smtp; 550 5.1.1 user unknown");
        assert_eq!(hard.permanence, Permanence::Hard);
        assert_eq!(hard.status.as_deref(), Some("5.1.1"));
        assert_eq!(hard.side, BounceSide::Recipient);
        assert_eq!(classified(None, "451 4.7.1 later").permanence, Permanence::Soft);
        assert_eq!(classified(None, "no").permanence, Permanence::Undetermined);
    }

    #[test]
    fn a_status_field_of_another_form_is_not_kept() {
        let evidence = Evidence { status: Some(Text::from("550")), ..Evidence::default() };
        assert_eq!(evidence.bounce().status, None);
    }
}

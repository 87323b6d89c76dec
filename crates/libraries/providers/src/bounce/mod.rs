//! What a refusal means: from the provider's own words, the enhanced status code, and what the
//! receiving server wrote. What is known lies in tables, each row with its test: the providers' words
//! in their folders (`bounces.rs`), the rest here.

#[cfg(test)]
mod answers;
mod meaning;
pub(crate) mod numbers;
#[cfg(test)]
pub(crate) mod rows;
mod status;
mod wording;

use std::borrow::Cow;

use event::{Bounce, BounceClass, Permanence, Text};

pub(crate) use meaning::{Meaning, Row, meaning};

/// Everything an event says about a refusal.
#[derive(Debug, Default)]
pub(crate) struct Evidence<'a> {
    /// What the provider says of it.
    pub(crate) provider: Meaning,
    /// The enhanced status code, where it has a field of its own.
    pub(crate) status: Option<Text<'a>>,
    /// What the receiving server wrote.
    pub(crate) diagnostic: Option<Text<'a>>,
    /// Came after the message had been reported as delivered.
    pub(crate) late: bool,
}

impl<'a> Evidence<'a> {
    pub(crate) fn judge(self) -> Bounce<'a> {
        let written = self.status.filter(|status| status::is_enhanced(status));
        let status = written.or_else(|| self.diagnostic.as_ref().and_then(status_in));
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

    /// The same, keeping what the provider wrote where the server's answer is not told. It is not
    /// read: it says no more than [`Evidence::provider`], and may name what is not the case, as in
    /// "mailbox full, or disabled".
    pub(crate) fn judge_with(self, remark: Option<Text<'a>>) -> Bounce<'a> {
        let bounce = self.judge();
        Bounce { diagnostic: bounce.diagnostic.or(remark), ..bounce }
    }
}

/// The most telling evidence first: a suppression list is no server's answer; some status codes
/// mean one thing everywhere; words tell more than the codes that servers use for everything.
fn classify(
    provider: Option<BounceClass>,
    status: Option<&str>,
    diagnostic: Option<&str>,
) -> BounceClass {
    if let Some(class @ (BounceClass::Suppressed | BounceClass::AutoReply)) = provider {
        return class;
    }
    let known = status.and_then(status::lookup);
    known
        .filter(|row| row.certain)
        .map(|row| row.class)
        .or_else(|| diagnostic.and_then(wording::classify))
        .or(provider)
        .or_else(|| known.map(|row| row.class))
        .unwrap_or(BounceClass::Other)
}

/// RFC 3463 §2: the first digit says whether trying again can help.
fn permanence(status: Option<&str>) -> Permanence {
    match status.and_then(|status| status.bytes().next()) {
        Some(b'5') => Permanence::Hard,
        Some(b'4') => Permanence::Soft,
        _ => Permanence::Undetermined,
    }
}

/// The enhanced status code inside a server's answer, such as `550 5.1.1 user unknown`.
fn status_in<'a>(diagnostic: &Text<'a>) -> Option<Text<'a>> {
    match &diagnostic.0 {
        Cow::Borrowed(text) => status::find(text).map(Text::from),
        Cow::Owned(text) => status::find(text).map(|status| Text::from(status.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use event::BounceSide;

    use super::*;

    fn judge<'a>(class: Option<BounceClass>, diagnostic: &'a str) -> Bounce<'a> {
        let provider = Meaning { class, permanence: None };
        Evidence { provider, diagnostic: Some(Text::from(diagnostic)), ..Evidence::default() }
            .judge()
    }

    #[test]
    fn the_most_telling_evidence_wins() {
        let suppressed = judge(Some(BounceClass::Suppressed), "550 5.1.1 user unknown");
        assert_eq!(suppressed.class, BounceClass::Suppressed);
        let certain_code = judge(Some(BounceClass::Content), "550 5.1.1 <spam detected> no");
        assert_eq!(certain_code.class, BounceClass::InvalidRecipient);
        let words = judge(Some(BounceClass::Technical), "550 5.7.1 blocked using a DNSBL");
        assert_eq!(words.class, BounceClass::Reputation);
        let provider = judge(Some(BounceClass::Content), "550 5.7.1 no");
        assert_eq!(provider.class, BounceClass::Content);
        assert_eq!(judge(None, "550 5.7.1 no").class, BounceClass::Policy);
        assert_eq!(judge(None, "550 no").class, BounceClass::Other);
    }

    #[test]
    fn the_status_gives_what_the_provider_does_not_say() {
        let hard = judge(None, "smtp; 550 5.1.1 user unknown");
        assert_eq!(hard.permanence, Permanence::Hard);
        assert_eq!(hard.status.as_deref(), Some("5.1.1"));
        assert_eq!(hard.side, BounceSide::Recipient);
        assert_eq!(judge(None, "451 4.7.1 later").permanence, Permanence::Soft);
        assert_eq!(judge(None, "no").permanence, Permanence::Undetermined);
    }

    #[test]
    fn a_status_field_of_another_form_is_not_kept() {
        let evidence = Evidence { status: Some(Text::from("550")), ..Evidence::default() };
        assert_eq!(evidence.judge().status, None);
    }
}

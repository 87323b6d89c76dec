use event::{BounceClass, Permanence};

/// What a provider's word says; what it leaves open is told from the server's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Meaning {
    pub(crate) permanence: Option<Permanence>,
    pub(crate) class: Option<BounceClass>,
}

impl Meaning {
    pub(crate) const SOFT: Self = Self { permanence: Some(Permanence::Soft), class: None };

    /// This, and where it is silent what `other` says.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { permanence: self.permanence.or(other.permanence), class: self.class.or(other.class) }
    }
}

/// A word and its meaning.
pub(crate) type Row = (&'static str, Option<Permanence>, Option<BounceClass>);

/// What the first row says whose word the text starts with, whatever the case; nothing otherwise.
pub(crate) fn meaning(table: &[Row], text: Option<&str>) -> Meaning {
    let starts = |text: &str, word: &str| {
        text.as_bytes().get(..word.len()).is_some_and(|s| s.eq_ignore_ascii_case(word.as_bytes()))
    };
    let found = text.and_then(|text| table.iter().find(|(word, ..)| starts(text, word)));
    found.map_or_else(Meaning::default, |&(_, permanence, class)| Meaning { permanence, class })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Row] = &[
        ("full now", Some(Permanence::Soft), Some(BounceClass::MailboxFull)),
        ("full", None, Some(BounceClass::MailboxFull)),
    ];

    #[test]
    fn the_first_row_that_the_text_starts_with_decides() {
        let soft = meaning(TABLE, Some("Full NOW, try later"));
        assert_eq!(soft.permanence, Some(Permanence::Soft));
        assert_eq!(meaning(TABLE, Some("full")).permanence, None);
        for text in [None, Some("is full"), Some("é"), Some("")] {
            assert_eq!(meaning(TABLE, text), Meaning::default());
        }
    }

    #[test]
    fn what_is_said_first_stands() {
        let class = |class| Meaning { permanence: None, class: Some(class) };
        let said = Meaning::SOFT.or(class(BounceClass::Policy)).or(class(BounceClass::Content));
        assert_eq!(said.permanence, Some(Permanence::Soft));
        assert_eq!(said.class, Some(BounceClass::Policy));
    }
}

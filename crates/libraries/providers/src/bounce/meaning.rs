use event::{BounceClass, Permanence};

/// The meaning of a provider's term. The status code and the server's answer decide
/// a field that is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Meaning {
    pub(crate) permanence: Option<Permanence>,
    pub(crate) class: Option<BounceClass>,
}

impl Meaning {
    pub(crate) const SOFT: Self = Self { permanence: Some(Permanence::Soft), class: None };

    /// Takes from `other` the fields that are `None`.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { permanence: self.permanence.or(other.permanence), class: self.class.or(other.class) }
    }
}

/// A term and its meaning.
pub(crate) type Row = (&'static str, Option<Permanence>, Option<BounceClass>);

/// Returns the meaning of the first row whose term is a case-insensitive prefix of `text`.
pub(crate) fn meaning(table: &[Row], text: Option<&str>) -> Meaning {
    let has_prefix = |text: &str, term: &str| {
        text.as_bytes().get(..term.len()).is_some_and(|s| s.eq_ignore_ascii_case(term.as_bytes()))
    };
    let found = text.and_then(|text| table.iter().find(|(term, ..)| has_prefix(text, term)));
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
    fn the_first_meaning_takes_precedence() {
        let class = |class| Meaning { permanence: None, class: Some(class) };
        let both = Meaning::SOFT.or(class(BounceClass::Policy)).or(class(BounceClass::Content));
        assert_eq!(both.permanence, Some(Permanence::Soft));
        assert_eq!(both.class, Some(BounceClass::Policy));
    }
}

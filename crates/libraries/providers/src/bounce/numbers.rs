//! The numbers that bounce classification software gives to refusals: SparkPost sends them as
//! `bounce_class`, Mandrill as `bgtools_code`. From SparkPost's article on bounce classification
//! codes; Mandrill documents none, and what its samples pair with words (10, 21, 22) agrees.

use event::BounceClass::{self, *};
use event::Permanence;

use super::Meaning;

/// What SparkPost files a number under, and counts it as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Category {
    Undetermined,
    Hard,
    Soft,
    /// The receiver turned the sender or the content away: mostly for a time.
    Block,
    /// The provider's own doing, before any attempt.
    Admin,
}

/// One number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) code: &'static str,
    pub(crate) category: Category,
    class: Option<BounceClass>,
}

const fn number(code: &'static str, category: Category, class: Option<BounceClass>) -> Number {
    Number { code, category, class }
}

#[rustfmt::skip]
pub(crate) const NUMBERS: &[Number] = {
    use Category::*;
    &[
        number("1",   Undetermined, None),
        number("10",  Hard,  Some(InvalidRecipient)),
        number("20",  Soft,  None),
        number("21",  Soft,  Some(Technical)),        // DNS failure
        number("22",  Soft,  Some(MailboxFull)),
        number("23",  Soft,  Some(MessageTooLarge)),
        number("24",  Soft,  Some(Technical)),        // timeout
        number("25",  Admin, Some(Policy)),           // the account's own policies
        number("26",  Admin, Some(Suppressed)),       // "smart send" suppression
        number("30",  Hard,  Some(InvalidRecipient)), // no recipient could be told
        number("40",  Soft,  None),
        number("50",  Block, Some(Policy)),           // mail block
        number("51",  Block, Some(Reputation)),       // spam block: a known source of it
        number("52",  Block, Some(Content)),          // spam content
        number("53",  Block, Some(Content)),          // prohibited attachment
        number("54",  Block, Some(Policy)),           // relaying denied
        number("60",  Soft,  Some(AutoReply)),
        number("70",  Soft,  None),                   // transient failure
        number("80",  Admin, Some(AutoReply)),        // a request to subscribe
        number("90",  Hard,  Some(AutoReply)),        // a request to unsubscribe
        number("100", Soft,  Some(AutoReply)),        // challenge-response
    ]
};

/// The row of a number; none for those that are not in the article.
pub(crate) fn find(code: Option<&str>) -> Option<&'static Number> {
    NUMBERS.iter().find(|number| Some(number.code) == code)
}

/// What a number says; nothing for an unknown one.
pub(crate) fn meaning(code: Option<&str>) -> Meaning {
    find(code).map_or_else(Meaning::default, |number| Meaning {
        permanence: Some(match number.category {
            Category::Hard => Permanence::Hard,
            Category::Soft | Category::Block => Permanence::Soft,
            Category::Admin | Category::Undetermined => Permanence::Undetermined,
        }),
        class: number.class,
    })
}

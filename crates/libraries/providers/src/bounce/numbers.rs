//! Numeric bounce classes. SparkPost sends them as `bounce_class`, Mandrill as `bgtools_code`. The
//! source is SparkPost's article on bounce classification codes. Mandrill does not document them, but
//! the numbers in its samples (10, 21, 22) agree with the article.

use event::BounceClass::{self, *};
use event::{Kind, Permanence};

use super::Meaning;

/// SparkPost's category of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Category {
    Undetermined,
    Hard,
    Soft,
    /// The receiver blocked the sender or the content, mostly for a limited time.
    Block,
    /// The provider itself refused the message and never tried to deliver it.
    Admin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) code: &'static str,
    category: Category,
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
        number("30",  Hard,  Some(InvalidRecipient)), // the recipient could not be determined
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

/// Returns the row of a number, if the article lists it.
fn find(code: Option<&str>) -> Option<&'static Number> {
    NUMBERS.iter().find(|number| Some(number.code) == code)
}

/// Returns the kind of a refusal with this number. With a number of [`Category::Admin`] nothing was
/// sent, so it belongs in no bounce rate.
pub(crate) fn kind_of_refusal(code: Option<&str>) -> Kind {
    match find(code).map(|number| number.category) {
        Some(Category::Admin) => Kind::Dropped,
        _ => Kind::Bounced,
    }
}

/// Returns the meaning of a number. An unknown number has none.
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

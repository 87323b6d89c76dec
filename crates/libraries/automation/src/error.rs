//! What is wrong with the rules of the settings.

use std::fmt;

/// A rule or template of the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct RuleError {
    /// The rule or template by its name, or by its number if it has none.
    pub subject: String,
    /// The field, such as `and[1].hours`. Empty if it is about the whole.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub problem: Problem,
}

impl RuleError {
    /// Returns the stable code of the problem.
    pub const fn code(&self) -> &'static str {
        self.problem.code()
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, field, problem } = self;
        write!(f, "{subject}: ")?;
        if !field.is_empty() {
            write!(f, "`{field}`: ")?;
        }
        write!(f, "{problem} ({})", problem.code())
    }
}

macro_rules! problems {
    ($($(#[$doc:meta])+ $variant:ident $(($field:ty))? => $code:literal, $text:literal);+ $(;)?) => {
        /// What is wrong.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        pub enum Problem { $($(#[$doc])+ #[error($text)] $variant $(($field))?),+ }

        impl Problem {
            /// The stable code.
            pub const fn code(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $code),+ }
            }
        }
    };
}

problems! {
    /// The name is missing or has other characters.
    Name => "name", "a name has 1 to 64 letters, digits, dots, hyphens and underscores";
    /// Two have this name.
    SameName => "same_name", "the name is used twice; the ids of actions depend on it, so choose another one";
    /// There are too many of something.
    TooMany(usize) => "too_many", "there are more than {0}; remove some";
    /// A list that must not be empty is empty.
    Empty => "empty", "the list is empty; write at least one element, or leave the field out";
    /// Not a kind of event.
    Kind(String) => "kind", "`{0}` is not a kind of event; write one such as clicked, opened or delivered";
    /// Not a change of an incident that can start a rule.
    Change(String) => "change", "`{0}` is not a change that starts rules; write opened, escalated, reminder or resolved";
    /// Not a family of incidents.
    Family(String) => "family", "`{0}` is not a family; write bounces, blocks, complaints, engagement, silence or list_quality";
    /// Not a severity.
    Severity(String) => "severity", "`{0}` is not a severity; write warning, critical or page";
    /// `incidents` next to fields about events.
    IncidentsAlone => "incidents_alone", "a rule starts from events or from incidents; remove the other fields of `when`, or write a second rule";
    /// A condition or an action needs a recipient, and the rule starts from incidents.
    NeedsRecipient => "needs_recipient", "this needs a recipient, and an incident has none; remove it, or start the rule from events";
    /// A mail about an incident without an address.
    NoAddress => "no_address", "an incident has no recipient, so write the address that gets the mail, such as to = \"ops@acme.example\"";
    /// An address for the mail about an event.
    AddressOfEvent => "address_of_event", "the mail of a rule that starts from events goes to the recipient of the event; remove the address";
    /// Not an address.
    Address => "address", "must be one mail address, such as ops@acme.example";
    /// Not a provider.
    Provider(String) => "provider", "`{0}` is not a provider; write one such as ses or sendgrid";
    /// Not a glob.
    Glob(String) => "glob", "`{0}` is not a pattern; write a name, with * for any text and ? for any character";
    /// Not a regular expression, or one that is too large.
    Regex(String) => "regex", "the regular expression cannot be used: {0}";
    /// Not a share.
    Share => "share", "must be greater than 0 and at most 1; it is the share of the conditions that must hold";
    /// Not a span of time, or one outside of what is possible.
    Span(String) => "span", "{0}";
    /// A condition is not exactly one.
    OneCondition => "one_condition", "write exactly one of segment, hours, pattern, score and campaign_rate in each condition";
    /// Not a comparison with a rate.
    CampaignRate(String) => "campaign_rate", "write a rate, a comparison and a number from 0 to 1, such as `bounce < 0.02`; the rates are {0}";
    /// Not a comparison with a score.
    Score => "score", "write a comparison with a number from 0 to 1, such as `>=0.4` or `<0.1`";
    /// Not a span of hours.
    Hours => "hours", "write the first hour and the hour of the end, such as 08-20 or 22-06";
    /// Not a time zone.
    Zone(String) => "zone", "`{0}` is not a time zone; write recipient, or a name such as Europe/Berlin";
    /// A zone without hours.
    ZoneAlone => "zone_alone", "a zone belongs to `hours`; write both in one condition";
    /// Not a pattern of events.
    Pattern(usize) => "pattern", "write a number from 1 to {0}, a kind and a span, such as `3 clicked within 7d`";
    /// A limit that allows nothing, or too much.
    Limit(u64) => "limit", "must be from 1 to {0}";
    /// Not a URL.
    Url => "url", "must be a URL that begins with https:// or http://, or env:NAME or file:PATH";
    /// No secret.
    Secret => "secret", "must be env:NAME, file:PATH or the secret itself";
    /// Not a source of a field.
    FieldSource(String) => "field_source", "`{0}` is not a value; write event.NAME, such as event.recipient or event.labels.NAME, in a rule that starts from incidents incident.NAME, such as incident.campaign, or static:TEXT";
    /// A template that cannot be used.
    Template(String) => "template", "the template cannot be used: {0}";
    /// A mail names a template that does not exist.
    NoTemplate(String) => "no_template", "no [[automation.template]] has the name `{0}`";
    /// A follow-up within a follow-up.
    Nested => "nested", "a follow-up cannot contain a follow-up; write both in the rule, with the sum of the spans";
}

/// The result of a check.
pub(crate) type Checked<T> = Result<T, (String, Problem)>;

/// Names the field of a problem.
pub(crate) fn at<T>(field: impl Into<String>, result: Result<T, Problem>) -> Checked<T> {
    result.map_err(|problem| (field.into(), problem))
}

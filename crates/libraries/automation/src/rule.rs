//! Rules, checked and compiled.

use event::{Kind, Provider};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use regex::{Regex, RegexBuilder};

use crate::action::{self, Action};
use crate::condition::Condition;
use crate::error::{Checked, Problem, at};
use crate::incident::IncidentFilter;
use crate::settings::{LimitSettings, RuleSettings, WhenSettings};
use crate::span::{self, DAY, SECOND};
use crate::template::Mails;
use crate::{ConditionValue, Facts, IncidentFacts, Reads, RecipientState, Subject};

/// The greatest number of conditions of a rule, and of elements of a list.
const MOST_IN_LIST: usize = 64;
/// The longest regular expression in bytes.
const LONGEST_REGEX: usize = 1_000;
/// The greatest size of a compiled regular expression in bytes.
const REGEX_BYTES: usize = 256 << 10;
/// The greatest number of a limit. The limit stage remembers as many times.
pub(crate) const MOST_IN_LIMIT: u64 = 100_000;
/// The longest cooldown and the longest span of a limit, in microseconds.
const LONGEST: i64 = 366 * DAY;

/// A rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The unique name.
    pub name: String,
    pub(crate) when: When,
    pub(crate) conditions: Vec<Condition>,
    /// How many of the conditions must hold.
    pub(crate) needed: usize,
    pub(crate) priority: i32,
    /// Microseconds.
    pub(crate) cooldown: Option<i64>,
    /// How often the rule may act.
    pub limit: Option<Limit>,
    /// How often the rule may act for one campaign.
    pub campaign_limit: Option<u64>,
    /// What is done.
    pub actions: Vec<Action>,
}

/// At most `count` times in any span of `per` microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The number of times.
    pub count: usize,
    /// Microseconds.
    pub per: i64,
}

/// What starts a rule.
#[derive(Debug, Clone)]
pub(crate) enum When {
    Events(EventFilter),
    Incidents(IncidentFilter),
}

/// Which events start a rule.
#[derive(Debug, Clone)]
pub(crate) struct EventFilter {
    kinds: Option<Vec<Kind>>,
    providers: Option<Vec<Provider>>,
    sources: Option<GlobSet>,
    campaigns: Option<GlobSet>,
    recipients: Option<Regex>,
    human: bool,
}

impl Rule {
    pub(crate) fn read(settings: &RuleSettings, mails: &Mails) -> Checked<Self> {
        at("name", check_name(&settings.name))?;
        let when = When::read(&settings.when)?;
        at("and", check_length(settings.and.len(), MOST_IN_LIST))?;
        let conditions: Vec<_> = settings
            .and
            .iter()
            .enumerate()
            .map(|(index, condition)| {
                let field = format!("and[{index}]");
                let condition = Condition::read(condition, &field)?;
                if when.is_about_incidents() && condition.needs_recipient() {
                    return Err((field, Problem::NeedsRecipient));
                }
                Ok(condition)
            })
            .collect::<Result<_, _>>()?;
        let share = settings.share;
        if !(share > 0.0 && share <= 1.0) {
            return Err(("match".to_owned(), Problem::Share));
        }
        let cooldown = settings.cooldown.as_deref();
        let cooldown = cooldown.map(|text| span::read(text, SECOND..=LONGEST)).transpose();
        if settings.campaign_limit == Some(0) {
            return Err(("campaign_limit".to_owned(), Problem::Limit(u64::MAX)));
        }
        let (actions, of) = (&settings.actions, when.sample());
        let actions = action::read_all(actions, "do", (mails, &of))?;
        Ok(Self {
            name: settings.name.clone(),
            when,
            needed: needed(share, conditions.len()),
            conditions,
            priority: settings.priority,
            cooldown: at("cooldown", cooldown)?,
            limit: settings.limit.as_ref().map(read_limit).transpose()?,
            campaign_limit: settings.campaign_limit,
            actions,
        })
    }

    /// Returns whether the rule has a limit.
    pub(crate) const fn is_limited(&self) -> bool {
        self.limit.is_some() || self.campaign_limit.is_some()
    }

    /// Returns the action at an index such as `2`, or `2.0` within the follow-up at 2.
    pub fn action(&self, index: &str) -> Option<&Action> {
        match index.split_once('.') {
            None => self.actions.get(index.parse::<usize>().ok()?),
            Some((outer, inner)) => match self.actions.get(outer.parse::<usize>().ok()?)? {
                Action::FollowUp(follow_up) => follow_up.actions.get(inner.parse::<usize>().ok()?),
                _ => None,
            },
        }
    }

    /// Returns whether the rule starts from incidents.
    pub const fn is_about_incidents(&self) -> bool {
        self.when.is_about_incidents()
    }

    /// Returns what was decided about an incident, if the conditions hold.
    pub(crate) fn evaluate_incident(
        &self,
        incident: &IncidentFacts,
    ) -> Option<Vec<ConditionValue>> {
        let evaluated = self.conditions.iter().map(|it| it.evaluate_at(incident.at));
        let values: Vec<_> = evaluated.collect();
        (values.iter().filter(|value| value.held).count() >= self.needed).then_some(values)
    }

    /// Returns what was decided, if the conditions hold. `state` has the event already.
    pub(crate) fn evaluate(
        &self,
        facts: &Facts,
        state: &RecipientState,
        reads: &Reads<'_>,
    ) -> Option<Vec<ConditionValue>> {
        let evaluated = self.conditions.iter().map(|it| it.evaluate(facts, state, reads));
        let values: Vec<_> = evaluated.collect();
        (values.iter().filter(|value| value.held).count() >= self.needed).then_some(values)
    }
}

/// Returns how many of `count` conditions are a share of them, rounded up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 64")]
fn needed(share: f64, count: usize) -> usize {
    let exact = share * f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    // 0.7 of 10 is a little more than 7 in binary.
    (exact - 1e-9).ceil().max(0.0) as usize
}

impl When {
    fn read(settings: &WhenSettings) -> Checked<Self> {
        let Some(incidents) = &settings.incidents else {
            return EventFilter::read(settings).map(Self::Events);
        };
        let is_alone = WhenSettings { human: settings.human, ..WhenSettings::default() }
            == WhenSettings { incidents: None, ..settings.clone() };
        if !is_alone || !settings.human {
            return Err(("when".to_owned(), Problem::IncidentsAlone));
        }
        IncidentFilter::read(incidents).map(Self::Incidents)
    }

    pub(crate) const fn is_about_incidents(&self) -> bool {
        matches!(self, Self::Incidents(_))
    }

    /// Returns what starts the rule with every field, to try templates on.
    fn sample(&self) -> Subject {
        match self {
            Self::Events(_) => Subject::Event(Facts::sample()),
            Self::Incidents(_) => Subject::Incident(IncidentFacts::sample()),
        }
    }

    /// Returns whether events of the kind can start the rule.
    pub(crate) fn has_kind(&self, kind: Kind) -> bool {
        matches!(self, Self::Events(filter) if filter.has_kind(kind))
    }

    /// Returns whether the event starts the rule.
    pub(crate) fn matches(&self, facts: &Facts) -> bool {
        matches!(self, Self::Events(filter) if filter.matches(facts))
    }

    /// Returns whether the change of an incident starts the rule.
    pub(crate) fn matches_incident(&self, incident: &IncidentFacts) -> bool {
        matches!(self, Self::Incidents(filter) if filter.matches(incident))
    }
}

impl EventFilter {
    fn read(settings: &WhenSettings) -> Checked<Self> {
        let WhenSettings { kinds, providers, sources, campaigns, recipients, human, incidents: _ } =
            settings;
        let kind = |name: &String| name.parse().map_err(|_| Problem::Kind(name.clone()));
        let provider = |name: &String| name.parse().map_err(|_| Problem::Provider(name.clone()));
        let recipients = recipients.as_deref().map(read_regex).transpose();
        Ok(Self {
            kinds: at("when.kinds", read_list(kinds.as_ref(), kind))?,
            providers: at("when.providers", read_list(providers.as_ref(), provider))?,
            sources: at("when.sources", read_globs(sources.as_ref()))?,
            campaigns: at("when.campaigns", read_globs(campaigns.as_ref()))?,
            recipients: at("when.recipients", recipients)?,
            human: *human,
        })
    }

    fn has_kind(&self, kind: Kind) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }

    fn matches(&self, facts: &Facts) -> bool {
        let campaign = facts.campaign.as_deref();
        let is_campaign =
            |globs: &GlobSet| campaign.is_some_and(|campaign| globs.is_match(campaign));
        self.has_kind(facts.kind)
            && (facts.human || !self.human)
            && self.providers.as_ref().is_none_or(|all| all.contains(&facts.provider))
            && self.sources.as_ref().is_none_or(|globs| globs.is_match(&facts.source))
            && self.campaigns.as_ref().is_none_or(is_campaign)
            && self.recipients.as_ref().is_none_or(|regex| regex.is_match(&facts.recipient))
    }
}

fn read_limit(settings: &LimitSettings) -> Checked<Limit> {
    let LimitSettings { count, per } = settings;
    let allowed = usize::try_from(*count).ok().filter(|_| (1..=MOST_IN_LIMIT).contains(count));
    let count = at("limit.count", allowed.ok_or(Problem::Limit(MOST_IN_LIMIT)))?;
    Ok(Limit { count, per: at("limit.per", span::read(per, SECOND..=LONGEST))? })
}

pub(crate) fn check_name(name: &str) -> Result<(), Problem> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_valid = (1..=64).contains(&name.len()) && name.bytes().all(is_allowed);
    if is_valid { Ok(()) } else { Err(Problem::Name) }
}

pub(crate) const fn check_length(length: usize, most: usize) -> Result<(), Problem> {
    if length > most { Err(Problem::TooMany(most)) } else { Ok(()) }
}

pub(crate) fn read_list<T>(
    names: Option<&Vec<String>>,
    read: impl Fn(&String) -> Result<T, Problem>,
) -> Result<Option<Vec<T>>, Problem> {
    let Some(names) = names else { return Ok(None) };
    check_length(names.len(), MOST_IN_LIST)?;
    if names.is_empty() {
        return Err(Problem::Empty);
    }
    names.iter().map(read).collect::<Result<_, _>>().map(Some)
}

pub(crate) fn read_globs(globs: Option<&Vec<String>>) -> Result<Option<GlobSet>, Problem> {
    let glob = |text: &String| {
        let problem = |_| Problem::Glob(text.clone());
        GlobBuilder::new(text).literal_separator(false).build().map_err(problem)
    };
    let Some(globs) = read_list(globs, glob)? else { return Ok(None) };
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(glob);
    }
    set.build().map(Some).map_err(|error| Problem::Glob(error.to_string()))
}

fn read_regex(text: &str) -> Result<Regex, Problem> {
    if text.is_empty() || text.len() > LONGEST_REGEX {
        return Err(Problem::Regex(format!("it must have 1 to {LONGEST_REGEX} bytes")));
    }
    let mut regex = RegexBuilder::new(text);
    regex.size_limit(REGEX_BYTES).dfa_size_limit(REGEX_BYTES);
    regex.build().map_err(|error| Problem::Regex(error.to_string()))
}

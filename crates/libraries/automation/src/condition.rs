//! Conditions about a recipient.

use event::{Counter, Kind};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use window::{Metric, View, fraction};

use crate::error::{Checked, Problem, at};
use crate::settings::ConditionSettings;
use crate::span::{self, DAY};
use crate::{Facts, Reads, RecipientState};

/// The greatest number of events in a pattern. The state of a recipient has as many times.
pub const MOST_IN_PATTERN: usize = 100;
/// The longest span of a pattern, in microseconds. States are kept for as long.
const LONGEST_PATTERN: i64 = 90 * DAY;

/// One element of `and`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    /// The recipient is a member of the segment.
    Segment(String),
    /// The local time of the event is from the hour `from` up to the hour `to`, which is not included.
    Hours { from: i8, to: i8, zone: HoursZone },
    /// The score of the recipient at the source compares like this.
    Score(Comparison, f64),
    /// The rate of the campaign compares like this.
    CampaignRate(Metric, Comparison, f64),
    /// The newest `count` events of the kind, of the source, are not older than `within` before the event.
    Pattern { count: usize, kind: Kind, within: i64 },
}

/// How a value compares with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    AtLeast,
    Above,
    AtMost,
    Below,
}

impl Comparison {
    /// In the order in which they are tried: the longest first.
    const ALL: [Self; 4] = [Self::AtLeast, Self::AtMost, Self::Above, Self::Below];

    const fn text(self) -> &'static str {
        match self {
            Self::AtLeast => ">=",
            Self::Above => ">",
            Self::AtMost => "<=",
            Self::Below => "<",
        }
    }

    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::AtLeast => value >= limit,
            Self::Above => value > limit,
            Self::AtMost => value <= limit,
            Self::Below => value < limit,
        }
    }
}

/// Whose hours are meant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum HoursZone {
    /// Those of the place of the recipient's latest open or click.
    Recipient,
    Named(TimeZone),
}

/// What a condition was about when it was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConditionValue {
    /// The condition, as in the settings.
    pub condition: String,
    /// The value that was read: whether the recipient is a member, the local hour, the number of events, the score, or the rate.
    pub value: Value,
    /// Whether the condition holds.
    pub held: bool,
}

impl Condition {
    pub(crate) fn read(settings: &ConditionSettings, field: &str) -> Checked<Self> {
        let ConditionSettings { score, segment, hours, zone, pattern, campaign_rate } = settings;
        let given = [score, segment, hours, pattern, campaign_rate];
        if given.iter().filter(|given| given.is_some()).count() != 1 {
            return Err((field.to_owned(), Problem::OneCondition));
        }
        if zone.is_some() && hours.is_none() {
            return Err((format!("{field}.zone"), Problem::ZoneAlone));
        }
        if let Some(score) = score {
            return at(format!("{field}.score"), read_score(score));
        }
        match (segment, hours, pattern) {
            (Some(name), ..) => {
                at(format!("{field}.segment"), crate::rule::check_name(name))?;
                Ok(Self::Segment(name.clone()))
            }
            (_, Some(hours), _) => {
                let (from, to) = at(format!("{field}.hours"), read_hours(hours))?;
                let zone = at(format!("{field}.zone"), read_zone(zone.as_deref()))?;
                Ok(Self::Hours { from, to, zone })
            }
            (.., Some(pattern)) => at(format!("{field}.pattern"), read_pattern(pattern)),
            _ => {
                let rate = campaign_rate.as_deref().unwrap_or_default();
                at(format!("{field}.campaign_rate"), read_campaign_rate(rate))
            }
        }
    }

    /// Returns the condition as text, for people.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Segment(name) => format!("segment {name}"),
            Self::Score(comparison, limit) => format!("score {} {limit}", comparison.text()),
            Self::Hours { from, to, zone } => {
                let zone = match zone {
                    HoursZone::Recipient => "recipient",
                    HoursZone::Named(zone) => zone.iana_name().unwrap_or("UTC"),
                };
                format!("hours {from:02}-{to:02} {zone}")
            }
            Self::CampaignRate(metric, comparison, limit) => {
                format!("campaign_rate {} {} {limit}", metric.as_str(), comparison.text())
            }
            Self::Pattern { count, kind, within } => {
                format!("{count} {kind} within {}", span::in_words(*within))
            }
        }
    }

    /// Returns whether the condition is about a recipient. An incident has none.
    pub(crate) const fn needs_recipient(&self) -> bool {
        !matches!(self, Self::Hours { zone: HoursZone::Named(_), .. })
    }

    /// Evaluates a condition that needs no recipient, at a time in UTC microseconds.
    pub(crate) fn evaluate_at(&self, at: i64) -> ConditionValue {
        let hour = match self {
            Self::Hours { zone, .. } => local_hour(at, zone, &RecipientState::default()),
            _ => None,
        };
        let held = match (self, hour) {
            (Self::Hours { from, to, .. }, Some(hour)) => is_within(hour, *from, *to),
            _ => false,
        };
        ConditionValue { condition: self.text(), value: json!(hour), held }
    }

    /// Evaluates the condition. `state` has the event already.
    pub(crate) fn evaluate(
        &self,
        facts: &Facts,
        state: &RecipientState,
        reads: &Reads<'_>,
    ) -> ConditionValue {
        let (value, held) = match self {
            Self::Segment(name) => {
                let is_member = (reads.is_member)(name);
                (json!(is_member), is_member)
            }
            Self::Hours { from, to, zone } => {
                let hour = local_hour(facts.received_at.micros(), zone, state);
                (json!(hour), hour.is_some_and(|hour| is_within(hour, *from, *to)))
            }
            Self::Score(comparison, limit) => {
                let score = state.score(facts);
                (json!(score), score.is_some_and(|score| comparison.holds(score, *limit)))
            }
            Self::CampaignRate(metric, comparison, limit) => {
                let rate = campaign_rate(*metric, facts, reads);
                (json!(rate), rate.is_some_and(|rate| comparison.holds(rate, *limit)))
            }
            Self::Pattern { count, kind, within } => {
                let found = state.count_since(facts, *kind, facts.happened_at(), *within);
                (json!(found), found >= *count)
            }
        };
        ConditionValue { condition: self.text(), value, held }
    }
}

/// Returns the rate of the event's campaign since it began. `None` if the event names no campaign, if nothing is known of
/// it, or if nothing of it was delivered: then all rates of the source may be unknown.
fn campaign_rate(metric: Metric, facts: &Facts, reads: &Reads<'_>) -> Option<f64> {
    let campaign = facts.campaign.as_deref()?;
    let counts = (reads.campaign)(facts.provider, &facts.source, campaign)?;
    if counts.get(Counter::Delivered) == 0 {
        return None;
    }
    let (numerator, denominator) = fraction(metric, &counts, View::Arrival);
    #[expect(clippy::cast_precision_loss, reason = "a campaign has fewer than 2^52 messages")]
    let rate = numerator as f64 / denominator as f64;
    (denominator > 0).then_some(rate.min(1.0))
}

/// Returns the hour of a moment in UTC microseconds. `None` if the zone is not known.
fn local_hour(micros: i64, zone: &HoursZone, state: &RecipientState) -> Option<i8> {
    let zone = match zone {
        HoursZone::Named(zone) => zone.clone(),
        HoursZone::Recipient => TimeZoneDatabase::bundled().get(state.time_zone()?).ok()?,
    };
    Some(Timestamp::from_microsecond(micros).ok()?.to_zoned(zone).hour())
}

const fn is_within(hour: i8, from: i8, to: i8) -> bool {
    if from < to { from <= hour && hour < to } else { from <= hour || hour < to }
}

fn read_hours(text: &str) -> Result<(i8, i8), Problem> {
    let hour = |text: &str| {
        let hour = text.parse::<i8>().ok().filter(|hour| (0..=24).contains(hour));
        hour.ok_or(Problem::Hours)
    };
    let (from, to) = text.split_once('-').ok_or(Problem::Hours)?;
    let (from, to) = (hour(from)?, hour(to)?);
    if from == to || from == 24 { Err(Problem::Hours) } else { Ok((from, to)) }
}

fn read_zone(name: Option<&str>) -> Result<HoursZone, Problem> {
    match name {
        None => Ok(HoursZone::Named(TimeZone::UTC)),
        Some("recipient") => Ok(HoursZone::Recipient),
        Some(name) => {
            let zone = TimeZoneDatabase::bundled().get(name);
            zone.map(HoursZone::Named).map_err(|_| Problem::Zone(name.to_owned()))
        }
    }
}

fn read_campaign_rate(text: &str) -> Result<Condition, Problem> {
    let metrics =
        || Metric::ALL.iter().map(|metric| metric.as_str()).collect::<Vec<_>>().join(", ");
    let problem = || Problem::CampaignRate(metrics());
    let start = text.find(['<', '>']).ok_or_else(problem)?;
    let (name, comparison) = text.split_at(start);
    let is_named = |metric: &&Metric| metric.as_str() == name.trim();
    let metric = Metric::ALL.iter().find(is_named).ok_or_else(problem)?;
    let (comparison, limit) = read_comparison(comparison).ok_or_else(problem)?;
    Ok(Condition::CampaignRate(*metric, comparison, limit))
}

fn read_score(text: &str) -> Result<Condition, Problem> {
    let (comparison, limit) = read_comparison(text).ok_or(Problem::Score)?;
    Ok(Condition::Score(comparison, limit))
}

/// Reads a comparison with a number from 0 to 1, such as `>=0.4`.
fn read_comparison(text: &str) -> Option<(Comparison, f64)> {
    let signs = Comparison::ALL.into_iter();
    let mut found = signs.filter_map(|it| Some((it, text.trim().strip_prefix(it.text())?)));
    let (comparison, limit) = found.next()?;
    let limit = limit.trim().parse().ok().filter(|limit| (0.0..=1.0).contains(limit))?;
    Some((comparison, limit))
}

fn read_pattern(text: &str) -> Result<Condition, Problem> {
    let problem = || Problem::Pattern(MOST_IN_PATTERN);
    let words: Vec<_> = text.split_whitespace().collect();
    let [count, kind, "within", within] = words[..] else { return Err(problem()) };
    let count = count.parse().ok().filter(|count| (1..=MOST_IN_PATTERN).contains(count));
    let kind = kind.parse().map_err(|_| Problem::Kind(kind.to_owned()))?;
    let within = span::read(within, 60 * span::SECOND..=LONGEST_PATTERN)?;
    Ok(Condition::Pattern { count: count.ok_or_else(problem)?, kind, within })
}

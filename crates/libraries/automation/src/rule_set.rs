//! All rules.

use event::{IdBuilder, Kind};

use crate::Action;
use crate::condition::{Condition, HoursZone};
use crate::error::{Problem, RuleError};
use crate::recipient_state::SCORE_KEPT;
use crate::rule::Rule;
use crate::settings::AutomationSettings;
use crate::template::Mails;

/// The greatest number of rules.
const MOST_RULES: usize = 1_000;

/// The rules in force.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    /// The highest priority first; equal ones in the order of the settings.
    rules: Vec<Rule>,
    mails: Mails,
    digest: String,
    uses_zone: bool,
    uses_score: bool,
    /// For each kind, the greatest number of events that a pattern counts.
    counted: [Option<usize>; Kind::ALL.len()],
    /// Microseconds.
    longest_pattern: i64,
    /// Whether events of the kind can start a rule, are counted, or cancel a follow-up.
    read: [bool; Kind::ALL.len()],
}

impl RuleSet {
    /// Checks and compiles the rules.
    ///
    /// # Errors
    /// Names the first rule and field that cannot be used.
    pub fn new(settings: &AutomationSettings) -> Result<Self, RuleError> {
        let mails = Mails::read(&settings.template)?;
        if settings.rule.len() > MOST_RULES {
            let (subject, field) = ("automation.rule".to_owned(), String::new());
            return Err(RuleError { subject, field, problem: Problem::TooMany(MOST_RULES) });
        }
        let mut rules: Vec<Rule> = Vec::new();
        for (index, rule) in settings.rule.iter().enumerate() {
            let error = |(field, problem)| {
                let subject = match crate::rule::check_name(&rule.name) {
                    Ok(()) => format!("rule `{}`", rule.name),
                    Err(_) => format!("rule {index}"),
                };
                RuleError { subject, field, problem }
            };
            let read = Rule::read(rule, &mails).map_err(error)?;
            if rules.iter().any(|other| other.name == read.name) {
                return Err(error(("name".to_owned(), Problem::SameName)));
            }
            rules.push(read);
        }
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.priority));
        let json = serde_json::to_vec(settings).unwrap_or_default();
        let digest = IdBuilder::new("rules").part(&json).finish().to_string();
        let mut set = Self { rules, mails, digest, ..Self::default() };
        set.summarize();
        Ok(set)
    }

    /// Finds out what states have to remember.
    fn summarize(&mut self) {
        for kind in Kind::ALL {
            self.read[kind as usize] = self.rules.iter().any(|rule| rule.when.has_kind(kind));
        }
        for rule in &self.rules {
            for condition in &rule.conditions {
                match condition {
                    Condition::Pattern { count, kind, within } => {
                        let counted = &mut self.counted[*kind as usize];
                        *counted = (*counted).max(Some(*count));
                        self.longest_pattern = self.longest_pattern.max(*within);
                        self.read[*kind as usize] = true;
                    }
                    Condition::Hours { zone: HoursZone::Recipient, .. } => {
                        self.uses_zone = true;
                        self.read[Kind::Opened as usize] = true;
                        self.read[Kind::Clicked as usize] = true;
                    }
                    Condition::Score(..) => {
                        self.uses_score = true;
                        for kind in [Kind::Delivered, Kind::Bounced, Kind::Opened, Kind::Clicked] {
                            self.read[kind as usize] = true;
                        }
                    }
                    Condition::Hours { .. }
                    | Condition::Segment(_)
                    | Condition::CampaignRate(..) => {}
                }
            }
            for action in &rule.actions {
                if let Action::FollowUp(follow_up) = action
                    && let Some(kind) = follow_up.unless
                {
                    self.read[kind as usize] = true;
                    self.read[Kind::Clicked as usize] |= kind == Kind::Opened;
                }
            }
        }
    }

    /// The rules in the order in which they act.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Returns the rule of a name.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// The templates of mails.
    pub const fn mails(&self) -> &Mails {
        &self.mails
    }

    /// A digest of the settings, as 32 hexadecimal digits. Decisions name the rules in force by it.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Returns whether events of the kind matter. Others need not be parsed.
    pub const fn reads(&self, kind: Kind) -> bool {
        self.read[kind as usize]
    }

    /// Returns whether a rule starts from incidents.
    pub fn reads_incidents(&self) -> bool {
        self.rules.iter().any(Rule::is_about_incidents)
    }

    /// Returns whether a rule asks for the members of the segment.
    pub fn reads_segment(&self, name: &str) -> bool {
        self.rules
            .iter()
            .flat_map(|rule| &rule.conditions)
            .any(|condition| matches!(condition, Condition::Segment(segment) if segment == name))
    }

    /// Returns how far back events can matter for a decision, in microseconds.
    pub fn memory(&self) -> i64 {
        let cooldowns = self.rules.iter().filter_map(|rule| rule.cooldown);
        let score = self.uses_score.then_some(SCORE_KEPT);
        cooldowns.chain([self.longest_pattern]).chain(score).max().unwrap_or(0)
    }

    /// Returns whether a rule asks for the rate of a campaign, so that `mail.campaigns` matters.
    pub fn uses_campaign_rate(&self) -> bool {
        let mut conditions = self.rules.iter().flat_map(|rule| &rule.conditions);
        conditions.any(|condition| matches!(condition, Condition::CampaignRate(..)))
    }

    /// Returns whether a rule asks for a score, so that [`Facts::counts`](crate::Facts::counts) matters.
    pub const fn uses_score(&self) -> bool {
        self.uses_score
    }

    pub(crate) const fn uses_zone(&self) -> bool {
        self.uses_zone
    }

    pub(crate) const fn counted(&self, kind: Kind) -> Option<usize> {
        self.counted[kind as usize]
    }

    pub(crate) const fn longest_pattern(&self) -> i64 {
        self.longest_pattern
    }
}

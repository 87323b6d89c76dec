use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use window::Scope;

use crate::overrides::{Origin, Override};
use crate::rule::{Facts, Rule, RuleError};

/// The greatest number of rules, and of overrides.
const MOST: usize = 1000;

/// A rule with the overrides of a scope. Copies are cheap: without overrides, all scopes share the rule.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleInForce(Arc<Rule>);

impl Deref for RuleInForce {
    type Target = Rule;

    fn deref(&self) -> &Rule {
        &self.0
    }
}

impl From<Rule> for RuleInForce {
    fn from(rule: Rule) -> Self {
        Self(Arc::new(rule))
    }
}

/// All rules and overrides of an installation. Its JSON form is a record in the log, so that reading the log
/// again judges by the same rules.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSet {
    rules: Vec<RuleInForce>,
    /// The least specific first.
    overrides: Vec<Override>,
}

/// The JSON form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    rules: Vec<Rule>,
    #[serde(default)]
    overrides: Vec<Override>,
}

/// The text is not the JSON form of a rule set.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The text is not JSON, or has other fields.
    #[error("the rule set is not valid JSON of this release: {0}")]
    Json(#[from] serde_json::Error),
    /// The rules contradict each other.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

/// Where the values of a rule come from, for one scope.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The name of the rule.
    pub rule: String,
    /// Why the rule is not judged for the scope. `None` if it is.
    pub skipped: Option<&'static str>,
    /// The name, value and origin of each key that overrides can set. The value is its JSON form.
    pub values: Vec<(&'static str, String, Origin)>,
}

impl RuleSet {
    /// Returns a set of these rules.
    ///
    /// # Errors
    /// Fails if two rules have the same name, if there are too many, or if an override makes a rule invalid.
    pub fn new(rules: Vec<Rule>, mut overrides: Vec<Override>) -> Result<Self, RuleError> {
        if rules.len() > MOST {
            return Err(RuleError::TooMany(rules.len(), "rules", MOST));
        }
        if overrides.len() > MOST {
            return Err(RuleError::TooMany(overrides.len(), "overrides", MOST));
        }
        for (index, rule) in rules.iter().enumerate() {
            rule.check()?;
            if rules[..index].iter().any(|other| other.name == rule.name) {
                return Err(RuleError::SameName(rule.name.clone()));
            }
            for it in overrides.iter().filter(|it| it.concerns(&rule.name)) {
                let mut changed = rule.clone();
                it.apply(&mut changed);
                changed.check()?;
            }
        }
        // Of two equally specific ones, the later one in the file wins.
        overrides.sort_by_key(Override::weight);
        Ok(Self { rules: rules.into_iter().map(RuleInForce::from).collect(), overrides })
    }

    /// Returns the rules that apply if the configuration contains none.
    pub fn defaults() -> Self {
        let rules = crate::defaults::rules().into_iter().map(RuleInForce::from).collect();
        Self { rules, overrides: Vec::new() }
    }

    /// Returns the rules in the order of the configuration, without overrides.
    pub fn rules(&self) -> &[RuleInForce] {
        &self.rules
    }

    /// Returns the rules that are judged for a scope, with the values of the most specific overrides. The caller
    /// should keep the result: it is the same as long as neither the set nor the facts change.
    ///
    /// An override that contradicts another one for the same scope, so that critical would be milder than
    /// warning, is left out.
    pub fn for_scope(&self, scope: &Scope, facts: Facts<'_>) -> Vec<RuleInForce> {
        let rules = self.rules.iter().filter(|rule| is_for(rule, scope, facts));
        let rules = rules.map(|rule| self.with_overrides(rule, scope, facts));
        rules.filter(|rule| rule.enabled).collect()
    }

    fn with_overrides(&self, rule: &RuleInForce, scope: &Scope, facts: Facts<'_>) -> RuleInForce {
        let mut changed: Option<Rule> = None;
        for it in self.overrides_of(rule, scope, facts) {
            let mut next = changed.clone().unwrap_or_else(|| Rule::clone(rule));
            it.apply(&mut next);
            if next.check().is_ok() {
                changed = Some(next);
            }
        }
        changed.map_or_else(|| rule.clone(), RuleInForce::from)
    }

    fn overrides_of<'s>(
        &'s self,
        rule: &'s Rule,
        scope: &'s Scope,
        facts: Facts<'s>,
    ) -> impl Iterator<Item = &'s Override> {
        let concerning = self.overrides.iter().filter(|it| it.concerns(&rule.name));
        concerning.filter(move |it| it.matches.matches(scope, facts))
    }

    /// Explains for each rule whether it is judged for a scope, and where its values come from.
    pub fn explain(&self, scope: &Scope, facts: Facts<'_>) -> Vec<Explanation> {
        let explain = |rule: &RuleInForce| {
            let changed = self.with_overrides(rule, scope, facts);
            let skipped = if !rule.scopes.is_empty() && !rule.scopes.contains(&scope.kind()) {
                Some("the rule judges other kinds of scopes")
            } else if !rule.matches.matches(scope, facts) {
                Some("the rule's `match` does not match")
            } else if !changed.enabled {
                Some("the rule is switched off")
            } else if !rule.scope_has_windows(scope) {
                Some("scopes of this kind have no such windows")
            } else {
                None
            };
            let mut values = crate::overrides::values(rule);
            for it in self.overrides_of(rule, scope, facts) {
                it.explain(&mut values);
            }
            Explanation { rule: rule.name.clone(), skipped, values }
        };
        self.rules.iter().map(explain).collect()
    }

    /// Returns the JSON form. Equal sets have equal bytes.
    ///
    /// # Errors
    /// Fails if a number has no JSON form; no valid set has one.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let rules = self.rules.iter().map(|rule| Rule::clone(rule)).collect();
        serde_json::to_string(&Stored { rules, overrides: self.overrides.clone() })
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// Fails if it is not the form of a valid set.
    pub fn from_json(json: &[u8]) -> Result<Self, ReadError> {
        let Stored { rules, overrides } = serde_json::from_slice(json)?;
        Ok(Self::new(rules, overrides)?)
    }
}

fn is_for(rule: &Rule, scope: &Scope, facts: Facts<'_>) -> bool {
    (rule.scopes.is_empty() || rule.scopes.contains(&scope.kind()))
        && rule.matches.matches(scope, facts)
        && rule.scope_has_windows(scope)
}

impl Rule {
    /// Returns whether scopes of this kind have the windows of the rule.
    fn scope_has_windows(&self, scope: &Scope) -> bool {
        match self.basis {
            crate::Basis::Cohort => scope.kind().has_cohorts(),
            crate::Basis::Campaign => scope.kind() == window::ScopeKind::Campaign,
            crate::Basis::Arrival | crate::Basis::Gap => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;

    fn source(name: &str) -> Scope {
        Scope::Source { provider: Provider::SendGrid, source: name.to_owned() }
    }

    fn set(overrides: &str) -> RuleSet {
        #[derive(Deserialize)]
        struct File {
            #[serde(default, rename = "override")]
            overrides: Vec<Override>,
        }
        let file: File = toml::from_str(overrides).unwrap();
        let rules = RuleSet::defaults().rules.iter().map(|rule| Rule::clone(rule)).collect();
        RuleSet::new(rules, file.overrides).unwrap()
    }

    fn find(rules: &[RuleInForce], name: &str) -> RuleInForce {
        rules.iter().find(|rule| rule.name == name).unwrap().clone()
    }

    const OVERRIDES: &str = r#"
        [[override]]
        match = { source = "acme" }
        rules = ["hard_*"]
        values = { warning = 0.03, min_volume = 500 }
        [[override]]
        match = { source = "*" }
        rules = ["hard_bounces"]
        values = { warning = 0.025, min_count = 9 }
        [[override]]
        match = { tenant = "trial", source = "*" }
        values = { enabled = false }
    "#;

    #[test]
    fn the_most_specific_override_wins_for_each_value() {
        let set = set(OVERRIDES);
        let rules = set.for_scope(&source("acme"), Facts::default());
        let hard = find(&rules, "hard_bounces");
        assert_eq!((hard.warning, hard.min_volume, hard.min_count), (Some(0.03), 500, 9));
        let rules = set.for_scope(&source("other"), Facts::default());
        let hard = find(&rules, "hard_bounces");
        assert_eq!((hard.warning, hard.min_volume, hard.min_count), (Some(0.025), 200, 9));
        assert_eq!(set.for_scope(&source("x"), Facts { tenant: Some("trial") }), []);
    }

    #[test]
    fn the_explanation_names_the_origin_of_each_value() {
        let explained = set(OVERRIDES).explain(&source("acme"), Facts::default());
        let hard = explained.iter().find(|it| it.rule == "hard_bounces").unwrap();
        let origin = |key| {
            let found = hard.values.iter().find(|(name, ..)| *name == key).unwrap();
            (found.1.as_str(), found.2.to_string())
        };
        assert_eq!(hard.skipped, None);
        assert_eq!(origin("warning"), ("0.03", "override for source acme".to_owned()));
        assert_eq!(origin("min_count"), ("9", "override for source *".to_owned()));
        assert_eq!(origin("critical"), ("0.05", "rule".to_owned()));
        let blocks = explained.iter().find(|it| it.rule == "blocks").unwrap();
        assert_eq!(blocks.skipped, Some("the rule judges other kinds of scopes"));
    }

    #[test]
    fn the_json_form_is_canonical() {
        for set in [RuleSet::defaults(), set(OVERRIDES)] {
            let json = set.to_json().unwrap();
            let read = RuleSet::from_json(json.as_bytes()).unwrap();
            assert_eq!(read, set);
            assert_eq!(read.to_json().unwrap(), json);
        }
        assert!(RuleSet::from_json(b"{}").is_err() && RuleSet::from_json(b"[").is_err());
    }

    #[test]
    fn names_are_unique_and_overrides_valid() {
        let rule = Rule::clone(&RuleSet::defaults().rules[0]);
        let twice = RuleSet::new(vec![rule.clone(), rule.clone()], Vec::new());
        assert_eq!(twice, Err(RuleError::SameName(rule.name.clone())));
        let wrong: Override = toml::from_str("match = {}\nvalues = { warning = 0.9 }").unwrap();
        assert_eq!(
            RuleSet::new(vec![rule.clone()], vec![wrong]),
            Err(RuleError::Critical(rule.name))
        );
    }
}

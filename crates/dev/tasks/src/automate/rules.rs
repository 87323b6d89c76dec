//! The rules of the check, and where what they do is delivered.

use automation::{AutomationSettings, RuleSet};
use serde::Deserialize;

/// The section `[automation]`.
const RULES: &str = include_str!("rules.toml");
/// The key that signs requests. It guards nothing.
pub(super) const SECRET: &str = "whsec_YSBrZXkgb2YgdGhlIGNoZWNrIG9mIGF1dG9tYXRl";

/// Mail of this campaign starts the rule `slow`.
pub(super) const SLOW_CAMPAIGN: &str = "slow";
/// The control rule, which acts on clicks of machines as well.
pub(super) const CONTROL: &str = "scanned";

/// Paths of the receiver.
pub(super) const SLOW: &str = "/slow";
pub(super) const QUICK: &str = "/quick";
pub(super) const REFUSING: &str = "/refusing";

/// The actions that are delivered: rule, index and path.
const DELIVERED: [(&str, &str, &str); 7] = [
    ("vip-clicked", "0", "/task"),
    ("cooled", "0", "/cooled"),
    ("cooled", "1.0", "/follow-up"),
    ("capped", "0", "/capped"),
    ("slow", "0", SLOW),
    ("quick", "0", QUICK),
    ("refusing", "0", REFUSING),
];

/// Returns where an action is delivered, or `None` if it is a record alone.
pub(super) fn path_of(rule: &str, index: &str) -> Option<&'static str> {
    let found = DELIVERED.iter().find(|it| (it.0, it.1) == (rule, index));
    found.map(|(.., path)| *path)
}

/// Returns the section `[automation]` for a receiver at this address.
pub(super) fn section(receiver: &str) -> String {
    RULES.replace("RECEIVER", receiver).replace("SECRET", SECRET)
}

/// A settings file with nothing but the rules.
#[derive(Deserialize)]
struct File {
    automation: AutomationSettings,
}

/// Returns the rules for the recomputation. Without limits, they tell what rules want before limits are asked.
pub(super) fn rule_set(has_limits: bool) -> anyhow::Result<RuleSet> {
    let File { mut automation } = toml::from_str(&section("127.0.0.1:1"))?;
    if !has_limits {
        for rule in &mut automation.rule {
            (rule.limit, rule.campaign_limit) = (None, None);
        }
    }
    Ok(RuleSet::new(&automation)?)
}

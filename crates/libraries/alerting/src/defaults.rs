//! The rules of an installation that configures none. `docs/alerts.md` has the reasons for their thresholds.

use std::collections::BTreeMap;

use window::Metric::{
    BlockBounce, Bounce, Complaint, Deferral, Delivery, Engagement, HardBounce, Open, Unsubscribe,
};
use window::ScopeKind::{
    self, Campaign, MailboxProvider, MailboxProviderSendingIp, SenderDomain, Source, Tenant,
};
use window::{Direction, Metric};

use crate::bounds::ALPHA;
use crate::rule::{
    Hold, Match, Pattern, Relative, Resolve, Rule, RuleWindow, Same, SmallVolume, Test,
};
use crate::span::Span;
use crate::{Basis, Family, Measure, Share};

/// The scopes of complaint rules.
const COMPLAINTS: [ScopeKind; 5] = [Source, MailboxProvider, SenderDomain, Campaign, Tenant];

/// The error rate of the first rules. They look at four windows all the time, and complaints are few: with the
/// error rate of the others, lists that are not quite binomial would open an episode a week (see docs/alerts.md).
const FIRST: f64 = 1e-4;

/// The hold of the first rules. When sending begins, bounces are known sooner than deliveries, so a window of a
/// minute is too bad for more than a minute.
const FIRST_HOLD: Hold =
    Hold { warning: Span::minutes(2), critical: Span::minutes(1), page: Span::ZERO };

/// Seven and 28 days.
const WEEK: Span = Span::hours(7 * 24);
const FOUR_WEEKS: Span = Span::hours(28 * 24);

/// Returns the default rules.
pub(crate) fn rules() -> Vec<Rule> {
    [bounces(), blocks(), complaints(), engagement(), silence(), lists(), first_rules()].concat()
}

fn bounces() -> Vec<Rule> {
    let hard_bounces = Rule {
        page: Some(0.10),
        min_volume: 200,
        min_count: 5,
        // 24 hours of a large list are known so exactly that the bound is the rate. At 80 % of the warning, an
        // episode of a list whose true rate is just that would end by chance only.
        resolve: Resolve { below: 0.85, ..Resolve::default() },
        small: Some(SmallVolume {
            windows: vec!["60m".to_owned(), "24h".to_owned()],
            min_volume: 20,
        }),
        ..over("hard_bounces", HardBounce, &[], 0.02, 0.05, Family::Bounces)
            .on(Basis::Arrival, &["1m", "5m", "15m", "60m", "24h"])
    };
    let campaign_early_stop = Rule {
        test: Test::EValue,
        confidence: 0.001,
        settle: Span::minutes(1),
        hold: Hold::NONE,
        ..over("campaign_early_stop", HardBounce, &[Campaign], 0.02, 0.05, Family::Bounces)
            .on(Basis::Campaign, &["campaign"])
    };
    vec![hard_bounces, campaign_early_stop]
}

fn blocks() -> Vec<Rule> {
    let by_ip = &[MailboxProvider, MailboxProviderSendingIp];
    // Fewer than for `bounce_rate`: if a mailbox provider blocks many sources, this rule must name it before the
    // rules about all bounces of each source are broken. The bound protects small volumes.
    let blocks = Rule {
        min_volume: 50,
        min_count: 10,
        ..over("blocks", BlockBounce, by_ip, 0.05, 0.10, Family::Blocks)
            .on(Basis::Arrival, &["15m"])
    };
    let deferrals = Rule {
        critical: None,
        min_volume: 200,
        min_count: 20,
        baseline: Some(Relative {
            same: Same::HourOfWeek,
            over: FOUR_WEEKS,
            factor: Some(3.0),
            at_least: Some(0.05),
        }),
        ..over("deferrals", Deferral, &[MailboxProvider], 0.15, 0.15, Family::Blocks)
            .on(Basis::Arrival, &["30m"])
    };
    let auth_refused = Rule {
        warning: None,
        critical: None,
        page: Some(0.005),
        min_count: 5,
        ..signal("auth_refused", Share::AuthRefused, &[Source, SenderDomain], "10m")
    };
    // Gmail's "unusual rate" and Yahoo's TSS04, TSS05 and TS03. Elsewhere `throttled` is mostly greylisting.
    let gmail = Rule {
        min_count: 2,
        matches: at_mailbox_provider("gmail"),
        ..signal("provider_wording_gmail", Share::Throttled, &[MailboxProvider], "60m")
    };
    let yahoo = Rule {
        min_count: 2,
        matches: at_mailbox_provider("yahoo"),
        ..signal("provider_wording_yahoo", Share::Throttled, &[MailboxProvider], "60m")
    };
    let listed = Rule {
        min_count: 1,
        ..signal("provider_wording_listed", Share::Listed, &[MailboxProvider], "60m")
    };
    let delivery = Rule {
        direction: Direction::Under,
        min_volume: 200,
        ..over("delivery", Delivery, &[MailboxProvider], 0.97, 0.95, Family::Blocks)
            .on(Basis::Arrival, &["60m"])
    };
    vec![blocks, deferrals, auth_refused, gmail, yahoo, listed, delivery]
}

fn complaints() -> Vec<Rule> {
    let cohort = Rule {
        page: Some(0.003),
        min_volume: 500,
        min_count: 3,
        ..over("complaints_cohort", Complaint, &COMPLAINTS, 0.0008, 0.001, Family::Complaints)
            .on(Basis::Cohort, &["24h"])
    };
    let arrival = Rule {
        page: Some(0.003),
        min_volume: 500,
        min_count: 3,
        ..over("complaints_arrival", Complaint, &COMPLAINTS, 0.001, 0.002, Family::Complaints)
            .on(Basis::Arrival, &["24h"])
    };
    let burst = Rule {
        test: Test::Burst,
        confidence: 1e-4,
        min_count: 5,
        baseline: Some(Relative {
            same: Same::HourOfDay,
            over: WEEK,
            factor: None,
            at_least: None,
        }),
        ..over(
            "complaint_burst",
            Complaint,
            &[Source, MailboxProvider],
            3.0,
            6.0,
            Family::Complaints,
        )
        .on(Basis::Arrival, &["60m"])
    };
    vec![cohort, arrival, burst]
}

fn engagement() -> Vec<Rule> {
    let spam_foldering = Rule {
        direction: Direction::Under,
        critical: None,
        min_volume: 500,
        baseline: Some(Relative {
            same: Same::Weekday,
            over: FOUR_WEEKS,
            factor: None,
            at_least: None,
        }),
        ..over("spam_foldering", Engagement, &[MailboxProvider], 0.5, 0.5, Family::Engagement)
            .on(Basis::Cohort, &["2h-26h"])
    };
    let unsubscribes = Rule {
        min_volume: 500,
        min_count: 5,
        ..over("unsubscribes", Unsubscribe, &[Campaign], 0.005, 0.01, Family::Engagement)
            .on(Basis::Campaign, &["campaign"])
    };
    vec![spam_foldering, unsubscribes]
}

fn silence() -> Vec<Rule> {
    let silence = Rule {
        metric: Measure::Share(Share::Gap),
        direction: Direction::Under,
        test: Test::Gap,
        hold: Hold::NONE,
        resolve: Resolve { below: 1.0, r#for: Span::minutes(5) },
        ..over("silence", Open, &[Source], 1e-4, 1e-6, Family::Silence).on(Basis::Gap, &["gap"])
    };
    let deliveries_missing = Rule {
        metric: Measure::Share(Share::DeliveriesMissing),
        test: Test::Missing,
        warning: None,
        confidence: 1e-4,
        min_volume: 20,
        ..over("deliveries_missing", Open, &[Source], 0.2, 0.2, Family::Silence)
            .on(Basis::Arrival, &["15m"])
    };
    vec![silence, deliveries_missing]
}

fn lists() -> Vec<Rule> {
    let quality = |name, share, threshold| Rule {
        metric: Measure::Share(share),
        critical: None,
        min_volume: 200,
        min_count: 10,
        ..over(name, Open, &[Source], threshold, threshold, Family::ListQuality)
            .on(Basis::Arrival, &["24h"])
    };
    vec![
        quality("list_ignored", Share::Suppressed, 0.01),
        quality("taxonomy", Share::Unclassified, 0.05),
    ]
}

/// The product's first rules. They keep their names and thresholds.
fn first_rules() -> Vec<Rule> {
    let scopes = &[Source, Campaign];
    let bounce_rate = Rule {
        min_volume: 200,
        confidence: FIRST,
        hold: FIRST_HOLD,
        ..over("bounce_rate", Bounce, scopes, 0.05, 0.10, Family::Bounces)
    };
    let complaint_rate = Rule {
        min_volume: 1000,
        // Complaints come in clusters, so a few in five minutes are no evidence against a list.
        min_count: 10,
        confidence: FIRST,
        hold: FIRST_HOLD,
        ..over("complaint_rate", Complaint, scopes, 0.001, 0.002, Family::Complaints)
    };
    let low = |name, metric, warning: f64, min_volume| Rule {
        direction: Direction::Under,
        min_volume,
        ..over(name, metric, scopes, warning, warning / 2.0, Family::Engagement)
            .on(Basis::Cohort, &["24h-48h"])
    };
    // The requirement for opens is more than 100 delivered messages.
    let engagement = low("low_engagement", Engagement, 0.15, 200);
    vec![bounce_rate, complaint_rate, engagement, low("low_opens", Open, 0.10, 101)]
}

/// Returns a rule of four windows whose bad side is `over`.
fn over(
    name: &str,
    metric: Metric,
    scopes: &[ScopeKind],
    warning: f64,
    critical: f64,
    family: Family,
) -> Rule {
    Rule {
        name: name.to_owned(),
        metric: Measure::Rate(metric),
        basis: Basis::Arrival,
        scopes: scopes.to_vec(),
        matches: Match::default(),
        windows: Vec::new(),
        direction: Direction::Over,
        test: Test::Bound,
        warning: Some(warning),
        critical: Some(critical),
        page: None,
        min_volume: 0,
        min_count: 0,
        small: None,
        confidence: ALPHA,
        settle: Span::ZERO,
        hold: Hold::default(),
        resolve: Resolve::default(),
        remind: None,
        baseline: None,
        runbook: format!("docs/runbooks.md#{}", name.replace('_', "-")),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        family,
        enabled: true,
    }
    .on(Basis::Arrival, &["1m", "5m", "15m", "60m"])
}

/// Returns a rule about answers that are facts: a few of them, and 0.1 % of the mail, are a warning.
fn signal(name: &str, share: Share, scopes: &[ScopeKind], window: &str) -> Rule {
    Rule {
        metric: Measure::Share(share),
        test: Test::Count,
        critical: None,
        ..over(name, Open, scopes, 0.001, 0.001, Family::Blocks).on(Basis::Arrival, &[window])
    }
}

fn at_mailbox_provider(name: &str) -> Match {
    Match { mailbox_provider: Some(Pattern::name(name)), ..Match::default() }
}

impl Rule {
    /// Returns the rule with these windows. A text that is not a window of the basis is left out; the test of
    /// this file finds it.
    fn on(mut self, basis: Basis, windows: &[&str]) -> Self {
        self.basis = basis;
        self.windows = windows.iter().filter_map(|text| RuleWindow::parse(text, basis)).collect();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RuleSet;

    #[test]
    fn the_default_rules_are_valid() {
        let rules = rules();
        for rule in &rules {
            rule.check().unwrap_or_else(|error| panic!("{error}"));
        }
        assert!(RuleSet::new(rules, Vec::new()).is_ok());
    }

    #[test]
    fn every_rule_has_the_windows_of_the_table() {
        let windows = |name: &str| {
            let rules = rules();
            let rule = rules.iter().find(|rule| rule.name == name).unwrap();
            rule.windows.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        for (name, expected) in [
            ("hard_bounces", "1m 5m 15m 60m 24h"),
            ("campaign_early_stop", "campaign"),
            ("blocks", "15m"),
            ("deferrals", "30m"),
            ("auth_refused", "10m"),
            ("provider_wording_gmail", "60m"),
            ("delivery", "60m"),
            ("complaints_cohort", "24h"),
            ("complaints_arrival", "24h"),
            ("spam_foldering", "2h-26h"),
            ("unsubscribes", "campaign"),
            ("silence", "gap"),
            ("list_ignored", "24h"),
            ("bounce_rate", "1m 5m 15m 60m"),
            ("low_opens", "24h-48h"),
        ] {
            assert_eq!(windows(name), expected, "{name}");
        }
    }
}

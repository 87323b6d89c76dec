//! What tells which episodes belong to one incident: the member, the families and the mailbox providers
//! of an alert.

use std::collections::{BTreeMap, BTreeSet};

use event::{Dimension, Provider};
use window::{Metric, Scope};

use crate::cause::{Course, MOST, share_of_excess};
use crate::{Alert, Family, IncidentGroup, Measure};

/// The source or tenant that an episode belongs to: `source/sendgrid/acme` or `tenant/acme`, the key of
/// the scope [`Scope::whole`].
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub(crate) struct Member(String);

impl Member {
    const SOURCE: &str = "source/";
    const TENANT: &str = "tenant/";

    pub(crate) fn of(scope: &Scope) -> Self {
        Self(scope.whole().key())
    }

    /// Returns provider and source, such as `sendgrid/acme`; `None` for a tenant.
    pub(crate) fn source(&self) -> Option<&str> {
        self.0.strip_prefix(Self::SOURCE)
    }

    /// Returns the provider; `None` for a tenant.
    pub(crate) fn provider(&self) -> Option<Provider> {
        self.source()?.split_once('/')?.0.parse().ok()
    }

    /// Returns the group of an incident with this member alone.
    pub(crate) fn group(&self) -> IncidentGroup {
        match (self.source(), self.0.strip_prefix(Self::TENANT)) {
            (Some(source), _) => IncidentGroup::Source { of: source.to_owned() },
            (None, tenant) => IncidentGroup::Tenant { of: tenant.unwrap_or(&self.0).to_owned() },
        }
    }
}

/// Returns whether a measure counts blocks and dead addresses alike. It breaks under a block as well as
/// with a bad list, so that its episodes belong to whichever of the two the source has.
pub(crate) const fn is_general(measure: Measure) -> bool {
    matches!(measure, Measure::Rate(Metric::Bounce | Metric::Delivery))
}

/// Returns the family of an alert, and whether its measure is general. A general measure alone counts as
/// bounces.
pub(crate) const fn families(alert: &Alert) -> (Family, bool) {
    if is_general(alert.metric) { (Family::Bounces, true) } else { (alert.family, false) }
}

/// Returns whether episodes can belong to one incident, by their families and whether all of their
/// measures are general on each side.
pub(crate) fn are_compatible(left: (Family, bool), right: (Family, bool)) -> bool {
    let fits = |family| matches!(family, Family::Bounces | Family::Blocks);
    left.0 == right.0 || ((left.1 || right.1) && fits(left.0) && fits(right.0))
}

/// Returns the family of compatible episodes. A family with a measure that is not general is the more
/// precise one.
pub(crate) const fn joint_family(left: (Family, bool), right: (Family, bool)) -> (Family, bool) {
    if left.1 && !right.1 { right } else { (left.0, left.1 && right.1) }
}

/// Returns the mailbox providers that episodes may be about, so that the same problem at other sources
/// is the same incident; and the sources at which they are.
///
/// If the family is blocks, engagement or silence, that is every mailbox provider with an episode. The
/// other families, and measures that count bounces of every kind, are often about one sender's list, so
/// there a mailbox provider must hold 80 % of the excess of the source.
pub(crate) fn mailbox_providers(
    family: Family,
    episodes: &[Course<'_>],
) -> BTreeMap<String, BTreeSet<Member>> {
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for &episode in episodes {
        let alert = episode.alert;
        let Some(mailbox_provider) = alert.scope.value(Dimension::MailboxProvider) else {
            continue;
        };
        if alert.scope.source().is_none() || mailbox_provider == Scope::OTHER {
            continue;
        }
        let is_about_senders = match family {
            Family::Blocks | Family::Engagement | Family::Silence => is_general(alert.metric),
            Family::Bounces | Family::Complaints | Family::ListQuality => true,
        };
        if !is_about_senders || holds_most(episode, episodes) {
            found.entry(mailbox_provider.to_owned()).or_default().insert(Member::of(&alert.scope));
        }
    }
    found
}

fn holds_most(episode: Course<'_>, episodes: &[Course<'_>]) -> bool {
    let whole = episode.alert.scope.whole();
    episodes
        .iter()
        .filter(|other| other.alert.scope == whole)
        .any(|&other| share_of_excess(episode, other).is_some_and(|share| share >= MOST))
}

/// What joins incidents across sources, in the order in which the group of the incident is chosen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JoinKey {
    MailboxProvider(String),
    Ours,
    Provider(Provider),
}

impl JoinKey {
    /// Returns the group of an incident that was joined by this key.
    pub(crate) fn group(&self) -> IncidentGroup {
        match self {
            Self::MailboxProvider(of) => IncidentGroup::MailboxProvider { of: of.clone() },
            Self::Provider(of) => IncidentGroup::Provider { of: of.as_str().to_owned() },
            Self::Ours => IncidentGroup::Ours,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::Moment;
    use crate::incidents::samples::*;

    #[test]
    fn a_block_is_about_its_mailbox_provider_and_a_bad_list_only_if_most_of_it_is_there() {
        let found = |family, alerts: &[Alert]| -> Vec<String> {
            let moments: Vec<_> = alerts.iter().map(|alert| [Moment::of(alert)]).collect();
            let courses = alerts.iter().zip(&moments);
            let courses: Vec<_> =
                courses.map(|(alert, moments)| Course { alert, moments }).collect();
            mailbox_providers(family, &courses).into_keys().collect()
        };
        let blocks = [alert("blocks", mailbox("acme", "gmail")), alert("blocks", source("acme"))];
        assert_eq!(found(Family::Blocks, &blocks), ["gmail"]);
        let whole = alert("hard_bounces", source("acme"));
        let most = with_counts(alert("hard_bounces", mailbox("acme", "gmail")), 80, 450);
        let less = with_counts(alert("hard_bounces", mailbox("acme", "gmail")), 61, 450);
        assert_eq!(found(Family::Bounces, &[whole.clone(), most.clone()]), ["gmail"]);
        assert!(found(Family::Bounces, &[whole, less]).is_empty());
        assert!(found(Family::Bounces, &[most]).is_empty(), "the source is not known");
        let general = alert("bounce_rate", mailbox("acme", "gmail"));
        assert!(found(Family::Blocks, &[general]).is_empty(), "it counts all bounces");
        let rest = alert("blocks", mailbox("acme", Scope::OTHER));
        assert!(found(Family::Blocks, &[rest]).is_empty());
    }

    #[test]
    fn general_measures_fit_bounces_and_blocks() {
        use Family::{Blocks, Bounces, Complaints};
        for (left, right, expected) in [
            ((Bounces, true), (Blocks, false), Some((Blocks, false))),
            ((Blocks, false), (Bounces, true), Some((Blocks, false))),
            ((Bounces, true), (Bounces, true), Some((Bounces, true))),
            ((Bounces, false), (Bounces, true), Some((Bounces, false))),
            ((Bounces, false), (Blocks, false), None),
            ((Bounces, true), (Complaints, false), None),
        ] {
            assert_eq!(are_compatible(left, right), expected.is_some(), "{left:?} {right:?}");
            if let Some(expected) = expected {
                assert_eq!(joint_family(left, right), expected);
            }
        }
    }
}

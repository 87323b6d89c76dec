//! Which incidents a channel delivers.

use std::collections::BTreeSet;

use alerting::{Family, Incident, IncidentGroup, Severity};
use event::Dimension;
use serde::Deserialize;
use service::Patterns;
use window::Scope;

/// The routes of a channel: it delivers the incidents that match all of them. An empty list matches
/// every incident.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Route {
    /// The severities. An incident has the highest severity that it has had so far.
    pub severities: Vec<Severity>,
    /// What the incident is about.
    pub families: Vec<Family>,
    /// Globs of tenants.
    pub tenants: Patterns,
    /// Globs of sources, written as `acme` or `sendgrid/acme`.
    pub sources: Patterns,
}

impl Route {
    /// Returns whether the channel delivers the incident.
    pub fn matches(&self, incident: &Incident) -> bool {
        (self.severities.is_empty() || self.severities.contains(&incident.severity))
            && (self.families.is_empty() || self.families.contains(&incident.family))
            && self.tenants.match_any(tenants(incident))
            && self.sources.match_any(sources(incident))
    }
}

/// Returns the tenants that the incident names.
fn tenants(incident: &Incident) -> BTreeSet<String> {
    let of_group = match &incident.group {
        IncidentGroup::Tenant { of } => Some(of.clone()),
        _ => None,
    };
    let of_scopes = scopes(incident).filter_map(|scope| scope.value(Dimension::Tenant));
    of_scopes.map(str::to_owned).chain(of_group).collect()
}

/// Returns the sources that the incident names, with and without their provider.
fn sources(incident: &Incident) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if let IncidentGroup::Source { of } = &incident.group {
        names.insert(of.clone());
    }
    for of in &incident.sources {
        names.extend(of.split_once('/').map(|(_, source)| source.to_owned()));
        names.insert(of.clone());
    }
    for (provider, source) in scopes(incident).filter_map(Scope::of_source) {
        names.insert(source.to_owned());
        names.insert(format!("{provider}/{source}"));
    }
    names
}

fn scopes(incident: &Incident) -> impl Iterator<Item = &Scope> {
    let others = incident.others.iter().map(|other| &other.alert.scope);
    std::iter::once(&incident.lead.scope).chain(others)
}

#[cfg(test)]
mod tests {
    use alerting::Change;

    use super::*;
    use crate::sample;

    fn matches(route: &str) -> bool {
        let route: Route = toml::from_str(route).unwrap();
        route.matches(&sample::received(Change::Opened, 1, "acme").incident)
    }

    #[test]
    fn an_incident_must_match_every_route() {
        // The sample is a warning about bounces of the source sendgrid/acme.
        for good in [
            "",
            r#"severities = ["warning", "page"]"#,
            r#"families = ["bounces"]"#,
            r#"sources = ["acme"]"#,
            r#"sources = ["other", "sendgrid/*"]"#,
            r#"sources = ["ac*"]"#,
        ] {
            assert!(matches(good), "{good}");
        }
        for other in [
            r#"severities = ["page"]"#,
            r#"families = ["complaints"]"#,
            r#"sources = ["mailgun/*"]"#,
            r#"tenants = ["*"]"#,
            "severities = [\"warning\"]\nfamilies = [\"silence\"]",
        ] {
            assert!(!matches(other), "{other}");
        }
        assert!(toml::from_str::<Route>(r#"sources = ["[z-a"]"#).is_err());
        assert!(toml::from_str::<Route>(r#"severities = ["sev1"]"#).is_err());
    }

    #[test]
    fn a_tenant_is_that_of_the_group_or_of_a_scope() {
        let mut incident = sample::received(Change::Opened, 1, "acme").incident;
        incident.group = IncidentGroup::Tenant { of: "north".to_owned() };
        let route: Route = toml::from_str(r#"tenants = ["nor*"]"#).unwrap();
        assert!(route.matches(&incident));
        incident.group = IncidentGroup::Ours;
        assert!(!route.matches(&incident));
        incident.lead.scope = Scope::Tenant { tenant: "northwind".to_owned() };
        assert!(route.matches(&incident));
    }
}

//! Checks that the services still accept the names that settings had in the recorded release.

use toml::{Table, Value};

use super::installation::Installation;
use crate::binaries::SERVICES;
use crate::chaos::{Balance, Errors};
use crate::supervisor::Member;

const PART: &str = "settings";

/// Returns the settings whose names the reference settings of this checkout do not contain.
pub(crate) fn old_names(recorded: &str) -> anyhow::Result<Vec<String>> {
    let recorded: Table = toml::from_str(recorded)?;
    let reference: Table = toml::from_str(service::REFERENCE)?;
    let mut old = Vec::new();
    for (section, keys) in &recorded {
        let (Value::Table(keys), Some(Value::Table(known))) = (keys, reference.get(section)) else {
            continue;
        };
        let unknown = keys.keys().filter(|key| !known.contains_key(*key));
        old.extend(unknown.map(|key| format!("{section}.{key}")));
    }
    Ok(old)
}

/// Runs every service with `--check`.
pub(crate) fn check(balance: &mut Balance, running: &Installation) -> anyhow::Result<()> {
    let (mut good, mut errors) = (0, Errors::default());
    for service in SERVICES {
        let output = running.check_settings(service)?;
        if output.status.success() {
            good += 1;
        } else {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            errors.add(|| format!("{service} ({}): {text}", output.status));
        }
    }
    balance.line(PART, "services whose --check succeeds", good, SERVICES.len() as u64);
    balance.none(PART, "services whose --check fails", &errors);
    Ok(())
}

/// Each start of a service must have logged one warning for each setting that was renamed or removed.
pub(crate) fn warnings(
    balance: &mut Balance,
    running: &Installation,
    old_names: &[String],
) -> anyhow::Result<()> {
    let (mut once, mut errors) = (0, Errors::default());
    for service in SERVICES {
        let log = running.log(Member { service, number: 1 })?;
        // On a busy machine, the supervisor may have restarted a service.
        let starts = log.matches("service started").count();
        for name in old_names {
            let warning = |text| log.matches(&format!("setting `{name}` is {text}")).count();
            let warnings = warning("now called") + warning("no longer used");
            if starts > 0 && warnings == starts {
                once += 1;
            } else {
                errors.add(|| {
                    format!("{service} has {warnings} warnings about {name} in {starts} starts")
                });
            }
        }
    }
    let expected = (SERVICES.len() * old_names.len()) as u64;
    balance.line(PART, "old names with one warning in each start", once, expected);
    balance.none(PART, "old names with no or several warnings", &errors);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_are_those_that_the_reference_does_not_contain() {
        let recorded = "[enrich]\nadmin = \"a\"\nrefusals_to_hold = 5\n[unknown]\nkey = 1\n\
                        [[source]]\nname = \"a\"\n";
        assert_eq!(old_names(recorded).unwrap(), ["enrich.refusals_to_hold"]);
    }
}

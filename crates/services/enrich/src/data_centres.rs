//! Recognises addresses in networks of data centres, from which few people read mail.

use std::collections::{BTreeMap, HashSet};

use event::{Automation, AutomationReason};
use serde::Deserialize;

use crate::OpenError;

const DATA: &str = include_str!("../data/data_centres.toml");
/// The name of the data file in error messages.
const NAME: &str = "data_centres.toml";

/// The autonomous systems of data centres.
pub(crate) struct DataCentres {
    numbers: HashSet<u32>,
    confidence: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    confidence: f32,
    networks: BTreeMap<String, Vec<u32>>,
}

impl DataCentres {
    /// Reads the built-in data.
    pub(crate) fn load() -> Result<Self, OpenError> {
        let Data { confidence, networks } =
            toml::from_str(DATA).map_err(|error| OpenError::built_in(NAME, error))?;
        if !(0.0..=1.0).contains(&confidence) {
            return Err(OpenError::built_in(NAME, "`confidence` must be between 0 and 1"));
        }
        let mut numbers = HashSet::new();
        for number in networks.into_values().flatten() {
            if !numbers.insert(number) {
                return Err(OpenError::built_in(
                    NAME,
                    format_args!("AS number {number} is listed twice"),
                ));
            }
        }
        Ok(Self { numbers, confidence })
    }

    /// Returns why an open or click from this autonomous system counts as a machine's; `None` if it
    /// does not.
    pub(crate) fn automation(&self, asn: u32) -> Option<Automation> {
        self.numbers.contains(&asn).then_some(Automation {
            reason: AutomationReason::DataCentre,
            confidence: self.confidence,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rented_servers_count_as_machines_and_private_relays_do_not() {
        let data_centres = DataCentres::load().unwrap();
        let reason = |asn| data_centres.automation(asn).map(|found| found.reason);
        assert_eq!(reason(24_940), Some(AutomationReason::DataCentre));
        for relay in [13_335, 54_113, 36_183, 15_169, 714] {
            assert_eq!(reason(relay), None, "AS{relay}");
        }
    }
}

//! Networks where machines live and people do not.

use std::collections::{BTreeMap, HashSet};

use event::{Automation, AutomationReason};
use serde::Deserialize;

use crate::OpenError;

/// Built in; the data is reviewed like code.
const DATA: &str = include_str!("../data/data_centres.toml");
/// What errors call it.
const NAME: &str = "data_centres.toml";

/// The numbers of autonomous systems that are data centres.
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
            return Err(OpenError::built_in(NAME, "confidence is from 0 to 1"));
        }
        let mut numbers = HashSet::new();
        for number in networks.into_values().flatten() {
            if !numbers.insert(number) {
                return Err(OpenError::built_in(NAME, format_args!("{number} is there twice")));
            }
        }
        Ok(Self { numbers, confidence })
    }

    /// What an open or click from this autonomous system is held to be.
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
    fn rented_servers_are_machines_and_private_relays_are_not() {
        let data_centres = DataCentres::load().unwrap();
        let reason = |asn| data_centres.automation(asn).map(|found| found.reason);
        assert_eq!(reason(24_940), Some(AutomationReason::DataCentre));
        for relay in [13_335, 54_113, 36_183, 15_169, 714] {
            assert_eq!(reason(relay), None, "AS{relay}");
        }
    }
}

//! Compares what notify has delivered with the incidents. A change can be delivered several times; the
//! identity of the message is then the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::balance::{Balance, Errors};
use crate::clickhouse::Database;
use crate::pipeline::free_address;
use crate::recording::receiver::{Delivery, Receiver};

/// The changes that a webhook receives, by `webhook-id`.
const NOTIFICATIONS: &str = "
    SELECT concat('incident_', id, '_', toString(seq)) FROM incidents
    WHERE change IN ('opened', 'escalated', 'reminder', 'digest', 'resolved') FORMAT TSV";
/// How long the last deliveries may take. After five failures in a row a channel waits for half a minute.
const TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(250);

/// A receiver of notifications, and the settings that deliver to it.
pub(super) struct Notified {
    receiver: Receiver,
    address: String,
}

impl Notified {
    pub(super) fn start() -> anyhow::Result<Self> {
        let address = free_address()?;
        Ok(Self { receiver: Receiver::start(&address)?, address })
    }

    /// Returns the keys of `[notify]`, and the channel.
    pub(super) fn settings(&self) -> String {
        format!(
            "allow_private = true\n[[notify.channel]]\nname = \"hook\"\nkind = \"webhook\"\n\
             url = \"http://{}/hook\"\nsecret = \"whsec_bWFpbHB1bHNlLWNoYW9zLWhvb2stc2VjcmV0\"\n",
            self.address
        )
    }

    /// Returns the number of deliveries.
    pub(super) fn count(&self) -> u64 {
        self.receiver.deliveries().len() as u64
    }

    /// Every notification must have been delivered. Waits for those that are not yet.
    pub(super) async fn prove(
        &self,
        balance: &mut Balance,
        database: &Database,
    ) -> anyhow::Result<()> {
        const PART: &str = "notifications";
        let deadline = Instant::now() + TIMEOUT;
        let answer = database.text(NOTIFICATIONS).await?;
        let expected: BTreeSet<&str> = answer.lines().collect();
        loop {
            let compared = Compared::of(&expected, &self.receiver.deliveries());
            if compared.is_right() || Instant::now() > deadline {
                balance.line(PART, "delivered", compared.delivered, expected.len() as u64);
                balance.none(PART, "not delivered", &compared.missing);
                balance.none(PART, "delivered without a change", &compared.unknown);
                balance.none(PART, "delivered before an earlier one", &compared.out_of_order);
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

#[derive(Debug, Default)]
struct Compared {
    delivered: u64,
    missing: Errors,
    unknown: Errors,
    /// For the first time after a later one of the same incident.
    out_of_order: Errors,
}

impl Compared {
    fn of(expected: &BTreeSet<&str>, deliveries: &[Delivery]) -> Self {
        let (mut compared, mut seen) = (Self::default(), BTreeSet::new());
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for Delivery { id, .. } in deliveries {
            if !seen.insert(id.as_str()) {
                continue;
            }
            let Some((incident, seq)) =
                id.rsplit_once('_').filter(|_| expected.contains(id.as_str()))
            else {
                compared.unknown.add(|| id.clone());
                continue;
            };
            let (seq, last) = (seq.parse().unwrap_or(0), last.entry(incident).or_default());
            if seq < *last {
                compared.out_of_order.add(|| id.clone());
            }
            *last = seq.max(*last);
        }
        for id in expected {
            if seen.contains(id) {
                compared.delivered += 1;
            } else {
                compared.missing.add(|| (*id).to_owned());
            }
        }
        compared
    }

    fn is_right(&self) -> bool {
        self.missing.count + self.unknown.count + self.out_of_order.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_an_unknown_and_a_late_delivery_are_detected() {
        let expected = BTreeSet::from(["incident_a_1", "incident_a_3", "incident_b_1"]);
        let counts = |ids: &[&str]| {
            let delivery = |id: &&str| Delivery {
                path: "/hook".to_owned(),
                id: (*id).to_owned(),
                body: String::new(),
                is_verified: false,
            };
            let compared = Compared::of(&expected, &ids.iter().map(delivery).collect::<Vec<_>>());
            let Compared { delivered, missing, unknown, out_of_order } = compared;
            (delivered, missing.count, unknown.count, out_of_order.count)
        };
        let [a1, a3, b1] = ["incident_a_1", "incident_a_3", "incident_b_1"];
        assert_eq!(counts(&[a1, b1, a1, a3, a1]), (3, 0, 0, 0), "repetitions are right");
        assert_eq!(counts(&[a1, b1]), (2, 1, 0, 0));
        assert_eq!(counts(&[a1, "incident_a_2", a3, b1]), (3, 0, 1, 0));
        assert_eq!(counts(&[a3, a1, b1]), (3, 0, 0, 1));
    }
}

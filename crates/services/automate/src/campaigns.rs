//! What each campaign counts: `mail.campaigns`, which `monitor` writes, in memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use alerting::Campaign;
use event::Provider;
use kafka::changes::{Changes, Polled};
use kafka::{Cluster, Record};
use service::Service;
use window::{Counts, Scope};

const POLL_TIMEOUT: Duration = Duration::from_millis(50);

/// The counts of all campaigns since they began, as far as the topic has been read. By the key of the scope.
#[derive(Default)]
pub(crate) struct Campaigns(RwLock<HashMap<String, Campaign>>);

impl Campaigns {
    /// Reads the whole topic, and goes on in the background until the service shuts down.
    ///
    /// # Errors
    /// If the topic is missing or Kafka rejects the client.
    pub(crate) fn follow(
        self: &Arc<Self>,
        cluster: &Cluster,
        service: &Service,
    ) -> anyhow::Result<()> {
        let topic = &cluster.topics.campaigns;
        let mut changes = Changes::open(&cluster.connection, "automate-campaigns", topic)?;
        while !changes.has_caught_up() && !service.shutdown.requested() {
            service.health.mark_alive();
            if let Polled::Away(error) = self.poll(&mut changes)? {
                tracing::warn!(error, "mail.campaigns cannot be read yet; retrying");
            }
        }
        let campaigns = self.0.read().unwrap_or_else(PoisonError::into_inner).len();
        tracing::info!(campaigns, "mail.campaigns is in memory");
        let (own, shutdown) = (Arc::clone(self), service.shutdown.clone());
        let follow = move || {
            while !shutdown.requested() {
                match own.poll(&mut changes) {
                    Ok(Polled::Record | Polled::Nothing) => {}
                    Ok(Polled::Away(error)) => {
                        tracing::warn!(
                            error,
                            "mail.campaigns cannot be read; rates stay as they are"
                        );
                        while !changes.answers(Duration::from_secs(1)) && !shutdown.requested() {}
                    }
                    Err(error) => {
                        tracing::error!(%error, "mail.campaigns is no longer followed; the service ends");
                        shutdown.request();
                    }
                }
            }
        };
        std::thread::Builder::new().name("campaigns".to_owned()).spawn(follow)?;
        Ok(())
    }

    fn poll(&self, changes: &mut Changes) -> Result<Polled, kafka::Error> {
        changes.poll(POLL_TIMEOUT, &mut |record| self.apply(record))
    }

    fn apply(&self, record: &Record<'_>) {
        let key = std::str::from_utf8(record.key()).ok();
        let campaign = record.value().map(serde_json::from_slice::<Campaign>).transpose();
        let (Some(key), Ok(campaign)) = (key, campaign) else {
            tracing::warn!(
                origin = %record.origin(),
                "a record of mail.campaigns cannot be read and is ignored"
            );
            return;
        };
        let mut campaigns = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match campaign {
            Some(campaign) => drop(campaigns.insert(key.to_owned(), campaign)),
            None => drop(campaigns.remove(key)),
        }
    }

    /// Returns the counts of a campaign, or `None` if they are not known.
    pub(crate) fn counts(
        &self,
        provider: Provider,
        source: &str,
        campaign: &str,
    ) -> Option<Counts> {
        let (source, campaign) = (source.to_owned(), campaign.to_owned());
        let key = Scope::Campaign { provider, source, campaign }.key();
        let campaigns = self.0.read().unwrap_or_else(PoisonError::into_inner);
        campaigns.get(&key).map(|campaign| campaign.since().1)
    }
}

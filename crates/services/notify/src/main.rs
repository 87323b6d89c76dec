//! `notify`: delivers incidents to people. The library of this crate explains how.
//!
//! It reads `mail.incidents` and delivers to the channels of `[[notify.channel]]`. Each change of an
//! incident reaches every channel at least once and in order. An offset is committed once every channel
//! has accepted the changes up to it. What a channel does not accept, and a record that is not a valid
//! incident, becomes a dead letter.

use kafka::feed::Feed;
use kafka::{Cluster, DeadLetterWriter};
use notify::acknowledgements::Acknowledgements;
use notify::delivery::Deliveries;
use notify::intake::Intake;
use notify::settings::NotifySettings;
use record::Stage;
use service::Service;

fn main() -> anyhow::Result<()> {
    let service = Service::load("notify", env!("CARGO_PKG_VERSION"))?;
    let settings = NotifySettings::read(&service.settings)?;
    let channels = settings.channels(&service.settings)?;
    let explainer = settings.explainer(&service.settings)?;
    let acknowledgements = settings.acknowledgements(&service.settings)?;
    let cluster = Cluster::read(&service)?;
    service.open(settings.admin)?;

    cluster.prepare()?;
    let shutdown = service.shutdown.clone();
    let deliveries = Deliveries::start(channels, settings.delivery(), explainer, shutdown)?;
    let feed = Feed::open(&cluster, Stage::Notify, &[&cluster.topics.incidents])?;
    let dead_letters = DeadLetterWriter::open(&cluster, Stage::Notify)?;
    if let Some((address, secrets)) = acknowledgements {
        let alerts = cluster.topics.alerts.clone();
        Acknowledgements::new(&cluster.connection, alerts, secrets)?.open(address)?;
    }
    let intake =
        Intake::new(feed, cluster.connection, cluster.topics.incidents, deliveries, dead_letters);
    intake.run(&service.health, &service.shutdown)?;
    Ok(())
}

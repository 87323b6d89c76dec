//! `notify`: delivers alert transitions to people. The library of this crate explains how.
//!
//! It reads `mail.alerts` and delivers to the channels of `[[notify.channel]]`. Each transition of an
//! episode (fired, escalated, resolved) reaches every channel at least once and in order. An offset is
//! committed once every channel has accepted the transitions up to it, or has given up on them. A
//! record that is not a valid alert becomes a dead letter.

use kafka::feed::Feed;
use kafka::{Cluster, DeadLetterWriter};
use notify::delivery::Deliveries;
use notify::intake::Intake;
use notify::settings::NotifySettings;
use record::Stage;
use service::Service;

fn main() -> anyhow::Result<()> {
    let service = Service::load("notify", env!("CARGO_PKG_VERSION"))?;
    let settings = NotifySettings::read(&service.settings)?;
    let channels = settings.channels(&service.settings)?;
    let cluster = Cluster::read(&service)?;
    service.open(settings.admin)?;

    cluster.prepare()?;
    let feed = Feed::open(&cluster, Stage::Notify, &[&cluster.topics.alerts])?;
    let dead_letters = DeadLetterWriter::open(&cluster, Stage::Notify)?;
    let deliveries = Deliveries::start(channels, settings.retry(), service.shutdown.clone())?;
    Intake::new(feed, deliveries, dead_letters).run(&service.health, &service.shutdown)?;
    Ok(())
}

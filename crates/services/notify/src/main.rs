//! `notify`: delivers alert transitions to people.
//!
//! In: `mail.alerts`. Out: the channels of `[[notify.channel]]`. Each transition of an episode
//! (fired, escalated, resolved) reaches every channel at least once and in order; an offset is
//! committed once every channel took what is before it, or gave up on it.

use notify::delivery::Deliveries;
use notify::intake;
use notify::settings::NotifySettings;
use service::Service;
use kafka::Cluster;
use kafka::feed::Feed;

fn main() -> anyhow::Result<()> {
    let service = Service::load("notify", env!("CARGO_PKG_VERSION"))?;
    let settings = NotifySettings::read(&service.settings)?;
    let channels = settings.channels(&service.settings)?;
    let cluster = Cluster::read(&service)?;
    service.open(settings.admin)?;

    cluster.prepare()?;
    let (group, alerts) = (cluster.topics.group("notify"), &cluster.topics.alerts);
    let feed = Feed::open(&cluster.connection, "notify", &group, &[alerts])?;
    let deliveries = Deliveries::start(channels, settings.retry(), service.shutdown.clone())?;
    intake::run(feed, deliveries, &service.health, &service.shutdown)?;
    Ok(())
}

//! `notify`: delivers alert transitions to people.
//!
//! In: `mail.alerts`. Out: the channels of `[[notify.channel]]`. Each transition of an episode
//! (firing, critical, resolved) reaches every channel at least once and in order; an offset is
//! committed once every channel took what is before it, or gave up on it.

use notify::delivery::Deliveries;
use notify::intake;
use notify::settings::NotifySettings;
use service::Service;
use stream::feed::Feed;
use stream::{ClusterSettings, TopicSettings};

fn main() -> anyhow::Result<()> {
    let service = Service::load("notify", env!("CARGO_PKG_VERSION"))?;
    let settings = NotifySettings::read(&service.settings)?;
    let channels = settings.channels(&service.settings)?;
    let cluster: ClusterSettings = service.settings.section("kafka")?;
    let layout: TopicSettings = service.settings.section("topics")?;
    service.open(settings.admin)?;

    let topics = cluster.topics();
    let connection = cluster.connect(&service.instance, service.has_stable_instance());
    layout.prepare(&connection, &topics)?;
    let deliveries = Deliveries::start(channels, settings.retry(), service.shutdown.clone())?;
    let feed = Feed::open(&connection, &topics.group("notify"), &[&topics.alerts])?;
    intake::run(feed, deliveries, &service.health, &service.shutdown)?;
    Ok(())
}

//! `ingress`: webhooks in, raw events out.
//!
//! In: `POST /webhooks/{provider}/{source}`. Out: one record per event and recipient in
//! `mail.raw.<kind>`, key = recipient, value = the provider's own bytes.
//!
//! A request is authenticated over its bytes as received, split without rewriting them, published,
//! and answered with 200 once Kafka has acknowledged every record (`acks=all`). What is authentic
//! but cannot be split goes whole to `mail.dead-letters`, and is answered with 200 too. When Kafka
//! does not take it in time the answer makes the provider try again.

mod certificates;
mod handler;
mod meters;
mod problem;
mod request_id;
mod server;
mod settings;
mod sources;

use anyhow::Context;
use certificates::Certificates;
use handler::Ingress;
use service::Service;
use settings::IngressSettings;
use sources::Sources;
use stream::{Cluster, Publisher};

fn main() -> anyhow::Result<()> {
    let service = Service::load("ingress", env!("CARGO_PKG_VERSION"))?;
    let settings: IngressSettings = service.settings.section("ingress")?;
    let sources = Sources::read(&service.settings)?;
    let cluster = Cluster::read(&service)?;
    let certificates = Certificates::new(&settings.sns_certificates)?;
    service.open(settings.admin)?;

    cluster.prepare()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let publisher = Publisher::open(&cluster.connection, settings.publisher())?;
    publisher.wake_through(runtime.handle());
    let ingress = Ingress::new(sources, cluster.topics, publisher, certificates, &settings);
    runtime.block_on(server::serve(ingress, &settings, &service))
}

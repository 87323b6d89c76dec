//! `ingress`: webhooks in, raw events out.
//!
//! In: `POST /webhooks/{provider}/{source}`. Out: one record per event and recipient in
//! `mail.raw.<kind>`, key = recipient, value = the provider's own bytes.
//!
//! A request is authenticated over its bytes as received, split without rewriting them (but for
//! addresses that are to become pseudonyms), published, and answered with 200 once Kafka has
//! acknowledged every record (`acks=all`). What is authentic
//! but cannot be split goes whole to `mail.dead-letters`, and is answered with 200 too. While Kafka
//! does not take records, requests are kept in a spool on the local disk, synced before the answer,
//! and handed on in their order when it is back. Only when the spool is full does the answer make
//! the provider try again.

mod backlog;
mod body;
mod certificates;
mod client;
mod envelope;
mod gate;
mod handler;
mod meters;
mod outlet;
mod problem;
mod request_id;
mod room;
mod server;
mod settings;
mod sources;
mod supply;
mod throttle;
mod tokens;

use std::sync::Arc;

use anyhow::Context;
use backlog::Backlog;
use certificates::Certificates;
use gate::Gate;
use handler::Ingress;
use outlet::Outlet;
use service::Service;
use settings::IngressSettings;
use sources::Sources;
use spool::Spool;
use kafka::{Cluster, Publisher};

fn main() -> anyhow::Result<()> {
    let service = Service::load("ingress", env!("CARGO_PKG_VERSION"))?;
    let settings = IngressSettings::read(&service.settings)?;
    let pseudonyms = privacy::configured(&service.settings)?;
    let sources = Sources::read(&service.settings)?;
    let cluster = Cluster::read(&service)?;
    let gate = Gate::new(Certificates::new(&settings.sns_certificates)?, &settings);
    service.open(settings.admin)?;

    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let publisher = Publisher::open(&cluster.connection, settings.publisher())?;
    publisher.wake_through(runtime.handle());
    let patient = Publisher::open(&cluster.connection, settings.patient_publisher())?;
    let outlet = Outlet::new(cluster.topics.clone(), publisher, patient, settings.ack_timeout);
    let (spool, left) = Spool::open(&settings.spool_directory, settings.spool_bytes)?;
    tracing::info!(?left, "the spool is open");
    let backlog = Arc::new(Backlog::new(spool, settings.spool_bytes)?);
    let ingress = Ingress::new(sources, gate, pseudonyms, Arc::new(outlet), backlog, &settings);
    runtime.block_on(server::serve(Arc::new(ingress), cluster, &settings, &service))
}

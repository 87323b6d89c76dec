//! `ingress` receives webhooks and publishes their events to Kafka.
//!
//! Input: `POST /webhooks/{provider}/{source}`. Output: one record per event and recipient on
//! `mail.raw.<kind>`, with the recipient as key and the provider's bytes as value.
//!
//! A request is verified over its bytes as received, split into events, published, and answered
//! with 200 when Kafka has acknowledged every record (`acks=all`). Nothing is rewritten, except that
//! addresses become pseudonyms if that is configured. An authentic body that cannot be split, or that
//! exceeds a limit, becomes one dead letter and gets 200 too.
//!
//! While Kafka is unavailable, requests are written to a spool on the local disk, synced before the
//! response, and published in order when Kafka is available again. Only if the spool cannot store a
//! request either does the response make the provider retry.
//!
//! The sources and the certificate are read again when their files change, and on SIGHUP.

mod admission;
mod backlog;
mod body_memory;
mod body_reader;
mod certificates;
mod client_address;
mod current;
mod drain_backlog;
mod gzip;
mod handler;
mod heavy_work;
mod limits;
mod lock;
mod low_watermark;
mod open_connections;
mod problem;
mod publish_segment;
mod rate_limit;
mod raw_publisher;
mod raw_request;
mod rejection_limit;
mod rejection_log;
mod reload;
mod replay_cache;
mod request_id;
mod request_metrics;
mod server;
mod settings;
mod sources;
mod split_request;
mod spool_writer;
mod time_writer;
mod tls;

use std::sync::Arc;

use admission::AdmissionControl;
use anyhow::Context;
use backlog::Backlog;
use certificates::CertificateCache;
use handler::Ingress;
use heavy_work::HeavyWork;
use kafka::Cluster;
use privacy::Pseudonymizer;
use raw_publisher::RawPublisher;
use reload::Reloader;
use service::Service;
use settings::IngressSettings;
use sources::Sources;
use tls::Tls;

fn main() -> anyhow::Result<()> {
    // Configuration: a mistake ends the process before it opens a port.
    let service = Service::load("ingress", env!("CARGO_PKG_VERSION"))?;
    let settings = IngressSettings::read(&service.settings)?;
    let pseudonymizer = Pseudonymizer::from_settings(&service.settings)?;
    let spool_keys = settings.spool_keys(&service.settings)?;
    let sources = Sources::read(&service.settings)?;
    let mappings = sources.mappings()?;
    let tls = settings
        .tls_files()
        .map(Tls::open)
        .transpose()
        .context("`ingress.tls_certificate` or `ingress.tls_key`")?;
    let cluster = Cluster::read(&service)?;
    let certificates = CertificateCache::new(&settings.sns_certificates)?;
    sources.log_warnings();
    let has_pseudonyms = pseudonymizer.is_some();
    sources.log_protections(has_pseudonyms, settings.trusted_proxies.len());
    service.open(settings.admin)?;

    // Construction.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let hangups = reload::hangups(&runtime)?;
    let publisher = RawPublisher::open(
        &cluster.connection,
        cluster.topics.clone(),
        &settings,
        mappings,
        runtime.handle(),
    )?;
    let backlog = Backlog::open(&settings.spool_directory, settings.spool_bytes, spool_keys)?;
    let work = HeavyWork::new();
    let admission = AdmissionControl::new(certificates, work.clone(), &settings);
    let ingress = Ingress::new(
        sources,
        admission,
        work,
        pseudonymizer,
        Arc::new(publisher),
        Arc::new(backlog),
        &settings,
    );

    // Run until SIGTERM or SIGINT, then drain within the deadline of the settings.
    let (ingress, tls) = (Arc::new(ingress), tls.map(Arc::new));
    let reloader = Reloader::new(&service, Arc::clone(&ingress), tls.clone(), has_pseudonyms);
    reloader.start(hangups).context("cannot start the thread that reloads the sources")?;
    runtime.block_on(server::serve(ingress, tls, cluster, &settings, &service))
}

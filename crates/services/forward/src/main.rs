//! `forward`: sends events to other systems. The library of this crate explains how.
//!
//! It reads `mail.events`, once for each `[[forward]]`, and posts the events that match its filter in
//! batches, signed as Standard Webhooks. An offset is committed once everything before it was delivered or
//! became a dead letter.

use forward::forwards::{Context, run};
use forward::settings::ForwardingSettings;
use kafka::{Cluster, DeadLetterWriter};
use record::Stage;
use service::Service;

fn main() -> anyhow::Result<()> {
    let service = Service::load("forward", env!("CARGO_PKG_VERSION"))?;
    let settings = ForwardingSettings::read(&service.settings)?;
    let forwards = settings.forwards(&service.settings)?;
    let erasure_key = erasure::key(&service.settings)?;
    let cluster = Cluster::read(&service)?;
    service.open(settings.admin)?;

    cluster.prepare()?;
    let erased = erasure::Erased::follow(&cluster, Stage::Forward.code(), erasure_key)?;
    let dead_letters = DeadLetterWriter::open(&cluster, Stage::Forward)?;
    let context = Context::new(cluster, erased, dead_letters, &service.shutdown);
    run(forwards, &context, &service.health)?;
    Ok(())
}

//! `console`: a web page that shows what is happening. The library of this crate explains how.

use std::sync::Arc;

use console::feed;
use console::live::Live;
use console::pages::Pages;
use console::routes::Routes;
use console::settings::ConsoleSettings;
use jiff::Timestamp;
use kafka::Cluster;
use service::Service;
use service::connections::Server;
use tokio::sync::Semaphore;

fn main() -> anyhow::Result<()> {
    let service = Service::load("console", env!("CARGO_PKG_VERSION"))?;
    let settings = ConsoleSettings::read(&service.settings)?;
    let access = settings.access(&service.settings)?;
    let store = settings.store(&service.settings)?;
    let page_settings = ConsoleSettings::pages(&service.settings)?;
    let rules = ConsoleSettings::rules(&service.settings)?;
    let audit = ConsoleSettings::audit(&service.settings)?;
    let cluster = Cluster::read(&service)?;
    service.open(settings.admin)?;
    if access.is_open() {
        tracing::warn!("everybody on this machine may see everything, because console.open is set");
    }

    cluster.prepare()?;
    let live = Arc::new(Live::default());
    let readers = feed::start(&live, &cluster, &service.health, &service.shutdown, now())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let routes = Routes {
        access,
        pages: Pages::new(store, live, page_settings, &rules, &cluster, audit),
        live_turns: Arc::new(Semaphore::new(settings.max_live)),
        shutdown: service.shutdown.clone(),
    };
    runtime.block_on(async {
        let server = Server::open(settings.listen, "console.listen").await?;
        tracing::info!(url = %format!("http://{}/", server.address()), "the console answers");
        server.serve(Arc::new(routes), settings.connections(), &service.shutdown).await;
        tracing::info!("console stopped");
        anyhow::Ok(())
    })?;
    for reader in readers {
        let _ = reader.join();
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the live part begins some hours before the present")]
fn now() -> Timestamp {
    Timestamp::now()
}

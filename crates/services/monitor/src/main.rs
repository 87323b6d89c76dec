//! `monitor`: computes rates from events, and alerts from rates. The library of this crate explains how.

use service::Service;

fn main() -> anyhow::Result<()> {
    monitor::run(&Service::load("monitor", env!("CARGO_PKG_VERSION"))?)
}

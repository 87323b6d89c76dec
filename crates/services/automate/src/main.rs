//! `automate`: acts on events by rules. The library of this crate explains how.

use service::Service;

fn main() -> anyhow::Result<()> {
    automate::run(&Service::load("automate", env!("CARGO_PKG_VERSION"))?)
}

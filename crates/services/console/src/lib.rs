//! `console` serves a web page that shows what is happening: traffic, sources, deliverability, campaigns, the
//! stories of messages and recipients, incidents and dead letters. It changes nothing.
//!
//! Rows come from ClickHouse ([`store`]), with limits for every query. What is happening now comes from Kafka:
//! [`feed`] reads `mail.rates` and `mail.incidents` into [`live`], which browsers receive as server-sent events
//! ([`stream`]). Without ClickHouse the pages say so, and the live part goes on.
//!
//! [`routes`] answers a request: [`access`] decides who the visitor is, [`parameters`] checks what they ask for,
//! and one of [`pages`] renders the answer from a template with automatic escaping.

pub mod access;
pub mod archived;
pub mod assets;
pub mod audit;
pub mod dashboard_data;
pub mod feed;
pub mod format;
pub mod live;
pub mod mask;
pub mod pages;
pub mod parameters;
pub mod problem;
pub mod response;
pub mod routes;
pub mod server;
pub mod settings;
pub mod store;
pub mod stream;
pub mod traffic;

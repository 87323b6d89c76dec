//! The HTTP API.
//!
//! [`server`] limits connections, [`access`] decides who may do what, [`routes`] answers, and [`problem`] says why not.

pub mod access;
pub mod problem;
pub mod routes;
pub mod server;

pub use routes::Api;

//! How many connections the API serves, and how long it waits for its clients.

use std::net::IpAddr;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use service::connections::{ConnectionLimits, Respond};
use service::timed_stream::StreamTimeouts;

use super::Api;
use super::routes::Body;
use crate::settings::SuppressSettings;

const TIMEOUTS: StreamTimeouts = StreamTimeouts {
    head: Duration::from_secs(20),
    // Clients keep a connection for their next mailing.
    idle: Duration::from_secs(90),
    write: Duration::from_secs(30),
};

/// The size of the read buffer, which limits the head of a request.
const BUFFER_BYTES: usize = 16 * 1024;

/// Returns the limits of the settings.
pub fn limits(settings: &SuppressSettings) -> ConnectionLimits {
    ConnectionLimits {
        connections: settings.max_connections,
        per_client: settings.max_connections_per_client,
        proxies: settings.proxies.clone(),
        timeouts: TIMEOUTS,
        head_bytes: BUFFER_BYTES,
    }
}

impl Respond for Api {
    type Body = Body;

    async fn respond(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        Self::respond(self, request, peer).await
    }
}

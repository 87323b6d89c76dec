//! How many connections the console serves, and how long it waits for its clients.

use std::net::IpAddr;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use service::connections::{ConnectionLimits, Respond};
use service::timed_stream::StreamTimeouts;

use crate::response::{Content, Response};
use crate::routes::Routes;

/// How many connections may be open at once, besides those that receive live numbers.
const MAX_CONNECTIONS: usize = 256;

/// How many of them one client may have. A browser opens six, and one for live numbers in each window.
const MAX_CONNECTIONS_PER_CLIENT: usize = 32;

const TIMEOUTS: StreamTimeouts = StreamTimeouts {
    head: Duration::from_secs(20),
    idle: Duration::from_secs(20),
    write: Duration::from_secs(30),
};

/// The size of the read buffer, which limits the head of a request.
const BUFFER_BYTES: usize = 32 * 1024;

/// Returns the limits if `max_live` browsers receive live numbers. A connection needs no login, so anybody can open one.
pub const fn limits(max_live: usize) -> ConnectionLimits {
    ConnectionLimits {
        connections: MAX_CONNECTIONS + max_live,
        per_client: MAX_CONNECTIONS_PER_CLIENT,
        proxies: Vec::new(),
        timeouts: TIMEOUTS,
        head_bytes: BUFFER_BYTES,
    }
}

impl Respond for Routes {
    type Body = Content;

    async fn respond(&self, request: Request<Incoming>, peer: IpAddr) -> Response {
        Self::respond(self, request, peer).await
    }

    fn closed(limit: &'static str) {
        metrics::counter!("mailpulse_console_closed_connections_total", "limit" => limit)
            .increment(1);
    }
}

//! Reads and decodes request bodies, with limits on length, time, and the memory of all bodies.

use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use event::Provider;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use providers::profile;
use tokio::time::Instant;

use crate::body_memory::{BodyMemory, Reservation};
use crate::gzip::{self, GzipError};
use crate::heavy_work::HeavyWork;
use crate::limits::Limit;
use crate::problem::Problem;

/// How long a body may take before its rate is measured.
const RATE_GRACE: Duration = Duration::from_secs(1);
/// The longest rest of a rejected request that is read.
const MAX_DISCARDED: usize = 64 * 1024;

pub(crate) struct BodyReader {
    memory: BodyMemory,
    work: HeavyWork,
    read_timeout: Duration,
    /// In bytes per second.
    min_rate: u32,
}

/// A complete body as it was sent, possibly with gzip.
pub(crate) struct EncodedBody {
    bytes: Bytes,
    coding: ContentCoding,
    incoming: IncomingBody,
}

/// A complete, decoded body, which consists of the bytes that the provider signed.
pub(crate) struct RequestBody {
    pub(crate) bytes: Bytes,
    pub(crate) reservation: Reservation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ContentCoding {
    Identity,
    Gzip,
}

impl BodyReader {
    /// `min_rate` is in bytes per second.
    pub(crate) const fn new(
        memory: BodyMemory,
        work: HeavyWork,
        read_timeout: Duration,
        min_rate: u32,
    ) -> Self {
        Self { memory, work, read_timeout, min_rate }
    }

    /// Reads a body within the length limit and the client timeout of its provider. While the
    /// memory limit is reached, the rest of the body waits in the connection.
    pub(crate) async fn read(
        &self,
        provider: Provider,
        client: IpAddr,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<EncodedBody, Problem> {
        let coding = ContentCoding::of(headers)?;
        let limit = profile(provider).body_limit;
        let mut incoming = self.incoming(provider, client, body);
        // With gzip this is the encoded length. The decoded length is checked before decoding.
        if incoming.body.size_hint().lower() > limit as u64 {
            return Err(incoming.too_large());
        }
        let bytes = incoming.read().await?;
        Ok(EncodedBody { bytes, coding, incoming })
    }

    /// Decodes a body, which can make it a thousand times as long.
    pub(crate) async fn decode(&self, body: EncodedBody) -> Result<RequestBody, Problem> {
        let EncodedBody { bytes, coding, incoming } = body;
        match coding {
            ContentCoding::Identity => Ok(incoming.complete(bytes)),
            ContentCoding::Gzip => incoming.decode(bytes, &self.work).await,
        }
    }

    /// Reads and drops the rest of a short request that is rejected because of its head. Otherwise
    /// the connection would be closed while the client sends, and the client might not see the
    /// response. `headers` are those of the request.
    pub(crate) async fn discard(&self, provider: Provider, client: IpAddr, body: Incoming) {
        let length = body.size_hint().exact();
        if length.is_none_or(|length| length > MAX_DISCARDED as u64) {
            return;
        }
        let mut incoming = self.incoming(provider, client, body);
        incoming.deadline = incoming.started + RATE_GRACE;
        while let Ok(Some(_)) = incoming.next_data().await {}
    }

    fn incoming(&self, provider: Provider, client: IpAddr, body: Incoming) -> IncomingBody {
        let started = Instant::now();
        let timeout = self.read_timeout.min(profile(provider).request_timeout);
        IncomingBody {
            provider,
            limit: profile(provider).body_limit,
            reservation: self.memory.empty_reservation(client),
            started,
            deadline: started + timeout,
            min_rate: self.min_rate,
            received: 0,
            paused: Duration::ZERO,
            body,
        }
    }

    /// Reserves memory for what is derived from a body, such as a rewritten copy.
    pub(crate) async fn reserve(
        &self,
        provider: Provider,
        body: &mut RequestBody,
        bytes: usize,
    ) -> Result<(), Problem> {
        let reserved = tokio::time::timeout(self.read_timeout, body.reservation.grow(bytes)).await;
        reserved.map_err(|_| no_memory(provider))
    }
}

impl ContentCoding {
    /// Reads `Content-Encoding` (RFC 9110 §8.4).
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let (first, another) = (values.next(), values.next());
        let coding = first.map_or(&b"identity"[..], |value| value.as_bytes());
        match coding.trim_ascii().to_ascii_lowercase().as_slice() {
            _ if another.is_some() => Err(Problem::UnsupportedEncoding),
            b"identity" => Ok(Self::Identity),
            b"gzip" | b"x-gzip" => Ok(Self::Gzip),
            _ => Err(Problem::UnsupportedEncoding),
        }
    }
}

/// A body that is being read.
struct IncomingBody {
    provider: Provider,
    limit: usize,
    reservation: Reservation,
    started: Instant,
    deadline: Instant,
    /// In bytes per second.
    min_rate: u32,
    /// The bytes that have arrived.
    received: usize,
    /// How long the body waited for memory, which is not the client's fault.
    paused: Duration,
    body: Incoming,
}

impl IncomingBody {
    /// Reads the body as it was sent. Until it is complete it takes no more memory than the client
    /// has sent bytes, so that nobody can occupy memory cheaply.
    async fn read(&mut self) -> Result<Bytes, Problem> {
        let mut bytes = BytesMut::new();
        while let Some(data) = self.next_data().await? {
            if bytes.len() + data.len() > self.limit {
                return Err(self.too_large());
            }
            self.reserve(data.len()).await?;
            // Most bodies are one frame, which we return without copying it.
            if bytes.is_empty() && self.body.is_end_stream() {
                return Ok(data);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    }

    /// Decodes a gzip body. Its trailer states the decoded length, which is reserved before the work
    /// begins.
    async fn decode(mut self, encoded: Bytes, work: &HeavyWork) -> Result<RequestBody, Problem> {
        let length = match gzip::decoded_length(&encoded) {
            Ok(length) if length <= self.limit => length,
            Ok(_) => return Err(self.too_large()),
            Err(GzipError) => return Err(Problem::InvalidEncoding),
        };
        self.reserve(length).await?;
        let encoded_length = encoded.len();
        let decoded = work.run(length, move || gzip::decode(&encoded, length)).await;
        let decoded = decoded.map_err(|GzipError| Problem::InvalidEncoding)?;
        self.reservation.shrink(encoded_length);
        Ok(self.complete(Bytes::from(decoded)))
    }

    /// Returns the data of the next frame, or `None` at the end of the body.
    async fn next_data(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let slowest = self.slowest();
            let until = self.deadline.min(slowest);
            let mut next = tokio::time::timeout_at(until, self.body.frame()).await;
            if next.is_err() {
                // What arrived in time may still be unread, if the process was busy: the connection
                // reads it while this task waits.
                tokio::task::yield_now().await;
                next = tokio::time::timeout(Duration::ZERO, self.body.frame()).await;
            }
            let Ok(next) = next else {
                let limit =
                    if slowest < self.deadline { Limit::BodyRate } else { Limit::BodyTimeout };
                limit.count();
                return Err(Problem::ReadTimeout(self.provider));
            };
            match next {
                None => return Ok(None),
                Some(Err(_)) => return Err(Problem::IncompleteBody),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.received += data.len();
                        return Ok(Some(data));
                    }
                    Err(_trailers) => {}
                },
            }
        }
    }

    /// Returns when the next byte must be here, at the minimum rate.
    fn slowest(&self) -> Instant {
        let seconds = self.received as f64 / f64::from(self.min_rate.max(1));
        self.started + RATE_GRACE + self.paused + Duration::from_secs_f64(seconds)
    }

    async fn reserve(&mut self, bytes: usize) -> Result<(), Problem> {
        let before = Instant::now();
        let reserved = tokio::time::timeout_at(self.deadline, self.reservation.grow(bytes)).await;
        self.paused += before.elapsed();
        reserved.map_err(|_| no_memory(self.provider))
    }

    fn too_large(&self) -> Problem {
        Limit::BodyLength.count();
        Problem::TooLarge(self.provider, self.limit)
    }

    fn complete(self, bytes: Bytes) -> RequestBody {
        RequestBody { bytes, reservation: self.reservation }
    }
}

const fn no_memory(provider: Provider) -> Problem {
    Problem::Unavailable(provider, "no_room_for_body")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_identity_and_gzip_are_supported() {
        let coding = |values: &[&'static str]| {
            let values = values.iter().map(|value| HeaderValue::from_static(value));
            ContentCoding::of(&values.map(|value| (header::CONTENT_ENCODING, value)).collect())
        };
        assert_eq!(coding(&[]), Ok(ContentCoding::Identity));
        assert_eq!(coding(&["identity"]), Ok(ContentCoding::Identity));
        assert_eq!(coding(&["GZip"]), Ok(ContentCoding::Gzip));
        assert_eq!(coding(&["x-gzip"]), Ok(ContentCoding::Gzip));
        for unsupported in ["br", "gzip, gzip", "deflate", ""] {
            assert_eq!(coding(&[unsupported]), Err(Problem::UnsupportedEncoding), "{unsupported}");
        }
    }
}

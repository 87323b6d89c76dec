//! Reads and decodes request bodies, with limits on length, time, and the memory of all bodies.

use std::io::{self, Write};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use event::Provider;
use flate2::write::GzDecoder;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use providers::profile;
use tokio::time::Instant;

use crate::body_memory::{BodyMemory, Reservation};
use crate::problem::Problem;

pub(crate) struct BodyReader {
    memory: BodyMemory,
    read_timeout: Duration,
}

/// A complete, decoded body, which consists of the bytes that the provider signed.
pub(crate) struct RequestBody {
    pub(crate) bytes: Bytes,
    reservation: Reservation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ContentCoding {
    Identity,
    Gzip,
}

impl BodyReader {
    pub(crate) fn new(memory: BodyMemory, read_timeout: Duration) -> Self {
        Self { memory, read_timeout }
    }

    /// Reads a body within the length limit and the client timeout of its provider. While the
    /// memory limit is reached, the rest of the body waits in the connection.
    pub(crate) async fn read(
        &self,
        provider: Provider,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<RequestBody, Problem> {
        let coding = ContentCoding::of(headers)?;
        let limit = profile(provider).body_limit;
        // With gzip this is the encoded length. The decoded length is checked while decoding.
        if body.size_hint().lower() > limit as u64 {
            return Err(Problem::TooLarge(provider, limit));
        }
        let timeout = self.read_timeout.min(profile(provider).request_timeout);
        let body = IncomingBody {
            provider,
            limit,
            reservation: self.memory.empty_reservation(),
            deadline: Instant::now() + timeout,
            body,
        };
        match coding {
            ContentCoding::Identity => body.read_identity().await,
            ContentCoding::Gzip => body.read_gzip().await,
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
    deadline: Instant,
    body: Incoming,
}

impl IncomingBody {
    async fn read_identity(mut self) -> Result<RequestBody, Problem> {
        let mut bytes = BytesMut::new();
        while let Some(data) = self.next_data().await? {
            if bytes.len() + data.len() > self.limit {
                return Err(self.too_large());
            }
            self.reserve(data.len()).await?;
            // Most bodies are one frame, which we return without copying it.
            if bytes.is_empty() && self.body.is_end_stream() {
                return Ok(self.complete(data));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(self.complete(bytes.freeze()))
    }

    /// Decodes each frame when it arrives. The decoder returns at most 32 KiB per `write`, so a
    /// gzip bomb reaches a limit before it takes much memory. We accept only one gzip member
    /// (RFC 1952 §2.2): a body of a million empty members would cost us more than its sender.
    async fn read_gzip(mut self) -> Result<RequestBody, Problem> {
        let mut decoder = GzDecoder::new(BoundedBuffer::new(self.limit));
        let (mut encoded, mut reserved) = (0, 0);
        while let Some(data) = self.next_data().await? {
            encoded += data.len();
            if encoded > self.limit {
                return Err(self.too_large());
            }
            let mut rest = &data[..];
            while !rest.is_empty() {
                let written = decoder.write(rest).map_err(|error| self.decoding_failed(&error))?;
                if written == 0 {
                    return Err(Problem::InvalidEncoding); // bytes follow the first member
                }
                rest = &rest[written..];
                let grown = decoder.get_ref().bytes.len() - reserved;
                reserved += grown;
                self.reserve(grown).await?;
            }
        }
        let decoded = decoder.finish().map_err(|error| self.decoding_failed(&error))?.bytes;
        self.reserve(decoded.len() - reserved).await?;
        Ok(self.complete(Bytes::from(decoded)))
    }

    /// Returns the data of the next frame, or `None` at the end of the body.
    async fn next_data(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let next = tokio::time::timeout_at(self.deadline, self.body.frame()).await;
            match next.map_err(|_| Problem::ReadTimeout(self.provider))? {
                None => return Ok(None),
                Some(Err(_)) => return Err(Problem::IncompleteBody),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => {}
                },
            }
        }
    }

    async fn reserve(&mut self, bytes: usize) -> Result<(), Problem> {
        let reserved = tokio::time::timeout_at(self.deadline, self.reservation.grow(bytes)).await;
        reserved.map_err(|_| no_memory(self.provider))
    }

    const fn too_large(&self) -> Problem {
        Problem::TooLarge(self.provider, self.limit)
    }

    fn decoding_failed(&self, error: &io::Error) -> Problem {
        match error.kind() {
            io::ErrorKind::FileTooLarge => self.too_large(),
            _ => Problem::InvalidEncoding,
        }
    }

    fn complete(self, bytes: Bytes) -> RequestBody {
        RequestBody { bytes, reservation: self.reservation }
    }
}

const fn no_memory(provider: Provider) -> Problem {
    Problem::Unavailable(provider, "no_room_for_body")
}

/// A buffer that returns `FileTooLarge` instead of growing beyond its limit.
struct BoundedBuffer {
    bytes: Vec<u8>,
    limit: usize,
}

impl BoundedBuffer {
    const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }
}

impl Write for BoundedBuffer {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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

    #[test]
    fn the_decoder_returns_little_output_per_write() {
        let zeros = vec![0; 1 << 20];
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&zeros).unwrap();
        let bomb = encoder.finish().unwrap();
        let mut decoder = GzDecoder::new(BoundedBuffer::new(zeros.len()));
        let (mut rest, mut before) = (&bomb[..], 0);
        while !rest.is_empty() {
            rest = &rest[decoder.write(rest).unwrap()..];
            let now = decoder.get_ref().bytes.len();
            assert!(now - before <= 64 << 10, "{} bytes in one write", now - before);
            before = now;
        }
        assert_eq!(decoder.finish().unwrap().bytes, zeros);
    }
}

//! A request's body: read, decoded, and bounded in length, in time, and over all requests.

use std::io::{self, Write};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use event::Provider;
use flate2::write::GzDecoder;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use providers::{body_limit, client_timeout};
use tokio::time::Instant;

use crate::problem::Problem;
use crate::room::{Held, Room};

/// How bodies are read.
pub(crate) struct Reader {
    room: Room,
    read_timeout: Duration,
}

/// A whole body, decoded: the bytes that are signed. Its room is given back when it is dropped.
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    held: Held,
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
}

impl Reader {
    pub(crate) fn new(body_bytes: usize, read_timeout: Duration) -> Self {
        Self { room: Room::new(body_bytes), read_timeout }
    }

    /// Reads a body within its provider's limit and patience. Where there is no room for it, it
    /// waits in the connection.
    pub(crate) async fn read(
        &self,
        provider: Provider,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Whole, Problem> {
        let coding = Coding::of(headers)?;
        let limit = body_limit(provider);
        // The encoded length is no measure of the decoded one, and is bounded all the same.
        if body.size_hint().lower() > limit as u64 {
            return Err(Problem::TooLarge(provider, limit));
        }
        let patience = self.read_timeout.min(client_timeout(provider));
        let reading = Reading {
            provider,
            limit,
            held: self.room.none(),
            deadline: Instant::now() + patience,
            body,
        };
        match coding {
            Coding::Identity => reading.plain().await,
            Coding::Gzip => reading.unzipped().await,
        }
    }

    /// Room for what was made of the body besides.
    pub(crate) async fn more(
        &self,
        provider: Provider,
        whole: &mut Whole,
        bytes: usize,
    ) -> Result<(), Problem> {
        let growing = whole.held.grow(bytes);
        tokio::time::timeout(self.read_timeout, growing).await.map_err(|_| no_room(provider))
    }
}

impl Coding {
    /// By `Content-Encoding` (RFC 9110 §8.4).
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let (first, another) = (values.next(), values.next());
        let coding = first.map_or(&b"identity"[..], |value| value.as_bytes());
        match coding.trim_ascii().to_ascii_lowercase().as_slice() {
            _ if another.is_some() => Err(Problem::EncodedBody),
            b"identity" => Ok(Self::Identity),
            b"gzip" | b"x-gzip" => Ok(Self::Gzip),
            _ => Err(Problem::EncodedBody),
        }
    }
}

/// A body being read.
struct Reading {
    provider: Provider,
    limit: usize,
    held: Held,
    deadline: Instant,
    body: Incoming,
}

impl Reading {
    async fn plain(mut self) -> Result<Whole, Problem> {
        let mut whole = BytesMut::new();
        while let Some(data) = self.next().await? {
            if whole.len() + data.len() > self.limit {
                return Err(self.too_large());
            }
            self.take_room(data.len()).await?;
            // The usual body is one frame: taken as it is, not copied.
            if whole.is_empty() && self.body.is_end_stream() {
                return Ok(self.whole(data));
            }
            whole.extend_from_slice(&data);
        }
        Ok(self.whole(whole.freeze()))
    }

    /// Decodes as the body comes. A decoder gives at most 32 KiB for each `write`, so what a few
    /// bytes blow up to is measured before there is much of it. One member only (RFC 1952 §2.2):
    /// a decoder for each of a million empty ones would cost more than their sender.
    async fn unzipped(mut self) -> Result<Whole, Problem> {
        let mut decoder = GzDecoder::new(Bounded::new(self.limit));
        let (mut encoded, mut measured) = (0, 0);
        while let Some(data) = self.next().await? {
            encoded += data.len();
            if encoded > self.limit {
                return Err(self.too_large());
            }
            let mut rest = &data[..];
            while !rest.is_empty() {
                let taken = decoder.write(rest).map_err(|error| self.undecodable(&error))?;
                if taken == 0 {
                    return Err(Problem::BrokenEncoding); // something follows its end
                }
                rest = &rest[taken..];
                let grown = decoder.get_ref().bytes.len() - measured;
                measured += grown;
                self.take_room(grown).await?;
            }
        }
        let decoded = decoder.finish().map_err(|error| self.undecodable(&error))?.bytes;
        self.take_room(decoded.len() - measured).await?;
        Ok(self.whole(Bytes::from(decoded)))
    }

    /// The next piece, within the deadline.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let next = tokio::time::timeout_at(self.deadline, self.body.frame()).await;
            match next.map_err(|_| Problem::ReadTimeout(self.provider))? {
                None => return Ok(None),
                Some(Err(_)) => return Err(Problem::BrokenBody),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => {}
                },
            }
        }
    }

    async fn take_room(&mut self, bytes: usize) -> Result<(), Problem> {
        let grown = tokio::time::timeout_at(self.deadline, self.held.grow(bytes)).await;
        grown.map_err(|_| no_room(self.provider))
    }

    const fn too_large(&self) -> Problem {
        Problem::TooLarge(self.provider, self.limit)
    }

    fn undecodable(&self, error: &io::Error) -> Problem {
        match error.kind() {
            io::ErrorKind::FileTooLarge => self.too_large(),
            _ => Problem::BrokenEncoding,
        }
    }

    fn whole(self, bytes: Bytes) -> Whole {
        Whole { bytes, held: self.held }
    }
}

const fn no_room(provider: Provider) -> Problem {
    Problem::Unavailable(provider, "no_room_for_body")
}

/// Decoded bytes, so many at most.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Bounded {
    const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }
}

impl Write for Bounded {
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
    fn one_coding_that_is_known_or_none() {
        let coding = |values: &[&'static str]| {
            let values = values.iter().map(|value| HeaderValue::from_static(value));
            Coding::of(&values.map(|value| (header::CONTENT_ENCODING, value)).collect())
        };
        assert_eq!(coding(&[]), Ok(Coding::Identity));
        assert_eq!(coding(&["identity"]), Ok(Coding::Identity));
        assert_eq!(coding(&["GZip"]), Ok(Coding::Gzip));
        assert_eq!(coding(&["x-gzip"]), Ok(Coding::Gzip));
        for refused in ["br", "gzip, gzip", "deflate", ""] {
            assert_eq!(coding(&[refused]), Err(Problem::EncodedBody), "{refused}");
        }
    }

    #[test]
    fn a_decoder_gives_little_at_a_time() {
        let zeros = vec![0; 1 << 20];
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&zeros).unwrap();
        let bomb = encoder.finish().unwrap();
        let mut decoder = GzDecoder::new(Bounded::new(zeros.len()));
        let (mut rest, mut before) = (&bomb[..], 0);
        while !rest.is_empty() {
            rest = &rest[decoder.write(rest).unwrap()..];
            let now = decoder.get_ref().bytes.len();
            assert!(now - before <= 64 << 10, "{} at once", now - before);
            before = now;
        }
        assert_eq!(decoder.finish().unwrap().bytes, zeros);
    }
}

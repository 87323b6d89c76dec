//! Answers, and their compression.

use crate::blocks;
use crate::exception::Exception;
use crate::library::Stats;
use crate::request::Coding;
use bytes::Bytes;
use flate2::write::{GzEncoder, ZlibEncoder};
use hyper::body::{Body, Frame, SizeHint};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::{mpsc, oneshot};

/// Compresses the chunks of an answer.
pub(crate) enum Encoder {
    Identity,
    Blocks,
    Lz4(Box<lz4_flex::frame::FrameEncoder<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
}

impl Encoder {
    pub fn new(coding: Coding) -> io::Result<Self> {
        // ClickHouse's `http_zlib_compression_level`, 3, for all of them.
        let level = flate2::Compression::new(3);
        Ok(match coding {
            Coding::Identity => Self::Identity,
            Coding::Blocks => Self::Blocks,
            Coding::Lz4 => Self::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(Vec::new()))),
            Coding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 3)?),
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), level)),
            Coding::Deflate => Self::Deflate(ZlibEncoder::new(Vec::new(), level)),
        })
    }

    /// Compresses a chunk. The result is empty while the encoder buffers.
    pub fn encode(&mut self, chunk: Bytes) -> io::Result<Bytes> {
        let encoded = match self {
            Self::Identity => return Ok(chunk),
            Self::Blocks => return blocks::compress(&chunk),
            Self::Lz4(encoder) => {
                encoder.write_all(&chunk)?;
                std::mem::take(encoder.get_mut())
            }
            Self::Zstd(encoder) => {
                encoder.write_all(&chunk)?;
                std::mem::take(encoder.get_mut())
            }
            Self::Gzip(encoder) => {
                encoder.write_all(&chunk)?;
                std::mem::take(encoder.get_mut())
            }
            Self::Deflate(encoder) => {
                encoder.write_all(&chunk)?;
                std::mem::take(encoder.get_mut())
            }
        };
        Ok(encoded.into())
    }

    /// Returns the bytes that are still in the encoder's buffer.
    pub fn finish(self) -> io::Result<Bytes> {
        let encoded = match self {
            Self::Identity | Self::Blocks => Vec::new(),
            Self::Lz4(encoder) => encoder.finish().map_err(io::Error::other)?,
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Deflate(encoder) => encoder.finish()?,
        };
        Ok(encoded.into())
    }
}

/// A successful answer.
pub(crate) struct Answer {
    pub format: String,
    /// What the statement did before the first byte of the answer.
    pub stats: Stats,
    pub body: AnswerBody,
}

/// A chunk of an answer, or `None` for its end. A closed channel does not mean the end: an answer
/// whose sender failed must not look complete.
pub(crate) type Chunk = io::Result<Option<Bytes>>;

/// The bytes of an answer: the present chunks, and a channel with later ones.
#[derive(Default)]
pub(crate) struct AnswerBody {
    chunks: VecDeque<Bytes>,
    rest: Option<mpsc::Receiver<Chunk>>,
}

impl AnswerBody {
    /// Returns a complete body.
    pub fn complete(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        let chunks = chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect();
        Self { chunks, rest: None }
    }

    /// Returns a body whose later chunks come from a channel. After an error it ends without the last
    /// HTTP chunk, so that the client notices.
    pub fn streamed(chunks: impl IntoIterator<Item = Bytes>, rest: mpsc::Receiver<Chunk>) -> Self {
        Self { rest: Some(rest), ..Self::complete(chunks) }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(chunk) = self.chunks.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let lost = || Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        let chunk = ready!(rest.poll_recv(context)).unwrap_or_else(lost);
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest {
            None => SizeHint::with_exact(self.chunks.iter().map(|chunk| chunk.len() as u64).sum()),
            Some(_) => SizeHint::default(),
        }
    }
}

/// Bytes whose owner learns when they were written to the socket or discarded, because they are
/// dropped then.
pub(crate) struct WatchedBytes {
    bytes: Bytes,
    _dropped: oneshot::Sender<Infallible>,
}

impl WatchedBytes {
    /// Returns the bytes to send, and a receiver that is closed when they are dropped.
    pub fn wrap(bytes: Bytes) -> (Bytes, oneshot::Receiver<Infallible>) {
        let (sender, dropped) = oneshot::channel();
        (Bytes::from_owner(Self { bytes, _dropped: sender }), dropped)
    }
}

impl AsRef<[u8]> for WatchedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Returns ClickHouse's `__exception__` trailer (since 25.11), which reports an error after the first
/// byte of the answer. The header `X-ClickHouse-Exception-Tag` contains its tag.
pub(crate) fn exception_trailer(exception: &Exception, tag: &str, version: &str) -> Bytes {
    let text = exception.text(version);
    let length = text.len();
    format!("\r\n__exception__\r\n{tag}\r\n{text}{length} {tag}\r\n__exception__\r\n").into()
}

/// Returns the media type that ClickHouse uses for a format.
pub(crate) fn content_type(format: &str) -> &'static str {
    let format = format.to_ascii_lowercase();
    match format.as_str() {
        "jsoneachrow" | "ndjson" | "jsonlines" | "jsonstringseachrow" => {
            "application/x-ndjson; charset=UTF-8"
        }
        _ if format.starts_with("json") => "application/json; charset=UTF-8",
        "xml" => "application/xml; charset=UTF-8",
        _ if format.starts_with("csv") => "text/csv; charset=UTF-8; header=absent",
        _ if format.starts_with("tabseparated") || format.starts_with("tsv") => {
            "text/tab-separated-values; charset=UTF-8"
        }
        _ if format.starts_with("pretty") || format == "vertical" || format == "values" => {
            "text/plain; charset=UTF-8"
        }
        _ => "application/octet-stream",
    }
}

/// Returns the value of `X-ClickHouse-Summary`. Numbers are strings, as in ClickHouse.
pub(crate) fn summary(stats: &Stats) -> String {
    format!(
        concat!(
            r#"{{"read_rows":"{}","read_bytes":"{}","written_rows":"{}","written_bytes":"{}","#,
            r#""total_rows_to_read":"0","result_rows":"{}","result_bytes":"{}","elapsed_ns":"{}"}}"#
        ),
        stats.read_rows,
        stats.read_bytes,
        stats.written_rows,
        stats.written_bytes,
        stats.result_rows,
        stats.result_bytes,
        (stats.elapsed * 1e9) as u64,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn decoders_read_the_output_of_encoders() {
        let data: Vec<u8> = (0..300_000_u32).flat_map(|number| number.to_le_bytes()).collect();
        for coding in [
            Coding::Identity,
            Coding::Blocks,
            Coding::Lz4,
            Coding::Zstd,
            Coding::Gzip,
            Coding::Deflate,
        ] {
            let mut encoder = Encoder::new(coding).expect("an encoder");
            let mut encoded = Vec::new();
            for chunk in data.chunks(99_991) {
                encoded.extend(encoder.encode(Bytes::copy_from_slice(chunk)).expect("encodes"));
            }
            encoded.extend(encoder.finish().expect("finishes"));
            let mut read = Vec::new();
            let encoded = encoded.as_slice();
            match coding {
                Coding::Identity => read.extend_from_slice(encoded),
                Coding::Blocks => {
                    blocks::BlockReader::new(encoded).read_to_end(&mut read).expect("reads");
                }
                Coding::Lz4 => {
                    let mut decoder = lz4_flex::frame::FrameDecoder::new(encoded);
                    decoder.read_to_end(&mut read).expect("reads");
                }
                Coding::Zstd => read = zstd::decode_all(encoded).expect("reads"),
                Coding::Gzip => {
                    flate2::read::GzDecoder::new(encoded).read_to_end(&mut read).expect("reads");
                }
                Coding::Deflate => {
                    flate2::read::ZlibDecoder::new(encoded).read_to_end(&mut read).expect("reads");
                }
            }
            assert!(read == data, "{coding:?}");
        }
    }
}

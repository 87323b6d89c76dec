//! Answers on their way from the engine's thread to the socket.

use super::blocks;
use super::exception::Exception;
use super::library::Stats;
use super::request::Coding;
use bytes::Bytes;
use flate2::write::{GzEncoder, ZlibEncoder};
use hyper::body::{Body, Frame, SizeHint};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::{mpsc, oneshot};

/// Packs pieces of an answer.
pub(super) enum Encoder {
    Identity,
    Blocks,
    Lz4(Box<lz4_flex::frame::FrameEncoder<Vec<u8>>>),
    Zstd(zstd::kafka::write::Encoder<'static, Vec<u8>>),
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
            Coding::Zstd => Self::Zstd(zstd::kafka::write::Encoder::new(Vec::new(), 3)?),
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), level)),
            Coding::Deflate => Self::Deflate(ZlibEncoder::new(Vec::new(), level)),
        })
    }

    /// Packs a piece; the answer may be empty while the packer gathers.
    pub fn piece(&mut self, piece: Bytes) -> io::Result<Bytes> {
        let packed = match self {
            Self::Identity => return Ok(piece),
            Self::Blocks => return blocks::compress(&piece),
            Self::Lz4(encoder) => {
                encoder.write_all(&piece)?;
                std::mem::take(encoder.get_mut())
            }
            Self::Zstd(encoder) => {
                encoder.write_all(&piece)?;
                std::mem::take(encoder.get_mut())
            }
            Self::Gzip(encoder) => {
                encoder.write_all(&piece)?;
                std::mem::take(encoder.get_mut())
            }
            Self::Deflate(encoder) => {
                encoder.write_all(&piece)?;
                std::mem::take(encoder.get_mut())
            }
        };
        Ok(packed.into())
    }

    /// What is left when the answer is complete.
    pub fn finish(self) -> io::Result<Bytes> {
        let packed = match self {
            Self::Identity | Self::Blocks => Vec::new(),
            Self::Lz4(encoder) => encoder.finish().map_err(io::Error::other)?,
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Deflate(encoder) => encoder.finish()?,
        };
        Ok(packed.into())
    }
}

/// A successful answer.
pub(super) struct Answer {
    /// The format it is in.
    pub format: String,
    /// What the statement did until the answer began.
    pub stats: Stats,
    pub body: AnswerBody,
}

/// A further piece of an answer, `None` for its end. The end is said and not guessed from a closed
/// channel: an answer whose sender failed must not look complete.
pub(super) type Piece = io::Result<Option<Bytes>>;

/// The bytes of an answer: those at hand, and those still to come.
#[derive(Default)]
pub(super) struct AnswerBody {
    pieces: VecDeque<Bytes>,
    rest: Option<mpsc::Receiver<Piece>>,
}

impl AnswerBody {
    /// A body that is all there.
    pub fn whole(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Self { pieces, rest: None }
    }

    /// A body whose end is not there yet. It is cut off, for the client to notice, at an error.
    pub fn beginning(pieces: impl IntoIterator<Item = Bytes>, rest: mpsc::Receiver<Piece>) -> Self {
        Self { rest: Some(rest), ..Self::whole(pieces) }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let lost = || Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        let piece = ready!(rest.poll_recv(context)).unwrap_or_else(lost);
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest {
            None => SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum()),
            Some(_) => SizeHint::default(),
        }
    }
}

/// Bytes that tell when they have been written, or given up: by being dropped.
pub(super) struct Last {
    bytes: Bytes,
    _dropped: oneshot::Sender<Infallible>,
}

impl Last {
    /// The bytes to send, and what ends once they are gone.
    pub fn watched(bytes: Bytes) -> (Bytes, oneshot::Receiver<Infallible>) {
        let (sender, gone) = oneshot::channel();
        (Bytes::from_owner(Self { bytes, _dropped: sender }), gone)
    }
}

impl AsRef<[u8]> for Last {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// How an error is told after the answer began: ClickHouse's `__exception__` trailer (since
/// 25.11), whose tag the header `X-ClickHouse-Exception-Tag` announced.
pub(super) fn exception_trailer(exception: &Exception, tag: &str, version: &str) -> Bytes {
    let text = exception.text(version);
    let length = text.len();
    format!("\r\n__exception__\r\n{tag}\r\n{text}{length} {tag}\r\n__exception__\r\n").into()
}

/// The media type ClickHouse gives a format.
pub(super) fn content_type(format: &str) -> &'static str {
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

/// `X-ClickHouse-Summary`: numbers as strings, as ClickHouse writes them.
pub(super) fn summary(stats: &Stats) -> String {
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
    fn encoders_make_what_decoders_read() {
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
            let mut packed = Vec::new();
            for piece in data.chunks(99_991) {
                packed.extend(encoder.piece(Bytes::copy_from_slice(piece)).expect("packs"));
            }
            packed.extend(encoder.finish().expect("finishes"));
            let mut read = Vec::new();
            let packed = packed.as_slice();
            match coding {
                Coding::Identity => read.extend_from_slice(packed),
                Coding::Blocks => {
                    blocks::BlockReader::new(packed).read_to_end(&mut read).expect("reads");
                }
                Coding::Lz4 => {
                    let mut decoder = lz4_flex::frame::FrameDecoder::new(packed);
                    decoder.read_to_end(&mut read).expect("reads");
                }
                Coding::Zstd => read = zstd::decode_all(packed).expect("reads"),
                Coding::Gzip => {
                    flate2::read::GzDecoder::new(packed).read_to_end(&mut read).expect("reads");
                }
                Coding::Deflate => {
                    flate2::read::ZlibDecoder::new(packed).read_to_end(&mut read).expect("reads");
                }
            }
            assert!(read == data, "{coding:?}");
        }
    }
}

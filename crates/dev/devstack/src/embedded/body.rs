//! A request body on its way from the socket to the thread that reads it.

use super::blocks::BlockReader;
use super::exception::{Exception, code};
use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::io::{self, Read};
use tokio::sync::mpsc;

/// Pieces waiting between socket and reader; a piece is at most hyper's read buffer (about 400 kB).
const PIECES: usize = 4;

/// Moves the body to the reader, which may stop listening at any time. The rest is then read and
/// thrown away, so that the client gets to see the answer.
pub(super) async fn pump(mut body: Incoming, pieces: mpsc::Sender<Result<Bytes, hyper::Error>>) {
    while let Some(frame) = body.frame().await {
        let failed = frame.is_err();
        let piece = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => Ok(data),
            Ok(Err(_trailers)) => continue,
            Err(error) => Err(error),
        };
        // A reader that has gone wants no more pieces.
        let _ = pieces.send(piece).await;
        if failed {
            break;
        }
    }
}

/// The channel between [`pump`] and [`Pieces`].
pub(super) fn channel() -> (mpsc::Sender<Result<Bytes, hyper::Error>>, Pieces) {
    let (sender, receiver) = mpsc::channel(PIECES);
    (sender, Pieces { receiver, piece: Bytes::new() })
}

/// The reader's end: blocks until data arrives, so it belongs on a blocking thread.
pub(super) struct Pieces {
    receiver: mpsc::Receiver<Result<Bytes, hyper::Error>>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, error));
                }
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Undoes the body's `Content-Encoding` and, if `blocks`, ClickHouse's own framing inside it.
pub(super) fn decoded(
    body: Pieces,
    content_encoding: Option<&str>,
    blocks: bool,
) -> Result<Box<dyn Read>, Exception> {
    let plain: Box<dyn Read> = match content_encoding.unwrap_or("identity") {
        "identity" | "" => Box::new(body),
        "gzip" | "x-gzip" => Box::new(flate2::read::MultiGzDecoder::new(body)),
        "deflate" => Box::new(flate2::read::ZlibDecoder::new(body)),
        "zstd" => Box::new(zstd::kafka::read::Decoder::new(body)?),
        "lz4" => Box::new(lz4_flex::frame::FrameDecoder::new(body)),
        other => {
            return Err(Exception::new(
                code::NOT_IMPLEMENTED,
                format_args!("Content-Encoding {other} is not supported here"),
            ));
        }
    };
    Ok(if blocks { Box::new(BlockReader::new(plain)) } else { plain })
}

/// Reads a body that is SQL, not data, and therefore small.
pub(super) fn read_text(
    body: impl Read,
    text: &mut Vec<u8>,
    limit: usize,
) -> Result<(), Exception> {
    let read = body.take(limit as u64 + 1).read_to_end(text)?;
    if read > limit {
        return Err(too_long(limit));
    }
    Ok(())
}

/// A statement, or a form, of more than `limit` bytes.
pub(super) fn too_long(limit: usize) -> Exception {
    Exception::new(
        code::QUERY_IS_TOO_LARGE,
        format_args!("The statement is longer than {limit} bytes"),
    )
}

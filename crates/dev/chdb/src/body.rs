//! Moves a request body from the socket to the blocking thread that reads it.

use crate::blocks::BlockReader;
use crate::exception::{Exception, code};
use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::io::{self, Read};
use tokio::sync::mpsc;

/// Chunks between socket and reader. A chunk is at most as large as hyper's read buffer, about 400 kB.
const CHUNKS: usize = 4;

/// Sends the body to the reader. If the reader stops early, the rest is read and discarded, so that
/// the client can read the answer.
pub(crate) async fn forward(mut body: Incoming, chunks: mpsc::Sender<Result<Bytes, hyper::Error>>) {
    while let Some(frame) = body.frame().await {
        let failed = frame.is_err();
        let chunk = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => Ok(data),
            Ok(Err(_trailers)) => continue,
            Err(error) => Err(error),
        };
        // Sending fails if the reader has stopped.
        let _ = chunks.send(chunk).await;
        if failed {
            break;
        }
    }
}

/// Returns the channel between [`forward`] and [`BodyReader`].
pub(crate) fn channel() -> (mpsc::Sender<Result<Bytes, hyper::Error>>, BodyReader) {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    (sender, BodyReader { receiver, chunk: Bytes::new() })
}

/// Reads the body. It blocks until data arrives, so it must be used on a blocking thread.
pub(crate) struct BodyReader {
    receiver: mpsc::Receiver<Result<Bytes, hyper::Error>>,
    chunk: Bytes,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, error));
                }
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Decodes the body's `Content-Encoding` and, if `blocks`, ClickHouse's compressed blocks inside it.
pub(crate) fn decoded(
    body: BodyReader,
    content_encoding: Option<&str>,
    blocks: bool,
) -> Result<Box<dyn Read>, Exception> {
    let plain: Box<dyn Read> = match content_encoding.unwrap_or("identity") {
        "identity" | "" => Box::new(body),
        "gzip" | "x-gzip" => Box::new(flate2::read::MultiGzDecoder::new(body)),
        "deflate" => Box::new(flate2::read::ZlibDecoder::new(body)),
        "zstd" => Box::new(zstd::stream::read::Decoder::new(body)?),
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

/// Reads a body that is SQL, not data, and therefore at most `limit` bytes long.
pub(crate) fn read_text(
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

/// Returns the error for a statement, or a form, of more than `limit` bytes.
pub(crate) fn too_long(limit: usize) -> Exception {
    Exception::new(
        code::QUERY_IS_TOO_LARGE,
        format_args!("The statement is longer than {limit} bytes"),
    )
}

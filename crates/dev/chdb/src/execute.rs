//! Runs a request on a blocking thread.

use crate::answer::{Answer, AnswerBody, Chunk, Encoder, WatchedBytes, exception_trailer};
use crate::backend::Backend;
use crate::body::{self, BodyReader};
use crate::exception::{Exception, code};
use crate::library::{Output, Stats, Stream};
use crate::request::{Request, form_fields};
use crate::statement::{self, Scan};
use bytes::{Bytes, BytesMut};
use std::io::{self, Read};
use tokio::sync::{mpsc, oneshot};

/// The longest statement in bytes. The data of an `INSERT` has no limit.
const STATEMENT_LIMIT: usize = 16 * 1024 * 1024;
/// Bytes of data that the engine receives at a time.
const READ_SIZE: usize = 256 * 1024;
/// The beginning of an answer is buffered up to this many bytes. Most errors happen before, and are
/// then answered with their own status; and a short answer has a complete summary.
const BUFFERED: u64 = 1024 * 1024;
/// Chunks of an answer that wait for the client. A chunk is a block of rows.
const CHUNKS_AHEAD: usize = 4;

/// Formats whose chunks can be concatenated. In other formats each chunk has a head or a tail.
const STREAMED: [&str; 7] =
    ["TabSeparated", "TSV", "TabSeparatedRaw", "CSV", "RowBinary", "Native", NAMED_ROW_BINARY];
/// The head is removed from all chunks but the first, so this format can be streamed too.
const NAMED_ROW_BINARY: &str = "RowBinaryWithNamesAndTypes";

/// The channel for the answer, which is sent once.
pub(crate) type Reply = oneshot::Sender<Result<Answer, Exception>>;

/// Runs a request to its end. `tag` marks an error that happens after the first byte of the answer.
pub(crate) fn run(backend: &Backend, request: Request, body: BodyReader, tag: &str, reply: Reply) {
    let mut reply = Some(reply);
    let outcome = execute(backend, request, body, tag, &mut reply);
    // Without a reply the answer has begun, and `send_rest` has reported the error. Sending fails if
    // the client has disconnected.
    if let (Err(exception), Some(reply)) = (outcome, reply) {
        let _ = reply.send(Err(exception));
    }
}

fn execute(
    backend: &Backend,
    mut request: Request,
    body: BodyReader,
    tag: &str,
    reply: &mut Option<Reply>,
) -> Result<(), Exception> {
    let mut body = body::decoded(body, request.content_encoding.as_deref(), request.blocks)?;
    if let Some(boundary) = request.boundary.take() {
        let mut form = Vec::new();
        body::read_text(&mut body, &mut form, STATEMENT_LIMIT)?;
        for (name, value) in form_fields(&form, &boundary)? {
            request.set(&name, &value, &backend.settings)?;
        }
    }
    let mut text = request.query.clone().into_bytes();
    if !text.is_empty() {
        // Separates a statement in the URL from its data in the body.
        text.push(b'\n');
    }
    match read_head(&mut text, &mut body)? {
        Some(parts) => insert(backend, &request, &text, &parts, &mut body, reply),
        None => query(backend, &request, &text, tag, reply),
    }
}

/// Reads until the data of an `INSERT` begins, or to the end for another statement.
fn read_head(
    text: &mut Vec<u8>,
    body: &mut impl Read,
) -> Result<Option<statement::Insert>, Exception> {
    let mut complete = false;
    loop {
        match statement::scan(text, complete) {
            Scan::Insert(parts) => return Ok(Some(parts)),
            Scan::More if !complete => {
                let before = text.len();
                body.take(READ_SIZE as u64).read_to_end(text)?;
                complete = text.len() - before < READ_SIZE;
                if !complete && text.len() > STATEMENT_LIMIT {
                    return Err(body::too_long(STATEMENT_LIMIT));
                }
            }
            Scan::More | Scan::Other => {
                body::read_text(body, text, STATEMENT_LIMIT)?;
                return Ok(None);
            }
        }
    }
}

fn insert(
    backend: &Backend,
    request: &Request,
    text: &[u8],
    parts: &statement::Insert,
    body: &mut impl Read,
    reply: &mut Option<Reply>,
) -> Result<(), Exception> {
    let mut connection = backend.connect(request)?;
    let mut insert =
        connection.insert(&text[..parts.sql_end], &parts.format, &request.parameters)?;
    let mut appended = match &text[parts.data_start..] {
        [] => Ok(()),
        data => insert.append(data),
    };
    let mut buffer = vec![0; READ_SIZE];
    while appended.is_ok() {
        // An error drops the insert, which cancels it: a part of a body must not become rows.
        match body.read(&mut buffer)? {
            0 => break,
            count => appended = insert.append(&buffer[..count]),
        }
    }
    let stats = insert.finish()?;
    if appended.is_err() {
        return Err(Exception::new(code::INCORRECT_DATA, "Data after the end of the data"));
    }
    let answer = Answer { format: parts.format.clone(), stats, body: AnswerBody::default() };
    send_answer(reply, answer);
    Ok(())
}

fn query(
    backend: &Backend,
    request: &Request,
    text: &[u8],
    tag: &str,
    reply: &mut Option<Reply>,
) -> Result<(), Exception> {
    let shape = statement::shape(text);
    if shape.empty {
        return Err(Exception::new(
            code::SYNTAX_ERROR,
            "Syntax error: Empty query. (SYNTAX_ERROR)",
        ));
    }
    if shape.several {
        let message = "Syntax error (Multi-statements are not allowed). (SYNTAX_ERROR)";
        return Err(Exception::new(code::SYNTAX_ERROR, message));
    }
    let format = shape.format.or_else(|| request.format.clone());
    let format = format.unwrap_or_else(|| "TabSeparated".to_owned());
    let mut connection = backend.connect(request)?;
    if shape.select && !request.wait_end && STREAMED.contains(&format.as_str()) {
        let stream = connection.stream(text, &format, &request.parameters)?;
        let sending = Sending { format, encoder: Encoder::new(request.coding)?, head: None };
        return sending
            .run(stream, reply, |exception| exception_trailer(exception, tag, &backend.version));
    }
    let output = connection.query(text, &format, &request.parameters)?;
    let stats = output.stats();
    let mut encoder = Encoder::new(request.coding)?;
    let encoded = encoder.encode(Bytes::from_owner(output))?;
    let body = AnswerBody::complete([encoded, encoder.finish()?]);
    send_answer(reply, Answer { format, stats, body });
    Ok(())
}

/// An answer that is sent while the query runs.
struct Sending {
    format: String,
    encoder: Encoder,
    /// The head of the first chunk, with which all others begin too.
    head: Option<Bytes>,
}

impl Sending {
    fn run(
        mut self,
        mut stream: Stream<'_>,
        reply: &mut Option<Reply>,
        trailer: impl Fn(&Exception) -> Bytes,
    ) -> Result<(), Exception> {
        let mut buffered = Vec::new();
        let mut stats = Stats::default();
        while stats.result_bytes <= BUFFERED {
            let Some(output) = stream.next()? else {
                buffered.push(self.encoder.finish()?);
                let body = AnswerBody::complete(buffered);
                send_answer(reply, Answer { format: self.format, stats, body });
                return Ok(());
            };
            stats.add(output.stats());
            buffered.push(self.encode(output)?);
        }
        let (sender, rest) = mpsc::channel(CHUNKS_AHEAD);
        let body = AnswerBody::streamed(buffered, rest);
        send_answer(reply, Answer { format: self.format.clone(), stats, body });
        self.send_rest(stream, &sender, trailer);
        Ok(())
    }

    /// Sends the later chunks. If the client disconnects, the stream is dropped, which cancels the
    /// query.
    fn send_rest(
        mut self,
        mut stream: Stream<'_>,
        sender: &mpsc::Sender<Chunk>,
        trailer: impl Fn(&Exception) -> Bytes,
    ) {
        let exception = loop {
            match stream.next() {
                Ok(Some(output)) => {
                    if sender.blocking_send(self.encode(output).map(Some)).is_err() {
                        return;
                    }
                }
                Ok(None) => {
                    let _ = sender.blocking_send(self.encoder.finish().map(Some));
                    let _ = sender.blocking_send(Ok(None));
                    return;
                }
                Err(exception) => break exception,
            }
        };
        let Ok(mut end) = self.encoder.encode(trailer(&exception)).map(BytesMut::from) else {
            return;
        };
        let Ok(rest) = self.encoder.finish() else { return };
        end.extend_from_slice(&rest);
        // After the trailer the answer ends without the last HTTP chunk, as in ClickHouse. hyper
        // discards bytes that it has not written by then, so we wait until it has written them.
        let (end, dropped) = WatchedBytes::wrap(end.freeze());
        let _ = sender.blocking_send(Ok(Some(end)));
        let _ = dropped.blocking_recv();
        let _ = sender.blocking_send(Err(exception.into()));
    }

    fn encode(&mut self, output: Output) -> io::Result<Bytes> {
        let mut chunk = Bytes::from_owner(output);
        if self.format == NAMED_ROW_BINARY {
            match &self.head {
                None => self.head = head_length(&chunk).map(|length| chunk.slice(..length)),
                Some(head) if chunk.starts_with(head) => chunk = chunk.slice(head.len()..),
                Some(_) => {}
            }
        }
        self.encoder.encode(chunk)
    }
}

/// Returns the length of the head of `RowBinaryWithNamesAndTypes`: the number of columns, then their
/// names and types, with all numbers and lengths in LEB128.
fn head_length(chunk: &[u8]) -> Option<usize> {
    let mut at = 0;
    let columns = leb128(chunk, &mut at)?;
    for _ in 0..columns.checked_mul(2)? {
        let length = leb128(chunk, &mut at)?;
        at = at.checked_add(length).filter(|end| *end <= chunk.len())?;
    }
    Some(at)
}

fn leb128(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut number = 0;
    for shift in (0..usize::BITS).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn send_answer(reply: &mut Option<Reply>, answer: Answer) {
    if let Some(reply) = reply.take() {
        // Sending fails if the client has disconnected.
        let _ = reply.send(Ok(answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_head_is_found() {
        assert_eq!(head_length(b"\x01\x01a\x05UInt8\x07"), Some(9));
        assert_eq!(head_length(b"\x00\x07"), Some(1));
        assert_eq!(head_length(b"\x01\x01a\x05UIn"), None);
        assert_eq!(head_length(b""), None);
    }
}

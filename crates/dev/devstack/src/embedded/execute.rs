//! From a request to its answer, on a blocking thread.

use super::answer::{Answer, AnswerBody, Encoder, Last, Piece, exception_trailer};
use super::backend::Backend;
use super::body::{self, Pieces};
use super::exception::{Exception, code};
use super::library::{Output, Stats, Stream};
use super::request::{Request, form_fields};
use super::statement::{self, Scan};
use bytes::{Bytes, BytesMut};
use std::io::{self, Read};
use tokio::sync::{mpsc, oneshot};

/// Longest statement in bytes; data of an `INSERT` has no limit.
const STATEMENT_LIMIT: usize = 16 * 1024 * 1024;
/// Bytes of data handed to the engine at once.
const PIECE: usize = 256 * 1024;
/// An answer is held back until it has this many bytes, so that most errors still get their own
/// status, and short answers their full summary.
const HELD_BACK: u64 = 1024 * 1024;
/// Pieces of an answer waiting for the client; one is a block of rows of the engine.
const PIECES_AHEAD: usize = 4;

/// Formats whose streamed pieces, put together, are the whole answer. In the others each piece
/// has a head or a tail.
const STREAMED: [&str; 7] =
    ["TabSeparated", "TSV", "TabSeparatedRaw", "CSV", "RowBinary", "Native", NAMED_ROW_BINARY];
/// Streamed as well; the head that each piece has is taken off all but the first.
const NAMED_ROW_BINARY: &str = "RowBinaryWithNamesAndTypes";

/// Where the answer goes. It is given once.
pub(super) type Reply = oneshot::Sender<Result<Answer, Exception>>;

/// Runs a request to its end. `tag` marks an error that comes after the answer began.
pub(super) fn run(backend: &Backend, request: Request, body: Pieces, tag: &str, reply: Reply) {
    let mut reply = Some(reply);
    let outcome = execute(backend, request, body, tag, &mut reply);
    // Without a reply left the answer has begun, and `stream` told of any error after that; and
    // when nobody receives it, the client has gone.
    if let (Err(exception), Some(reply)) = (outcome, reply) {
        let _ = reply.send(Err(exception));
    }
}

fn execute(
    backend: &Backend,
    mut request: Request,
    body: Pieces,
    tag: &str,
    reply: &mut Option<Reply>,
) -> Result<(), Exception> {
    let mut body = body::decoded(body, request.content_encoding.as_deref(), request.blocks)?;
    if let Some(boundary) = request.boundary.take() {
        let mut form = Vec::new();
        body::read_text(&mut body, &mut form, STATEMENT_LIMIT)?;
        for (name, value) in form_fields(&form, &boundary)? {
            request.take(&name, &value, &backend.settings)?;
        }
    }
    let mut text = request.query.clone().into_bytes();
    if !text.is_empty() {
        // What stands between a statement in the URL and its data in the body.
        text.push(b'\n');
    }
    match read_head(&mut text, &mut body)? {
        Some(parts) => insert(backend, &request, &text, &parts, &mut body, reply),
        None => query(backend, &request, &text, tag, reply),
    }
}

/// Reads until the data of an `INSERT` begins, or to the end if the request is no such thing.
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
                body.take(PIECE as u64).read_to_end(text)?;
                complete = text.len() - before < PIECE;
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
    let mut taken = match &text[parts.data_start..] {
        [] => Ok(()),
        data => insert.append(data),
    };
    let mut buffer = vec![0; PIECE];
    while taken.is_ok() {
        // An error here drops the insert, which cancels it: half a body must not become rows.
        match body.read(&mut buffer)? {
            0 => break,
            count => taken = insert.append(&buffer[..count]),
        }
    }
    let stats = insert.finish()?;
    if taken.is_err() {
        return Err(Exception::new(code::INCORRECT_DATA, "Data after the end of the data"));
    }
    let answer = Answer { format: parts.format.clone(), stats, body: AnswerBody::default() };
    give(reply, answer);
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
    let packed = encoder.piece(Bytes::from_owner(output))?;
    let body = AnswerBody::whole([packed, encoder.finish()?]);
    give(reply, Answer { format, stats, body });
    Ok(())
}

/// An answer that is sent while the query runs.
struct Sending {
    format: String,
    encoder: Encoder,
    /// What each piece begins with, once the first has shown it.
    head: Option<Bytes>,
}

impl Sending {
    fn run(
        mut self,
        mut stream: Stream<'_>,
        reply: &mut Option<Reply>,
        trailer: impl Fn(&Exception) -> Bytes,
    ) -> Result<(), Exception> {
        let mut held_back = Vec::new();
        let mut stats = Stats::default();
        while stats.result_bytes <= HELD_BACK {
            let Some(output) = stream.next()? else {
                held_back.push(self.encoder.finish()?);
                let body = AnswerBody::whole(held_back);
                give(reply, Answer { format: self.format, stats, body });
                return Ok(());
            };
            stats.add(output.stats());
            held_back.push(self.pack(output)?);
        }
        let (sender, rest) = mpsc::channel(PIECES_AHEAD);
        let body = AnswerBody::beginning(held_back, rest);
        give(reply, Answer { format: self.format.clone(), stats, body });
        self.send_rest(stream, &sender, trailer);
        Ok(())
    }

    /// Sends what follows. Dropping the stream early, when the client has gone, cancels the query.
    fn send_rest(
        mut self,
        mut stream: Stream<'_>,
        sender: &mpsc::Sender<Piece>,
        trailer: impl Fn(&Exception) -> Bytes,
    ) {
        let exception = loop {
            match stream.next() {
                Ok(Some(output)) => {
                    if sender.blocking_send(self.pack(output).map(Some)).is_err() {
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
        let Ok(mut end) = self.encoder.piece(trailer(&exception)).map(BytesMut::from) else {
            return;
        };
        let Ok(rest) = self.encoder.finish() else { return };
        end.extend_from_slice(&rest);
        // Then the answer breaks off without its last chunk, as ClickHouse's does. hyper throws
        // away what it has not written by then, so wait until it has.
        let (end, gone) = Last::watched(end.freeze());
        let _ = sender.blocking_send(Ok(Some(end)));
        let _ = gone.blocking_recv();
        let _ = sender.blocking_send(Err(exception.into()));
    }

    fn pack(&mut self, output: Output) -> io::Result<Bytes> {
        let mut piece = Bytes::from_owner(output);
        if self.format == NAMED_ROW_BINARY {
            match &self.head {
                None => self.head = named_head(&piece).map(|length| piece.slice(..length)),
                Some(head) if piece.starts_with(head) => piece = piece.slice(head.len()..),
                Some(_) => {}
            }
        }
        self.encoder.piece(piece)
    }
}

/// Length of the head of `RowBinaryWithNamesAndTypes`: the number of columns, then their names and
/// types, all numbers and lengths in LEB128.
fn named_head(piece: &[u8]) -> Option<usize> {
    let mut at = 0;
    let columns = leb128(piece, &mut at)?;
    for _ in 0..columns.checked_mul(2)? {
        let length = leb128(piece, &mut at)?;
        at = at.checked_add(length).filter(|end| *end <= piece.len())?;
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

fn give(reply: &mut Option<Reply>, answer: Answer) {
    if let Some(reply) = reply.take() {
        // Nobody receives it when the client has gone.
        let _ = reply.send(Ok(answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_measured() {
        assert_eq!(named_head(b"\x01\x01a\x05UInt8\x07"), Some(9));
        assert_eq!(named_head(b"\x00\x07"), Some(1));
        assert_eq!(named_head(b"\x01\x01a\x05UIn"), None);
        assert_eq!(named_head(b""), None);
    }
}

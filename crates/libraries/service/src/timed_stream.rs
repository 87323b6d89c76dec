//! A TCP stream that fails when its client is too slow.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// How long a server waits for a client.
#[derive(Debug, Clone, Copy)]
pub struct StreamTimeouts {
    /// For the whole head of a request. The first one begins with the connection.
    pub head: Duration,
    /// Between a response and the first byte of the next request.
    pub idle: Duration,
    /// For a client to take what is written to it.
    pub write: Duration,
}

/// A timeout that has passed, so that the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// [`StreamTimeouts::head`].
    Head,
    /// [`StreamTimeouts::idle`].
    Idle,
    /// [`StreamTimeouts::write`].
    Write,
}

/// What a connection waits for. The request handler and the stream share it.
#[derive(Debug, Clone)]
pub struct Phase(Arc<PhaseState>);

#[derive(Debug)]
struct PhaseState {
    phase: AtomicU8,
    has_accepted: AtomicBool,
    waiting_since: Mutex<Instant>,
}

/// A connection without a request in progress. The least one has waited longest, and is one whose
/// client has sent nothing that was accepted, if there is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    has_accepted: bool,
    since: Instant,
}

/// The head of a request is awaited, and the first byte of it has arrived or should have.
const HEAD: u8 = 0;
/// A request is being handled. The body has its own deadline.
const BUSY: u8 = 1;
/// The last request is answered.
const IDLE: u8 = 2;

impl Default for Phase {
    fn default() -> Self {
        Self(Arc::new(PhaseState {
            phase: AtomicU8::new(HEAD),
            has_accepted: AtomicBool::new(false),
            waiting_since: Mutex::new(Instant::now()),
        }))
    }
}

impl Phase {
    /// Notes that a request is handled from now on. Its body has a deadline of its own.
    pub fn request_begins(&self) {
        self.0.phase.store(BUSY, Ordering::Relaxed);
    }

    /// Notes that the request is answered. If the body of its answer is a stream, call this after its end.
    pub fn request_ends(&self, is_accepted: bool) {
        if is_accepted {
            self.0.has_accepted.store(true, Ordering::Relaxed);
        }
        *self.0.waiting_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.phase.store(IDLE, Ordering::Relaxed);
    }

    /// Returns `None` while a request is in progress.
    pub fn waiting(&self) -> Option<Waiting> {
        if self.get() == BUSY {
            return None;
        }
        let since = *self.0.waiting_since.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Waiting { has_accepted: self.0.has_accepted.load(Ordering::Relaxed), since })
    }

    fn get(&self) -> u8 {
        self.0.phase.load(Ordering::Relaxed)
    }

    /// Returns whether this is the first byte of a head on an idle connection.
    fn head_begins(&self) -> bool {
        self.0.phase.compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// A connection of a client.
pub struct TimedStream {
    stream: TcpStream,
    phase: Phase,
    timeouts: StreamTimeouts,
    /// Counts connections that ended at a timeout.
    on_timeout: fn(Timeout),
    /// The phase that `read_deadline` belongs to.
    read_phase: u8,
    read_deadline: Instant,
    read_timer: Timer,
    /// Since when the client has not taken everything that was written.
    write_deadline: Option<Instant>,
    write_timer: Timer,
}

impl TimedStream {
    /// `on_timeout` is called before the connection ends at one of the timeouts.
    pub fn new(
        stream: TcpStream,
        phase: Phase,
        timeouts: StreamTimeouts,
        on_timeout: fn(Timeout),
    ) -> Self {
        Self {
            stream,
            phase,
            timeouts,
            on_timeout,
            read_phase: HEAD,
            read_deadline: Instant::now() + timeouts.head,
            read_timer: Timer::default(),
            write_deadline: None,
            write_timer: Timer::default(),
        }
    }

    /// Fails when the client has not sent in time what the connection waits for. An idle connection
    /// ends as if the client had closed it.
    fn check_read_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let phase = self.phase.get();
        if phase == BUSY {
            self.read_phase = BUSY;
            return Poll::Pending;
        }
        if phase != self.read_phase {
            let timeout = if phase == IDLE { self.timeouts.idle } else { self.timeouts.head };
            (self.read_phase, self.read_deadline) = (phase, Instant::now() + timeout);
        }
        if !self.read_timer.has_passed(self.read_deadline, context) {
            return Poll::Pending;
        }
        if phase == IDLE {
            (self.on_timeout)(Timeout::Idle);
            return Poll::Ready(Ok(()));
        }
        (self.on_timeout)(Timeout::Head);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Notes that bytes arrived: the first of a head sets the deadline of the others.
    fn received(&mut self) {
        if self.phase.head_begins() {
            (self.read_phase, self.read_deadline) = (HEAD, Instant::now() + self.timeouts.head);
        }
    }

    /// Passes on the result of a write of `length` bytes. A client that takes less than everything
    /// has a deadline, however often it takes a little.
    fn written(
        &mut self,
        result: Poll<io::Result<usize>>,
        length: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if matches!(result, Poll::Ready(Ok(written)) if written == length) {
            self.write_deadline = None;
            return result;
        }
        let soon = || Instant::now() + self.timeouts.write;
        let deadline = *self.write_deadline.get_or_insert_with(soon);
        if self.write_timer.has_passed(deadline, context) {
            (self.on_timeout)(Timeout::Write);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        result
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending => self.check_read_deadline(context),
            ready => {
                if buffer.filled().len() > before {
                    self.received();
                }
                ready
            }
        }
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(result, bytes.len(), context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(result, length, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A timer that is registered with the runtime when it is first needed, and moved only when it
/// fires too late or has fired too early.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Returns whether the deadline has passed, and otherwise wakes the task when it has.
    fn has_passed(&mut self, deadline: Instant, context: &mut Context<'_>) -> bool {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(context).is_ready() {
            if deadline <= Instant::now() {
                return true;
            }
            sleep.as_mut().reset(deadline);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const TIMEOUTS: StreamTimeouts = StreamTimeouts {
        head: Duration::from_millis(200),
        idle: Duration::from_millis(400),
        write: Duration::from_millis(200),
    };

    async fn connect() -> (TimedStream, Phase, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let phase = Phase::default();
        let stream = listener.accept().await.unwrap().0;
        (TimedStream::new(stream, phase.clone(), TIMEOUTS, |_| {}), phase, client)
    }

    #[tokio::test]
    async fn a_head_has_one_deadline_and_a_request_in_progress_has_none() {
        let (mut stream, phase, mut client) = connect().await;
        let mut byte = [0; 1];
        let error = loop {
            client.write_all(b"x").await.unwrap();
            if let Err(error) = stream.read(&mut byte).await {
                break error;
            }
            // Nothing arrives, so this waits.
            let waiting = tokio::time::timeout(TIMEOUTS.head / 8, stream.read(&mut byte));
            if let Ok(Err(error)) = waiting.await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        phase.request_begins();
        let waited = tokio::time::timeout(3 * TIMEOUTS.idle, stream.read(&mut byte)).await;
        assert!(waited.is_err(), "{waited:?}");
    }

    #[tokio::test]
    async fn an_idle_connection_ends_and_the_first_byte_of_a_head_begins_its_deadline() {
        let (mut stream, phase, _client) = connect().await;
        let mut buffer = [0; 8];
        phase.request_begins();
        phase.request_ends(true);
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0, "the end after the idle timeout");

        let (mut stream, phase, mut client) = connect().await;
        phase.request_ends(true);
        client.write_all(b"POST").await.unwrap();
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 4);
        let error = stream.read(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "the rest of the head is missing");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up_even_if_it_takes_a_little_now_and_then() {
        let (mut stream, _, mut client) = connect().await;
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while client.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                tokio::time::sleep(TIMEOUTS.write / 4).await;
            }
        });
        let error = stream.write_all(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        reader.abort();
    }
}

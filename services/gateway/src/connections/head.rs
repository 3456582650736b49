//! Timeouts for the headers of a request: while the connection is idle, and once the headers have begun.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Returns the timer that ends one connection's wait for headers, and its [`Arrivals`].
///
/// hyper has one limit for that wait, from the previous response to the last header. As a limit for headers it is too
/// long, because a caller can send them a byte at a time. As an idle timeout it is too short for a proxy that keeps
/// connections open. The proxy would send a request into a connection that closes at that moment. So the wait that
/// hyper times is the idle timeout, and becomes the shorter header timeout when the first byte arrives.
///
/// Headers that begin while the previous request is in progress have the idle timeout.
pub(super) fn limits(headers: Duration) -> (HeadTimer, Arrivals) {
    let first = Arc::new(Mutex::new(None));
    (HeadTimer { first: first.clone(), headers }, Arrivals(first))
}

/// The time at which the first byte of the next request arrived.
type FirstByte = Arc<Mutex<Option<Instant>>>;

fn lock(first: &FirstByte) -> MutexGuard<'_, Option<Instant>> {
    first.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records when bytes arrive.
#[derive(Debug)]
pub(super) struct Arrivals(FirstByte);

impl Arrivals {
    /// Returns the same stream with its arrivals recorded.
    pub(super) fn of<S>(self, stream: S) -> Noted<S> {
        Noted { stream, arrivals: self }
    }
}

/// A stream whose arrivals are recorded.
#[derive(Debug)]
pub(super) struct Noted<S> {
    stream: S,
    arrivals: Arrivals,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            lock(&self.arrivals.0).get_or_insert_with(Instant::now);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Times one connection's waits for headers; hyper uses it for nothing else.
#[derive(Debug)]
pub(super) struct HeadTimer {
    first: FirstByte,
    headers: Duration,
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, idle_until: Instant) -> Pin<Box<dyn Sleep>> {
        // All bytes so far belong to the previous request.
        *lock(&self.first) = None;
        let sleep = Box::pin(tokio::time::sleep_until(idle_until.into()));
        Box::pin(HeadSleep { first: self.first.clone(), headers: self.headers, begun: false, sleep })
    }
}

/// Ends when the connection has been idle, or has taken for its headers, longer than allowed.
struct HeadSleep {
    first: FirstByte,
    headers: Duration,
    /// `true` once this wait has seen the first byte.
    begun: bool,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    /// hyper polls it after every read, so the first byte need not wake it.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let first = *lock(&self.first);
        if let (Some(first), false) = (first, self.begun) {
            self.begun = true;
            let until = first + self.headers;
            self.sleep.as_mut().reset(until.into());
        }
        self.sleep.as_mut().poll(cx)
    }
}

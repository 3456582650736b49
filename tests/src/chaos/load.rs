//! A load generator with a steady rate, independent of replies, and a tally of how requests ended.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::RequestErrorKind;
use bytes::Bytes;
use nats_rpc::{CallError, Client};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

/// Interval of the pacing loop.
const BEAT: Duration = Duration::from_millis(1);
/// Maximum number of late requests sent in one beat, after the machine was busy.
const CATCH_UP: u64 = 64;
/// The outcome of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The reply was a value.
    Answered,
    /// The reply was an error with this code.
    Refused(u16),
    /// There was no responder.
    NoResponders,
    /// The deadline passed.
    TimedOut,
    /// The connection broke, or was missing.
    Unconnected,
}

/// The number of requests for each outcome.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) offered: u64,
    pub(super) answered: u64,
    /// Rejected with 503.
    pub(super) busy: u64,
    /// Ended with another error reply.
    pub(super) failed: u64,
    pub(super) no_responders: u64,
    pub(super) timed_out: u64,
    pub(super) unconnected: u64,
    /// Took longer than allowed.
    pub(super) late: u64,
    /// Latencies of the successful requests.
    pub(super) took: Vec<Duration>,
    /// The times of the first and of the last request without a value.
    pub(super) trouble: Option<(Instant, Instant)>,
}

impl Tally {
    pub(super) fn note(&mut self, ended: Ended, took: Duration, allowed: Duration) {
        match ended {
            Ended::Answered => {
                self.answered += 1;
                self.took.push(took);
            }
            Ended::Refused(503) => self.busy += 1,
            Ended::Refused(_) => self.failed += 1,
            Ended::NoResponders => self.no_responders += 1,
            Ended::TimedOut => self.timed_out += 1,
            Ended::Unconnected => self.unconnected += 1,
        }
        self.late += u64::from(took > allowed);
        if ended != Ended::Answered {
            let now = Instant::now();
            self.trouble = Some((self.trouble.map_or(now, |(first, _)| first), now));
        }
    }

    /// Returns the number of requests without a value.
    pub(super) fn lost(&self) -> u64 {
        self.busy + self.failed + self.no_responders + self.timed_out + self.unconnected
    }

    /// Returns the latency that this share of the successful requests did not exceed.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        let last = took.len().saturating_sub(1);
        took.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }

    /// Formats the non-zero counts of lost requests by outcome.
    pub(super) fn losses(&self) -> String {
        let kinds = [
            ("503", self.busy),
            ("errors", self.failed),
            ("no responders", self.no_responders),
            ("timed out", self.timed_out),
            ("unconnected", self.unconnected),
        ];
        let happened = kinds.into_iter().filter(|(_, count)| *count > 0);
        let told: Vec<_> = happened.map(|(kind, count)| format!("{kind} {count}")).collect();
        if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) }
    }
}

/// A load that runs until `finish`.
pub(super) struct Load {
    shared: Arc<Shared>,
    pacer: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    tally: Mutex<Tally>,
    paused: AtomicBool,
    finished: AtomicBool,
    in_flight: AtomicU64,
    beats: AtomicU64,
    changed: Notify,
}

impl Load {
    /// Sends `per_second` requests a second with `call`, which receives their number; a request that takes longer than
    /// `allowed` is late.
    pub(super) fn start<F, Fut>(per_second: u32, allowed: Duration, call: F) -> Self
    where
        F: Fn(u64) -> Fut + Send + 'static,
        Fut: Future<Output = Ended> + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let pacer = tokio::spawn(pace(per_second, allowed, call, shared.clone()));
        Self { shared, pacer }
    }

    /// Returns the present counts.
    pub(super) fn tally(&self) -> Tally {
        self.shared.tally().clone()
    }

    /// Waits until `more` further requests have succeeded, for at most `limit`.
    pub(super) async fn wait_for_answers(&self, more: u64, limit: Duration) {
        let wanted = self.shared.tally().answered + more;
        let enough = async {
            while self.shared.tally().answered < wanted {
                self.shared.changed.notified().await;
            }
        };
        // After the time limit, the counts show the missing replies.
        let _ = tokio::time::timeout(limit, enough).await;
    }

    /// Pauses new requests, and waits until those in flight have ended.
    pub(super) async fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
        // The current beat may not have seen the pause.
        let beat = self.shared.beats.load(Ordering::SeqCst) + 2;
        while self.shared.beats.load(Ordering::SeqCst) < beat || self.shared.in_flight.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Continues after a pause.
    pub(super) fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
    }

    /// Stops sending, waits until all requests have ended, and returns the tally.
    pub(super) async fn finish(self) -> Tally {
        self.shared.finished.store(true, Ordering::SeqCst);
        self.pacer.await.expect("the pacer does not panic");
        self.shared.tally().clone()
    }
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn pace<F, Fut>(per_second: u32, allowed: Duration, call: F, shared: Arc<Shared>)
where
    F: Fn(u64) -> Fut + Send + 'static,
    Fut: Future<Output = Ended> + Send + 'static,
{
    let mut requests = JoinSet::new();
    let mut beat = tokio::time::interval(BEAT);
    let (mut number, mut owed, mut last) = (0, 0.0, Instant::now());
    while !shared.finished.load(Ordering::SeqCst) {
        beat.tick().await;
        shared.beats.fetch_add(1, Ordering::SeqCst);
        owed += last.elapsed().as_secs_f64() * f64::from(per_second);
        last = Instant::now();
        if shared.paused.load(Ordering::SeqCst) {
            owed = 0.0;
        }
        owed = owed.min(CATCH_UP as f64);
        while owed >= 1.0 {
            owed -= 1.0;
            shared.in_flight.fetch_add(1, Ordering::SeqCst);
            shared.tally().offered += 1;
            let (request, shared) = (call(number), shared.clone());
            number += 1;
            requests.spawn(async move {
                let started = Instant::now();
                let ended = request.await;
                shared.tally().note(ended, started.elapsed(), allowed);
                shared.in_flight.fetch_sub(1, Ordering::SeqCst);
                shared.changed.notify_one();
            });
        }
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}

/// Sends one request with async-nats alone, which does not retry.
pub(super) async fn request(nats: &async_nats::Client, subject: String, body: Bytes, limit: Duration) -> Ended {
    match tokio::time::timeout(limit, nats.request(subject, body)).await {
        Err(_) => Ended::TimedOut,
        Ok(Ok(message)) => match status(&message) {
            0 => Ended::Answered,
            code => Ended::Refused(code),
        },
        Ok(Err(error)) => match error.kind() {
            RequestErrorKind::NoResponders => Ended::NoResponders,
            RequestErrorKind::TimedOut => Ended::TimedOut,
            _ => Ended::Unconnected,
        },
    }
}

/// Returns the code of an error reply; 0 for a value.
pub(super) fn status(message: &async_nats::Message) -> u16 {
    let code = message.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error-Code"));
    code.map_or(0, |code| code.as_str().parse().unwrap_or(500))
}

/// Makes one call with the framework's own client.
pub(super) async fn call(client: &Client, subject: &str, data: &(impl serde::Serialize + Sync)) -> Ended {
    match client.send::<serde::de::IgnoredAny>(subject, data).await {
        Ok(_) => Ended::Answered,
        Err(CallError::Remote(error)) => Ended::Refused(error.status()),
        Err(CallError::NoResponders { .. }) => Ended::NoResponders,
        Err(CallError::TimedOut { .. }) => Ended::TimedOut,
        Err(CallError::Disconnected | CallError::ConnectionLost { .. }) => Ended::Unconnected,
        Err(error) => panic!("a call that cannot be made: {error}"),
    }
}

//! Requests at a steady rate, whatever becomes of them, and what became of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::RequestErrorKind;
use bytes::Bytes;
use nats_rpc::{CallError, Client};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

/// How often the pace is looked at.
const BEAT: Duration = Duration::from_millis(1);
/// What a machine that was busy elsewhere may make up for in one beat.
const CATCH_UP: u64 = 64;
/// How one request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With a value.
    Answered,
    /// With an error of this code.
    Refused(u16),
    /// Nobody listens.
    NoResponders,
    /// Not by its deadline.
    TimedOut,
    /// The connection broke, or was not there.
    Unconnected,
}

/// How many requests ended in which way.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) offered: u64,
    pub(super) answered: u64,
    /// Turned away with 503.
    pub(super) busy: u64,
    /// Answered with another error.
    pub(super) failed: u64,
    pub(super) no_responders: u64,
    pub(super) timed_out: u64,
    pub(super) unconnected: u64,
    /// Took longer than they were allowed to.
    pub(super) late: u64,
    /// How long the answered ones took.
    pub(super) took: Vec<Duration>,
    /// The first and the last moment at which one ended without a value.
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

    /// All that ended without a value.
    pub(super) fn lost(&self) -> u64 {
        self.busy + self.failed + self.no_responders + self.timed_out + self.unconnected
    }

    /// The time that this share of the answered requests took at most.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        let last = took.len().saturating_sub(1);
        took.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }

    /// The ways in which requests were lost, those that happened.
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

/// A load that runs until it is finished.
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
    /// Makes `per_second` requests a second by `call`, which is given their number; one that takes longer
    /// than `allowed` is late.
    pub(super) fn start<F, Fut>(per_second: u32, allowed: Duration, call: F) -> Self
    where
        F: Fn(u64) -> Fut + Send + 'static,
        Fut: Future<Output = Ended> + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let pacer = tokio::spawn(pace(per_second, allowed, call, shared.clone()));
        Self { shared, pacer }
    }

    /// What has been counted so far.
    pub(super) fn tally(&self) -> Tally {
        self.shared.tally().clone()
    }

    /// Waits until `more` requests more have been answered, for `limit` at most.
    pub(super) async fn wait_for_answers(&self, more: u64, limit: Duration) {
        let wanted = self.shared.tally().answered + more;
        let enough = async {
            while self.shared.tally().answered < wanted {
                self.shared.changed.notified().await;
            }
        };
        // The counts tell what did not come.
        let _ = tokio::time::timeout(limit, enough).await;
    }

    /// Makes no more requests for now, and waits until those that were made have ended.
    pub(super) async fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
        // The beat that is under way may not have seen it.
        let beat = self.shared.beats.load(Ordering::SeqCst) + 2;
        while self.shared.beats.load(Ordering::SeqCst) < beat || self.shared.in_flight.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Goes on after a pause.
    pub(super) fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
    }

    /// Makes no more requests, waits until all have ended, and tells how.
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

/// One request by async-nats alone, which retries nothing.
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

/// The code of an error answer; 0 for a value.
pub(super) fn status(message: &async_nats::Message) -> u16 {
    let code = message.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error-Code"));
    code.map_or(0, |code| code.as_str().parse().unwrap_or(500))
}

/// One call by the framework's own client.
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

//! Open-loop load, independent of replies, as from a large number of callers.

use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::protocol::Frame;
use super::question::Reply;
use super::{LoadError, Loader, Question, SILENCE, micros};
use crate::stats::percentile;

/// The offered load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) per_second: f64,
    pub(crate) lasts: Duration,
    /// The timeout of a caller, which each request carries in its headers.
    pub(crate) patience: Duration,
}

/// The outcome of an offered load.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) asked: usize,
    /// Correct replies within the caller's timeout.
    pub(crate) good: usize,
    /// Correct replies after the caller's timeout.
    pub(crate) late: usize,
    /// Error replies and wrong replies.
    pub(crate) refused: usize,
    pub(crate) lasted: Duration,
    /// Latencies of all correct replies, in microseconds, sorted.
    latencies: Vec<u32>,
}

impl Offered {
    pub(crate) fn goodput(&self) -> f64 {
        self.good as f64 / self.lasted.as_secs_f64()
    }

    pub(crate) fn latency_us(&self, percent: f64) -> u32 {
        percentile(&self.latencies, percent)
    }
}

impl Loader {
    /// Sends requests at an even rate, and then waits as long as a caller would.
    pub(crate) fn offer(&mut self, question: &Question, offer: Offer) -> Result<Offered, LoadError> {
        self.run += 1;
        let run = self.run;
        let total = (offer.per_second * offer.lasts.as_secs_f64()) as usize;
        let mut asked_at: Vec<Option<Instant>> = Vec::with_capacity(total);
        let mut offered =
            Offered { asked: 0, good: 0, late: 0, refused: 0, lasted: offer.lasts, latencies: Vec::new() };
        // Short enough for an even rate, long enough not to spin.
        self.socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        let start = Instant::now();
        let end = start + offer.lasts + offer.patience + Duration::from_secs(1);
        while Instant::now() < end && offered.good + offered.late + offered.refused < total {
            let now = Instant::now();
            let due = (now - start).as_secs_f64() * offer.per_second;
            if asked_at.len() < total.min(due as usize) {
                let headers = deadline_headers(offer.patience);
                let question = question.clone().with_headers(headers);
                while asked_at.len() < total.min(due as usize) {
                    question.publish(&Reply { inbox: &self.inbox, run, number: asked_at.len() }, &mut self.out);
                    asked_at.push(Some(now));
                }
                self.flush()?;
            }
            match self.receive() {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
                received => received?,
            }
            let now = Instant::now();
            self.each_frame(|frame, _| {
                let Frame::Message { subject, headers, payload } = frame else { return };
                let Some(reply) = Reply::parse(subject).filter(|reply| reply.run == run) else { return };
                let Some(asked) = asked_at.get_mut(reply.number).and_then(Option::take) else { return };
                if !question.is_answered_by(headers, payload) {
                    offered.refused += 1;
                    return;
                }
                offered.latencies.push(micros(now - asked));
                match now - asked <= offer.patience {
                    true => offered.good += 1,
                    false => offered.late += 1,
                }
            })?;
        }
        self.socket.set_read_timeout(Some(SILENCE))?;
        offered.asked = asked_at.len();
        offered.latencies.sort_unstable();
        Ok(offered)
    }
}

/// Returns the headers that a nats-rpc client sends with every call.
fn deadline_headers(patience: Duration) -> [(&'static str, String); 2] {
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + patience;
    [
        (nats_rpc::TIMEOUT_HEADER, patience.as_millis().to_string()),
        (nats_rpc::DEADLINE_HEADER, deadline.as_millis().to_string()),
    ]
}

//! Records all messages that arrive at the watched subjects.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::wire::{Message, RawConnection, next_message};

/// The time after which a request without a reply is sent again.
const PROBE: Duration = Duration::from_millis(100);

/// A connection that records each message at the watched subjects, and sends the requests of the suite.
pub(super) struct Observer {
    seen: watch::Receiver<Vec<Arc<Message>>>,
    writer: WriteHalf<BufReader<TcpStream>>,
    /// The tasks that read; dropping the observer aborts them.
    _reading: JoinSet<()>,
    inboxes: u32,
}

impl Observer {
    /// Watches `subjects` and the suite's own inbox.
    pub(super) async fn start(address: &str, subjects: Vec<String>) -> io::Result<Self> {
        let mut connection = RawConnection::open(address).await?;
        connection.subscribe(subjects).await?;
        let (mut reader, writer) = connection.split();
        let (sender, seen) = watch::channel(Vec::new());
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            while let Ok(message) = next_message(&mut reader).await {
                sender.send_modify(|seen| seen.push(Arc::new(message)));
            }
        });
        Ok(Self { seen, writer, _reading: reading, inboxes: 0 })
    }

    /// Returns the number of messages that have arrived.
    pub(super) fn count(&self) -> usize {
        self.seen.borrow().len()
    }

    /// Returns the messages that have arrived at `subject`, of those numbered `range`.
    pub(super) fn at(&self, subject: &str, range: Range<usize>) -> Vec<Arc<Message>> {
        let seen = self.seen.borrow();
        let of_range = seen.iter().take(range.end).skip(range.start);
        of_range.filter(|message| message.is_at(subject)).cloned().collect()
    }

    /// Waits at most `limit` until a message has arrived at `subject`; returns the first one.
    pub(super) async fn first_at(&mut self, subject: &str, limit: Duration) -> Option<Arc<Message>> {
        let is_here = |seen: &Vec<Arc<Message>>| seen.iter().any(|message| message.is_at(subject));
        let _ = tokio::time::timeout(limit, self.seen.wait_for(is_here)).await;
        self.at(subject, 0..usize::MAX).into_iter().next()
    }

    /// Sends `request` until `accepted` accepts its reply, at most for `limit`; returns the last reply.
    ///
    /// A request that was lost with a connection of the service is sent again.
    pub(super) async fn request(
        &mut self,
        request: &Message,
        limit: Duration,
        accepted: impl Fn(&Message) -> bool,
    ) -> io::Result<Option<Arc<Message>>> {
        let give_up = Instant::now() + limit;
        let mut last = None;
        while last.is_none() || Instant::now() < give_up {
            self.inboxes += 1;
            let inbox = format!("_INBOX.attacks.control.{}", self.inboxes);
            let Some(reply) = self.until_replied(request, inbox, give_up).await? else { break };
            let done = accepted(&reply);
            last = Some(reply);
            if done {
                break;
            }
            // The service is busy: wait before the next attempt.
            tokio::time::sleep(PROBE).await;
        }
        Ok(last)
    }

    async fn until_replied(
        &mut self,
        request: &Message,
        inbox: String,
        give_up: Instant,
    ) -> io::Result<Option<Arc<Message>>> {
        let request = Message { reply: inbox.clone().into_bytes(), ..request.clone() }.publish();
        loop {
            self.writer.write_all(&request).await?;
            let reply = self.first_at(&inbox, PROBE).await;
            if reply.is_some() || Instant::now() >= give_up {
                return Ok(reply);
            }
        }
    }
}

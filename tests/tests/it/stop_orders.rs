//! What a stop says to nats-server, and what it does where the server does not do as it is told.
//!
//! The server is scripted, so that it sends at the worst moment: when it has read that it should stop sending.

use std::collections::HashMap;

use futures::StreamExt;
use nats_rpc::prelude::*;
use nats_rpc::{NatsConfig, ServiceHandle};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::net::tcp::WriteHalf;
use tokio::sync::mpsc;

use crate::support::soon;

const SUBJECT: &str = "orders.work";

#[message_pattern("orders.work")]
async fn work() {}

/// What the script does on an `UNSUB` with a count of more than nine digits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OverLong {
    /// What nats-server does.
    EndsAtOnce,
    /// What it may do one day.
    IsACount,
}

/// What the service said, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// `UNSUB` of its handler, with the count if there is one.
    End(Option<u64>),
    /// An answer to one of the script's requests.
    Answer,
    /// A message to itself.
    Echo,
}

/// One client's nats-server.
struct Script {
    url: String,
    said: mpsc::UnboundedReceiver<Said>,
    requests: mpsc::UnboundedSender<()>,
}

struct Session<'a> {
    write: WriteHalf<'a>,
    over_long: OverLong,
    /// Whether it sends requests until a count is reached.
    reaches_counts: bool,
    subscriptions: HashMap<String, String>,
    /// Requests sent to the handler.
    sent: u64,
    says: mpsc::UnboundedSender<Said>,
}

impl Script {
    async fn start(over_long: OverLong, reaches_counts: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let (says, said) = mpsc::unbounded_channel();
        let (requests, mut wanted) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let (read, write) = socket.split();
            let mut lines = BufReader::new(read).lines();
            let subscriptions = HashMap::new();
            let mut session = Session { write, over_long, reaches_counts, subscriptions, sent: 0, says };
            let info = r#"{"server_id":"S","version":"2.15.1","go":"go","host":"127.0.0.1","port":1,"headers":true,"max_payload":1048576,"proto":1}"#;
            session.write(&format!("INFO {info}\r\n")).await;
            loop {
                tokio::select! {
                    line = lines.next_line() => {
                        let Ok(Some(line)) = line else { return };
                        if line.starts_with("PUB") {
                            lines.next_line().await.unwrap();
                        }
                        session.obey(&line).await;
                    }
                    Some(()) = wanted.recv() => session.request().await,
                }
            }
        });
        Self { url, said, requests }
    }

    async fn service(&self) -> ServiceHandle {
        let service = Service::new("orders", "1.0.0").handlers(handlers![work]);
        soon(service.start(NatsConfig::new(&self.url))).await.unwrap()
    }

    async fn next(&mut self) -> Said {
        soon(self.said.recv()).await.unwrap()
    }

    /// Forgets what the service said so far.
    fn forget(&mut self) {
        while self.said.try_recv().is_ok() {}
    }

    /// All that the service says until it is gone.
    async fn rest(self) -> Vec<Said> {
        let said = futures::stream::unfold(self.said, async |mut said| Some((said.recv().await?, said)));
        soon(said.collect()).await
    }
}

impl Session<'_> {
    async fn write(&mut self, text: &str) {
        self.write.write_all(text.as_bytes()).await.unwrap();
    }

    fn say(&self, said: Said) {
        // A test that has seen enough does not listen any more.
        let _ = self.says.send(said);
    }

    async fn obey(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words.as_slice() {
            ["PING"] => self.write("PONG\r\n").await,
            ["SUB", subject, .., sid] => {
                self.subscriptions.insert((*sid).to_owned(), (*subject).to_owned());
            }
            ["PUB", "_INBOX.answer", ..] => self.say(Said::Answer),
            ["PUB", subject, ..] => {
                self.say(Said::Echo);
                let hears = |(_, own): &(&String, &String)| own == subject;
                let sid = self.subscriptions.iter().find(hears).map(|(sid, _)| sid.clone());
                if let Some(sid) = sid {
                    self.write(&format!("MSG {subject} {sid} 0\r\n\r\n")).await;
                }
            }
            ["UNSUB", sid, count @ ..] => self.end(sid, count.first().copied()).await,
            _ => {}
        }
    }

    async fn end(&mut self, sid: &str, count: Option<&str>) {
        let ours = self.subscriptions.get(sid).is_some_and(|subject| subject == SUBJECT);
        let count = count.map(|count| count.parse().unwrap());
        if ours {
            self.say(Said::End(count));
        }
        match count {
            Some(count) if count > 999_999_999 => {
                if self.over_long == OverLong::EndsAtOnce {
                    self.subscriptions.remove(sid);
                }
            }
            Some(count) if ours && self.reaches_counts => {
                while self.sent < count {
                    self.request().await;
                }
                self.subscriptions.remove(sid);
            }
            Some(_) => {}
            None => drop(self.subscriptions.remove(sid)),
        }
    }

    /// Asks the handler, if it is subscribed.
    async fn request(&mut self) {
        let subscribed = self.subscriptions.iter().find(|(_, subject)| *subject == SUBJECT);
        if let Some((sid, _)) = subscribed {
            self.sent += 1;
            let message = format!("MSG {SUBJECT} {sid} _INBOX.answer 0\r\n\r\n");
            self.write(&message).await;
        }
    }
}

/// An idle stop has two round trips, one behind the end of the subscriptions and one behind the last answers,
/// and no wait of its own between them.
#[tokio::test]
async fn an_idle_stop_has_two_round_trips() {
    let mut script = Script::start(OverLong::EndsAtOnce, false).await;
    let running = script.service().await;
    script.forget();
    soon(running.stop()).await;
    // The first message to itself is the probe, which is sent along with the second and not waited for.
    assert_eq!(script.rest().await, [Said::End(Some(u64::MAX)), Said::Echo, Said::Echo, Said::Echo]);
}

#[tokio::test]
async fn where_the_server_does_not_end_at_once_messages_are_counted_and_none_is_lost() {
    let mut script = Script::start(OverLong::IsACount, true).await;
    let running = script.service().await;
    script.forget();
    for _ in 0..3 {
        script.requests.send(()).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(script.next().await, Said::Answer);
    }
    soon(running.stop()).await;
    let said = script.rest().await;
    let ends: Vec<_> = said.iter().filter(|said| matches!(said, Said::End(_))).collect();
    let [Said::End(Some(count))] = ends.as_slice() else { panic!("one count, and nothing else: {said:?}") };
    assert!(*count > 3, "the count lies ahead of what has come");
    let answers = said.iter().filter(|said| **said == Said::Answer).count() as u64;
    assert_eq!(answers, count - 3, "what the server sent after it had read the count is answered");
}

#[tokio::test]
async fn a_count_that_is_not_reached_is_given_up_for_a_drain() {
    let mut script = Script::start(OverLong::IsACount, false).await;
    let running = script.service().await;
    script.forget();
    soon(running.stop()).await;
    let said = script.rest().await;
    let ends: Vec<_> = said.iter().filter(|said| matches!(said, Said::End(_))).collect();
    assert_eq!(ends, [&Said::End(Some(2)), &Said::End(None)]);
}

//! A consumer that delivers the changes of a bucket.
//!
//! The `watch` of async-nats publishes an empty message to any subject that a flow control request names. It does so
//! with the permissions of this process, for a request of any sender. This consumer has no flow control, and replies
//! to nothing.

use std::error::Error;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use nats_rpc::KvHandles;
use serde::Deserialize;

/// Interval of the heartbeats of an idle consumer.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Silence after which a consumer is replaced.
const SILENCE: Duration = Duration::from_secs(15);
/// Lifetime of a consumer without a listener.
const INACTIVE: Duration = Duration::from_secs(30);

type BoxError = Box<dyn Error + Send + Sync>;

/// A push consumer of one bucket.
pub(super) struct Consumer {
    messages: Subscriber,
    name: String,
    stream: String,
    /// `$KV.<bucket>.`
    subjects: String,
    /// The number of the last delivery.
    delivered: u64,
}

/// One delivered record.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) key: String,
    /// `None` if the key is gone.
    pub(super) value: Option<Bytes>,
    pub(super) revision: u64,
    /// The number of pending records.
    pub(super) pending: u64,
}

#[derive(Deserialize)]
struct Created {
    error: Option<async_nats::jetstream::Error>,
}

impl Consumer {
    /// Creates a consumer that delivers everything from `revision` on.
    pub(super) async fn open(handles: &KvHandles, revision: u64) -> Result<Self, BoxError> {
        let bucket = handles.store.name.as_str();
        let (stream, subjects) = (format!("KV_{bucket}"), format!("$KV.{bucket}."));
        let nats = handles.jetstream.client();
        let inbox = nats.new_inbox();
        let messages = nats.subscribe(inbox.clone()).await?;
        // The name cannot be guessed, so no other user can delete the consumer or redirect it.
        let name = nuid::next().to_string();
        let nanos = |duration: Duration| duration.as_nanos() as u64;
        let config = serde_json::json!({
            "name": name, "deliver_subject": inbox, "filter_subject": format!("{subjects}>"),
            "deliver_policy": "by_start_sequence", "opt_start_seq": revision.max(1),
            "ack_policy": "none", "max_deliver": 1, "mem_storage": true, "num_replicas": 1,
            "idle_heartbeat": nanos(HEARTBEAT), "inactive_threshold": nanos(INACTIVE),
        });
        let create = format!("CONSUMER.CREATE.{stream}.{name}.{subjects}>");
        let wanted = serde_json::json!({ "stream_name": stream, "config": config });
        let created: Created = handles.jetstream.request(create, &wanted).await?;
        match created.error {
            Some(error) => Err(error.into()),
            None => Ok(Self { messages, name, stream, subjects, delivered: 0 }),
        }
    }

    /// Returns the next record.
    ///
    /// # Errors
    /// If a record was missed, or the consumer has ended or is silent.
    pub(super) async fn next(&mut self) -> Result<Delivery, BoxError> {
        loop {
            let message = tokio::time::timeout(SILENCE, self.messages.next()).await;
            let message = message.map_err(|_| "its consumer is silent")?.ok_or("the connection has ended")?;
            match message.status.map(|status| status.as_u16()) {
                None => {}
                Some(100) => {
                    let header = |name: &str| message.headers.as_ref()?.get(name)?.as_str().parse().ok();
                    if header("Nats-Last-Consumer").is_some_and(|last: u64| last > self.delivered) {
                        return Err("a delivery was lost".into());
                    }
                    continue;
                }
                Some(status) => return Err(format!("its consumer has ended: status {status}").into()),
            }
            // A message with another reply subject is not from this consumer.
            let Some(place) = message.reply.as_deref().and_then(|reply| place(reply, &self.stream, &self.name)) else {
                continue;
            };
            let Some(key) = message.subject.strip_prefix(&*self.subjects) else { continue };
            if place.delivered != self.delivered + 1 {
                return Err("a delivery was lost".into());
            }
            self.delivered = place.delivered;
            let value = (!is_marker(&message)).then(|| message.payload.clone());
            return Ok(Delivery { key: key.to_owned(), value, revision: place.revision, pending: place.pending });
        }
    }

    /// Deletes the consumer before it is replaced; if that fails, it expires.
    pub(super) async fn close(self, handles: &KvHandles) {
        let delete = format!("CONSUMER.DELETE.{}.{}", self.stream, self.name);
        if let Err(error) = handles.jetstream.request::<_, _, serde_json::Value>(delete, &()).await {
            tracing::debug!(%error, "a consumer was not deleted");
        }
    }
}

fn is_marker(message: &Message) -> bool {
    let has = |name: &str| message.headers.as_ref().is_some_and(|headers| headers.get(name).is_some());
    has("KV-Operation") || has("Nats-Marker-Reason")
}

/// The fields of a delivery's reply subject.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    revision: u64,
    delivered: u64,
    pending: u64,
}

/// Parses `$JS.ACK.<stream>.<consumer>.<times>.<revision>.<delivered>.<time>.<pending>`, with a domain and an account
/// before the stream from nats-server 2.16 on.
fn place(reply: &str, stream: &str, consumer: &str) -> Option<Place> {
    let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let tokens = if tokens.len() < 9 { &tokens[..] } else { &tokens[2..] };
    let [of_stream, of_consumer, _, revision, delivered, _, pending, ..] = tokens else { return None };
    if (*of_stream, *of_consumer) != (stream, consumer) {
        return None;
    }
    Some(Place { revision: revision.parse().ok()?, delivered: delivered.parse().ok()?, pending: pending.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivery_says_its_place_in_both_forms() {
        let expected = Some(Place { revision: 6, delivered: 4, pending: 2 });
        for reply in ["$JS.ACK.KV_r.c.1.6.4.1795981163.2", "$JS.ACK._.hash.KV_r.c.1.6.4.1795981163.2.x"] {
            assert_eq!(place(reply, "KV_r", "c"), expected, "{reply}");
        }
        for other in ["$JS.ACK.KV_r.d.1.6.4.1.2", "$JS.ACK.KV_x.c.1.6.4.1.2", "$JS.ACK.KV_r.c", "$JS.API.x", ""] {
            assert_eq!(place(other, "KV_r", "c"), None, "{other}");
        }
    }
}

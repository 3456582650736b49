//! A KV bucket that no attack may change.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use super::observer::Observer;
use super::wire::Message;

const LIMIT: Duration = Duration::from_secs(5);
/// The name differs from every bucket of a system that the suite runs on.
const NAME: &str = "nats_rpc_attacks";
const KEY: &str = "canary";

pub(super) struct Bucket {
    /// Its state before any attack; `None` if JetStream is off.
    before: Option<Value>,
}

impl Bucket {
    /// Creates the bucket and stores one value.
    pub(super) async fn create(observer: &mut Observer) -> io::Result<Self> {
        let config = json!({
            "name": format!("KV_{NAME}"), "subjects": [format!("$KV.{NAME}.>")], "storage": "memory",
            "max_msgs_per_subject": 1, "discard": "new", "allow_rollup_hdrs": true, "allow_direct": true,
        });
        api(observer, "CREATE", &config).await?;
        let put = Message {
            subject: format!("$KV.{NAME}.{KEY}").into_bytes(),
            payload: b"unchanged".to_vec(),
            ..Message::default()
        };
        observer.request(&put, LIMIT, |_| true).await?;
        Ok(Self { before: state(observer).await? })
    }

    /// Removes the bucket; returns the change, if there was one.
    pub(super) async fn remove(self, observer: &mut Observer) -> io::Result<Option<String>> {
        let after = state(observer).await?;
        if self.before.is_some() {
            api(observer, "DELETE", &Value::Null).await?;
        }
        let changed = after != self.before;
        Ok(changed.then(|| "a key of the bucket was written, or the bucket was purged or deleted".to_owned()))
    }

    /// Returns `true` if there is a bucket, which needs JetStream.
    pub(super) fn exists(&self) -> bool {
        self.before.is_some()
    }

    /// Subjects at which a reply would destroy or change the bucket.
    pub(super) fn hostile_replies() -> [String; 4] {
        [
            format!("$JS.API.STREAM.PURGE.KV_{NAME}"),
            format!("$JS.API.STREAM.DELETE.KV_{NAME}"),
            format!("$JS.API.STREAM.MSG.DELETE.KV_{NAME}"),
            format!("$KV.{NAME}.{KEY}"),
        ]
    }
}

/// Returns the messages and sequence numbers of the bucket's stream.
async fn state(observer: &mut Observer) -> io::Result<Option<Value>> {
    let info = api(observer, "INFO", &Value::Null).await?;
    let mut state = info.get("state").cloned();
    if let Some(Value::Object(state)) = &mut state {
        // A reader does not change the content.
        state.remove("consumer_count");
    }
    Ok(state)
}

async fn api(observer: &mut Observer, verb: &str, body: &Value) -> io::Result<Value> {
    let request = Message {
        subject: format!("$JS.API.STREAM.{verb}.KV_{NAME}").into_bytes(),
        payload: if body.is_null() { Vec::new() } else { body.to_string().into_bytes() },
        ..Message::default()
    };
    let reply = observer.request(&request, LIMIT, |_| true).await?;
    // Without JetStream the reply is the status "no responders", which has no body.
    Ok(reply.and_then(|reply| serde_json::from_slice(&reply.payload).ok()).unwrap_or_default())
}

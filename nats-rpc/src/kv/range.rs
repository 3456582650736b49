//! Reading a bucket from a given revision.

use std::error::Error;
use std::time::Duration;

use async_nats::StatusCode;
use futures::StreamExt;

use crate::connection::{KvHandles, KvRecord};

/// Number of records per request.
const BATCH: u32 = 500;
/// Longest pause within a batch.
const SILENCE_LIMIT: Duration = Duration::from_secs(3);
/// The pause before another request to a copy that is behind the leader.
const BEHIND_PAUSE: Duration = Duration::from_millis(100);
/// Number of failed batches after which records are read one by one from the leader.
const BEHIND_TRIES: usize = 20;

type BoxError = Box<dyn Error + Send + Sync>;

/// The method of reading a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By direct gets of many records, from any copy.
    Batches,
    /// Record by record from the leader, in a form in which a poisoned message does no harm.
    Records,
}

/// Reads all records from `from`, at least up to the leader's last one at the time of the request. Returns the
/// revision of that record.
///
/// # Errors
/// If the bucket is empty, or its stream does not reply.
pub async fn read(
    handles: &KvHandles,
    from: u64,
    by: By,
    mut see: impl FnMut(KvRecord) + Send,
) -> Result<u64, BoxError> {
    // The bucket contains at least one permanent key. An empty reply means that the bucket was not provisioned.
    let newest = handles.newest().await?.ok_or("it is empty: run `auth provision`")?.revision;
    let mut next = from;
    if by == By::Batches {
        let mut in_vain = 0;
        while next <= newest && in_vain < BEHIND_TRIES {
            let before = next;
            let pending = batch(handles, &mut next, &mut see).await?;
            if pending == 0 && next <= newest {
                // The copy that replied is behind the leader.
                tokio::time::sleep(BEHIND_PAUSE).await;
            }
            in_vain = if next == before { in_vain + 1 } else { 0 };
        }
    }
    while next <= newest {
        let Some(record) = handles.next(next).await? else { break };
        next = record.revision + 1;
        see(record);
    }
    Ok(newest)
}

/// Reads one batch from `next`, and moves `next` past its end. Returns the number of remaining records.
async fn batch(handles: &KvHandles, next: &mut u64, see: &mut impl FnMut(KvRecord)) -> Result<u64, BoxError> {
    let bucket = handles.store.name.as_str();
    let nats = handles.jetstream.client();
    let inbox = nats.new_inbox();
    let mut replies = nats.subscribe(inbox.clone()).await?;
    let wanted = serde_json::json!({ "seq": *next, "next_by_subj": format!("$KV.{bucket}.>"), "batch": BATCH });
    let subject = format!("{}.DIRECT.GET.KV_{bucket}", handles.api);
    nats.publish_with_reply(subject, inbox, serde_json::to_vec(&wanted)?.into()).await?;
    loop {
        let reply = tokio::time::timeout(SILENCE_LIMIT, replies.next()).await?.ok_or("the connection has ended")?;
        let header = |name: &str| reply.headers.as_ref()?.get(name).map(|value| value.as_str());
        let number = |name: &str| header(name).and_then(|text| text.parse::<u64>().ok());
        match reply.status {
            None => {}
            Some(status) if status.as_u16() == 204 => return Ok(number("Nats-Num-Pending").unwrap_or(0)),
            Some(StatusCode::NOT_FOUND) => return Ok(0),
            Some(status) => return Err(format!("its stream refuses a batch: status {status}").into()),
        }
        let key =
            header("Nats-Subject").and_then(|it| it.strip_prefix("$KV.")?.strip_prefix(bucket)?.strip_prefix('.'));
        let (Some(key), Some(revision)) = (key, number("Nats-Sequence")) else {
            return Err("a record of a batch does not say what it is".into());
        };
        let is_marker = ["KV-Operation", "Nats-Marker-Reason"].iter().any(|name| header(name).is_some());
        let (key, value) = (key.to_owned(), (!is_marker).then(|| reply.payload.clone()));
        *next = (*next).max(revision + 1);
        see(KvRecord { key, value, revision, has_bad_headers: false });
    }
}

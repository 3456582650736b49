//! Flow control of streams: the credit that callers grant, and whether the callers still exist.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use async_nats::{HeaderValue, Message, StatusCode};
use futures::StreamExt;
use tokio::task::AbortHandle;

use crate::connection::Connection;
use crate::inbox_token::{InboxToken, InboxTokens};
use crate::wire::stream::{Frame, MAX_WINDOW};

/// The inbox for the callers of all streams of one connection: one subscription, created for the first stream.
///
/// Each message of a stream has a subject of this inbox as its reply subject. The caller grants credit there, and
/// nats-server sends its no-responders status there when the caller is gone.
pub(super) struct Credits {
    connection: Connection,
    /// The id of the service instance, which is part of its frames.
    instance: HeaderValue,
    inbox: Arc<Inbox>,
    reader: OnceLock<AbortHandle>,
}

struct Inbox {
    prefix: String,
    tokens: InboxTokens,
    listening: AtomicBool,
    open: Mutex<HashMap<InboxToken, Arc<Credit>>>,
}

/// The state of one stream's caller.
pub(super) struct Credit {
    granted: AtomicU64,
    sent: AtomicU64,
    gone: AtomicBool,
    /// Is `true` if the caller has sent anything since the last check.
    heard: AtomicBool,
    waker: Waker,
}

/// The entry of one stream in the inbox; dropping it removes the entry.
pub(super) struct Lease {
    inbox: Arc<Inbox>,
    token: InboxToken,
    credit: Arc<Credit>,
}

impl Credits {
    pub(super) fn new(connection: &Connection, instance: &str) -> Self {
        let inbox = Arc::new(Inbox::new(connection.new_inbox()));
        Self { connection: connection.clone(), instance: instance.into(), inbox, reader: OnceLock::new() }
    }

    pub(super) fn instance(&self) -> &HeaderValue {
        &self.instance
    }

    /// Creates an entry for a stream that may send `granted` items at first; `waker` wakes the stream.
    pub(super) fn lease(&self, granted: u64, waker: Waker) -> Lease {
        let lease = self.inbox.lease(granted, waker);
        self.reader.get_or_init(|| self.connection.spawn(listen(self.inbox.clone(), self.connection.clone())));
        lease
    }
}

impl Drop for Credits {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.get() {
            reader.abort();
        }
    }
}

impl Lease {
    /// Returns the subject for messages from the caller.
    pub(super) fn address(&self) -> String {
        format!("{}.{}", self.inbox.prefix, self.inbox.tokens.text(self.token))
    }

    /// Returns `true` if the inbox has subscribed; the waker is woken once it has.
    pub(super) fn is_heard(&self) -> bool {
        self.inbox.listening.load(Ordering::Acquire)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.credit.gone.load(Ordering::Acquire)
    }

    /// Returns `true` if the credit covers item number `count`.
    pub(super) fn covers(&self, count: u64) -> bool {
        count <= self.credit.granted.load(Ordering::Acquire)
    }

    pub(super) fn sent(&self, count: u64) {
        self.credit.sent.store(count, Ordering::Release);
    }

    /// Returns `true` if the caller has sent anything since the last call of this function.
    pub(super) fn take_heard(&self) -> bool {
        self.credit.heard.swap(false, Ordering::AcqRel)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.inbox.lock().remove(&self.token);
    }
}

impl Inbox {
    fn new(prefix: String) -> Self {
        Self { prefix, tokens: InboxTokens::default(), listening: AtomicBool::new(false), open: Mutex::default() }
    }

    fn lease(self: &Arc<Self>, granted: u64, waker: Waker) -> Lease {
        let token = self.tokens.issue();
        let credit = Arc::new(Credit {
            granted: AtomicU64::new(granted),
            sent: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            heard: AtomicBool::new(true),
            waker,
        });
        self.lock().insert(token, credit.clone());
        Lease { inbox: self.clone(), token, credit }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InboxToken, Arc<Credit>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        self.listening.store(true, Ordering::Release);
        for credit in self.lock().values() {
            credit.waker.wake_by_ref();
        }
    }

    fn hear(&self, message: &Message) {
        let token = self.tokens.recognize(&message.subject);
        let credit = token.and_then(|token| self.lock().get(&token).cloned());
        // The token was guessed, or the stream has ended in the meantime.
        let Some(credit) = credit else { return };
        let nobody = message.status == Some(StatusCode::NO_RESPONDERS) && message.payload.is_empty();
        match Frame::of(message.headers.as_ref()) {
            _ if nobody => credit.leave(),
            Some(Frame::Cancel) => credit.leave(),
            Some(Frame::Credit(total)) => credit.grant(total),
            // A caller never sends these frames.
            _ => {}
        }
    }
}

impl Credit {
    fn grant(&self, total: u64) {
        self.heard.store(true, Ordering::Release);
        // This bound prevents a caller from granting unlimited credit.
        let most = self.sent.load(Ordering::Acquire).saturating_add(MAX_WINDOW);
        let total = total.min(most);
        if self.granted.fetch_max(total, Ordering::AcqRel) < total {
            self.waker.wake_by_ref();
        }
    }

    fn leave(&self) {
        self.gone.store(true, Ordering::Release);
        self.waker.wake_by_ref();
    }
}

async fn listen(inbox: Arc<Inbox>, connection: Connection) {
    let mut live = connection.live();
    loop {
        if let Ok(mut callers) = live.nats.subscribe(format!("{}.*", inbox.prefix)).await {
            inbox.begin();
            while let Some(message) = callers.next().await {
                inbox.hear(&message);
            }
        }
        // The async-nats client has ended.
        live = connection.renewed(live.generation).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lease: &Lease, frame: Option<Frame>, status: Option<StatusCode>) -> Message {
        Message {
            subject: lease.address().into(),
            reply: None,
            payload: bytes::Bytes::new(),
            headers: frame.map(Frame::headers),
            status,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn each_stream_hears_its_own_caller_and_leaves_no_place_behind() {
        let inbox = Arc::new(Inbox::new("_INBOX_s.x".to_owned()));
        let [paid, cancelled, deserted] = [1, 1, 1].map(|granted| inbox.lease(granted, Waker::noop().clone()));
        inbox.hear(&said(&paid, Some(Frame::Credit(3)), None));
        inbox.hear(&said(&cancelled, Some(Frame::Cancel), None));
        inbox.hear(&said(&deserted, None, Some(StatusCode::NO_RESPONDERS)));
        let state = |lease: &Lease| (lease.covers(2), lease.is_gone());
        assert_eq!([&paid, &cancelled, &deserted].map(state), [(true, false), (false, true), (false, true)]);
        assert!(paid.covers(3) && !paid.covers(4));

        let late = said(&paid, Some(Frame::Cancel), None);
        drop((paid, cancelled, deserted));
        assert!(inbox.lock().is_empty(), "a service would remember every stream that it ever had");
        inbox.hear(&late);
    }

    #[test]
    fn guessed_tokens_cancel_no_stream() {
        let inbox = Arc::new(Inbox::new("_INBOX_s.x".to_owned()));
        let [one, other] = [1, 1].map(|granted| inbox.lease(granted, Waker::noop().clone()));
        let real = one.address();
        let tag = real.rsplit_once('-').map(|(_, tag)| tag).unwrap();
        for guess in ["0", "1", "0-0", "1-0", &format!("1-{tag}"), &format!("2-{tag}"), tag, ""] {
            let subject = format!("_INBOX_s.x.{guess}").into();
            inbox.hear(&Message { subject, ..said(&one, Some(Frame::Cancel), None) });
        }
        assert!(!one.is_gone() && !other.is_gone());
        inbox.hear(&said(&one, Some(Frame::Cancel), None));
        assert!(one.is_gone() && !other.is_gone(), "the control: the token that was issued");
    }

    #[test]
    fn credit_never_falls_and_never_runs_further_ahead_than_the_widest_window() {
        let inbox = Arc::new(Inbox::new("_INBOX_s.x".to_owned()));
        let lease = inbox.lease(5, Waker::noop().clone());
        inbox.hear(&said(&lease, Some(Frame::Credit(2)), None));
        assert!(lease.covers(5) && !lease.covers(6));
        lease.sent(5);
        inbox.hear(&said(&lease, Some(Frame::Credit(u64::MAX)), None));
        assert!(lease.covers(5 + MAX_WINDOW) && !lease.covers(6 + MAX_WINDOW));
    }
}

//! What the callers of streams grant, and whether they are still there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use async_nats::{Message, StatusCode};
use futures::StreamExt;
use tokio::task::AbortHandle;

use crate::connection::Connection;
use crate::wire::stream::{Frame, MAX_WINDOW};

/// Where the callers of all streams of one connection are heard: one subscription, made for the first stream.
///
/// Whatever a stream sends has a subject of this inbox as its reply subject. The caller grants credit there,
/// and nats-server says there that nobody listens any more.
pub(super) struct Credits {
    connection: Connection,
    inbox: Arc<Inbox>,
    reader: OnceLock<AbortHandle>,
}

struct Inbox {
    prefix: String,
    next: AtomicU64,
    listening: AtomicBool,
    open: Mutex<HashMap<u64, Arc<Credit>>>,
}

/// What the caller of one stream has said so far.
pub(super) struct Credit {
    granted: AtomicU64,
    sent: AtomicU64,
    gone: AtomicBool,
    /// Whether the caller was heard since it was asked.
    heard: AtomicBool,
    waker: Waker,
}

/// The place of one stream in the inbox; dropping it gives the place back.
pub(super) struct Lease {
    inbox: Arc<Inbox>,
    token: u64,
    credit: Arc<Credit>,
}

impl Credits {
    pub(super) fn new(connection: &Connection) -> Self {
        let inbox = Inbox {
            prefix: connection.nats().new_inbox(),
            next: AtomicU64::new(0),
            listening: AtomicBool::new(false),
            open: Mutex::default(),
        };
        Self { connection: connection.clone(), inbox: Arc::new(inbox), reader: OnceLock::new() }
    }

    /// Makes a place for a stream that may send `granted` items to begin with, and is woken by `waker`.
    pub(super) fn lease(&self, granted: u64, waker: Waker) -> Lease {
        let token = self.inbox.next.fetch_add(1, Ordering::Relaxed);
        let credit = Arc::new(Credit {
            granted: AtomicU64::new(granted),
            sent: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            heard: AtomicBool::new(true),
            waker,
        });
        self.inbox.lock().insert(token, credit.clone());
        self.reader.get_or_init(|| tokio::spawn(listen(self.inbox.clone(), self.connection.clone())).abort_handle());
        Lease { inbox: self.inbox.clone(), token, credit }
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
    /// Where the caller is heard.
    pub(super) fn address(&self) -> String {
        format!("{}.{}", self.inbox.prefix, self.token)
    }

    /// Whether the inbox is subscribed to; the waker is woken once it is.
    pub(super) fn is_heard(&self) -> bool {
        self.inbox.listening.load(Ordering::Acquire)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.credit.gone.load(Ordering::Acquire)
    }

    /// Whether item number `count` may be sent.
    pub(super) fn covers(&self, count: u64) -> bool {
        count <= self.credit.granted.load(Ordering::Acquire)
    }

    pub(super) fn sent(&self, count: u64) {
        self.credit.sent.store(count, Ordering::Release);
    }

    /// Whether the caller was heard since the last time that this was asked.
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
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Credit>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        self.listening.store(true, Ordering::Release);
        for credit in self.lock().values() {
            credit.waker.wake_by_ref();
        }
    }

    fn hear(&self, message: &Message) {
        let token = message.subject.as_str().rsplit('.').next().and_then(|token| token.parse().ok());
        let credit = token.and_then(|token: u64| self.lock().get(&token).cloned());
        // A stream that has ended in the meantime.
        let Some(credit) = credit else { return };
        let nobody = message.status == Some(StatusCode::NO_RESPONDERS) && message.payload.is_empty();
        match Frame::of(message.headers.as_ref()) {
            _ if nobody => credit.leave(),
            Some(Frame::Cancel) => credit.leave(),
            Some(Frame::Credit(total)) => credit.grant(total),
            // Nothing that a caller says.
            _ => {}
        }
    }
}

impl Credit {
    fn grant(&self, total: u64) {
        self.heard.store(true, Ordering::Release);
        // No caller makes a service run ahead of it without end.
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
        // The client of async-nats has died.
        live = connection.renewed(live.generation).await;
    }
}

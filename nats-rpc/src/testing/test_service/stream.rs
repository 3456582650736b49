use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Sleep};

use super::{Call, MAX_PAYLOAD, TestService, late};
use crate::client::{CallError, decode};
use crate::decode::from_json;
use crate::error::RpcError;
use crate::message::Headers;
use crate::reply::{BoxReplyStream, ReplyKind};
use crate::service::stream::{VALIDITY_EVERY, too_large};
use crate::wire::stream::{Frame, MAX_WINDOW};

impl TestService {
    /// Calls the handler of `subject` and returns its items, as [`Client::stream`](crate::Client::stream) does.
    ///
    /// A handler without a stream gives a single item. The deadlines are those of a real service. There is no window,
    /// because nothing is sent ahead: the handler's stream is polled when the caller polls for the next item.
    ///
    /// ```
    /// use futures::{Stream, stream};
    /// use nats_rpc::prelude::*;
    /// use nats_rpc::testing::TestService;
    ///
    /// #[message_pattern("count.to")]
    /// async fn count(Payload(last): Payload<u32>) -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    ///     let end = Err(RpcError::not_found("no more numbers"));
    ///     Streaming::new(stream::iter((1..=last).map(Ok).chain([end])))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let service = TestService::new(Service::new("numbers", "1.0.0").handlers(handlers![count]))?;
    /// let mut numbers = service.stream::<u32>("count.to", &2).await?;
    /// assert_eq!(numbers.next().await.transpose()?, Some(1));
    /// assert_eq!(numbers.next().await.transpose()?, Some(2));
    ///
    /// let error = numbers.next().await.unwrap().unwrap_err();
    /// assert_eq!(error.code(), Some(Code::NotFound));
    /// assert!(numbers.next().await.is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CallError::Remote`] if the request is rejected or the handler fails before its stream begins,
    /// [`CallError::NoResponders`] and [`CallError::Invalid`]. After its items, the stream ends with
    /// [`CallError::Remote`] or [`CallError::Decode`], like a real one.
    pub async fn stream<T: DeserializeOwned>(
        &self,
        subject: impl AsRef<str>,
        data: &(impl Serialize + ?Sized),
    ) -> Result<TestStream<T>, CallError> {
        let subject = subject.as_ref();
        let data: Bytes = serde_json::to_vec(data).map_err(|error| CallError::Invalid(error.to_string()))?.into();
        let mut message = self.message(subject, data, true)?;
        Frame::Open(MAX_WINDOW).write(message.headers.get_or_insert_default());
        let (mut call, result) = self.begin(self.responder(subject)?, message).await;
        let result = result.and_then(|written| match &written {
            ReplyKind::Stream(items) => call.exchange.check_validity(items).map(|()| written),
            _ => Ok(written),
        });
        let rest = match result {
            Ok(ReplyKind::Stream(items)) => Rest::Items(items),
            result => match call.conclude(result).map(read::<Box<serde_json::value::RawValue>>) {
                Some(Ok(item)) => Rest::One(item.get().to_owned().into()),
                Some(Err(error)) => return Err(error),
                None => Rest::Ended,
            },
        };
        let idle = self.limits.stream_idle_timeout;
        let timer = Box::pin(tokio::time::sleep_until(call.exchange.deadline.into()));
        let now = Instant::now();
        Ok(TestStream { call, rest, idle, last_item: now, checked: now, timer, item: PhantomData })
    }
}

/// The items of a call to a [`TestService`], as a [`Stream`]; see [`TestService::stream`].
///
/// It ends after its first error. Dropping it drops the handler's stream.
#[must_use = "a stream that is dropped is cancelled"]
pub struct TestStream<T> {
    call: Call,
    rest: Rest,
    /// The maximum time without an item.
    idle: Duration,
    last_item: Instant,
    /// The instant of the last check of the proof about the caller.
    checked: Instant,
    timer: Pin<Box<Sleep>>,
    item: PhantomData<fn() -> T>,
}

/// The remaining part of the reply.
enum Rest {
    Items(BoxReplyStream),
    /// The reply of a handler without a stream.
    One(Bytes),
    Ended,
}

impl<T: DeserializeOwned> TestStream<T> {
    /// Returns the next item; `None` once the stream is complete, or has ended with an error before.
    pub async fn next(&mut self) -> Option<Result<T, CallError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Returns an item from the buffer, or the end of the stream.
    fn poll_items(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Result<ReplyKind, RpcError>>> {
        let Rest::Items(items) = &mut self.rest else { return Poll::Ready(Err(Ok(ReplyKind::Nothing))) };
        let Call { exchange, out, .. } = &mut self.call;
        if self.checked.elapsed() >= VALIDITY_EVERY {
            self.checked = Instant::now();
            if let Err(error) = exchange.check_validity(items) {
                return Poll::Ready(Err(Err(error)));
            }
        }
        out.clear();
        let polled = exchange.contained(|| items.poll_next(cx, out));
        match polled.unwrap_or_else(|| Poll::Ready(Some(Err(RpcError::internal("the handler's stream panicked"))))) {
            Poll::Ready(Some(Ok(()))) => {
                let refused = too_large(out.len(), MAX_PAYLOAD);
                return Poll::Ready(refused.map_or(Ok(()), |error| Err(Err(error))));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Err(error))),
            Poll::Ready(None) => return Poll::Ready(Err(Ok(ReplyKind::Nothing))),
            Poll::Pending => {}
        }
        let (idle_end, deadline) = (self.last_item + self.idle, Instant::from(exchange.deadline));
        self.timer.as_mut().reset(idle_end.min(deadline).min(self.checked + VALIDITY_EVERY));
        ready!(self.timer.as_mut().poll(cx));
        if Instant::now() < idle_end.min(deadline) {
            // The next check is due.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let idle = || RpcError::deadline_exceeded("the handler's stream has had no item for too long");
        Poll::Ready(Err(Err(if idle_end < deadline { idle() } else { late() })))
    }

    /// Drops the handler's stream, and returns the error that the caller receives.
    fn end(&mut self, result: Result<ReplyKind, RpcError>) -> Option<CallError> {
        let rest = std::mem::replace(&mut self.rest, Rest::Ended);
        let dropped = self.call.exchange.contained(|| drop(rest));
        let dropped = dropped.ok_or_else(|| RpcError::internal("the handler's stream panicked while it was dropped"));
        let result = dropped.and(result);
        let failed = result.is_err();
        let answer = self.call.conclude(result).filter(|_| failed)?;
        read::<()>(answer).err()
    }
}

impl<T: DeserializeOwned> Stream for TestStream<T> {
    type Item = Result<T, CallError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let item = match &this.rest {
            Rest::Ended => return Poll::Ready(None),
            Rest::One(item) => {
                let item = from_json(item);
                this.rest = Rest::Ended;
                item
            }
            Rest::Items(_) => match ready!(this.poll_items(cx)) {
                Ok(()) => {
                    this.last_item = Instant::now();
                    from_json(&this.call.out)
                }
                Err(end) => return Poll::Ready(this.end(end).map(Err)),
            },
        };
        Poll::Ready(Some(item.map_err(|error| {
            this.rest = Rest::Ended;
            CallError::Decode(error)
        })))
    }
}

impl<T> fmt::Debug for TestStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestStream").finish_non_exhaustive()
    }
}

fn read<R: DeserializeOwned>((headers, body): (Headers, Bytes)) -> Result<R, CallError> {
    decode(Some(&headers.into_nats()), &body)
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};

    use super::*;
    use crate::{Limits, Service};

    mod handlers {
        use super::*;
        use crate::prelude::*;

        #[message_pattern("drop", crate = "crate")]
        pub(super) async fn endless(
            State(held): State<std::sync::Arc<()>>,
        ) -> Streaming<impl Stream<Item = Result<usize, RpcError>>> {
            Streaming::new(stream::repeat(()).map(move |()| Ok(std::sync::Arc::strong_count(&held))))
        }

        #[message_pattern("pending", crate = "crate")]
        pub(super) async fn pending() -> Streaming<impl Stream<Item = Result<u8, RpcError>>> {
            Streaming::new(stream::iter([Ok(1)]).chain(stream::pending()))
        }

        #[message_pattern("panics", crate = "crate")]
        pub(super) async fn panics() -> Streaming<impl Stream<Item = Result<u8, RpcError>>> {
            Streaming::new(stream::iter(1..).map(|n| if n < 2 { Ok(n) } else { panic!("of the stream") }))
        }

        #[message_pattern("sizes", crate = "crate")]
        pub(super) async fn sizes() -> Streaming<impl Stream<Item = Result<String, RpcError>>> {
            // Quotes need two bytes, and a frame's headers 96.
            let fits = MAX_PAYLOAD - 98;
            Streaming::new(stream::iter([1, fits, fits + 1]).map(|size| Ok("x".repeat(size))))
        }

        #[message_pattern("refused", crate = "crate")]
        pub(super) async fn refused() -> Result<u8, RpcError> {
            Err(RpcError::forbidden("no"))
        }

        #[message_pattern("one", crate = "crate")]
        pub(super) async fn one() -> u8 {
            7
        }
    }

    fn service(limits: Limits) -> (TestService, std::sync::Arc<()>) {
        use handlers::{endless, one, panics, pending, refused, sizes};
        let held = std::sync::Arc::new(());
        let routes = crate::handlers![endless, one, panics, pending, refused, sizes];
        let service = Service::new("streams", "1.0.0").handlers(routes).provide(held.clone()).limits(limits);
        (TestService::new(service).unwrap(), held)
    }

    async fn all<T: DeserializeOwned>(mut items: TestStream<T>) -> (Vec<T>, Option<CallError>) {
        let mut taken = Vec::new();
        while let Some(item) = items.next().await {
            match item {
                Ok(item) => taken.push(item),
                Err(error) => {
                    assert!(items.next().await.is_none(), "an error is the last item");
                    return (taken, Some(error));
                }
            }
        }
        (taken, None)
    }

    fn code(error: Option<CallError>) -> Option<crate::Code> {
        error.expect("it does not end with an error").code()
    }

    #[tokio::test]
    async fn a_stream_ends_as_a_real_one_does() {
        let (service, _) = service(Limits::default());
        let (items, error) = all(service.stream::<u8>("panics", &()).await.unwrap()).await;
        assert_eq!((items, code(error)), (vec![1], Some(crate::Code::Internal)));
        let (items, error) = all(service.stream::<String>("sizes", &()).await.unwrap()).await;
        assert_eq!((items.len(), code(error)), (2, Some(crate::Code::PayloadTooLarge)));
        let (items, error) = all(service.stream::<String>("panics", &()).await.unwrap()).await;
        assert!(items.is_empty() && matches!(error, Some(CallError::Decode(_))), "{error:?}");
        let (items, error) = all(service.stream::<u8>("one", &()).await.unwrap()).await;
        assert!(items == [7] && error.is_none(), "{error:?}");
        let refused = service.stream::<u8>("refused", &()).await.unwrap_err();
        assert_eq!(refused.code(), Some(crate::Code::PermissionDenied));
        let nobody = service.stream::<u8>("nobody", &()).await.unwrap_err();
        assert!(matches!(nobody, CallError::NoResponders { .. }), "{nobody}");
    }

    #[tokio::test]
    async fn a_stream_that_brings_nothing_ends_by_either_limit() {
        let ms = Duration::from_millis;
        for (timeout, stream_idle_timeout) in [(ms(50), ms(60_000)), (ms(60_000), ms(50))] {
            let (service, _) = service(Limits { timeout, stream_idle_timeout, ..Limits::default() });
            let ended = all(service.stream::<u8>("pending", &()).await.unwrap());
            let (items, error) = tokio::time::timeout(ms(10_000), ended).await.expect("the shorter one ends it");
            assert_eq!((items, code(error)), (vec![1], Some(crate::Code::DeadlineExceeded)));
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_dropped_is_dropped_at_the_handler() {
        let (service, held) = service(Limits::default());
        let before = std::sync::Arc::strong_count(&held);
        let mut items = service.stream::<usize>("drop", &()).await.unwrap();
        assert_eq!(items.next().await.unwrap().unwrap(), before + 1);
        drop(items);
        assert_eq!(std::sync::Arc::strong_count(&held), before);
    }

    /// A revocable proof; it counts its checks.
    struct Pass {
        holds: std::sync::atomic::AtomicBool,
        asked: std::sync::atomic::AtomicUsize,
    }

    impl crate::Validity for Pass {
        fn check(&self) -> Result<(), RpcError> {
            self.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            match self.holds.load(std::sync::atomic::Ordering::SeqCst) {
                true => Ok(()),
                false => Err(RpcError::unauthenticated("taken back")),
            }
        }
    }

    struct Passes(std::sync::Arc<Pass>);

    impl crate::Guard for Passes {
        async fn can_activate(&self, request: &mut crate::Request) -> Result<(), RpcError> {
            request.add_validity(self.0.clone());
            Ok(())
        }
    }

    /// Returns a service behind two such guards, of which one is revoked.
    fn passes() -> (TestService, std::sync::Arc<Pass>) {
        use handlers::{one, pending};
        let pass = std::sync::Arc::new(Pass { holds: true.into(), asked: 0.into() });
        let service = Service::new("streams", "1.0.0").handlers(crate::handlers![one, pending]);
        let other = std::sync::Arc::new(Pass { holds: true.into(), asked: 0.into() });
        let service = service.global_guard(Passes(pass.clone())).global_guard(Passes(other));
        (TestService::new(service).unwrap(), pass)
    }

    #[tokio::test]
    async fn a_stream_ends_once_its_callers_proof_does() {
        use std::sync::atomic::Ordering;
        let (service, pass) = passes();
        let mut items = service.stream::<u8>("pending", &()).await.unwrap();
        assert_eq!(items.next().await.unwrap().unwrap(), 1);
        pass.holds.store(false, Ordering::SeqCst);
        let ended = tokio::time::timeout(Duration::from_secs(10), items.next()).await.expect("it ends by itself");
        assert_eq!(ended.unwrap().unwrap_err().code(), Some(crate::Code::Unauthenticated));
        assert!(items.next().await.is_none());
        // A call after that fails at once. A reply that is not a stream is not checked.
        let refused = service.stream::<u8>("pending", &()).await.unwrap_err();
        assert_eq!(refused.code(), Some(crate::Code::Unauthenticated));
        let asked = pass.asked.load(Ordering::SeqCst);
        assert_eq!(service.send::<u8>("one", &()).await.unwrap(), 7);
        assert_eq!(pass.asked.load(Ordering::SeqCst), asked);
    }
}

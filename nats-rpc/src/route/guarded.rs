//! Guards that run before every handler of a service.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::slot::HandlerSlot;
use crate::error::RpcError;
use crate::guard::DynGuard;
use crate::message::Request;
use crate::reply::ReplyKind;

/// Creates a slot whose requests pass `guards`, in their order, before they reach `handler`.
///
/// It wraps the handler's own slot. So it is compiled once, and a service without such guards does not pay for it.
pub(super) fn guarded<'a>(
    guards: &'a [Arc<dyn DynGuard>],
    handler: Box<dyn HandlerSlot + 'a>,
) -> Box<dyn HandlerSlot + 'a> {
    let admit = move |mut request| async move {
        for guard in guards {
            guard.can_activate_dyn(&mut request).await?;
        }
        Ok(request)
    };
    Box::new(Guarded { admit, admission: Box::pin(None), handler })
}

/// At most one of `admission` and `handler` holds the request.
struct Guarded<'a, S, F> {
    admit: S,
    admission: Pin<Box<Option<F>>>,
    handler: Box<dyn HandlerSlot + 'a>,
}

impl<S, F> HandlerSlot for Guarded<'_, S, F>
where
    S: Fn(Request) -> F + Send,
    F: Future<Output = Result<Request, RpcError>> + Send,
{
    fn start(&mut self, request: Request) {
        self.admission.set(Some((self.admit)(request)));
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<ReplyKind, RpcError>> {
        if let Some(admission) = self.admission.as_mut().as_pin_mut() {
            let admitted = ready!(admission.poll(cx));
            self.admission.set(None);
            match admitted {
                Ok(request) => self.handler.start(request),
                Err(refused) => return Poll::Ready(Err(refused)),
            }
        }
        self.handler.poll(cx, out)
    }

    fn cancel(&mut self) {
        self.admission.set(None);
        self.handler.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::task::Waker;
    use std::time::Instant;

    use super::*;
    use crate::guard::Guard;
    use crate::reply::IntoReply;
    use crate::route::{BoundHandler, Handler};

    /// As a guard, accepts requests with the data `in`. A request that waits in the guard or the handler holds a
    /// clone.
    struct Holds(Arc<()>);

    impl Holds {
        async fn wait(&self) -> Result<(), RpcError> {
            let _held = self.0.clone();
            pending().await
        }
    }

    impl Guard for Holds {
        async fn can_activate(&self, request: &mut Request) -> Result<(), RpcError> {
            if request.data() == Some(b"in") { Ok(()) } else { self.wait().await }
        }
    }

    impl Handler for Holds {
        async fn call(&self, _: Request) -> Result<impl IntoReply + Send, RpcError> {
            self.wait().await
        }
    }

    #[test]
    fn a_cancelled_request_is_dropped_at_once_be_it_with_a_guard_or_with_the_handler() {
        let (with_guard, with_handler) = (Arc::new(()), Arc::new(()));
        let guards: [Arc<dyn DynGuard>; 1] = [Arc::new(Holds(with_guard.clone()))];
        let handler = BoundHandler::new(Holds(with_handler.clone()));
        let mut slot = handler.make_slot(&guards);
        let mut held = |request: Option<&'static str>| {
            match request {
                Some(data) => slot.start(Request::new("a".into(), None, Some(data.into()), Instant::now())),
                None => slot.cancel(),
            }
            assert!(slot.poll(&mut Context::from_waker(Waker::noop()), &mut Vec::new()).is_pending());
            // The test holds one; the guard or the handler holds another.
            (Arc::strong_count(&with_guard) - 2, Arc::strong_count(&with_handler) - 2)
        };
        for _ in 0..2 {
            assert_eq!(held(Some("out")), (1, 0));
            assert_eq!(held(None), (0, 0));
            assert_eq!(held(Some("in")), (0, 1));
            assert_eq!(held(None), (0, 0));
        }
    }
}

//! Guards that stand before every handler of a service.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::slot::HandlerSlot;
use crate::error::RpcError;
use crate::guard::DynGuard;
use crate::message::Request;
use crate::reply::Written;

/// A slot whose requests pass `guards`, in their order, before they reach `handler`.
///
/// It stands around the handler's own slot, so that it is compiled once and a service without such guards has
/// nothing of it.
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

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<Written, RpcError>> {
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

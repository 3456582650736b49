use async_nats::jetstream;

use super::Limits;
use super::unfinished::Unfinished;
use crate::connection::Connection;
use crate::error::RpcError;

/// The connection, the name and the detached tasks of a service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ServiceContext {
    connection: Connection,
    service: String,
    unfinished: Unfinished,
}

impl ServiceContext {
    pub(super) fn new(connection: Connection, service: &str, limits: &Limits) -> Self {
        let unfinished = Unfinished::at_most(limits.in_flight);
        Self { connection, service: service.to_owned(), unfinished }
    }

    pub(super) fn unfinished(&self) -> &Unfinished {
        &self.unfinished
    }

    /// Returns the service's connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns JetStream on that connection.
    pub fn jetstream(&self) -> jetstream::Context {
        self.connection.jetstream()
    }

    /// Returns the service's name.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Spawns `work` as a task that continues when the handler that awaits it is cancelled at its deadline.
    ///
    /// Use it for several writes that must all happen once the first is done. A handler that should continue as a
    /// whole, and reply late, uses `run_to_completion` instead. The task inherits no deadline: give it one of its own.
    /// A graceful shutdown ([`stop`](super::ServiceHandle::stop)) waits for the task as long as for handlers. If the
    /// task is unfinished then, or panics, an error in the log names it as `what`.
    ///
    /// ```no_run
    /// use nats_rpc::ServiceContext;
    /// use nats_rpc::prelude::*;
    ///
    /// #[derive(Clone)]
    /// struct Orders(ServiceContext);
    ///
    /// #[message_pattern("orders.cancel")]
    /// async fn cancel(State(Orders(config)): State<Orders>, Payload(order): Payload<u64>) -> Result<(), RpcError> {
    ///     let both = async move { println!("order {order} is cancelled, and paid back") };
    ///     config.spawn_detached("a cancelled order", both).await
    /// }
    ///
    /// let service = Service::new("orders", "1.0.0")
    ///     .handlers(handlers![cancel])
    ///     .provide_with(async |context: ServiceContext| Ok::<_, RpcError>(Orders(context)));
    /// ```
    ///
    /// # Errors
    /// 503 ([`Code::Unavailable`](crate::Code::Unavailable)) if the number of detached tasks has reached
    /// [`Limits::in_flight`]; `work` has then not begun. Detached tasks have a limit of their own, as a task without
    /// its handler no longer counts as a request. 500 if `work` panics, or if shutdown aborted it.
    pub async fn spawn_detached<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, RpcError> {
        let too_much = || RpcError::unavailable("too much is still being done that earlier requests began");
        let begun = self.unfinished.begin(what, work).ok_or_else(too_much)?;
        begun.await.map_err(|_| RpcError::internal(format!("{what} was left half done")))
    }
}

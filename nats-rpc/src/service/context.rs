use async_nats::jetstream;

use super::Limits;
use super::unfinished::Unfinished;
use crate::connection::Connection;
use crate::error::RpcError;

/// The connection and the name of a service, and its detached tasks. It is cheap to clone.
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

    /// The service's connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// JetStream on that connection.
    pub fn jetstream(&self) -> jetstream::Context {
        self.connection.jetstream()
    }

    /// The service's name.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Spawns `work` as a task that continues when the handler that awaits it is cancelled at its deadline.
    ///
    /// For several writes of which none may be left out once the first is done; a handler that goes on as a whole,
    /// and answers late, says `run_to_completion`. It inherits no deadline: give it one of its own. A
    /// [stop](super::ServiceHandle::stop) waits for it as long as for handlers. What is left then, or panics, is an
    /// error in the log that names it as `what`.
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
    /// 503 ([`Code::Unavailable`](crate::Code::Unavailable)) if as much is being seen through as
    /// [`Limits::in_flight`] allows requests, with nothing of `work` begun: what goes on without its handler is
    /// no longer counted as a request. 500 if `work` panics, or a stop has left it.
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

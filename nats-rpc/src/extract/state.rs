use std::any::type_name;

use super::{BindContext, Extract};
use crate::error::RpcError;
use crate::message::Request;

/// A value that was provided to the service: a store, a client, settings.
///
/// Each request clones `T`, so it should be cheap to clone: an `Arc`, or a handle that contains one. If `T` was not
/// provided, the service does not start; the error has the handler's file and line.
///
/// ```
/// use nats_rpc::prelude::*;
///
/// #[derive(Clone)]
/// struct Greeting(&'static str);
///
/// #[message_pattern("greet")]
/// async fn greet(State(greeting): State<Greeting>) -> &'static str {
///     greeting.0
/// }
///
/// let service = Service::new("greeter", "1.0.0").handlers(handlers![greet]).provide(Greeting("hello"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<T>(pub T);

impl<T: Clone + Send + Sync + 'static> Extract for State<T> {
    type Bound = T;

    fn bind(cx: &BindContext<'_>) -> Result<T, String> {
        let value = cx.providers.get::<T>();
        value.map(|value| T::clone(&value)).ok_or_else(|| {
            let name = type_name::<T>();
            format!("no `{name}` was provided: add `.provide(…)` or `.provide_with(…)` to the service")
        })
    }

    async fn extract(bound: &T, _: &mut Request) -> Result<Self, RpcError> {
        Ok(Self(bound.clone()))
    }
}

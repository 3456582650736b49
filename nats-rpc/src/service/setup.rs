//! The dependencies of a service and their creation at startup.

use std::any::type_name;
use std::error::Error;
use std::future::Future;

use futures::future::BoxFuture;

use super::{GlobalGuards, Providers, ServiceContext, StartError};
use crate::guard::Guard;

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// The destination of the created dependencies.
#[derive(Default)]
pub(super) struct Provided {
    pub(super) providers: Providers,
    pub(super) global: GlobalGuards,
}

type Put = Box<dyn FnOnce(&mut Provided) + Send>;
type Make = Box<dyn FnOnce(ServiceContext) -> BoxFuture<'static, Result<Put, BoxError>> + Send>;

/// A dependency to create, or one that exists already.
pub struct Setup {
    what: &'static str,
    step: Step,
    pub(super) guards_all: bool,
}

enum Step {
    Ready(Put),
    Connected(Make),
}

impl Setup {
    pub(super) fn ready(put: impl FnOnce(&mut Provided) + Send + 'static) -> Self {
        Self { what: "", step: Step::Ready(Box::new(put)), guards_all: false }
    }

    pub(super) fn connected<T, F, Fut, E>(
        what: &'static str,
        make: F,
        put: impl FnOnce(T, &mut Provided) + Send + 'static,
    ) -> Self
    where
        T: Send + 'static,
        F: FnOnce(ServiceContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let make: Make = Box::new(move |config| {
            let made = make(config);
            Box::pin(async move {
                let value = made.await.map_err(Into::into)?;
                Ok(Box::new(move |provided: &mut Provided| put(value, provided)) as Put)
            })
        });
        Self { what, step: Step::Connected(make), guards_all: false }
    }

    pub(super) async fn run(self, config: ServiceContext, provided: &mut Provided) -> Result<(), StartError> {
        match self.step {
            Step::Ready(put) => put(provided),
            Step::Connected(make) => {
                let put = make(config).await.map_err(|source| StartError::Setup { what: self.what, source })?;
                put(provided);
            }
        }
        Ok(())
    }

    #[cfg(feature = "testing")]
    pub(super) fn run_unconnected(self, provided: &mut Provided) -> Result<(), String> {
        match self.step {
            Step::Ready(put) => put(provided),
            Step::Connected(_) => {
                return Err(format!(
                    "`{}` is made from a connection, which a test in process has not: give the value itself",
                    self.what
                ));
            }
        }
        Ok(())
    }
}

/// A guard, or an async function of [`ServiceContext`] that creates one.
///
/// ```
/// use nats_rpc::prelude::*;
///
/// struct Open;
/// impl Guard for Open {
///     async fn can_activate(&self, _: &mut Request) -> Result<(), RpcError> { Ok(()) }
/// }
///
/// async fn open(_: ServiceContext) -> Result<Open, std::io::Error> { Ok(Open) }
///
/// let by_value = Service::new("a", "1.0.0").guard(Open);
/// let by_function = Service::new("a", "1.0.0").guard(open);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a guard nor a function that makes one",
    note = "pass a value whose type implements `Guard`, or an `async fn(ServiceContext) -> Result<impl Guard, _>`"
)]
pub trait IntoGuard<Marker> {
    /// The guard's type.
    type Guard: Guard;

    #[doc(hidden)]
    #[allow(private_interfaces, reason = "nobody outside calls it")]
    fn into_setup(self, put: fn(Self::Guard, &mut Provided)) -> Setup;
}

#[doc(hidden)]
pub struct ByValue;

impl<G: Guard> IntoGuard<ByValue> for G {
    type Guard = G;

    #[allow(private_interfaces, reason = "nobody outside calls it")]
    fn into_setup(self, put: fn(G, &mut Provided)) -> Setup {
        Setup::ready(move |provided| put(self, provided))
    }
}

#[doc(hidden)]
pub struct ByFunction;

impl<F, Fut, G, E> IntoGuard<(ByFunction, Fut, G, E)> for F
where
    F: FnOnce(ServiceContext) -> Fut + Send + 'static,
    Fut: Future<Output = Result<G, E>> + Send + 'static,
    G: Guard,
    E: Into<BoxError>,
{
    type Guard = G;

    #[allow(private_interfaces, reason = "nobody outside calls it")]
    fn into_setup(self, put: fn(G, &mut Provided)) -> Setup {
        Setup::connected(type_name::<G>(), self, put)
    }
}

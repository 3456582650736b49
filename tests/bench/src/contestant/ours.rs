//! nats-rpc, as its users write it.

use std::error::Error;
use std::sync::Arc;

use nats_rpc::prelude::*;
use nats_rpc::{Limits, NatsConfig, Route};
use nats_rpc_jwt::SecretKey;
use nats_rpc_jwt::prelude::*;

use super::{Contestant, Job, User, Work, ready};
use crate::token::{SECRET, SUBJECT};

mod plain {
    use super::*;

    #[message_pattern("echo")]
    pub(super) async fn echo(Payload(user): Payload<User>) -> User {
        user
    }

    #[message_pattern("sleep")]
    pub(super) async fn sleep(Payload(user): Payload<User>) -> User {
        Work::Sleep.done().await;
        user
    }

    #[message_pattern("doze")]
    pub(super) async fn doze(Payload(user): Payload<User>) -> User {
        Work::Doze.done().await;
        user
    }

    #[message_pattern("burn")]
    pub(super) async fn burn(Payload(user): Payload<User>) -> User {
        Work::Burn.done().await;
        user
    }
}

mod guarded {
    use super::*;

    #[message_pattern("echo")]
    #[use_guards(JwtGuard)]
    pub(super) async fn echo(Payload(user): Payload<User>) -> User {
        user
    }
}

mod scoped {
    use super::*;

    #[message_pattern("echo")]
    #[use_guards(JwtGuard, RequireScope::new("profile:read"))]
    pub(super) async fn echo(
        Auth(me): Auth<UserClaims>,
        State(known): State<Known>,
        Payload(user): Payload<User>,
    ) -> Result<User, RpcError> {
        if me.sub != *known.0 {
            return Err(RpcError::forbidden("nobody knows you"));
        }
        Ok(user)
    }
}

/// State as handlers use it: shared and read.
#[derive(Clone)]
struct Known(Arc<str>);

pub(super) fn service(job: &Job, routes: Vec<&'static Route>) -> Service {
    let limits = Limits { concurrency: job.concurrency, backlog: job.concurrency, ..Limits::default() };
    Service::new("bench", "1.0.0").subject_prefix(&job.prefix).handlers(routes).limits(limits)
}

pub(super) async fn run(job: &Job, url: &str) -> Result<(), Box<dyn Error>> {
    let service = match (job.contestant, job.work) {
        (Contestant::Guarded, _) => service(job, handlers![guarded::echo]).guard(guard()?),
        (Contestant::Scoped, _) => service(job, handlers![scoped::echo]).guard(guard()?).provide(Known(SUBJECT.into())),
        (_, Work::Echo) => service(job, handlers![plain::echo]),
        (_, Work::Sleep) => service(job, handlers![plain::sleep]),
        (_, Work::Doze) => service(job, handlers![plain::doze]),
        (_, Work::Burn) => service(job, handlers![plain::burn]),
    };
    let _running = service.start(NatsConfig::new(url)).await?;
    ready().await
}

/// Returns the routes that [`many`](super::many) multiplies.
pub(super) fn echo() -> Vec<&'static Route> {
    handlers![plain::echo]
}

fn guard() -> Result<JwtGuard, Box<dyn Error>> {
    Ok(JwtGuard::nest_compatible(SecretKey::new("JWT_SECRET", SECRET)?)?)
}

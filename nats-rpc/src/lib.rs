//! A NATS-native microservice framework: annotated async functions, guards, deadlines, loss-free stops.

#[cfg(feature = "auth")]
pub mod auth;
mod client;
mod connection;
mod deadline;
mod error;
mod extract;
mod guard;
mod message;
mod principal;
mod providers;
mod reply;
mod route;
mod service;
mod subject;
#[cfg(feature = "testing")]
pub mod testing;
mod wire;

pub use nats_rpc_macros::*;

pub use self::client::{CallError, Client, RemoteError};
pub use self::connection::{ConnectError, Connection, ConnectionState, EchoError, NatsConfig, NatsConfigError};
pub use self::deadline::{DEADLINE_HEADER, TIMEOUT_HEADER};
pub use self::error::{Code, Internal, IntoRpcError, RpcError};
pub use self::extract::{Auth, BindContext, Context, Extract, FromRequest, OptionalExtract, Param, Payload, State};
#[cfg(feature = "jwt")]
pub use self::guard::jwt::{self, JwtConfig, JwtGuard, SecretKey, UserClaims};
pub use self::guard::{Guard, RequireRole, RequireScope};
pub use self::message::{HeaderError, Headers, Request};
pub use self::principal::Principal;
pub use self::reply::{IntoReply, Written};
pub use self::route::{Kind, Queue, Route};
pub use self::service::{Config, IntoGuard, Limits, RouteStats, Running, Service, StartError, Status};
pub use self::subject::{MAX_SUBJECT_LEN, Pattern, Subject, SubjectError};
pub use self::wire::Wire;

/// What the macros' expansion names; no part of the public interface.
#[doc(hidden)]
pub mod __private {
    pub use core::future::Future;
    pub use core::marker::{Send, Sync};
    pub use core::option::Option::{self, None, Some};
    pub use core::result::Result;
    pub use std::string::ToString;

    pub use inventory;

    pub use crate::error::{Code, IntoRpcError, RpcError};
    pub use crate::extract::Extract;
    pub use crate::guard::Guard;
    pub use crate::message::Request;
    pub use crate::reply::{IntoReply, Probe, WrapPlain, WrapResult};
    pub use crate::route::{Binder, BoundHandler, Handler, HasRoutes, Kind, Queue, Route, Submitted, discover, routes};
}

/// Everything a file of handlers needs.
pub mod prelude {
    pub use serde::{Deserialize, Serialize};

    pub use crate::{
        Auth, Code, Config, Context, FromRequest, Guard, Headers, Internal, Param, Payload, Principal, Request,
        RequireRole, RequireScope, RpcError, Service, State, Subject, discover, handlers,
    };
    #[cfg(feature = "jwt")]
    pub use crate::{JwtGuard, UserClaims};
}

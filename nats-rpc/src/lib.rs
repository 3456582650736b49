//! A framework for request/reply microservices on NATS: async functions as handlers, guards, deadlines, graceful
//! shutdown.
//!
//! ```no_run
//! use nats_rpc::prelude::*;
//! use std::process::ExitCode;
//!
//! #[derive(Deserialize)]
//! struct Sum { a: i64, b: i64 }
//!
//! #[message_pattern("math.sum")]
//! async fn sum(Payload(Sum { a, b }): Payload<Sum>) -> Result<i64, RpcError> {
//!     a.checked_add(b).ok_or_else(|| RpcError::invalid_argument("the sum is out of range"))
//! }
//!
//! #[tokio::main]
//! async fn main() -> ExitCode {
//!     Service::new("math", env!("CARGO_PKG_VERSION")).handlers(discover!()).main().await
//! }
//! ```
//!
//! # Table of contents
//!
//! - **Handlers**: [`message_pattern`], [`event_pattern`], [`use_guards`], [`public`]; collected by
//!   [`discover!`] or [`handlers!`]
//! - **Arguments**: [`Payload`], [`State`], [`Auth`], [`Param`], [`Headers`], [`Subject`], [`Context`], `Option` of
//!   one, your own by [`FromRequest`]
//! - **Return types**: any [`serde::Serialize`], [`Streaming`] for many items, or a `Result` of these with
//!   [`RpcError`] or your own error that derives [`macro@IntoRpcError`]
//! - **Authorization**: [`Guard`], [`RequireRole`], [`RequireScope`], and `JwtGuard` of the crate `nats-rpc-jwt`
//! - **Running them**: [`Service`], [`Limits`], [`WireFormat`], [`NatsConfig`]
//! - **Calling them**: [`Client`], [`ResponseStream`], [`CallError`]
//! - **Issuing tokens**: the crate `nats-rpc-auth`
//! - **Testing them**: [`testing`] (feature `testing`)

mod client;
mod connection;
mod deadline;
mod decode;
mod error;
mod extract;
mod guard;
mod inbox_token;
pub mod kv;
mod log_limit;
mod message;
mod metrics;
mod principal;
mod providers;
mod readiness;
mod renamed_variable;
mod reply;
mod reply_subject;
mod route;
mod secret_var;
mod service;
mod subject;
#[cfg(feature = "testing")]
pub mod testing;
mod trace;
mod validity;
mod wire;

pub use nats_rpc_macros::{IntoRpcError, event_pattern, message_pattern, public, use_guards};

pub use self::client::{CallError, Client, RemoteError, ResponseStream};
pub use self::connection::{
    ConnectError, Connection, ConnectionState, HeaderFilter, KvApiPrefixes, KvBucket, KvError, KvHandles, KvReadError,
    KvRecord, NatsConfig, NatsConfigError, RoundTripError, is_kv_conflict,
};
pub use self::deadline::{DEADLINE_HEADER, TIMEOUT_HEADER};
pub use self::decode::{DecodeError, from_json};
pub use self::error::{Code, Internal, IntoRpcError, RpcError};
pub use self::extract::{Auth, BindContext, Context, Extract, FromRequest, OptionalExtract, Param, Payload, State};
pub use self::guard::{Guard, RequireRole, RequireScope};
pub use self::message::{HeaderError, Headers, Request};
pub use self::principal::Principal;
pub use self::readiness::Readiness;
pub use self::renamed_variable::{RenamedVariable, renamed_variable};
pub use self::reply::{BoxReplyStream, IntoReply, ReplyKind, Streaming};
pub use self::reply_subject::ReplySubjects;
pub use self::route::{Kind, Queue, Route};
#[cfg(feature = "cli")]
pub use self::service::log_to_stderr;
pub use self::service::{
    Account, IntoGuard, KvAccess, Limits, NotReady, Permissions, RouteStats, Service, ServiceContext, ServiceHandle,
    StartError, Status, spawn_blocking,
};
pub use self::subject::{MAX_SUBJECT_LEN, Pattern, Subject, SubjectError};
pub use self::validity::Validity;
pub use self::wire::WireFormat;

/// Items that the macros' expansion, nats-rpc-jwt and nats-rpc-auth use; not part of the public API.
#[doc(hidden)]
pub mod __private {
    pub use core::future::Future;
    pub use core::marker::{Send, Sync};
    pub use core::option::Option::{self, None, Some};
    pub use core::result::Result;
    pub use std::string::ToString;

    pub use inventory;

    pub use crate::connection::Slot;
    pub use crate::error::{Code, IntoRpcError, RpcError};
    pub use crate::extract::Extract;
    pub use crate::guard::Guard;
    pub use crate::inbox_token::unrelated_id;
    pub use crate::log_limit::LogLimit;
    pub use crate::message::Request;
    pub use crate::reply::{Bounded, IntoReply, Probe, StreamItem, WrapPlain, WrapResult};
    pub use crate::route::{
        Binder, BoundHandler, Contract, Describe, Handler, HasRoutes, Kind, Queue, Route, Shape, Submitted, discover,
        routes,
    };
    pub use crate::secret_var::{SecretVarError, secret_var};
}

/// All items that a file of handlers needs.
pub mod prelude {
    pub use serde::{Deserialize, Serialize};

    pub use crate::{
        Auth, Code, Context, FromRequest, Guard, Headers, Internal, Param, Payload, Principal, Request, RequireRole,
        RequireScope, RpcError, Service, ServiceContext, State, Streaming, Subject, discover, event_pattern, handlers,
        message_pattern, public, use_guards,
    };
}

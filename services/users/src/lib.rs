//! Profiles: one's own, and any for an admin.
//!
//! - [`service`] is the service: its handlers, and the bucket behind them.
//! - [`profile`] holds what a profile is, and the bucket `users` that profiles are kept in. The auth
//!   service writes a new user's profile there before it answers the sign-up.
//! - [`bucket`] keeps records of one type in a KV bucket, by compare-and-set.
//!
//! | subject | kind | answers |
//! |---|---|---|
//! | `get_user_profile` | message | the profile of `{userId}`, or of the caller for `{}` |
//! | `users.{id}.get` | message | the profile of `id`, by the same rule |
//! | `update_user_profile` | message | the caller's profile after `{displayName?, bio?}` |
//! | `user.created` | event | |

pub mod bucket;
mod config;
mod handlers;
pub mod profile;

use nats_rpc::auth::KeyPurpose;
use nats_rpc::{KvAccess, Service, discover};

pub use self::config::{Replicas, ReplicasError};
pub use self::handlers::UserCreated;
pub use self::profile::{Profile, UserId, Users};

/// The users service, which needs a [`JwtGuard`](nats_rpc::JwtGuard) yet: its handlers name one.
///
/// `vars` is where settings come from: the environment in `main`, a list in a test. Only `provision` reads
/// one, `KV_REPLICAS`.
///
/// ```
/// use nats_rpc::{JwtConfig, JwtGuard, SecretKey};
///
/// let secret = SecretKey::new("JWT_SECRET", "0123456789abcdef0123456789abcdef")?;
/// let guard: JwtGuard = JwtGuard::new(JwtConfig::hs256(secret))?;
/// let service = users::service(|_| None).guard(guard);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn service(vars: impl Fn(&str) -> Option<String> + Send + 'static) -> Service {
    Service::new("users", env!("CARGO_PKG_VERSION"))
        .description("Profiles: one's own, and any for an admin")
        .handlers(discover!())
        .uses_bucket(KvAccess::to("users").read().write())
        .uses_bucket(KvAccess::to(KeyPurpose::AccessTokens.bucket()).read().follow())
        .uses_bucket(KvAccess::to(KeyPurpose::Assertions.bucket()).read().follow())
        .uses_bucket(KvAccess::to("auth_rev").follow())
        .provide_with(|config| async move { Users::open(config.connection()).await })
        .provision(move |config| {
            let replicas = Replicas::from_vars(vars);
            async move {
                Users::provision(&config.jetstream(), replicas?).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            }
        })
}

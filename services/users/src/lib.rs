//! The users service: access to the caller's own profile, and to any profile for an admin.
//!
//! - [`service`]: the service with its handlers, and the bucket behind them
//! - [`profile`]: profiles, and the bucket `users` that stores them. The auth service writes a new user's profile
//!   there before it replies to the sign-up.
//! - [`bucket`]: records of one type in a KV bucket, written by compare-and-set
//!
//! | subject | kind | reply |
//! |---|---|---|
//! | `get_user_profile` | message | the profile of `{userId}`, or of the caller for `{}` |
//! | `users.{id}.get` | message | the profile of `id`, by the same rule |
//! | `update_user_profile` | message | the caller's profile after `{displayName?, bio?}` |
//! | `user.created` | event | |

pub mod bucket;
mod config;
mod handlers;
pub mod profile;

use nats_rpc::{Account, KvAccess, Service, discover};
use nats_rpc_jwt::{KeyPurpose, TrustBuckets};

pub use self::config::{Replicas, ReplicasError};
pub use self::handlers::UserCreated;
pub use self::profile::{Profile, UserId, Users};

/// Returns the users service, which still needs a [`JwtGuard`](nats_rpc_jwt::JwtGuard) because its handlers name one.
///
/// `vars` supplies the settings: the environment in `main`, a list in a test. `provision` reads `KV_REPLICAS`,
/// `permissions` reads `AUTH_JS_API_PREFIX`.
///
/// ```
/// use nats_rpc_jwt::{JwtConfig, JwtGuard, SecretKey};
///
/// let secret = SecretKey::new("JWT_SECRET", "0123456789abcdef0123456789abcdef")?;
/// let guard: JwtGuard = JwtGuard::new(JwtConfig::hs256(secret))?;
/// let service = users::service(|_| None).guard(guard);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn service(vars: impl Fn(&str) -> Option<String> + Send + 'static) -> Service {
    let trust = TrustBuckets::from_vars(&vars);
    let service = Service::new("users", env!("CARGO_PKG_VERSION"))
        .description("Profiles: one's own, and any for an admin")
        .handlers(discover!())
        .uses_bucket(KvAccess::to("users").read().write())
        .uses_bucket(trust.keys(KeyPurpose::AccessTokens))
        .uses_bucket(trust.keys(KeyPurpose::Assertions))
        .uses_bucket(trust.revocations())
        .provide_with(|config| async move { Users::open(config.connection()).await })
        .provision(move |config| {
            let replicas = Replicas::from_vars(vars);
            async move {
                Users::provision(&config.jetstream(), replicas?).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            }
        });
    if trust.has_own_account() { service.account(account()) } else { service }
}

/// Returns the imports and exports of the account of profiles, besides those of handlers and token verification.
fn account() -> Account {
    let of_profiles = ["$JS.API.STREAM.INFO.KV_users", "$JS.API.STREAM.MSG.GET.KV_users", "$KV.users.>"];
    let account = Account::new().import_stream("AUTH", "user.created");
    of_profiles.into_iter().fold(account, |account, subject| account.export_service_to("AUTH", subject))
}

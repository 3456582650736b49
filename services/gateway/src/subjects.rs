//! The subjects that routes call, and what the gateway's user must be allowed on nats-server.

use nats_rpc::auth::KeyPurpose;
use nats_rpc::{KvAccess, Permissions};

/// The name of the gateway's connection.
pub(crate) const NAME: &str = "gateway";

/// A subject that a route calls. Whatever is called stands in this list, so that it can be permitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Called(&'static str);

macro_rules! called {
    ($($name:ident = $subject:literal,)*) => {
        impl Called {
            $(pub(crate) const $name: Self = Self($subject);)*
            const ALL: &[&str] = &[$($subject),*];
        }
    };
}

called! {
    SIGN_UP = "auth.signup",
    LOG_IN = "auth.login",
    REFRESH = "auth.refresh",
    LOG_OUT = "auth.logout",
    LOG_OUT_EVERYWHERE = "auth.logout_all",
    SESSIONS = "auth.sessions",
    END_SESSION = "auth.sessions.end",
    CHANGE_PASSWORD = "auth.password.change",
    REQUEST_RESET = "auth.password.reset.request",
    CONFIRM_RESET = "auth.password.reset.confirm",
    PROFILE = "get_user_profile",
}

impl Called {
    pub(crate) fn subject(self) -> &'static str {
        self.0
    }

    /// Whether it is of the service that counts attempts by where they come from. Where somebody is concerns no
    /// other.
    pub(crate) fn counts_attempts(self) -> bool {
        self.0.starts_with("auth.")
    }
}

/// What the gateway's user must be allowed, whatever the settings; what the command `permissions` prints.
///
/// ```
/// let needed = gateway::permissions().to_string();
/// assert!(needed.contains(r#""auth.login""#));
/// ```
pub fn permissions() -> Permissions {
    let buckets = [
        KvAccess::to(KeyPurpose::AccessTokens.bucket()).read().follow(),
        KvAccess::to("auth_rev").follow(),
        KvAccess::to(KeyPurpose::Assertions.bucket()).read().write_key("ring"),
    ];
    Permissions::of_caller(NAME, Called::ALL.iter().copied(), buckets)
}

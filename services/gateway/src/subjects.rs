//! The subjects that routes call, and the permissions of the gateway's user on nats-server.

use nats_rpc::{Account, Permissions};
use nats_rpc_jwt::{KeyPurpose, TrustBuckets};

/// The name of the gateway's connection.
pub(crate) const NAME: &str = "gateway";

/// A subject that a route calls. This list contains every one, so that permissions can be derived from it.
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

    /// Returns `true` if its service counts attempts by the client's IP address. The gateway sends that address to no
    /// other service.
    pub(crate) fn counts_attempts(self) -> bool {
        self.0.starts_with("auth.")
    }
}

/// Returns the permissions of the gateway's user, which the command `permissions` prints.
///
/// Of the settings, only `AUTH_JS_API_PREFIX` makes a difference: with it, the gateway has an account of its own.
///
/// ```
/// let needed = gateway::permissions(|_| None).to_string();
/// assert!(needed.contains(r#""auth.login""#));
/// ```
pub fn permissions(vars: impl Fn(&str) -> Option<String>) -> Permissions {
    let trust = TrustBuckets::from_vars(vars);
    let (own, access) = (trust.own_keys(KeyPurpose::Assertions), trust.keys(KeyPurpose::AccessTokens));
    let needed = Permissions::of_caller(NAME, Called::ALL.iter().copied(), [access, trust.revocations(), own]);
    if !trust.has_own_account() {
        return needed;
    }
    let of = |called: &str| if called.starts_with("auth.") { "AUTH" } else { "APP" };
    let imported = |account: Account, called: &&str| account.import_service(of(called), called);
    needed.account(Called::ALL.iter().fold(Account::new(), imported))
}

//! A nats-server configured as in production: with the users, permissions and TLS of a shipped file.

use std::collections::BTreeMap;

use async_nats::ConnectOptions;
use nats_rpc::NatsConfig;
use nats_rpc::testing::NatsServer;

use crate::certificates::Authority;
use crate::server_with;

/// A shipped configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `services/nats.conf`: auth, the services, the gateway and the callers each have an account.
    Accounts,
    /// `services/nats-single.conf`: all users are in one account.
    Single,
}

impl Layout {
    /// Both layouts.
    pub const ALL: [Self; 2] = [Self::Accounts, Self::Single];

    /// Returns the file as shipped.
    pub fn file(self) -> &'static str {
        match self {
            Self::Accounts => include_str!("../../services/nats.conf"),
            Self::Single => include_str!("../../services/nats-single.conf"),
        }
    }

    /// Returns the users that the file names by their variables, in lower case.
    pub fn users(self) -> impl Iterator<Item = String> {
        let nkeys = self.file().lines().filter_map(|line| line.trim().strip_prefix("nkey: $NATS_NKEY_"));
        nkeys.map(str::to_lowercase)
    }

    /// Returns the user that creates the buckets that decide trust.
    pub fn deploys_auth(self) -> &'static str {
        match self {
            Self::Accounts => "deploy_auth",
            Self::Single => "deploy",
        }
    }

    /// Returns the user that receives auth's audit events about log-ins.
    pub fn auditor(self) -> &'static str {
        match self {
            Self::Accounts => "auditor",
            Self::Single => "monitor",
        }
    }

    /// Returns a setting of `user` that depends on the layout.
    pub fn var(self, user: &str, name: &str) -> Option<String> {
        let value = match (self, name, user) {
            (Self::Single, ..) => return None,
            (_, "AUTH_JS_API_PREFIX", "auth" | "deploy_auth") => "$JS.API",
            (_, "AUTH_JS_API_PREFIX", _) => "AUTHJS",
            (_, "NATS_KV_API_PREFIXES", "auth" | "deploy_auth") => "users=APPJS",
            _ => return None,
        };
        Some(value.to_owned())
    }
}

/// New nkeys for all users of a file.
#[derive(Debug)]
pub struct Nkeys {
    layout: Layout,
    seeds: BTreeMap<String, String>,
    variables: String,
}

impl Nkeys {
    /// Generates them.
    ///
    /// # Panics
    /// If the system has no random numbers.
    pub fn generate(layout: Layout) -> Self {
        let (mut seeds, mut variables) = (BTreeMap::new(), String::new());
        for user in layout.users() {
            let pair = nkeys::KeyPair::new_user();
            variables += &format!("NATS_NKEY_{}: {}\n", user.to_uppercase(), pair.public_key());
            seeds.insert(user, pair.seed().expect("a new pair has a seed"));
        }
        Self { layout, seeds, variables }
    }

    /// Returns the file with these nkeys, and with the certificate that `tls` names, or without TLS.
    ///
    /// # Panics
    /// If the file has no section `tls`.
    pub fn server_config(&self, tls: Option<[String; 2]>) -> String {
        let file = self.layout.file();
        let Some([certificate, key]) = tls else {
            let (before, rest) = file.split_once("tls {").expect("the file has TLS");
            let (_, after) = rest.split_once("\n}\n").expect("the section ends");
            return format!("{}{before}{after}", self.variables);
        };
        format!("NATS_TLS_CERT: {certificate:?}\nNATS_TLS_KEY: {key:?}\n{}{file}", self.variables)
    }

    /// Returns the configuration of `user` for the server at `url`: with its nkey and its own inbox prefix.
    ///
    /// # Panics
    /// If the file has no such user.
    pub fn config(&self, user: &str, url: String) -> NatsConfig {
        let mut config = NatsConfig::new(url).nkey(self.seed(user)).inbox_prefix(format!("_INBOX_{user}"));
        if let Some(prefix) = self.layout.var(user, "AUTH_JS_API_PREFIX") {
            config = config.auth_js_api_prefix(prefix);
        }
        if self.layout.var(user, "NATS_KV_API_PREFIXES").is_some() {
            config = config.kv_api_prefix("users", "APPJS");
        }
        config
    }

    /// Returns the secret half of `user`'s nkey.
    ///
    /// # Panics
    /// As [`config`](Self::config).
    pub fn seed(&self, user: &str) -> &str {
        self.seeds.get(user).unwrap_or_else(|| panic!("{:?} has no user {user}", self.layout))
    }
}

/// A server with new nkeys for all users of the file, and a certificate of its own authority.
///
/// ```no_run
/// use nats_rpc::Client;
/// use nats_rpc_tests::secured::Secured;
///
/// # async fn test() -> Result<(), Box<dyn std::error::Error>> {
/// let secured = Secured::start();
/// let gateway = Client::connect(&secured.config("gateway")).await?;
/// let attacker = secured.options("client").connect(secured.server.url()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Secured {
    /// The server.
    pub server: NatsServer,
    /// The authority that signed the server's certificate.
    pub authority: Authority,
    /// The configuration file.
    pub layout: Layout,
    nkeys: Nkeys,
}

impl Secured {
    /// Starts a server with `services/nats.conf`.
    ///
    /// # Panics
    /// As [`server()`](crate::server()).
    pub fn start() -> Self {
        Self::start_with(Layout::Accounts)
    }

    /// Starts a server with the file of `layout`.
    ///
    /// # Panics
    /// As [`server()`](crate::server()).
    pub fn start_with(layout: Layout) -> Self {
        let authority = Authority::new();
        let certificate = authority.server();
        let tls = [&certificate.certificate, &certificate.key].map(|path| path.display().to_string());
        let nkeys = Nkeys::generate(layout);
        let server = server_with(|builder| builder.config(nkeys.server_config(Some(tls))));
        Self { server, authority, layout, nkeys }
    }

    /// Returns the configuration of `user`: with its nkey, over TLS, with its own inbox prefix.
    ///
    /// # Panics
    /// If the file has no such user.
    pub fn config(&self, user: &str) -> NatsConfig {
        self.nkeys.config(user, self.server.url()).root_certificate(self.authority.path())
    }

    /// Returns the same for a client other than nats-rpc.
    ///
    /// # Panics
    /// As [`config`](Self::config).
    pub fn options(&self, user: &str) -> ConnectOptions {
        ConnectOptions::with_nkey(self.nkeys.seed(user).to_owned())
            .add_root_certificates(self.authority.path())
            .custom_inbox_prefix(format!("_INBOX_{user}"))
    }

    /// Returns the secret half of `user`'s nkey.
    ///
    /// # Panics
    /// As [`config`](Self::config).
    pub fn seed(&self, user: &str) -> &str {
        self.nkeys.seed(user)
    }
}

//! A nats-server as one that serves in earnest: with the users, permissions and TLS of `services/nats.conf`.

use std::collections::BTreeMap;

use async_nats::ConnectOptions;
use nats_rpc::NatsConfig;
use nats_rpc::testing::NatsServer;

use crate::certificates::Authority;
use crate::server_with;

/// The file, as it is shipped.
pub const CONFIG: &str = include_str!("../../services/nats.conf");

/// The server, with new nkeys for all users of the file and a certificate of an authority of its own.
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
    /// Who signed the server's certificate.
    pub authority: Authority,
    seeds: BTreeMap<String, String>,
}

impl Secured {
    /// Starts it.
    ///
    /// # Panics
    /// As [`server()`](crate::server()).
    pub fn start() -> Self {
        let authority = Authority::new();
        let certificate = authority.server();
        let mut config = format!(
            "NATS_TLS_CERT: {:?}\nNATS_TLS_KEY: {:?}\n",
            certificate.certificate.display().to_string(),
            certificate.key.display().to_string()
        );
        let mut seeds = BTreeMap::new();
        for user in users() {
            let pair = nkeys::KeyPair::new_user();
            config += &format!("NATS_NKEY_{}: {}\n", user.to_uppercase(), pair.public_key());
            seeds.insert(user, pair.seed().expect("a new pair has a seed"));
        }
        let server = server_with(|builder| builder.config(config + CONFIG));
        Self { server, authority, seeds }
    }

    /// How `user` connects: with its nkey, over TLS, with an inbox of its own.
    ///
    /// # Panics
    /// If `services/nats.conf` has no such user.
    pub fn config(&self, user: &str) -> NatsConfig {
        NatsConfig::new(self.server.url())
            .nkey(self.seed(user))
            .root_certificate(self.authority.path())
            .inbox_prefix(format!("_INBOX_{user}"))
    }

    /// The same for a client that is none of ours.
    ///
    /// # Panics
    /// As [`config`](Self::config).
    pub fn options(&self, user: &str) -> ConnectOptions {
        ConnectOptions::with_nkey(self.seed(user).to_owned())
            .add_root_certificates(self.authority.path())
            .custom_inbox_prefix(format!("_INBOX_{user}"))
    }

    /// The secret half of `user`'s nkey.
    ///
    /// # Panics
    /// As [`config`](Self::config).
    pub fn seed(&self, user: &str) -> &str {
        self.seeds.get(user).unwrap_or_else(|| panic!("services/nats.conf has no user {user}"))
    }
}

/// The users that the file names by their variables, in lower case.
fn users() -> impl Iterator<Item = String> {
    let nkeys = CONFIG.lines().filter_map(|line| line.trim().strip_prefix("nkey: $NATS_NKEY_"));
    nkeys.map(str::to_lowercase)
}

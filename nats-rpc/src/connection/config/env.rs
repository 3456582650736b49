use std::time::Duration;

use super::login::Login;
use super::{HeaderFilter, KvApiPrefixes, NatsConfig, NatsConfigError, Tls};
use crate::secret_var::{SecretVarError, file_of, secret_var};

impl NatsConfig {
    /// Reads the configuration from environment variables.
    ///
    /// | variable | meaning | default |
    /// |---|---|---|
    /// | `NATS_URL` | one server or several, separated by commas; `tls://` requires TLS | `nats://127.0.0.1:4222` |
    /// | `NATS_NKEY_SEED` | the seed of a user's nkey | |
    /// | `NATS_CREDS` | the path of a credentials file: a user's JWT and nkey | |
    /// | `NATS_TOKEN` | a token | |
    /// | `NATS_USER`, `NATS_PASSWORD` | a user's name and password | |
    /// | `NATS_CA` | a PEM file: the only trusted authorities, instead of the system's; requires TLS | |
    /// | `NATS_CERT`, `NATS_KEY` | PEM files: the client certificate and its key; requires TLS | |
    /// | `NATS_TLS` | `auto`: as the server requires; `require`: always; `first`: before the server's first message, for `handshake_first` | `auto` |
    /// | `NATS_INBOX_PREFIX` | the subject below which replies arrive | `_INBOX_` and the name of service or gateway, else `_INBOX` |
    /// | `NATS_REPLY_PREFIXES` | further inbox prefixes of peers, separated by commas; see [`reply_prefix`](Self::reply_prefix) | |
    /// | `NATS_HEADER_FILTER` | when messages with unreadable headers are filtered out: `auto`, `always` or `never`; see [`HeaderFilter`](crate::HeaderFilter) | `auto` |
    /// | `AUTH_JS_API_PREFIX` | the subject at which this account imports the JetStream API of auth's account, such as `AUTHJS`; for auth itself `$JS.API`; see [`auth_js_api_prefix`](Self::auth_js_api_prefix) | none: auth has no account of its own |
    /// | `NATS_KV_API_PREFIXES` | the KV buckets of other accounts, `bucket=prefix` separated by commas; see [`kv_api_prefix`](Self::kv_api_prefix) | none: all buckets are in the connection's own account |
    /// | `NATS_CONNECT_TIMEOUT_MS` | how long startup waits for a server | 30000 |
    ///
    /// At most one login may be set; credentials in `NATS_URL` (`nats://user:password@host`, `nats://token@host`)
    /// count as one. `NATS_NKEY_SEED_FILE`, `NATS_TOKEN_FILE` and `NATS_PASSWORD_FILE` name a file that holds the
    /// value, so that the environment need not contain it. Whitespace around a secret is removed, in a file and in a
    /// variable. An empty variable counts as unset. Values are never printed.
    ///
    /// # Errors
    /// - [`NatsConfigError::Variable`]: a variable's value cannot be used.
    /// - [`NatsConfigError::Incomplete`]: one variable of a pair is missing, or two logins are set, or both a value
    ///   and its file.
    /// - [`NatsConfigError::File`]: the file that holds a value cannot be read.
    pub fn from_env() -> Result<Self, NatsConfigError> {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// Reads the configuration like [`from_env`](Self::from_env), with `vars` as the source of variables.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Result<Self, NatsConfigError> {
        let var = |name: &str| vars(name).filter(|value| !value.is_empty());
        let mut config = Self::new(var("NATS_URL").unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned()));
        config.login = login(&var)?;
        config.login()?;
        config.root_certificate = var("NATS_CA").map(Into::into);
        config.client_certificate = pair("NATS_CERT", var("NATS_CERT"), "NATS_KEY", var("NATS_KEY"))?
            .map(|(certificate, key)| (certificate.into(), key.into()));
        config.tls = match var("NATS_TLS").as_deref() {
            None | Some("auto") => Tls::Auto,
            Some("require") => Tls::Required,
            Some("first") => Tls::First,
            Some(_) => {
                return Err(NatsConfigError::Variable { name: "NATS_TLS", wanted: "auto, require or first" });
            }
        };
        config.header_filter = match var("NATS_HEADER_FILTER").as_deref() {
            None | Some("auto") => HeaderFilter::Auto,
            Some("always") => HeaderFilter::Always,
            Some("never") => HeaderFilter::Never,
            Some(_) => {
                return Err(NatsConfigError::Variable { name: "NATS_HEADER_FILTER", wanted: "auto, always or never" });
            }
        };
        config.inbox_prefix = var("NATS_INBOX_PREFIX");
        let prefixes = var("NATS_REPLY_PREFIXES").unwrap_or_default();
        let prefixes = prefixes.split(',').map(str::trim).filter(|prefix| !prefix.is_empty());
        config.reply_prefixes = prefixes.map(ToOwned::to_owned).collect();
        config.reply_subjects()?;
        config.auth_js_api_prefix = var("AUTH_JS_API_PREFIX");
        config.auth_api()?;
        config.kv_api_prefixes = KvApiPrefixes::from_vars(&vars)?;
        if let Some(text) = var("NATS_CONNECT_TIMEOUT_MS") {
            let millis = text.parse().map_err(|_| NatsConfigError::Variable {
                name: "NATS_CONNECT_TIMEOUT_MS",
                wanted: "a number of milliseconds",
            })?;
            config.connect_timeout = Duration::from_millis(millis);
        }
        Ok(config)
    }
}

fn login(var: &impl Fn(&str) -> Option<String>) -> Result<Option<Login>, NatsConfigError> {
    let password = secret(var, "NATS_PASSWORD")?;
    let user = pair("NATS_USER", var("NATS_USER"), "NATS_PASSWORD", password)?;
    let logins = [
        user.map(|(name, password)| Login::User { name, password }),
        secret(var, "NATS_TOKEN")?.map(Login::Token),
        secret(var, "NATS_NKEY_SEED")?.map(|seed| Login::Nkey { seed }),
        var("NATS_CREDS").map(|path| Login::CredentialsFile(path.into())),
    ];
    let mut logins = logins.into_iter().flatten();
    let login = logins.next();
    if logins.next().is_some() {
        let why = "set one of NATS_USER, NATS_TOKEN, NATS_NKEY_SEED and NATS_CREDS".to_owned();
        return Err(NatsConfigError::Incomplete(why));
    }
    Ok(login)
}

/// Returns the value of `name`, or the content of the file that the variable `name` with `_FILE` names.
fn secret(var: &impl Fn(&str) -> Option<String>, name: &str) -> Result<Option<String>, NatsConfigError> {
    let by_file = file_of(name);
    secret_var(var, name).map_err(|error| match error {
        SecretVarError::Both => NatsConfigError::Incomplete(format!("set {name} or {by_file}, not both")),
        SecretVarError::Blank => {
            NatsConfigError::Incomplete(format!("{name}, or the file that {by_file} names, holds blanks alone"))
        }
        SecretVarError::File { path, source } => NatsConfigError::File { name: by_file, path, source },
    })
}

fn pair(
    first: &str,
    first_value: Option<String>,
    second: &str,
    second_value: Option<String>,
) -> Result<Option<(String, String)>, NatsConfigError> {
    match (first_value, second_value) {
        (Some(a), Some(b)) => Ok(Some((a, b))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(NatsConfigError::Incomplete(format!("{first} is set: set {second} too"))),
        (None, Some(_)) => Err(NatsConfigError::Incomplete(format!("{second} is set: set {first} too"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(vars: &[(&str, &str)]) -> Result<NatsConfig, NatsConfigError> {
        NatsConfig::from_vars(|name| {
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn half_a_login_and_two_logins_are_refused() {
        assert!(from(&[]).is_ok());
        assert!(from(&[("NATS_USER", "u")]).is_err());
        assert!(from(&[("NATS_USER", "u"), ("NATS_PASSWORD", "p"), ("NATS_TOKEN", "t")]).is_err());
        assert!(from(&[("NATS_URL", "nats://u:p@a")]).is_ok());
        assert!(from(&[("NATS_URL", "nats://u:p@a"), ("NATS_USER", "u"), ("NATS_PASSWORD", "p")]).is_err());
        assert!(from(&[("NATS_URL", "nats://a:port")]).is_err());
        assert!(from(&[("NATS_CERT", "c")]).is_err());
        assert!(from(&[("NATS_CONNECT_TIMEOUT_MS", "soon")]).is_err());
        assert!(from(&[("NATS_TLS", "no")]).is_err());
        assert!(from(&[("NATS_HEADER_FILTER", "no")]).is_err());
    }

    #[test]
    fn reply_prefixes_are_a_list_of_literal_subjects() {
        let config = from(&[("NATS_REPLY_PREFIXES", "shop.in, nest ,,")]).unwrap();
        assert_eq!(config.reply_prefixes, ["shop.in", "nest"]);
        for bad in ["a.*", ">", "$KV", "a,$JS.API", "a..b", "a b"] {
            let refused = from(&[("NATS_REPLY_PREFIXES", bad)]);
            assert!(matches!(refused, Err(NatsConfigError::Variable { name: "NATS_REPLY_PREFIXES", .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_secret_comes_from_its_variable_or_from_a_file_but_not_from_both() {
        let folder = std::env::temp_dir().join(format!("nats-rpc-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (full, empty) = (folder.join("token"), folder.join("empty"));
        std::fs::write(&full, "hunter2\n").unwrap();
        std::fs::write(&empty, "\n").unwrap();
        let [full, empty] = [&full, &empty].map(|path| path.to_str().unwrap());
        let read = from(&[("NATS_TOKEN_FILE", full)]).unwrap();
        assert!(matches!(read.login, Some(Login::Token(token)) if token == "hunter2"));
        let read = from(&[("NATS_TOKEN", " hunter2\r\n")]).unwrap();
        assert!(matches!(read.login, Some(Login::Token(token)) if token == "hunter2"), "a line feed is no part of it");
        for vars in [
            &[("NATS_TOKEN_FILE", full), ("NATS_TOKEN", "t")][..],
            &[("NATS_TOKEN_FILE", empty)],
            &[("NATS_USER", "u"), ("NATS_PASSWORD", "\n"), ("NATS_TOKEN_FILE", "")],
            &[("NATS_NKEY_SEED_FILE", "/no/such/file")],
            &[("NATS_PASSWORD_FILE", full)],
        ] {
            let error = from(vars).unwrap_err().to_string();
            assert!(error.contains("_FILE") || error.contains("NATS_USER"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}

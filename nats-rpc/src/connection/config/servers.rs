use std::str::FromStr;

use async_nats::ServerAddr;
use percent_encoding::percent_decode_str;

use super::NatsConfigError;
use super::login::Login;

/// The servers of a list of URLs, and the credentials in the URLs.
pub(super) struct Servers {
    /// The addresses without credentials.
    pub(super) addresses: Vec<ServerAddr>,
    pub(super) login: Option<Login>,
}

impl Servers {
    /// Reads URLs that are separated by commas.
    ///
    /// # Errors
    /// If a URL cannot be read, if two URLs hold different credentials, or if the list names no server. The error
    /// contains no part of a URL, because the apparent host can be a part of a password.
    pub(super) fn parse(urls: &str) -> Result<Self, NatsConfigError> {
        let mut servers = Self { addresses: Vec::new(), login: None };
        for (index, url) in urls.split(',').map(str::trim).filter(|url| !url.is_empty()).enumerate() {
            // A comma in a password splits one URL into two; the second has no scheme.
            if index > 0 && url.contains('@') && !url.contains("://") {
                return Err(unreadable("a URL with credentials must begin with its scheme".to_owned()));
            }
            let address = ServerAddr::from_str(url).map_err(|error| unreadable(error.to_string()))?;
            let (address, login) = split(address)?;
            servers.addresses.push(address);
            match (&servers.login, login) {
                (Some(known), Some(login)) if *known != login => {
                    let why = "the servers of NATS_URL have different credentials: use the same for all";
                    return Err(NatsConfigError::Incomplete(why.to_owned()));
                }
                (None, login) => servers.login = login,
                _ => {}
            }
        }
        if servers.addresses.is_empty() {
            return Err(NatsConfigError::Incomplete("no server is named: set NATS_URL".to_owned()));
        }
        Ok(servers)
    }
}

/// Removes the credentials from a URL: `user:password@`, or `token@`.
fn split(address: ServerAddr) -> Result<(ServerAddr, Option<Login>), NatsConfigError> {
    let mut url = address.into_inner();
    // The rest of a password that contains a slash, a question mark or a number sign.
    if [Some(url.path()), url.query(), url.fragment()].into_iter().flatten().any(|part| part.contains('@')) {
        return Err(unreadable("an `@` follows the host".to_owned()));
    }
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
        decoded.map_err(|_| unreadable("the credentials are not UTF-8".to_owned()))
    };
    let login = match (url.username(), url.password()) {
        ("", None) => None,
        ("", Some(_)) => return Err(unreadable("a password has no user".to_owned())),
        (token, None) => Some(Login::Token(decode(token)?)),
        (name, Some(password)) => Some(Login::User { name: decode(name)?, password: decode(password)? }),
    };
    let without_host = || unreadable("a host is missing".to_owned());
    url.set_password(None).map_err(|()| without_host())?;
    url.set_username("").map_err(|()| without_host())?;
    Ok((ServerAddr::from_url(url).map_err(|error| unreadable(error.to_string()))?, login))
}

fn unreadable(why: String) -> NatsConfigError {
    NatsConfigError::Url { source: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(urls: &str) -> Option<Login> {
        Servers::parse(urls).unwrap().login
    }

    fn user(name: &str, password: &str) -> Option<Login> {
        Some(Login::User { name: name.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn url_credentials_are_read_and_decoded() {
        assert!(login("nats://a,b:1,tls://[::1]:4222").is_none());
        assert!(login("nats://joe:hunter2@a") == user("joe", "hunter2"));
        assert!(login("joe:hunter2@a") == user("joe", "hunter2"));
        assert!(login("nats://j%40e:p%40s%2Cs%2f%25@a:1, nats://b") == user("j@e", "p@s,s/%"));
        assert!(login("nats://joe:p@ss@a") == user("joe", "p@ss"));
        assert!(login("nats://joe:@a") == Some(Login::Token("joe".to_owned())));
        assert!(login("nats://s3cret@a,nats://s3cret@b") == Some(Login::Token("s3cret".to_owned())));
    }

    #[test]
    fn addresses_have_no_credentials() {
        let servers = Servers::parse("nats://joe:hunter2@a:1, tls://joe:hunter2@b").unwrap();
        let addresses: Vec<_> = servers.addresses.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(addresses, ["nats://a:1", "tls://b"]);
    }

    /// Each password contains a character that has a meaning in URLs.
    #[test]
    fn unreadable_urls_are_errors_without_credentials() {
        let urls = [
            "",
            ",",
            "nats://joe:12,34@a",
            "nats://joe:hunter,2@a",
            "nats://joe:12/34@a",
            "nats://joe:12?34@a",
            "nats://joe:12#34@a",
            "nats://joe:hunter/2@a",
            "nats://:hunter2@a",
            "nats://joe:hunter2@a:port",
            "nats://joe:%ff34@a",
            "http://joe:hunter2@a",
            "nats://joe:hunter2@a,nats://joe:34@b",
            "nats://joe:hunter2@",
        ];
        for url in urls {
            let Err(error) = Servers::parse(url) else { panic!("{url:?} is read") };
            let text = format!("{error} {error:?}");
            assert!(!["hunter", "34", "joe"].iter().any(|secret| text.contains(secret)), "{url:?}: {text}");
        }
    }
}

//! Addresses of a request that proxies report.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

/// The header in which proxies report addresses.
///
/// The gateway reads one of them, never both: a proxy that writes one passes the other on as the caller wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ProxyHeader {
    /// `x-forwarded-for: 198.51.100.7, 10.0.0.3`, also with ports and brackets.
    #[default]
    XForwardedFor,
    /// `forwarded: for="[2001:db8::7]:4711";proto=https, for=10.0.0.3` (RFC 7239).
    Forwarded,
}

impl ProxyHeader {
    /// Reads the name of the header.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::XForwardedFor, Self::Forwarded].into_iter().find(|header| name.eq_ignore_ascii_case(header.name()))
    }

    fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }

    /// Returns the addresses, the nearest last; `None` for an entry that is no address.
    pub(crate) fn hops(self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        let lines = headers.get_all(self.name()).iter().map(|line| line.to_str().unwrap_or_default());
        let read = match self {
            Self::XForwardedFor => address,
            Self::Forwarded => forwarded_for,
        };
        // A comma ends an element even in quotation marks. Otherwise one quotation mark of the caller's own would
        // swallow the entries that the proxies behind it add.
        lines.flat_map(|line| line.split(',')).map(read).collect()
    }
}

/// Returns the address of one element of `forwarded`, whose parameters are separated by semicolons.
///
/// An element with half a quoted string, or with an escape in one, is part of another value.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    if element.contains('\\') || !element.matches('"').count().is_multiple_of(2) {
        return None;
    }
    let mut named = element.split(';').filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value)
    });
    // A second `for` parameter would make the address ambiguous.
    match (named.next(), named.next()) {
        (Some(value), None) => address(value),
        _ => None,
    }
}

/// Parses an address in any form that proxies write: bare, with a port, in brackets, in quotation marks.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let text = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some(socket.ip());
    }
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))?;
    bracketed.parse().ok().filter(IpAddr::is_ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hops(header: ProxyHeader, lines: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header.name(), line.parse().unwrap());
        }
        let text = |hop: Option<IpAddr>| hop.map_or_else(|| "none".to_owned(), |hop| hop.to_string());
        header.hops(&headers).into_iter().map(text).collect()
    }

    #[test]
    fn addresses_are_read_in_every_form_that_proxies_write() {
        let read = |line| hops(ProxyHeader::XForwardedFor, &[line]);
        for (form, address) in [
            ("198.51.100.7", "198.51.100.7"),
            ("198.51.100.7:51234", "198.51.100.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            (" \"[2001:db8::7]:443\" ", "2001:db8::7"),
        ] {
            assert_eq!(read(form), [address], "{form}");
        }
        for wrong in
            ["", "unknown", "_hidden", "198.51.100.7:", "198.51.100.7:x", "[198.51.100.7]", "[::1", "::1]:80", "a.b"]
        {
            assert_eq!(read(wrong), ["none"], "{wrong}");
        }
        assert_eq!(read("\"evil, 198.51.100.7"), ["none", "198.51.100.7"], "a mark of the caller's");
        assert_eq!(
            hops(ProxyHeader::XForwardedFor, &["192.0.2.1, x", "10.0.0.1:1"]),
            ["192.0.2.1", "none", "10.0.0.1"]
        );
    }

    #[test]
    fn forwarded_is_read_by_its_standard() {
        let read = |line| hops(ProxyHeader::Forwarded, &[line]);
        assert_eq!(read("for=192.0.2.60;proto=http;by=203.0.113.43"), ["192.0.2.60"]);
        assert_eq!(read("For=\"[2001:db8:cafe::17]:4711\""), ["2001:db8:cafe::17"]);
        assert_eq!(read("for=192.0.2.43, for=198.51.100.17;host=\"a.example:80\""), ["192.0.2.43", "198.51.100.17"]);
        assert_eq!(read("by=10.0.0.1;for=\"192.0.2.1:80\""), ["192.0.2.1"]);
        for wrong in [
            "",
            "proto=http",
            "for=unknown",
            "for=\"_gazonk\"",
            "for=1.1.1.1;for=2.2.2.2",
            "for=\"1.1.1.1",
            "192.0.2.1",
        ] {
            assert_eq!(read(wrong), ["none"], "{wrong}");
        }
    }

    #[test]
    fn value_inside_a_quoted_string_is_no_address() {
        let last = |line: &str| hops(ProxyHeader::Forwarded, &[line]).pop().unwrap();
        assert_eq!(last("for=\"evil, for=198.51.100.7"), "198.51.100.7", "a mark of the caller's");
        for host in
            ["x,for=9.9.9.9;a=", "x,for=9.9.9.9", "x;for=9.9.9.9", "x;for=9.9.9.9;a=", "x\\\",for=9.9.9.9;a=\\\""]
        {
            assert_eq!(last(&format!("for=198.51.100.7;host=\"{host}\"")), "none", "{host}");
        }
    }

    #[test]
    fn header_is_named_as_it_is_spelled() {
        assert_eq!(ProxyHeader::parse("X-Forwarded-For"), Some(ProxyHeader::XForwardedFor));
        assert_eq!(ProxyHeader::parse("Forwarded"), Some(ProxyHeader::Forwarded));
        assert_eq!(ProxyHeader::parse("x-real-ip"), None);
    }
}

//! The client's IP address: the address of the socket, or the one that a trusted proxy reports.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use crate::forwarded::ProxyHeader;

/// The trusted proxies, none by default, and the header in which they report addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    networks: Vec<Network>,
    header: ProxyHeader,
}

/// An address with the number of its significant bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Proxies {
    /// Parses addresses and networks such as `10.0.0.7, 10.1.0.0/16, fd00::/8`; `None` if one is neither.
    pub(crate) fn parse(list: &str) -> Option<Self> {
        let networks = list.split(',').map(|network| Network::parse(network.trim())).collect::<Option<_>>()?;
        Some(Self { networks, header: ProxyHeader::default() })
    }

    /// Returns the same proxies, which write `header`.
    pub(crate) fn reading(self, header: ProxyHeader) -> Self {
        Self { header, ..self }
    }

    fn contain(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Returns the client's IP address; `None` if the server does not know its own socket.
    pub(crate) fn origin(&self, parts: &Parts) -> Option<IpAddr> {
        let ConnectInfo(socket) = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(self.origin_of(socket.ip().to_canonical(), &parts.headers))
    }

    /// Walks from the nearest address outwards while each one is a trusted proxy, and returns the first other address.
    ///
    /// Any client can send the header. The first address that is not a trusted proxy wrote everything to the left of
    /// its own entry, so the gateway ignores that part. It ignores the whole header if the socket's peer is no trusted
    /// proxy.
    fn origin_of(&self, socket: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut origin = socket;
        // Without a trusted proxy at the socket, the header is not even read.
        let mut hops = if self.contain(origin) { self.header.hops(headers) } else { Vec::new() };
        while self.contain(origin) {
            match hops.pop() {
                Some(Some(hop)) => origin = hop.to_canonical(),
                Some(None) | None => break,
            }
        }
        origin
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most))?;
        Some(Self { address, bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let differs = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (u32::from(own) ^ u32::from(other)).leading_zeros(),
            (IpAddr::V6(own), IpAddr::V6(other)) => (u128::from(own) ^ u128::from(other)).leading_zeros(),
            _ => return false,
        };
        differs >= self.bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(proxies: &str, socket: &str, lines: &[&str]) -> String {
        let proxies = if proxies.is_empty() { Proxies::default() } else { Proxies::parse(proxies).unwrap() };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        proxies.origin_of(socket.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn nobody_is_believed_who_is_not_named() {
        assert_eq!(origin("", "203.0.113.7", &["198.51.100.1"]), "203.0.113.7");
        assert_eq!(origin("10.0.0.1", "203.0.113.7", &["198.51.100.1"]), "203.0.113.7");
    }

    #[test]
    fn a_named_proxy_says_who_stands_before_it() {
        assert_eq!(origin("10.0.0.0/8", "10.1.2.3", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(origin("10.0.0.0/8", "10.1.2.3", &["198.51.100.1, 10.9.9.9"]), "198.51.100.1");
        assert_eq!(origin("10.0.0.0/8", "10.1.2.3", &["198.51.100.1", "10.9.9.9"]), "198.51.100.1");
        assert_eq!(origin("fd00::/8", "fd00::1", &["2001:db8::7"]), "2001:db8::7");
    }

    #[test]
    fn ports_and_brackets_of_proxies_are_read() {
        for (hop, address) in [
            ("198.51.100.7:51234", "198.51.100.7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
        ] {
            assert_eq!(origin("10.0.0.0/8", "10.1.2.3", &[hop]), address, "{hop}");
            let behind = format!("{hop}, 10.9.9.9:80");
            assert_eq!(origin("10.0.0.0/8", "10.1.2.3", &[&behind]), address, "{behind}");
        }
    }

    #[test]
    fn only_the_header_that_is_configured_is_read() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "198.51.100.1".parse().unwrap());
        headers.append("forwarded", "for=\"[2001:db8::7]:4711\";proto=https, for=10.9.9.9".parse().unwrap());
        let proxies = Proxies::parse("10.0.0.0/8").unwrap();
        let socket = "10.1.2.3".parse().unwrap();
        assert_eq!(proxies.origin_of(socket, &headers).to_string(), "198.51.100.1");
        assert_eq!(proxies.reading(ProxyHeader::Forwarded).origin_of(socket, &headers).to_string(), "2001:db8::7");
    }

    #[test]
    fn what_a_caller_wrote_itself_is_left_of_its_own_address_and_not_read() {
        let forged = ["127.0.0.1, 192.0.2.9, 198.51.100.1"];
        assert_eq!(origin("10.0.0.0/8", "10.1.2.3", &forged), "198.51.100.1");
        // A trusted address in the caller's part of the header does not extend the walk either.
        assert_eq!(origin("10.0.0.0/8", "10.1.2.3", &["192.0.2.9, 10.0.0.5, 198.51.100.1"]), "198.51.100.1");
    }

    #[test]
    fn where_the_list_ends_or_breaks_the_last_proxy_is_the_origin() {
        assert_eq!(origin("10.0.0.0/8", "10.1.2.3", &[]), "10.1.2.3");
        assert_eq!(origin("10.0.0.0/8", "10.1.2.3", &["198.51.100.1, unknown"]), "10.1.2.3");
        assert_eq!(origin("10.0.0.0/8", "10.1.2.3", &["unknown, 10.4.4.4"]), "10.4.4.4");
    }

    #[test]
    fn proxies_are_addresses_and_networks_and_nothing_else() {
        for good in ["10.0.0.1", "10.0.0.0/8, fd00::/8", "::1", "0.0.0.0/0"] {
            assert!(Proxies::parse(good).is_some(), "{good}");
        }
        for wrong in ["", "proxy", "10.0.0.0/33", "10.0.0.1/", "::1/129", "10.0.0.1;10.0.0.2", "10.0.0.1,"] {
            assert!(Proxies::parse(wrong).is_none(), "{wrong}");
        }
        assert!(!Network::parse("10.0.0.0/8").unwrap().contains("11.0.0.1".parse().unwrap()));
        assert!(Network::parse("0.0.0.0/0").unwrap().contains("11.0.0.1".parse().unwrap()));
    }
}

//! The networks of a source: each has a counter, and a larger network allows more failures.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The size of a network, as providers assign it to a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// An IPv4 address, or an IPv6 /64.
    Source,
    /// An IPv6 /56.
    Site,
    /// An IPv4 /24, or an IPv6 /48.
    Network,
}

/// A source and the networks that it is in, the smallest first.
///
/// The source is named by its address, as the gateway proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Networks(Vec<(Size, String)>);

impl Networks {
    /// Returns the networks of a proven source; text that is not an address is its own only network.
    pub(super) fn of(source: &str) -> Self {
        let mut networks = vec![(Size::Source, source.to_owned())];
        match source.parse() {
            Ok(IpAddr::V4(address)) => {
                let network = Ipv4Addr::from(u32::from(address) & (u32::MAX << 8));
                networks.push((Size::Network, format!("{network}/24")));
            }
            Ok(IpAddr::V6(address)) => {
                let first = |bits: u32| Ipv6Addr::from(u128::from(address) & (u128::MAX << (128 - bits)));
                networks.push((Size::Site, format!("{}/56", first(56))));
                networks.push((Size::Network, format!("{}/48", first(48))));
            }
            Err(_) => {}
        }
        Self(networks)
    }

    /// Returns the networks, the smallest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Size, &str)> {
        self.0.iter().map(|(size, name)| (*size, name.as_str()))
    }

    /// Returns the source itself.
    pub(super) fn source(&self) -> &str {
        self.0.first().map_or("", |(_, name)| name)
    }

    /// Returns the largest network, whose sources share its turns.
    pub(super) fn largest(&self) -> &str {
        self.0.last().map_or("", |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_in_networks_of_growing_size() {
        let of = |source: &str| Networks::of(source).iter().map(|(_, name)| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(of("203.0.113.7"), ["203.0.113.7", "203.0.113.0/24"]);
        assert_eq!(of("2001:db8:1:2345::"), ["2001:db8:1:2345::", "2001:db8:1:2300::/56", "2001:db8:1::/48"]);
        assert_eq!(of("somewhere"), ["somewhere"]);
        let networks = Networks::of("2001:db8:1:2345::");
        assert_eq!((networks.source(), networks.largest()), ("2001:db8:1:2345::", "2001:db8:1::/48"));
    }
}

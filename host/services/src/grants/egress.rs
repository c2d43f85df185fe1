//! Which servers a plugin may send HTTP requests to: an origin (scheme, host,
//! port), and whether addresses that are not public may be behind it.
//!
//! Pure: names and addresses are compared here, resolving and connecting is the
//! runtime's work. A name says nothing about where it leads, so the address
//! that a name resolves to is asked about apart from the name, for every
//! connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Permission to send requests to one origin, or to the subdomains of one.
///
/// In a manifest and in the operator's configuration:
/// `{ origin = "https://api.example.com" }`, `{ origin = "https://*.example.com" }`
/// (every subdomain, not the domain itself), `{ origin = "https://*" }` (every
/// host), `{ origin = "http://127.0.0.1:8080", private = true }`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressGrant {
    /// Scheme, host and port.
    pub origin: Origin,
    /// Whether the host may have an address of the local machine or of a
    /// private network (RFC 1918, RFC 4193, RFC 6598). Link-local addresses,
    /// where clouds keep their instance credentials, are never reached.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
}

impl EgressGrant {
    /// What both grant, if anything.
    pub(super) fn intersect(&self, other: &EgressGrant) -> Option<EgressGrant> {
        if (self.origin.tls, self.origin.port) != (other.origin.tls, other.origin.port) {
            return None;
        }
        Some(EgressGrant {
            origin: Origin {
                host: self.origin.host.narrower(&other.origin.host)?.clone(),
                ..self.origin
            },
            private: self.private && other.private,
        })
    }

    /// Whether everything that `other` grants is granted by this, too.
    pub(super) fn covers(&self, other: &EgressGrant) -> bool {
        (self.private || !other.private) && self.intersect(other).as_ref() == Some(other)
    }
}

impl fmt::Display for EgressGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let private = if self.private { " (private)" } else { "" };
        write!(f, "{}{private}", self.origin)
    }
}

/// Scheme, host pattern and port, as RFC 6454 has them, written as a URL without
/// a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin {
    host: Host,
    tls: bool,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Host {
    /// `*`
    Any,
    /// `*.example.com`, kept as `.example.com`.
    Below(String),
    /// A name in lower case.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl Origin {
    /// Whether a request to this server is meant. `host` as in a URL's
    /// authority: a name in any case, an address, IPv6 in brackets.
    pub fn matches(&self, tls: bool, host: &str, port: u16) -> bool {
        (self.tls, self.port) == (tls, port)
            && Host::exact(host).is_some_and(|host| self.host.narrower(&host) == Some(&host))
    }
}

impl Host {
    fn parse(text: &str) -> Option<Host> {
        if text == "*" {
            return Some(Host::Any);
        }
        match text.strip_prefix("*.") {
            Some(below) => match Host::exact(below)? {
                Host::Name(name) => Some(Host::Below(format!(".{name}"))),
                _ => None,
            },
            None => Host::exact(text),
        }
    }

    fn exact(text: &str) -> Option<Host> {
        if let Some(address) = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
        {
            return Some(Host::Address(IpAddr::V6(address.parse().ok()?)));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Host::Address(IpAddr::V4(address)));
        }
        // The dot at the end of a full name changes nothing about who is meant.
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        // A name whose last label is a number is an address to some resolvers
        // (`0x7f.1`), so it is none to us.
        let last = name.rsplit('.').next().unwrap_or_default();
        let numeric = last.starts_with(|first: char| first.is_ascii_digit());
        let valid = name.len() <= 253 && name.split('.').all(label) && !numeric;
        valid.then_some(Host::Name(name))
    }

    /// The pattern that matches what both match: one of the two, or none.
    fn narrower<'a>(&'a self, other: &'a Host) -> Option<&'a Host> {
        match (self, other) {
            (Host::Any, _) => Some(other),
            (_, Host::Any) => Some(self),
            (Host::Below(end), Host::Name(name) | Host::Below(name)) if name.ends_with(end) => {
                Some(other)
            }
            (Host::Name(name) | Host::Below(name), Host::Below(end)) if name.ends_with(end) => {
                Some(self)
            }
            _ => (self == other).then_some(self),
        }
    }
}

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not an origin: write a scheme and a host, as in \
                 \"https://api.example.com\" or \"https://*.example.com:8443\""
            )
        };
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let default = if tls { 443 } else { 80 };
        // The colons of an IPv6 address are inside of its brackets.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong())?)
            }
            _ => (rest, default),
        };
        let host = Host::parse(host).ok_or_else(wrong)?;
        Ok(Origin { host, tls, port })
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> String {
        origin.to_string()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "https://" } else { "http://" })?;
        match &self.host {
            Host::Any => f.write_str("*")?,
            Host::Below(end) => write!(f, "*{end}")?,
            Host::Name(name) => f.write_str(name)?,
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            Host::Address(address) => write!(f, "{address}")?,
        }
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

/// What kind of place an address leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Somewhere in the Internet.
    Public,
    /// This machine, or a private network.
    Private,
    /// Nowhere that a plugin has any business with: link-local, multicast,
    /// reserved, documentation.
    Never,
}

/// Where an address leads, by the special-purpose registries of IANA
/// (RFC 6890). An IPv6 address that carries an IPv4 one leads where that leads.
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && b & 0xc0 == 64; // 100.64.0.0/10, RFC 6598
    if address.is_loopback() || address.is_private() || shared {
        return Reach::Private;
    }
    let benchmark = a == 198 && b & 0xfe == 18; // 198.18.0.0/15, RFC 2544
    let protocol = (a, b, c) == (192, 0, 0); // RFC 6890
    let relay = (a, b, c) == (192, 88, 99); // RFC 7526
    if a == 0
        || a >= 224 // multicast, reserved, broadcast
        || address.is_link_local()
        || address.is_documentation()
        || benchmark
        || protocol
        || relay
    {
        return Reach::Never;
    }
    Reach::Public
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        reach_v4(Ipv4Addr::new(a, b, c, d))
    };
    if address.is_loopback() || address.is_unique_local() {
        return Reach::Private;
    }
    if let Some(mapped) = address.to_ipv4_mapped() {
        return reach_v4(mapped);
    }
    match (a, b, c, d, e, f) {
        (0x64, 0xff9b, 0, 0, 0, 0) => v4(g, h), // NAT64, RFC 6052
        (0x2002, ..) => v4(b, c),               // 6to4, RFC 3056
        // Teredo, benchmarks, ORCHID and the rest of 2001::/23; documentation.
        (0x2001, 0..0x200, ..) | (0x2001, 0xdb8, ..) | (0x3fff, 0..0x1000, ..) => Reach::Never,
        // Only 2000::/3 has been given out as global unicast.
        (0x2000..0x4000, ..) => Reach::Public,
        _ => Reach::Never,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn an_origin_is_written_as_it_is_read() {
        for text in [
            "https://api.example.com",
            "https://*.example.com:8443",
            "http://*",
            "http://127.0.0.1:8080",
            "https://[::1]:9000",
            "http://[2001:db8::1]",
        ] {
            assert_eq!(origin(text).to_string(), text);
        }
        assert_eq!(
            origin("https://API.Example.com:443/").to_string(),
            "https://api.example.com"
        );
    }

    #[test]
    fn what_is_not_an_origin_is_refused() {
        for text in [
            "api.example.com",
            "ftp://example.com",
            "https://",
            "https://example.com/path",
            "https://user@example.com",
            "https://*.*.com",
            "https://a*.example.com",
            "https://*.127.0.0.1",
            "https://example.com:99999",
            "https://exa mple.com",
            "http://0x7f.1",
            "http://2130706433",
            "http://127.1",
        ] {
            let error = Origin::try_from(text.to_owned()).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_request_matches_by_scheme_host_and_port() {
        let cases = [
            ("https://example.com", true, "EXAMPLE.com", 443, true),
            ("https://example.com", true, "example.com.", 443, true),
            ("https://example.com", false, "example.com", 443, false),
            ("https://example.com", true, "example.com", 444, false),
            ("https://example.com", true, "www.example.com", 443, false),
            ("https://*.example.com", true, "www.example.com", 443, true),
            ("https://*.example.com", true, "a.b.example.com", 443, true),
            ("https://*.example.com", true, "example.com", 443, false),
            ("https://*.example.com", true, "evilexample.com", 443, false),
            ("https://*", true, "anything.test", 443, true),
            ("https://*", true, "[::1]", 443, true),
            ("http://127.0.0.1:80", false, "127.0.0.1", 80, true),
            ("http://127.0.0.1:80", false, "127.1", 80, false),
            ("https://*", true, "0x7f000001", 443, false),
        ];
        for (grant, tls, host, port, expected) in cases {
            assert_eq!(
                origin(grant).matches(tls, host, port),
                expected,
                "{grant} {host}"
            );
        }
    }

    #[test]
    fn addresses_lead_where_the_registries_say() {
        let cases = [
            ("1.1.1.1", Reach::Public),
            ("2606:4700:4700::1111", Reach::Public),
            ("127.0.0.1", Reach::Private),
            ("10.1.2.3", Reach::Private),
            ("172.31.255.1", Reach::Private),
            ("192.168.0.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("::1", Reach::Private),
            ("fd00::1", Reach::Private),
            ("::ffff:10.0.0.1", Reach::Private),
            ("64:ff9b::a00:1", Reach::Private),
            ("2002:7f00:1::", Reach::Private),
            ("::ffff:169.254.169.254", Reach::Never),
            ("169.254.169.254", Reach::Never),
            ("0.0.0.0", Reach::Never),
            ("224.0.0.1", Reach::Never),
            ("255.255.255.255", Reach::Never),
            ("198.19.0.1", Reach::Never),
            ("192.0.2.1", Reach::Never),
            ("::", Reach::Never),
            ("::7f00:1", Reach::Never),
            ("fe80::1", Reach::Never),
            ("ff02::1", Reach::Never),
            ("2001:db8::1", Reach::Never),
            ("2001::1", Reach::Never),
        ];
        for (address, expected) in cases {
            assert_eq!(reach(address.parse().unwrap()), expected, "{address}");
        }
    }

    const HOSTS: [&str; 7] = [
        "*",
        "*.com",
        "*.a.com",
        "a.com",
        "b.a.com",
        "127.0.0.1",
        "[::1]",
    ];

    fn grant() -> impl Strategy<Value = EgressGrant> {
        let (scheme, port) = (prop::sample::select(vec!["http", "https"]), 1..3_u16);
        (
            prop::sample::select(&HOSTS[..]),
            scheme,
            port,
            any::<bool>(),
        )
            .prop_map(|(host, scheme, port, private)| EgressGrant {
                origin: origin(&format!("{scheme}://{host}:{port}")),
                private,
            })
    }

    proptest! {
        #[test]
        fn the_intersection_matches_exactly_what_both_match(a in grant(), b in grant()) {
            let both = a.intersect(&b);
            prop_assert_eq!(&both, &b.intersect(&a));
            for host in ["a.com", "b.a.com", "c.b.a.com", "b.com", "com", "127.0.0.1", "[::1]"] {
                for (tls, port) in [(true, 1), (true, 2), (false, 1), (false, 2)] {
                    let matched = |grant: &EgressGrant| grant.origin.matches(tls, host, port);
                    prop_assert_eq!(both.as_ref().is_some_and(matched), matched(&a) && matched(&b));
                }
            }
            if let Some(both) = both {
                prop_assert_eq!(both.private, a.private && b.private);
                prop_assert!(a.covers(&both) && b.covers(&both));
            }
        }
    }
}

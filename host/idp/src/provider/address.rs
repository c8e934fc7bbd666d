//! Classes of network addresses, and which of them a provider's request may reach. Pure; resolves nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The internet.
    Public,
    /// This machine.
    Loopback,
    /// Networks of organisations: RFC 1918, RFC 4193.
    Private,
    /// RFC 3927, RFC 4291.
    LinkLocal,
    /// Where clouds answer their machines' questions about credentials.
    Metadata,
    /// RFC 6598.
    Shared,
    /// Unspecified, multicast, broadcast, documentation, reserved.
    Special,
}

impl Class {
    /// The class of an address. IPv4 inside IPv6, in any of the usual forms, counts as what it is inside.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [a, b, c, _] = address.octets();
        match (a, b, c) {
            // The usual address of the metadata service; containers' task credentials; Alibaba's; Azure's.
            _ if matches!(
                address.octets(),
                [169, 254, 169, 254] | [169, 254, 170, _] | [100, 100, 100, 200] | [168, 63, 129, 16]
            ) =>
            {
                Self::Metadata
            }
            (127, ..) => Self::Loopback,
            (10, ..) | (172, 16..=31, _) | (192, 168, _) => Self::Private,
            (169, 254, _) => Self::LinkLocal,
            (100, 64..=127, _) => Self::Shared,
            (0 | 224..=255, ..) | (192, 0, 0 | 2) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) => {
                Self::Special
            }
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if address.is_loopback() {
            return Self::Loopback;
        }
        let s = address.segments();
        let inside = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Self::of_v4(Ipv4Addr::new(a, b, c, d))
        };
        match s {
            // RFC 8215: where the IPv4 address stands in it is the network's own affair.
            [0x64, 0xff9b, 1, ..] => Self::Private,
            // Mapped, compatible, translated (RFC 6052), 6to4.
            [0, 0, 0, 0, 0, 0xffff | 0, high, low] => inside(high, low),
            [0x64, 0xff9b, .., high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => inside(high, low),
            [0x2002, high, low, ..] => inside(high, low),
            [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Self::Metadata,
            [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Self::Private,
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            [0xff00..=0xffff, ..] | [0x2001, 0..=0x1ff | 0xdb8, ..] => Self::Special,
            _ => Self::Public,
        }
    }

    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata service",
            Self::Shared => "carrier-grade NAT",
            Self::Special => "reserved",
        }
    }

    /// Whether a request may go to an address of this class, when the registry's own addresses are of these classes.
    pub fn allowed_beside(self, registry: &[Self]) -> bool {
        match self {
            Self::Public => true,
            // Being beside them grants nothing: only the registry itself may be there.
            Self::Metadata | Self::Special => false,
            class => registry.contains(&class),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Class;

    #[test]
    fn classes() {
        for (address, expect) in [
            ("8.8.8.8", Class::Public),
            ("127.9.9.9", Class::Loopback),
            ("10.0.0.1", Class::Private),
            ("172.31.0.1", Class::Private),
            ("172.32.0.1", Class::Public),
            ("192.168.1.1", Class::Private),
            ("169.254.1.1", Class::LinkLocal),
            ("169.254.169.254", Class::Metadata),
            ("169.254.170.2", Class::Metadata),
            ("100.64.0.1", Class::Shared),
            ("0.0.0.0", Class::Special),
            ("255.255.255.255", Class::Special),
            ("224.0.0.1", Class::Special),
            ("::1", Class::Loopback),
            ("::", Class::Special),
            ("::ffff:127.0.0.1", Class::Loopback),
            ("::ffff:169.254.169.254", Class::Metadata),
            ("::127.0.0.1", Class::Loopback),
            ("::ffff:8.8.8.8", Class::Public),
            ("64:ff9b::10.0.0.1", Class::Private),
            ("2002:7f00:1::", Class::Loopback),
            ("fe80::1", Class::LinkLocal),
            ("fd12::1", Class::Private),
            ("fd00:ec2::254", Class::Metadata),
            ("fd20:ce::254", Class::Metadata),
            ("168.63.129.16", Class::Metadata),
            ("64:ff9b:1:a9fe:a9:fe00:808:808", Class::Private),
            ("ff02::1", Class::Special),
            ("2606:4700::1111", Class::Public),
        ] {
            assert_eq!(Class::of(address.parse().expect(address)), expect, "{address}");
        }
    }

    #[test]
    fn beside_the_registry() {
        assert!(Class::Public.allowed_beside(&[]));
        assert!(!Class::Private.allowed_beside(&[Class::Public]));
        assert!(Class::Private.allowed_beside(&[Class::Private]));
        assert!(!Class::Loopback.allowed_beside(&[Class::Private]));
        assert!(!Class::Metadata.allowed_beside(&[Class::Metadata]));
    }
}

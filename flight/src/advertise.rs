//! Where clients find a server: what its heartbeat, its lanes' roots and `GetFlightInfo` say.
//!
//! A server that listens on one address is found there. One that listens on every address must choose: the address that the machine's own name stands
//! for, as in a container of Kubernetes, else the one that packets to elsewhere are sent from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::error::{Result, WireError};

/// Checks what an operator gave. Errors: `Invalid`.
pub(crate) fn check(address: &str) -> Result<()> {
    let place = address.strip_prefix("grpc://").unwrap_or(address);
    let is_there = place.rsplit_once(':').is_some_and(|(host, port)| {
        let is_any = host.trim_matches(['[', ']']).parse().is_ok_and(|host: IpAddr| host.is_unspecified());
        let is_name = !host.is_empty() && !host.contains(['/', ' ']) && !is_any;
        is_name && port.parse().is_ok_and(|port: u16| port > 0)
    });
    if is_there {
        return Ok(());
    }
    let message =
        format!("advertise: expected where clients find this server, such as grpc://10.0.0.7:8815, found {address}");
    Err(WireError::invalid(message))
}

/// Where clients find a server that listens there, if nobody says otherwise.
pub(crate) async fn found_at(listening: SocketAddr) -> String {
    if !listening.ip().is_unspecified() {
        return format!("grpc://{listening}");
    }
    let named = named(listening.port()).await;
    let chosen = choose(listening.ip(), &named, is_own, sent_from);
    if chosen.is_none() {
        tracing::warn!("this machine has no address that others could reach: say it with --advertise grpc://HOST:PORT");
    }
    let ip = chosen.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let address = format!("grpc://{}", SocketAddr::new(ip, listening.port()));
    tracing::info!(%address, "clients are told to find this server there; --advertise says otherwise");
    address
}

/// The first of `named` that this machine has, else where packets are sent from; nothing that only the machine itself can reach.
fn choose(
    listening: IpAddr,
    named: &[IpAddr],
    is_own: impl Fn(IpAddr) -> bool,
    sent_from: impl Fn(bool) -> Option<IpAddr>,
) -> Option<IpAddr> {
    // Whoever listens on every IPv6 address has the IPv4 ones as well, the other way round not.
    let is_heard = |ip: &IpAddr| ip.is_ipv4() || listening.is_ipv6();
    let is_reachable = |ip: &IpAddr| !ip.is_loopback() && !ip.is_unspecified() && is_heard(ip);
    let named = named.iter().copied().filter(is_reachable).find(|ip| is_own(*ip));
    named.or_else(|| [true, false].into_iter().filter_map(sent_from).find(is_reachable))
}

/// What the machine's name stands for.
async fn named(port: u16) -> Vec<IpAddr> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match tokio::net::lookup_host((name.trim(), port)).await {
        Ok(found) => found.map(|address| address.ip()).collect(),
        Err(_) => Vec::new(),
    }
}

/// Nobody else's address can be bound.
fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// The address that packets to elsewhere would have. None is sent: these are addresses for documentation (RFC 5737, RFC 3849).
fn sent_from(v4: bool) -> Option<IpAddr> {
    let (any, elsewhere) = match v4 {
        true => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        false => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((elsewhere, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn what_the_machine_is_called_comes_first_if_it_is_its_own_and_others_can_reach_it() {
        let route = |v4: bool| v4.then(|| ip("10.0.0.7"));
        let own = |own| move |asked: IpAddr| asked == ip(own);
        let any = ip("0.0.0.0");
        // Debian names 127.0.1.1, a stale record another machine.
        let named = [ip("127.0.1.1"), ip("fd00::7"), ip("10.9.9.9"), ip("10.0.1.7")];
        assert_eq!(choose(any, &named, own("10.0.1.7"), route), Some(ip("10.0.1.7")));
        assert_eq!(choose(any, &named, own("127.0.1.1"), route), Some(ip("10.0.0.7")));
        assert_eq!(choose(any, &named, own("fd00::7"), route), Some(ip("10.0.0.7")), "nobody listens there");
        assert_eq!(choose(ip("::"), &named, own("fd00::7"), route), Some(ip("fd00::7")));
        assert_eq!(choose(any, &[], own("10.0.1.7"), |_| None), None);
        assert_eq!(choose(any, &[], own("10.0.1.7"), |_| Some(ip("127.0.0.1"))), None);
    }

    #[test]
    fn what_an_operator_gives_must_be_a_place() {
        for good in ["grpc://10.0.0.7:8815", "node-1.firn:8815", "grpc://[fd00::7]:1"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "grpc://",
            "grpc://10.0.0.7",
            "10.0.0.7:0",
            "grpc://0.0.0.0:8815",
            "[::]:8815",
            "http://a:1/b",
            ":8815",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_server_that_listens_on_every_address_is_reached_where_it_says() {
        for any in ["0.0.0.0:0", "127.0.0.1:0"] {
            let listener = tokio::net::TcpListener::bind(any).await.expect("a port");
            let address = found_at(listener.local_addr().expect("bound")).await;
            check(&address).expect("a place");
            let place = address.strip_prefix("grpc://").expect("a scheme");
            tokio::net::TcpStream::connect(place).await.expect("it is reached there");
        }
    }
}

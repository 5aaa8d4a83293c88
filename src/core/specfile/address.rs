//! A listed host's addresses: where SSH reaches it, and what the other hosts call it.

use std::net::IpAddr;

use super::section::{At, Section};

const EXAMPLES: &str = "write an IP address, a DNS name, or a Host of your ~/.ssh/config";

/// `address`: what SSH is to connect to.
pub(super) fn public(section: &Section<'_>) -> Option<At<String>> {
    let given = section.text("address", "10.0.0.11")?;
    let Some((problem, cure)) = problem(&given.value) else { return Some(given) };
    section.sink.add(&given.at, format!("\"{}\" {problem}", given.value.escape_debug()), cure);
    None
}

/// `private_address`: all hosts connect to it, this one included.
pub(super) fn private(section: &Section<'_>) -> Option<At<IpAddr>> {
    let given = section.parsed::<IpAddr>("private_address", "10.0.0.11")?;
    let kind = of_no_host(given.value).or_else(|| of_one_machine(given.value));
    let Some(kind) = kind else { return Some(given) };
    let message = format!("private_address in {}: {} is {kind}", section.name, given.value);
    let cure =
        "give the address by which the other hosts reach it, or leave it out: then it is that of its default route";
    section.sink.add(&given.at, message, cure);
    None
}

/// What the address is, where other hosts cannot reach one by it.
pub fn unreachable(address: IpAddr) -> Option<&'static str> {
    of_no_host(address).or_else(|| of_one_machine(address))
}

/// What the address is, where no host can have it.
fn of_no_host(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        a if a.is_unspecified() => Some("no host's address"),
        a if a.is_multicast() => Some("a multicast address, which no host has for itself"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address, which no host has for itself"),
        _ => None,
    }
}

/// What the address is, where it means another host on every machine.
fn of_one_machine(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        a if a.is_loopback() => Some("a loopback address: on each host it is that host itself"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("a link-local address, which is not routed"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address, which is not routed"),
        _ => None,
    }
}

/// Is it a URL that whoever gets it reads as such: `http://` or `https://`, a host, and RFC 3986's characters?
pub(super) fn is_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let fine = |b: u8| b.is_ascii_graphic() && !br#""<>\^`{|}"#.contains(&b);
    let hex = |b: Option<&u8>| b.is_some_and(u8::is_ascii_hexdigit);
    let bytes = rest.as_bytes();
    let escaped = |at: usize| hex(bytes.get(at + 1)) && hex(bytes.get(at + 2));
    // An IPv6 address stands in brackets; a port is behind the last colon.
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let named = match name.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !name.is_empty() && !name.contains([':', '[', ']']),
    };
    named
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
        && bytes.iter().enumerate().all(|(at, b)| if *b == b'%' { escaped(at) } else { fine(*b) })
}

/// What is wrong with where SSH is to connect to, and the cure.
fn problem(address: &str) -> Option<(String, String)> {
    let said = |problem: &str, cure: &str| Some((problem.to_owned(), cure.to_owned()));
    if let Ok(address) = address.parse::<IpAddr>() {
        return of_no_host(address).map(|kind| (format!("is {kind}"), EXAMPLES.to_owned()));
    }
    if address.is_empty() {
        return said("is no address", EXAMPLES);
    }
    if address.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return said("is no IPv4 address", "write four numbers from 0 to 255, such as \"10.0.0.11\"");
    }
    if let Some(cure) = split(address) {
        return said("is no address", &cure);
    }
    if address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') && address.contains(':') {
        return said("is no IPv6 address", "write it without brackets, such as \"fd00::11\"");
    }
    if is_name(address) { None } else { said("is no address", EXAMPLES) }
}

/// What stands in `address` that has a place of its own, or none: how to write it.
fn split(address: &str) -> Option<String> {
    let is_host = |host: &str| host.parse::<IpAddr>().is_ok() || is_name(host);
    let quoted = |host: &str| format!("address = \"{host}\"");
    if let Some((_, rest)) = address.split_once("://") {
        let host = rest.split(['/', ':', '?', '#']).next().unwrap_or_default();
        return Some(if is_host(host) {
            format!("that is a URL: write the name alone, {}", quoted(host))
        } else {
            format!("that is a URL: {EXAMPLES}")
        });
    }
    if let Some((user, host)) = address.rsplit_once('@') {
        let fine = crate::model::jump::is_user(user) && is_host(host);
        return Some(if fine {
            format!("give the login name by itself: user = \"{user}\" and {}", quoted(host))
        } else {
            "give the login name by itself: user = \"admin\"".to_owned()
        });
    }
    let bracketed = address.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = match bracketed {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match address.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => return None,
        },
    };
    if !is_host(host) {
        return Some(EXAMPLES.to_owned());
    }
    Some(match port {
        None => format!("leave out the brackets: {}", quoted(host)),
        Some(port) if port.parse::<u16>().is_ok_and(|port| port != 0) => {
            format!("give the port by itself: {} and port = {port}", quoted(host))
        }
        Some(_) => format!("give the port by itself: {} and port = 22", quoted(host)),
    })
}

/// A DNS name or a `Host` of `~/.ssh/config`. A dot at the end is DNS' own.
fn is_name(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let labels = text.strip_suffix('.').unwrap_or(text).split('.');
    !text.starts_with('-') && text.len() <= 253 && labels.into_iter().all(|l| !l.is_empty() && l.bytes().all(fine))
}

//! A host's public SSH keys as cloud-init wrote them to its console, so that the first login is checked too.
//!
//! The console is whatever the host wrote: prompts, kernel lines in between, colours, half a boot. What comes
//! out of here is a key or nothing.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

const BEGIN: &str = "-----BEGIN SSH HOST KEY KEYS-----";
const END: &str = "-----END SSH HOST KEY KEYS-----";

/// EC2 keeps 64 KiB of a console; more is nobody's console.
const MOST: usize = 1 << 20;
/// A host has three or four.
const MOST_KEYS: usize = 8;
/// An RSA key of 16,384 bits, which is the most that OpenSSH makes, has 2.8 KB.
const LONGEST_KEY: usize = 4096;

/// The keys of the last whole block, in known_hosts' form without the host: `ssh-ed25519 AAAA…`. An earlier
/// block is of an earlier boot; one without an end is still being written.
pub fn host_keys(console: &str) -> Vec<String> {
    let mut from = console.len().saturating_sub(MOST);
    while !console.is_char_boundary(from) {
        from += 1;
    }
    let mut complete = Vec::new();
    let mut open: Option<Vec<String>> = None;
    for line in console[from..].split(['\n', '\r']) {
        let line = plain(line);
        let line = line.trim_end();
        // What stands before them may be a prompt, a time, or the name of who writes.
        if line.ends_with(BEGIN) {
            open = Some(Vec::new());
        } else if line.ends_with(END) {
            complete = open.take().unwrap_or(complete);
        } else if let Some(keys) = &mut open {
            keys.extend(key(line).filter(|key| !keys.contains(key) && keys.len() < MOST_KEYS));
        }
    }
    complete
}

/// The line without what a terminal would obey.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // `ESC [ … letter`: colours and movements.
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                chars.next();
            }
            '\t' => plain.push(' '),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

/// The key in a line, whatever stands before it and behind it.
fn key(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        // cloud-init's prefix may stand right before it: `cloud-init[512]:ssh-ed25519`.
        let word = word.rsplit(':').next().unwrap_or_default();
        if let Some(kind) = KINDS.iter().find(|kind| **kind == word) {
            let blob = words.next()?;
            return is_key(kind, blob).then(|| format!("{kind} {blob}"));
        }
    }
    None
}

const KINDS: [&str; 5] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];

/// Is it a public key of that type, whole and with nothing behind it? (RFC 4253 6.6, RFC 5656 3.1, RFC 8709 4)
fn is_key(kind: &str, blob: &str) -> bool {
    if blob.len() > LONGEST_KEY {
        return false;
    }
    let Ok(bytes) = BASE64_STANDARD.decode(blob) else { return false };
    let Some(fields) = fields(&bytes) else { return false };
    let Some((named, rest)) = fields.split_first() else { return false };
    if *named != kind.as_bytes() {
        return false;
    }
    match (kind.strip_prefix("ecdsa-sha2-"), rest) {
        (Some(curve), [named, point]) => {
            let half = match curve {
                "nistp256" => 32,
                "nistp384" => 48,
                _ => 66,
            };
            *named == curve.as_bytes() && point.len() == 1 + 2 * half && point[0] == 4
        }
        (None, [point]) => kind == "ssh-ed25519" && point.len() == 32,
        (None, [exponent, modulus]) => kind == "ssh-rsa" && !exponent.is_empty() && modulus.len() >= 128,
        _ => false,
    }
}

/// SSH's strings: each with its length in four bytes before it.
fn fields(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        fields.push(rest.get(..length)?);
        bytes = &rest[length..];
    }
    bytes.is_empty().then_some(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGHgoxN4fa6UXXrV1n8mCpgGQ6Qw0e3C2fJ2VXvFtkHk";

    fn made(kind: &str, parts: &[&[u8]]) -> String {
        let mut blob = Vec::new();
        for part in [kind.as_bytes()].iter().chain(parts) {
            blob.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            blob.extend(*part);
        }
        format!("{kind} {}", BASE64_STANDARD.encode(blob))
    }

    fn ecdsa() -> String {
        let mut point = vec![7; 65];
        point[0] = 4;
        made("ecdsa-sha2-nistp256", &[b"nistp256", &point])
    }

    fn rsa() -> String {
        made("ssh-rsa", &[&[1, 0, 1], &[0x5a; 385]])
    }

    fn block(lines: &[&str]) -> String {
        format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
    }

    #[test]
    fn the_block_as_cloud_init_writes_it() {
        let console = format!(
            "Debian GNU/Linux 12 ip-10-0-0-4 ttyS0\r\n\r\nip-10-0-0-4 login: <14>Nov 24 12:00:01 ec2: \r\n\
             <14>Nov 24 12:00:01 ec2: -----BEGIN SSH HOST KEY FINGERPRINTS-----\r\n\
             <14>Nov 24 12:00:01 ec2: 256 SHA256:x root@ip (ED25519)\r\n\
             <14>Nov 24 12:00:01 ec2: -----END SSH HOST KEY FINGERPRINTS-----\r\n{BEGIN}\r\n{} root@ip\r\n{ED25519} root@ip\r\n\
             {}\r\n{END}\r\n[   14.2] cloud-init[512]: Cloud-init v. 22.4 finished\r\n",
            ecdsa(),
            rsa()
        );
        assert_eq!(host_keys(&console), [ecdsa(), ED25519.to_owned(), rsa()]);
    }

    #[test]
    fn prefixes_prompts_colours_and_lines_in_between() {
        let console = format!(
            "ip-10-0-0-4 login: [   12.301274] cloud-init[512]: {BEGIN}\n\
             [   12.302000] cloud-init[512]: {ED25519} root@ip\n\
             [   12.302100] audit: type=1400 audit(1.2:3): apparmor=\"STATUS\"\n\
             \u{1b}[0;32mcloud-init[512]:{}\u{1b}[0m\n[   12.303000] cloud-init[512]: {END}\n",
            ecdsa()
        );
        assert_eq!(host_keys(&console), [ED25519.to_owned(), ecdsa()]);
    }

    #[test]
    fn the_last_whole_block_is_the_one() {
        let rsa = rsa();
        assert_eq!(host_keys(&(block(&[ED25519]) + &block(&[&rsa]))), [rsa.as_str()]);
        assert_eq!(host_keys(&format!("{}{BEGIN}\n{rsa}\n", block(&[ED25519]))), [ED25519]);
        assert_eq!(host_keys(&format!("{BEGIN}\n{ED25519}\n")), [""; 0]);
        assert_eq!(host_keys(&format!("{ED25519}\n{END}\n")), [""; 0]);
        assert_eq!(host_keys(&format!("{BEGIN}\n{ED25519}\n{}", block(&[&rsa]))), [rsa]);
    }

    #[test]
    fn what_is_no_key_is_left() {
        let good = made("ssh-ed25519", &[&[9; 32]]);
        let blob = good.split(' ').nth(1).unwrap();
        let cases = [
            format!("ssh-rsa {blob}"),
            format!("ssh-dss {blob}"),
            format!("ssh-ed25519 {}", &blob[..blob.len() - 4]),
            format!("ssh-ed25519 {blob}AAAA"),
            made("ssh-ed25519", &[&[9; 31]]),
            made("ssh-ed25519", &[&[9; 32], b"more"]),
            made("ecdsa-sha2-nistp384", &[b"nistp256", &[4; 65]]),
            made("ssh-rsa", &[&[1, 0, 1], &[7; 20]]),
            made("ssh-rsa", &[&[1, 0, 1], &[7; 4096]]),
            "ssh-ed25519".to_owned(),
            "ssh-ed25519 [   12.3] random: crng init done".to_owned(),
        ];
        for case in cases {
            assert_eq!(host_keys(&block(&[&case])), [""; 0], "{case}");
        }
        assert_eq!(host_keys(&block(&[&good, &good])), [good]);
        let many: Vec<String> = (0..20).map(|n| made("ssh-ed25519", &[&[n; 32]])).collect();
        assert_eq!(host_keys(&block(&many.iter().map(String::as_str).collect::<Vec<_>>())).len(), MOST_KEYS);
    }

    #[test]
    fn a_huge_console_is_read_from_its_end() {
        let noise = "é".repeat(MOST);
        assert_eq!(host_keys(&format!("{}{noise}\n{}", block(&[&rsa()]), block(&[ED25519]))), [ED25519]);
        assert_eq!(host_keys(&format!("{}{noise}", block(&[ED25519]))), [""; 0]);
    }

    proptest! {
        /// Whatever was done to a console: no panic, and nothing that is no key.
        #[test]
        fn only_keys_come_out(
            before in "\\PC{0,40}|[\u{0}-\u{7f}]{0,80}",
            cuts in prop::collection::vec((0usize..1200, 0usize..30, "\\PC{0,3}|[\n\r\u{1b}\\[m -]{0,3}"), 0..6),
        ) {
            let mut text: Vec<char> =
                format!("{before}{}{}", block(&[ED25519, &ecdsa()]), block(&[&rsa(), ED25519])).chars().collect();
            for (at, length, with) in cuts {
                let at = at.min(text.len());
                let end = (at + length).min(text.len());
                text.splice(at..end, with.chars());
            }
            let keys = host_keys(&text.into_iter().collect::<String>());
            prop_assert!(keys.len() <= MOST_KEYS);
            for key in keys {
                let (kind, blob) = key.split_once(' ').unwrap();
                prop_assert!(KINDS.contains(&kind) && is_key(kind, blob), "{}", key);
                prop_assert!(key.is_ascii() && key.split(' ').count() == 2);
            }
        }
    }
}

//! The way to a host as a command line: the user's own OpenSSH client to a bastion, as `ssh -J` runs it, or
//! their ProxyCommand. Nothing is run here.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::model::jump::Jump;
use crate::world::remote::openssh;
use crate::world::remote::ssh_config::Proxy;

/// How a connection is made where it is not made directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Through `last`, which is reached through those before it.
    Jump { before: Vec<Jump>, last: Jump },
    /// What a shell runs.
    Command(String),
}

/// Where the way leads, for the tokens of ssh_config(5).
pub(super) struct Target<'a> {
    pub host: &'a str,
    /// As the user named it, before `HostName`.
    pub name: &'a str,
    pub port: u16,
    pub user: &'a str,
    pub local_user: &'a str,
    pub home: &'a Path,
}

/// What the OpenSSH client is told, besides where to go.
pub(super) struct Client<'a> {
    /// The user's ssh_config, where it is not the one that OpenSSH reads anyway, or `none`.
    pub config: Option<&'a Path>,
    /// Offered to the bastion, in this order, before what its agent has; none where its config names them.
    pub keys: Vec<&'a Path>,
    pub accept_new_keys: bool,
    pub timeout: Duration,
}

impl Way {
    /// # Errors
    /// What is wrong with the user's ssh_config.
    pub fn of(proxy: Option<&Proxy>, target: &Target<'_>) -> Result<Option<Self>, String> {
        match proxy {
            None | Some(Proxy::Off) => Ok(None),
            Some(Proxy::Jump(text)) => {
                let hop = |text: &str| text.trim().parse::<Jump>().map_err(|problem| format!("ProxyJump: {problem}"));
                let mut before: Vec<Jump> = expand(text, target)?.split(',').map(hop).collect::<Result<_, _>>()?;
                let last = before.pop().ok_or("ProxyJump names no host")?;
                Ok(Some(Self::Jump { before, last }))
            }
            Some(Proxy::Command(line)) => Ok(Some(Self::Command(expand(line, target)?))),
        }
    }

    /// What it is called in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Jump { last, .. } => last.to_string(),
            Self::Command(_) => "your ProxyCommand".to_owned(),
        }
    }
}

/// The arguments of `ssh` that connect its standard input and output to `target` through `last`. BatchMode and
/// the like hold for `last` alone; what asks for hops before it is answered by the environment of `proxy`.
pub(super) fn ssh_arguments(before: &[Jump], last: &Jump, client: &Client<'_>, target: &Target<'_>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&dyn AsRef<std::ffi::OsStr>]| {
        arguments.extend(words.iter().map(|word| word.as_ref().to_owned()));
    };
    if let Some(config) = client.config {
        add(&[&"-F", &config]);
    }
    let checking = if client.accept_new_keys { "accept-new" } else { "yes" };
    for option in [
        "BatchMode=yes",
        &format!("ConnectTimeout={}", client.timeout.as_secs().max(1)),
        "ConnectionAttempts=1",
        "ExitOnForwardFailure=yes",
        &format!("StrictHostKeyChecking={checking}"),
        "ForwardAgent=no",
        "ForwardX11=no",
        "PermitLocalCommand=no",
        // A master would end with this host's connection, and with it those of other hosts.
        "ControlMaster=no",
        // ERROR would not say why the bastion could not connect to the host.
        "LogLevel=INFO",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=3",
    ] {
        add(&[&"-o", &option]);
    }
    for key in &client.keys {
        add(&[&"-i", key]);
    }
    if !before.is_empty() {
        let hops: Vec<String> = before.iter().map(Jump::to_string).collect();
        add(&[&"-J", &hops.join(",")]);
    }
    add(&[&"-W", &format!("[{}]:{}", target.host, target.port)]);
    arguments.extend(openssh::destination(last));
    arguments
}

/// Replaces the tokens of ssh_config(5). The text goes to a shell, and how the user quoted there is theirs: a
/// value that means something to a shell is refused rather than quoted twice.
fn expand(text: &str, target: &Target<'_>) -> Result<String, String> {
    let home = target.home.to_string_lossy();
    let port = target.port.to_string();
    let mut expanded = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            expanded.push(c);
            continue;
        }
        let value = match rest.next() {
            Some('%') => "%",
            Some('h') => target.host,
            Some('n') => target.name,
            Some('p') => &port,
            Some('r') => target.user,
            Some('u') => target.local_user,
            Some('d') => home.as_ref(),
            other => {
                let token = other.map(String::from).unwrap_or_default();
                return Err(format!("clusterctl does not know %{token}, which it has in \"{}\"", text.escape_debug()));
            }
        };
        let plain = |c: char| c.is_alphanumeric() || "._-:@%/+".contains(c);
        if value.starts_with('-') || !value.chars().all(plain) {
            return Err(format!("\"{}\" cannot safely stand in a command", value.escape_debug()));
        }
        expanded.push_str(value);
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target<'a>(host: &'a str, user: &'a str) -> Target<'a> {
        Target { host, name: "web", port: 2222, user, local_user: "me", home: Path::new("/home/me") }
    }

    fn jump(text: &str) -> Proxy {
        Proxy::Jump(text.to_owned())
    }

    #[test]
    fn tokens_are_expanded_and_nothing_reaches_a_shell_by_them() {
        let command =
            |line: &str, host: &str, user: &str| Way::of(Some(&Proxy::Command(line.to_owned())), &target(host, user));
        assert_eq!(
            command("nc -X 5 '%h' %p # %n %r %u %d 100%%", "10.0.0.1", "root").unwrap(),
            Some(Way::Command("nc -X 5 '10.0.0.1' 2222 # web root me /home/me 100%".to_owned()))
        );
        assert_eq!(command("nc %h", "fe80::1%eth0", "root").unwrap(), Some(Way::Command("nc fe80::1%eth0".to_owned())));
        for (host, user) in [("a;id", "root"), ("-oProxyCommand=x", "root"), ("$(id)", "root"), ("a", "b c")] {
            assert!(command("nc %h %r", host, user).is_err(), "{host} {user}");
        }
        assert!(command("nc %C", "a", "root").is_err());
        assert!(command("nc %", "a", "root").is_err());
    }

    #[test]
    fn jumps_come_from_the_spec_and_the_users_config() {
        let of = |proxy: Option<Proxy>| Way::of(proxy.as_ref(), &target("10.0.0.1", "root"));
        assert_eq!(of(None).unwrap(), None);
        assert_eq!(of(Some(Proxy::Off)).unwrap(), None);
        let Some(Way::Jump { before, last }) = of(Some(jump("a:1, %r@b"))).unwrap() else { panic!("no jump") };
        assert_eq!((before[0].to_string().as_str(), last.to_string().as_str()), ("a:1", "root@b"));
        assert!(of(Some(jump("-oProxyCommand=x"))).is_err());
        assert!(of(Some(jump("a,,b"))).is_err());
    }

    #[test]
    fn the_clients_arguments() {
        let client = Client {
            config: Some(Path::new("/c")),
            keys: vec![Path::new("/k 1")],
            accept_new_keys: true,
            timeout: Duration::from_millis(200),
        };
        let last = "me@[fd00::1]:23".parse().unwrap();
        let arguments = ssh_arguments(&["a".parse().unwrap()], &last, &client, &target("fd00::2", "root"));
        let text = arguments.join(std::ffi::OsStr::new("|")).into_string().unwrap();
        assert!(text.starts_with("-F|/c|-o|BatchMode=yes|-o|ConnectTimeout=1|"), "{text}");
        assert!(text.contains("|StrictHostKeyChecking=accept-new|"), "{text}");
        assert!(text.ends_with("|-i|/k 1|-J|a|-W|[fd00::2]:2222|-l|me|-p|23|--|fd00::1"), "{text}");
    }
}

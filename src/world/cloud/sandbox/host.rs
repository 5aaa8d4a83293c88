//! A host's own files: what lies in its overlay before its first boot. All of it can be made again over a
//! half-made one. How it runs is `nspawn`'s.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::command::run;
use super::file_error;
use super::state::HostRecord;
use crate::model::name::ClusterName;
use crate::world::cloud::CloudError;

/// A host's folder.
#[derive(Debug, Clone)]
pub struct HostDir(PathBuf);

impl HostDir {
    pub const fn new(dir: PathBuf) -> Self {
        Self(dir)
    }
    pub fn path(&self) -> &Path {
        &self.0
    }
    pub fn record(&self) -> PathBuf {
        self.0.join("host.json")
    }
    pub fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }
    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }
    /// The host's root as the host sees it.
    pub fn merged(&self) -> PathBuf {
        self.0.join("merged")
    }
    pub fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }
}

/// What of the machine its hosts share; read once a launch.
#[derive(Debug)]
pub struct Surroundings {
    /// The text of resolv.conf.
    pub resolv_conf: String,
    /// Certificates that the machine trusts and the base tree does not (a company's, a proxy's).
    pub certificates: Vec<String>,
    /// The base tree's own bundle, to which they are added.
    pub bundle: String,
    /// The public key of the cluster's client.
    pub authorized_key: String,
}

const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

impl Surroundings {
    pub fn look(base: &Path, client_key: &Path) -> Result<Self, CloudError> {
        let read = |path: &Path| fs::read_to_string(path).map_err(|e| file_error("reading", path, e));
        let bundle = read(&base.join(BUNDLE))?;
        let machines = fs::read_to_string(Path::new("/").join(BUNDLE)).unwrap_or_default();
        Ok(Self {
            resolv_conf: resolv_conf(),
            certificates: extra_certificates(&machines, &bundle),
            bundle,
            authorized_key: read(&client_key.with_extension("pub"))?,
        })
    }
}

/// The machine's resolv.conf as it is of use elsewhere: a resolver on the machine's loopback is not, but
/// systemd-resolved tells the real ones.
fn resolv_conf() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let own = read("/etc/resolv.conf");
    let real = || read("/run/systemd/resolve/resolv.conf");
    if has_loopback(&own) { without_loopback(&real()) } else { own }
}

fn nameserver(line: &str) -> Option<&str> {
    line.trim().strip_prefix("nameserver")?.split_ascii_whitespace().next()
}

fn is_loopback(line: &str) -> bool {
    nameserver(line).is_some_and(|a| a.starts_with("127.") || a == "::1")
}

fn has_loopback(text: &str) -> bool {
    text.lines().any(is_loopback)
}

fn without_loopback(text: &str) -> String {
    text.lines().filter(|l| !is_loopback(l)).fold(String::new(), |all, line| all + line + "\n")
}

/// The resolvers' IPv4 addresses, which no cluster's subnet may cover.
pub fn resolvers() -> Vec<Ipv4Addr> {
    resolv_conf().lines().filter_map(|line| nameserver(line)?.parse().ok()).collect()
}

/// The PEM blocks of `machines` that `base` lacks, whatever stands between them.
fn extra_certificates(machines: &str, base: &str) -> Vec<String> {
    let known: BTreeSet<String> = pem_blocks(base).into_iter().collect();
    let mut extra = pem_blocks(machines);
    extra.retain(|block| !known.contains(block));
    extra
}

fn pem_blocks(text: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let starts = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    let bodies = starts.filter_map(|rest| Some(rest.split_once(END)?.0));
    let one = |body: &str| {
        let lines = body.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n");
        format!("-----BEGIN CERTIFICATE-----\n{lines}\n{END}\n")
    };
    bodies.map(one).collect()
}

/// What a host that joins by itself is told: the text of /etc/clusterctl/boot.
pub fn boot(cluster: &ClusterName, record: &HostRecord, servers: &[Ipv4Addr]) -> String {
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    format!("cluster={cluster}\nname={}\nservers={}\naddress={}\n", record.name, servers.join(" "), record.address)
}

/// Makes the files of a host that never ran; `boot` is for one that joins by itself. The answer is its public SSH host
/// key.
pub fn make(
    dir: &HostDir,
    record: &HostRecord,
    around: &Surroundings,
    boot: Option<&str>,
) -> Result<String, CloudError> {
    for part in [dir.upper(), dir.work(), dir.merged()] {
        folder(&part, 0o755)?;
    }
    let upper = dir.upper();
    let put = |path: &str, mode: u32, text: &str| put(&upper.join(path), mode, text);
    for (path, mode) in [("etc", 0o755), ("etc/ssh", 0o755), ("root", 0o700), ("root/.ssh", 0o700)] {
        folder(&upper.join(path), mode)?;
    }
    let name = &record.name;
    put("etc/hostname", 0o644, &format!("{name}\n"))?;
    put("etc/hosts", 0o644, &format!("127.0.0.1 localhost\n::1 localhost\n{} {name}\n", record.address))?;
    put("etc/machine-id", 0o444, &format!("{}\n", random_hex(16)?))?;
    put("etc/resolv.conf", 0o644, &around.resolv_conf)?;
    put("root/.ssh/authorized_keys", 0o600, &around.authorized_key)?;
    certificates(&upper, around)?;
    if let Some(boot) = boot {
        folder(&upper.join("etc/clusterctl"), 0o755)?;
        put("etc/clusterctl/boot", 0o644, boot)?;
    }
    let key = upper.join("etc/ssh/ssh_host_ed25519_key");
    make_key(&key, &format!("root@{name}"))?;
    public_key(&key)
}

fn certificates(upper: &Path, around: &Surroundings) -> Result<(), CloudError> {
    if around.certificates.is_empty() {
        return Ok(());
    }
    for path in ["etc/ssl", "etc/ssl/certs", "usr", "usr/local", "usr/local/share", "usr/local/share/ca-certificates"] {
        folder(&upper.join(path), 0o755)?;
    }
    // In the bundle for now, and where update-ca-certificates finds them when it makes the bundle anew.
    for (number, certificate) in around.certificates.iter().enumerate() {
        put(&upper.join(format!("usr/local/share/ca-certificates/machine-{number}.crt")), 0o644, certificate)?;
    }
    put(&upper.join(BUNDLE), 0o644, &(around.bundle.clone() + &around.certificates.concat()))
}

/// An ed25519 key pair without a passphrase, in place of any other.
pub fn make_key(path: &Path, comment: &str) -> Result<(), CloudError> {
    for file in [path.to_owned(), path.with_extension("pub")] {
        match fs::remove_file(&file) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(file_error("removing", &file, e)),
            _ => {}
        }
    }
    let file = path.as_os_str();
    let options = ["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"].map(AsRef::as_ref);
    run("ssh-keygen", options.into_iter().chain([file])).map(drop)
}

/// `ssh-ed25519 AAAA…`, without the comment.
pub fn public_key(key: &Path) -> Result<String, CloudError> {
    let path = key.with_extension("pub");
    let text = fs::read_to_string(&path).map_err(|e| file_error("reading", &path, e))?;
    Ok(text.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

/// So many random bytes of the kernel, in hexadecimal.
pub fn random_hex(bytes: usize) -> Result<String, CloudError> {
    use std::io::Read;
    let path = Path::new("/dev/urandom");
    let mut buffer = vec![0; bytes];
    fs::File::open(path).and_then(|mut f| f.read_exact(&mut buffer)).map_err(|e| file_error("reading", path, e))?;
    Ok(buffer.iter().map(|b| format!("{b:02x}")).collect())
}

fn folder(path: &Path, mode: u32) -> Result<(), CloudError> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(file_error("making", path, e)),
        // Whatever the umask took away.
        _ => fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|e| file_error("making", path, e)),
    }
}

fn put(path: &Path, mode: u32, text: &str) -> Result<(), CloudError> {
    let failed = |e| file_error("writing", path, e);
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_resolvers_are_of_no_use_elsewhere() {
        let text = "# x\nnameserver 127.0.0.53\nnameserver 10.0.0.1\n nameserver ::1\nsearch example\nnameserver\n";
        assert!(has_loopback(text) && !has_loopback("nameserver 10.127.0.1\n"));
        assert_eq!(without_loopback(text), "# x\nnameserver 10.0.0.1\nsearch example\nnameserver\n");
    }

    #[test]
    fn only_what_the_base_lacks_is_added() {
        let pem = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        let base = pem("AAA") + &pem("BBB");
        let machine = format!("# a comment\n{}\r\n{}-----BEGIN CERTIFICATE-----\nhalf", pem("BBB"), pem("CCC\r\nDDD"));
        assert_eq!(extra_certificates(&machine, &base), [pem("CCC\nDDD")]);
        assert!(extra_certificates("", &base).is_empty());
        assert!(extra_certificates(&base, &base).is_empty());
    }

    #[test]
    fn a_host_that_joins_by_itself_is_told_how() {
        let record = r#"{"name":"c-node-1","role":"node","generation":"0a","address":"10.3.4.3",
            "network":{"bridge":"ccs000000ab","subnet":"10.3.4.0/24"},"base":"bookworm-1","host_key":null,"process":null}"#;
        let record: HostRecord = serde_json::from_str(record).unwrap();
        let told = boot(&ClusterName::new("c").unwrap(), &record, &[2, 4].map(|last| Ipv4Addr::new(10, 3, 4, last)));
        assert_eq!(told, "cluster=c\nname=c-node-1\nservers=10.3.4.2 10.3.4.4\naddress=10.3.4.3\n");
    }

    #[test]
    fn random_is_not_the_same_twice() {
        let (a, b) = (random_hex(16).unwrap(), random_hex(16).unwrap());
        assert!(a.len() == 32 && a != b);
    }

    #[test]
    fn a_key_is_made_again_over_half_of_one() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        fs::write(&key, "half").unwrap();
        make_key(&key, "me").unwrap();
        assert!(public_key(&key).unwrap().starts_with("ssh-ed25519 AAAA"));
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

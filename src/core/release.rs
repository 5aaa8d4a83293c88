//! How the makers lay out their releases: URLs, names of archives, files of sums. Text in, values out;
//! fetching and unpacking stand in `world::artifacts`.

use std::collections::BTreeMap;

use semver::Version;
use thiserror::Error;

use crate::model::artifact::{Arch, ArtifactId, Sha256};
use crate::model::version::Program;

/// Who publishes a program; it decides the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    HashiCorp,
    Prometheus,
}

impl Maker {
    pub const fn of(program: Program) -> Self {
        match program {
            Program::Consul | Program::ConsulTemplate => Self::HashiCorp,
            Program::Prometheus | Program::NodeExporter | Program::Alertmanager | Program::Pushgateway => {
                Self::Prometheus
            }
        }
    }

    /// The official host. All paths of both hosts differ, so one mirror can hold the two.
    pub const fn base(self) -> &'static str {
        match self {
            Self::HashiCorp => "https://releases.hashicorp.com/",
            Self::Prometheus => "https://github.com/",
        }
    }

    pub const fn packing(self) -> Packing {
        match self {
            Self::HashiCorp => Packing::Zip,
            Self::Prometheus => Packing::TarGz,
        }
    }
}

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Zip,
    TarGz,
}

/// The archive's official file name.
pub fn archive_name(id: &ArtifactId) -> String {
    let ArtifactId { program, version, arch } = id;
    match Maker::of(*program) {
        Maker::HashiCorp => format!("{program}_{version}_linux_{arch}.zip"),
        Maker::Prometheus => format!("{program}-{version}.linux-{arch}.tar.gz"),
    }
}

/// The folder of a release, below the official host or a mirror's base; ends with a slash.
fn folder(id: &ArtifactId) -> String {
    let ArtifactId { program, version, .. } = id;
    match Maker::of(*program) {
        Maker::HashiCorp => format!("{program}/{version}/"),
        Maker::Prometheus => format!("prometheus/{program}/releases/download/v{version}/"),
    }
}

/// The archive's path below the official host or a mirror's base.
pub fn archive_path(id: &ArtifactId) -> String {
    folder(id) + &archive_name(id)
}

/// The path of the release's published sums, beside the archive.
pub fn sums_path(id: &ArtifactId) -> String {
    let name = match Maker::of(id.program) {
        Maker::HashiCorp => format!("{}_{}_SHA256SUMS", id.program, id.version),
        Maker::Prometheus => "sha256sums.txt".to_owned(),
    };
    folder(id) + &name
}

/// Examples of the names that [`parse_archive_name`] takes, for messages.
pub const NAME_EXAMPLES: &str = "consul_1.22.7_linux_amd64.zip or prometheus-3.13.3.linux-amd64.tar.gz";

/// What an archive's official name says it is. `None`: no official name of a Linux release that we know.
pub fn parse_archive_name(name: &str) -> Option<ArtifactId> {
    Program::ALL.into_iter().find_map(|program| {
        let (separator, before_arch, suffix) = match Maker::of(program) {
            Maker::HashiCorp => ('_', "_linux_", ".zip"),
            Maker::Prometheus => ('-', ".linux-", ".tar.gz"),
        };
        let rest = name.strip_prefix(program.as_str())?.strip_prefix(separator)?.strip_suffix(suffix)?;
        let (version, arch) = rest.rsplit_once(before_arch)?;
        let arch = [Arch::Amd64, Arch::Arm64].into_iter().find(|known| known.as_str() == arch)?;
        Some(ArtifactId { program, version: Version::parse(version).ok()?, arch })
    })
}

/// Does a file of this name hold sums? `SHA256SUMS`, `consul_1.22.7_SHA256SUMS`, `sha256sums.txt`,
/// `prometheus-sha256sums.txt`, …, but no signature of one.
pub fn is_sums_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("sha256sums") && !name.ends_with(".sig") && !name.ends_with(".asc")
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SumsError {
    #[error("it holds no SHA-256 sums")]
    Empty,
    #[error("it gives two different sums for {name}")]
    Conflict { name: String },
}

/// A published file of sums: one line a file, as `sha256sum` writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums(BTreeMap<String, Sha256>);

impl Sums {
    /// Lines that are no sums (comments, a signature's frame) are passed over; a text without any sum,
    /// such as the page that a proxy shows instead, is an error.
    pub fn parse(text: &str) -> Result<Self, SumsError> {
        let mut sums = BTreeMap::new();
        for (sum, name) in text.lines().filter_map(parse_line) {
            match sums.insert(name.to_owned(), sum.clone()) {
                Some(earlier) if earlier != sum => return Err(SumsError::Conflict { name: name.to_owned() }),
                _ => {}
            }
        }
        if sums.is_empty() { Err(SumsError::Empty) } else { Ok(Self(sums)) }
    }

    pub fn get(&self, name: &str) -> Option<&Sha256> {
        self.0.get(name)
    }
}

/// `<sum>  <name>`, or `<sum> *<name>` for a file read as binary.
fn parse_line(line: &str) -> Option<(Sha256, &str)> {
    let (sum, name) = line.trim().split_once(char::is_whitespace)?;
    let name = name.trim_start();
    let name = name.strip_prefix('*').unwrap_or(name);
    let name = name.strip_prefix("./").unwrap_or(name);
    (!name.is_empty()).then_some((sum.parse().ok()?, name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(program: Program, version: &str, arch: Arch) -> ArtifactId {
        ArtifactId { program, version: Version::parse(version).unwrap(), arch }
    }

    #[test]
    fn paths_are_those_of_the_official_hosts() {
        let consul = id(Program::Consul, "1.22.7", Arch::Amd64);
        assert_eq!(archive_path(&consul), "consul/1.22.7/consul_1.22.7_linux_amd64.zip");
        assert_eq!(sums_path(&consul), "consul/1.22.7/consul_1.22.7_SHA256SUMS");
        let exporter = id(Program::NodeExporter, "1.12.1", Arch::Arm64);
        assert_eq!(
            archive_path(&exporter),
            "prometheus/node_exporter/releases/download/v1.12.1/node_exporter-1.12.1.linux-arm64.tar.gz"
        );
        assert_eq!(sums_path(&exporter), "prometheus/node_exporter/releases/download/v1.12.1/sha256sums.txt");
    }

    #[test]
    fn names_that_are_not_official_linux_releases_are_refused() {
        for name in [
            "consul",
            "consul_1.22.7_darwin_amd64.zip",
            "consul_1.22.7_linux_386.zip",
            "consul_1.22.7_linux_amd64.tar.gz",
            "consul_1.22_linux_amd64.zip",
            "consul_../../x_linux_amd64.zip",
            "prometheus-3.13.3.linux-amd64.zip",
            "prometheus_3.13.3_linux_amd64.tar.gz",
            "vault_1.0.0_linux_amd64.zip",
        ] {
            assert_eq!(parse_archive_name(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_name_says_what_made_it(
            program in prop::sample::select(&Program::ALL[..]),
            arch in prop::sample::select(vec![Arch::Amd64, Arch::Arm64]),
            numbers in any::<(u16, u16, u16)>(),
            suffix in prop::sample::select(vec!["", "-rc.1", "-beta1", "+ent", "-linux-amd64"]),
        ) {
            let version = format!("{}.{}.{}{suffix}", numbers.0, numbers.1, numbers.2);
            let id = id(program, &version, arch);
            prop_assert_eq!(parse_archive_name(&archive_name(&id)), Some(id));
        }

        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,200}", lines in "[0-9a-f* \\n./x]{0,300}") {
            let _ = parse_archive_name(&text);
            for name in Sums::parse(&lines).iter().flat_map(|sums| sums.0.keys()) {
                prop_assert!(!name.is_empty());
            }
        }
    }

    #[test]
    fn sums_come_in_the_forms_that_tools_write() {
        let (a, b) = (Sha256::of(b"a"), Sha256::of(b"b"));
        let text = format!("# sums\n{a}  one.zip\r\n{} *two.zip\n{a}  ./three.zip\n\n{a}\n", b.as_str().to_uppercase());
        let sums = Sums::parse(&text).unwrap();
        assert_eq!(sums.get("one.zip"), Some(&a));
        assert_eq!(sums.get("two.zip"), Some(&b));
        assert_eq!(sums.get("three.zip"), Some(&a));
        assert_eq!(sums.get("four.zip"), None);
    }

    #[test]
    fn sums_that_say_nothing_or_contradict_themselves_are_refused() {
        assert_eq!(Sums::parse("<html>log in first</html>"), Err(SumsError::Empty));
        let text = format!("{}  x\n{}  x\n", Sha256::of(b"a"), Sha256::of(b"b"));
        assert_eq!(Sums::parse(&text), Err(SumsError::Conflict { name: "x".into() }));
        let twice = format!("{0}  x\n{0}  x\n", Sha256::of(b"a"));
        assert!(Sums::parse(&twice).is_ok());
    }

    #[test]
    fn sums_files_are_told_from_their_signatures() {
        for name in ["SHA256SUMS", "consul_1.22.7_SHA256SUMS", "sha256sums.txt", "prometheus-sha256sums.txt"] {
            assert!(is_sums_name(name), "{name}");
        }
        for name in ["consul_1.22.7_SHA256SUMS.sig", "SHA256SUMS.72D7468F.sig", "SHA256SUMS.asc", "README"] {
            assert!(!is_sums_name(name), "{name}");
        }
    }
}

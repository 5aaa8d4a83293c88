//! `render`: the files themselves, or where they were written; and what their programs say of them.

use semver::Version;
use serde::Serialize;

use super::super::escape::{lines, plain};
use super::super::style::{BAD, DIM, GOOD, WARN, paint};
use super::super::words::count;
use super::{Document, View, envelope};
use crate::core::release::{Maker, archive_path};
use crate::model::artifact::{self as model, Arch, ArtifactId};
use crate::model::file::{FileSource, HostPath, ManagedFile, Reaction, SystemUser, UnitName};
use crate::model::host::Role;
use crate::model::image::{Checked, Image, RenderReport, Verdict};
use crate::model::version::{Program, Versions};

impl Document for RenderReport {
    fn text(&self, view: &View) -> String {
        if let Some(written) = &self.written {
            return written.iter().map(|path| format!("{}\n", plain(path))).collect();
        }
        let mut out = String::new();
        for image in &self.images {
            for file in &image.wanted.files {
                shown(&mut out, image.role, file, &self.versions, view);
            }
        }
        out
    }

    fn json(&self) -> String {
        envelope("render", &Body::of(self))
    }

    fn beside(&self, _: &View) -> Option<String> {
        if self.checks.is_empty() {
            return None;
        }
        let mut out: Vec<String> = self.checks.iter().flat_map(outcome).collect();
        let of = |is: fn(&Verdict) -> bool| self.checks.iter().filter(|checked| is(&checked.verdict)).count();
        let failed = of(Verdict::is_failure);
        let unrun = of(|verdict| matches!(verdict, Verdict::NotRun { .. }));
        out.push(format!(
            "{}: {} passed, {failed} failed, {unrun} could not run",
            count(self.checks.len(), "check"),
            self.checks.len() - failed - unrun
        ));
        Some(out.join("\n"))
    }
}

/// One file behind its header; a program is only named. Without a terminal its bytes are as they are.
fn shown(out: &mut String, role: Role, file: &ManagedFile, versions: &Versions, view: &View) {
    let ManagedFile { path, mode, owner, group, .. } = file;
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(&format!("# ==> {role}{path} ({mode:04o} {owner}:{group}) <=="));
    match &file.source {
        FileSource::Executable(executable) => match release(executable, versions) {
            Some((program, version)) => out.push_str(&format!(" {} of {program} {version}", executable.name)),
            None => out.push_str(" a program"),
        },
        FileSource::Text(text) if view.width.is_some() => {
            lines(text).for_each(|line| out.push_str(&format!("\n{line}")));
        }
        FileSource::Text(text) => out.push_str(&format!("\n{}", text.trim_end_matches('\n'))),
    }
    out.push('\n');
}

fn outcome(checked: &Checked) -> Vec<String> {
    let (sign, said, by) = match &checked.verdict {
        Verdict::Passed { complaints, by } => (paint(GOOD, "✓"), complaints.as_slice(), by),
        Verdict::Failed { lines, by } => (paint(BAD, "✗"), lines.as_slice(), by),
        // These come as warnings, with their reasons.
        Verdict::NotRun { .. } => (paint(WARN, "-"), &[][..], &None),
    };
    let by = by.as_ref().map(|by| paint(DIM, &format!(" ({})", plain(by)))).unwrap_or_default();
    let mut out = vec![format!("{sign} {:<6}  {}{by}", checked.role, plain(&checked.title))];
    out.extend(said.iter().map(|line| format!("    {}", plain(line))));
    out
}

#[derive(Serialize)]
struct Body<'a> {
    cluster: &'a str,
    init: String,
    versions: &'a Versions,
    files: Vec<File<'a>>,
    programs: Vec<Executable<'a>>,
    users: Vec<User<'a>>,
    dirs: Vec<Dir<'a>>,
    units: Vec<Unit<'a>>,
    checks: &'a [Checked],
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<&'a [String]>,
}

#[derive(Serialize)]
struct File<'a> {
    role: Role,
    path: &'a HostPath,
    /// As `chmod` takes it.
    mode: String,
    owner: &'a str,
    group: &'a str,
    /// Only where nothing stands yet: another program writes it from then on.
    seed: bool,
    notifies: Vec<Notified<'a>>,
    sha256: String,
    text: &'a str,
}

#[derive(Serialize)]
struct Notified<'a> {
    unit: &'a UnitName,
    reaction: Reaction,
}

#[derive(Serialize)]
struct Executable<'a> {
    role: Role,
    program: Program,
    version: String,
    path: &'a HostPath,
    mode: String,
    owner: &'a str,
    group: &'a str,
    notifies: Vec<Notified<'a>>,
    /// The official archives that hold it, by processor.
    archives: Archives,
}

#[derive(Serialize)]
struct Archives {
    amd64: String,
    arm64: String,
}

#[derive(Serialize)]
struct User<'a> {
    role: Role,
    name: &'a str,
    home: &'a HostPath,
}

#[derive(Serialize)]
struct Dir<'a> {
    role: Role,
    path: &'a HostPath,
    mode: String,
    owner: &'a str,
    group: &'a str,
}

#[derive(Serialize)]
struct Unit<'a> {
    role: Role,
    unit: &'a UnitName,
}

impl<'a> Body<'a> {
    fn of(report: &'a RenderReport) -> Self {
        let images = || report.images.iter();
        let files = images().flat_map(|image| image.wanted.files.iter().filter_map(|file| text(image.role, file)));
        let user = |role, SystemUser { name, home }: &'a SystemUser| User { role, name, home };
        Self {
            cluster: report.cluster.as_str(),
            init: report.init.to_string(),
            versions: &report.versions,
            files: files.collect(),
            programs: images().flat_map(|image| executables(image, &report.versions)).collect(),
            users: images().flat_map(|image| image.wanted.users.iter().map(|it| user(image.role, it))).collect(),
            dirs: images().flat_map(dirs).collect(),
            units: images()
                .flat_map(|image| image.wanted.units.iter().map(|unit| Unit { role: image.role, unit }))
                .collect(),
            checks: &report.checks,
            written: report.written.as_deref(),
        }
    }
}

fn notified(file: &ManagedFile) -> Vec<Notified<'_>> {
    file.reactions.iter().map(|(unit, reaction)| Notified { unit, reaction: *reaction }).collect()
}

fn text(role: Role, file: &ManagedFile) -> Option<File<'_>> {
    let FileSource::Text(text) = &file.source else { return None };
    Some(File {
        role,
        path: &file.path,
        mode: format!("{:04o}", file.mode),
        owner: &file.owner,
        group: &file.group,
        seed: file.seed,
        notifies: notified(file),
        sha256: file.sha256().to_string(),
        text,
    })
}

/// The release that holds an executable.
fn release<'a>(executable: &model::Executable, versions: &'a Versions) -> Option<(Program, &'a Version)> {
    let holds = |program: &Program| {
        let version = versions.get(*program)?;
        program.executables(version).contains(&executable.name.as_str()).then_some((*program, version))
    };
    Program::ALL.iter().find_map(holds)
}

fn executables<'a>(image: &'a Image, versions: &Versions) -> Vec<Executable<'a>> {
    let one = |file: &'a ManagedFile| {
        let FileSource::Executable(executable) = &file.source else { return None };
        let (program, version) = release(executable, versions)?;
        let archive = |arch| {
            let id = ArtifactId { program, version: version.clone(), arch };
            format!("{}{}", Maker::of(program).base(), archive_path(&id))
        };
        Some(Executable {
            role: image.role,
            program,
            version: version.to_string(),
            path: &file.path,
            mode: format!("{:04o}", file.mode),
            owner: &file.owner,
            group: &file.group,
            notifies: notified(file),
            archives: Archives { amd64: archive(Arch::Amd64), arm64: archive(Arch::Arm64) },
        })
    };
    image.wanted.files.iter().filter_map(one).collect()
}

fn dirs(image: &Image) -> Vec<Dir<'_>> {
    let dirs = image.wanted.dirs.iter();
    dirs.map(|dir| Dir {
        role: image.role,
        path: &dir.path,
        mode: format!("{:04o}", dir.mode),
        owner: &dir.owner,
        group: &dir.group,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::view;
    use super::*;
    use crate::model::init::Init;
    use crate::model::name::ClusterName;
    use crate::model::version::Preset;
    use crate::ui::style::strip;

    fn report() -> RenderReport {
        let file = |path: &str, source| ManagedFile {
            path: HostPath::new(path).unwrap(),
            mode: 0o640,
            owner: "root".to_owned(),
            group: "consul".to_owned(),
            source,
            reactions: vec![(UnitName::new("consul").unwrap(), Reaction::Reload)],
            secret: false,
            seed: false,
        };
        let consul = super::super::samples::artifacts().remove(0).executables.remove(0);
        let mut image = Image { role: Role::Node, wanted: crate::model::file::Wanted::default() };
        image.wanted.files = vec![
            file("/usr/local/bin/consul", FileSource::Executable(consul)),
            file("/etc/consul.d/consul.json", FileSource::Text("{\n\t\"a\": \"\u{9b}31m\"\n}\n".to_owned())),
        ];
        let checked = |title: &str, verdict| Checked { role: Role::Node, title: title.to_owned(), verdict };
        RenderReport {
            cluster: ClusterName::new("dev").unwrap(),
            init: Init::Systemd,
            versions: Preset::Current.versions(),
            images: vec![image],
            checks: vec![
                checked("sh -n", Verdict::passed()),
                checked(
                    "promtool",
                    Verdict::Failed { lines: vec!["no \x1b[2J".to_owned()], by: Some("2.0".to_owned()) },
                ),
                checked("amtool", Verdict::NotRun { reason: "it is not here".to_owned() }),
            ],
            written: None,
        }
    }

    #[test]
    fn files_behind_their_headers() {
        let piped = report().text(&View { width: None, ..view() });
        let header = "# ==> node/etc/consul.d/consul.json (0640 root:consul) <==\n";
        assert!(piped.ends_with(&format!("\n{header}{{\n\t\"a\": \"\u{9b}31m\"\n}}\n")), "{piped:?}");
        assert!(
            piped.starts_with("# ==> node/usr/local/bin/consul (0640 root:consul) <== consul of consul 1.22.7\n"),
            "{piped:?}"
        );
        // On a terminal nothing acts.
        assert!(report().text(&view()).contains("\\u{9b}31m"));
        let written = RenderReport { written: Some(vec!["node/etc/a".to_owned()]), ..report() };
        assert_eq!(written.text(&view()), "node/etc/a\n");
    }

    #[test]
    fn verdicts_for_people() {
        insta::assert_snapshot!(strip(&report().beside(&view()).unwrap()), @r"
        ✓ node    sh -n
        ✗ node    promtool (2.0)
            no \u{1b}[2J
        - node    amtool
        3 checks: 1 passed, 1 failed, 1 could not run
        ");
    }

    #[test]
    fn the_document() {
        insta::assert_snapshot!(report().json());
    }
}

//! Has rendered files judged on this machine, each by the program that will read it: for `render --check`. A host is
//! not needed; what is not here judges nothing, and is said to.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use semver::Version;

use crate::core::judge::{self, Script};
use crate::core::render::{CONSUL_TEMPLATE_FOLDER, PROMETHEUS_CANDIDATE, PROMETHEUS_CONFIG};
use crate::model::file::{Check, FileSource, HostPath, ManagedFile, Word};
use crate::model::image::{Checked, Image, Verdict};
use crate::model::init::Init;
use crate::model::spec::{Discovery, Spec};
use crate::model::version::Program;
use crate::world::trial::{Programs, Ran, StandIn, Tree, TrialError, run};

/// For a program to judge: they take a second.
const LIMIT: Duration = Duration::from_secs(60);
/// For Consul Template, which waits for what it is not told.
const TEMPLATE_LIMIT: Duration = Duration::from_secs(10);

/// What Consul Template is told of: nothing yet, and hosts of both families.
const CATALOGS: [(&str, &[&str]); 2] = [("no host", &[]), ("two hosts", &["10.0.0.2", "fd00::2"])];

/// One after the other: a program that is just being unpacked cannot be run while another one is started.
///
/// # Errors
/// When this machine cannot try anything; that a file is bad is none.
pub async fn check(
    images: &[Image],
    spec: &Spec,
    init: &Init,
    programs: &Programs,
) -> Result<Vec<Checked>, TrialError> {
    let mut checked = Vec::new();
    for image in images {
        let tree = Tree::new()?;
        let bench = Bench { image, spec, init, programs, tree };
        bench.fill()?;
        let verdicts = bench.all().await?;
        checked.extend(verdicts.into_iter().map(|(title, verdict)| Checked { role: image.role, title, verdict }));
    }
    Ok(checked)
}

/// One role's files on the bench.
struct Bench<'a> {
    image: &'a Image,
    spec: &'a Spec,
    init: &'a Init,
    programs: &'a Programs,
    tree: Tree,
}

type Outcome = (String, Verdict);

/// A program that can be run, and what is to be known about it.
struct Judge {
    program: PathBuf,
    by: Option<String>,
}

impl Bench<'_> {
    /// The tree as a host would have it, with stand-ins where units start programs: only that they exist matters.
    fn fill(&self) -> Result<(), TrialError> {
        let root = self.root();
        for file in &self.image.wanted.files {
            match &file.source {
                FileSource::Executable(_) => self.tree.put(&file.path, b"#!/bin/sh\n", true)?,
                FileSource::Text(text) if is_unit(&file.path) => {
                    self.tree.put(&file.path, judge::moved(text, &root).as_bytes(), false)?
                }
                FileSource::Text(text) if file.path.as_str().starts_with("/etc/consul.d/") => {
                    self.tree.put(&file.path, judge::settled(text).as_bytes(), false)?
                }
                FileSource::Text(text) => self.tree.put(&file.path, text.as_bytes(), is_run(file))?,
            };
        }
        Ok(())
    }

    fn root(&self) -> String {
        self.tree.root().display().to_string()
    }

    async fn all(&self) -> Result<Vec<Outcome>, TrialError> {
        let mut outcomes = self.json();
        outcomes.extend(self.jobs());
        outcomes.extend(self.scripts().await?);
        for check in &self.image.wanted.checks {
            outcomes.push((check.title.clone(), self.by_program(check, &[]).await?));
        }
        outcomes.extend(self.unread_prometheus());
        if self.image.role.is_server() && self.spec.prometheus.discovery == Discovery::ConsulTemplate {
            outcomes.extend(self.consul_template().await?);
        }
        Ok(outcomes)
    }

    fn json(&self) -> Vec<Outcome> {
        let json = judge::texts(&self.image.wanted).filter(|(path, _)| path.as_str().ends_with(".json"));
        let judged = json.map(|(path, text)| {
            let verdict = match judge::json_mistake(text) {
                None => Verdict::passed(),
                Some(mistake) => Verdict::Failed { lines: vec![mistake], by: None },
            };
            (format!("JSON {path}"), verdict)
        });
        judged.collect()
    }

    /// A job that Upstart would refuse is not rendered at all: what is here has been read.
    fn jobs(&self) -> Vec<Outcome> {
        let jobs = judge::texts(&self.image.wanted).filter(|(path, _)| path.as_str().starts_with("/etc/init/"));
        jobs.map(|(path, _)| (format!("{} {path}", self.init), Verdict::passed())).collect()
    }

    async fn scripts(&self) -> Result<Vec<Outcome>, TrialError> {
        let shells: [(&str, &[&str]); 3] = [("sh", &[]), ("dash", &[]), ("busybox", &["sh"])];
        let mut outcomes = Vec::new();
        for (at, Script { name, text }) in judge::scripts(&self.image.wanted, self.init).into_iter().enumerate() {
            let path = HostPath::new(format!("/scripts/{at}")).expect("a number is a fine name");
            let path = self.tree.put(&path, text.as_bytes(), false)?;
            for (shell, first) in shells {
                let title = [&[shell], first, &["-n", &name][..]].concat().join(" ");
                let Some(program) = self.programs.on_path(shell) else {
                    outcomes.push((title, Verdict::NotRun { reason: format!("{shell} is not on PATH") }));
                    continue;
                };
                let mut words: Vec<OsString> = vec![program.into()];
                words.extend(first.iter().chain(&["-n"]).map(OsString::from));
                words.push(path.clone().into());
                outcomes.push((title, self.verdict(run(&words, LIMIT).await?, None, &[])));
            }
        }
        Ok(outcomes)
    }

    /// A check as a host would run it; `instead` are files that stand in the place of others.
    async fn by_program(&self, check: &Check, instead: &[(&str, &Path)]) -> Result<Verdict, TrialError> {
        let mut by = None;
        let mut words: Vec<OsString> = Vec::new();
        for (at, word) in check.argv.iter().enumerate() {
            words.push(match word {
                Word::Plain(name) if at == 0 => match self.programs.on_path(name) {
                    Some(program) => program.into(),
                    None => return Ok(Verdict::NotRun { reason: format!("{name} is not on PATH") }),
                },
                Word::Plain(word) => word.into(),
                Word::Shadow(path) => match instead.iter().find(|(of, _)| *of == path.as_str()) {
                    Some((_, other)) => other.as_os_str().to_owned(),
                    None => self.tree.at(path).into(),
                },
                Word::Program(path) => match self.judge(path).await? {
                    Ok(judge) => {
                        by = judge.by;
                        judge.program.into()
                    }
                    Err(reason) => return Ok(Verdict::NotRun { reason }),
                },
            });
        }
        Ok(self.verdict(run(&words, LIMIT).await?, by, &check.complaints))
    }

    /// The program that would stand at `path`, or why there is none to ask.
    async fn judge(&self, path: &HostPath) -> Result<Result<Judge, String>, TrialError> {
        let name = path.as_str().rsplit('/').next().unwrap_or_default();
        let known = judge::owner(name).and_then(|program| Some((program, self.spec.versions.get(program)?)));
        let Some((program, wanted)) = known else { return Ok(Err(format!("nobody knows {name}"))) };
        let offers = self.programs.offers(program, name).await?;
        let Some((version, place)) = judge::choose(program, wanted, &offers) else {
            return Ok(Err(nobody(name, wanted, offers.iter().map(|(version, _)| version))));
        };
        let by = (version != wanted).then(|| format!("{name} {version}, which reads the same as {wanted}"));
        Ok(Ok(Judge { program: self.programs.ready(version, place)?, by }))
    }

    /// The first versions of Prometheus have nothing that reads its files before it does.
    fn unread_prometheus(&self) -> Option<Outcome> {
        let read = self.image.wanted.checks.iter().any(|check| check.title.starts_with("promtool"));
        let reason =
            || format!("Prometheus {} comes without promtool: nothing reads its files", self.spec.versions.prometheus);
        (self.image.role.is_server() && !read).then(|| ("promtool".to_owned(), Verdict::NotRun { reason: reason() }))
    }

    /// What Consul Template would write, with nothing and with something in Consul; promtool reads that too.
    async fn consul_template(&self) -> Result<Vec<Outcome>, TrialError> {
        let name = Program::ConsulTemplate.as_str();
        let path = HostPath::new(format!("/usr/local/bin/{name}")).expect("a valid path");
        let title = |told: &str| format!("{name} -once -dry, {told} in Consul");
        let judge = match self.judge(&path).await? {
            Ok(judge) => judge,
            Err(reason) => {
                return Ok(vec![(format!("{name} -once -dry"), Verdict::NotRun { reason })]);
            }
        };
        let mut outcomes = Vec::new();
        for (told, hosts) in CATALOGS {
            let consul = StandIn::start(move |path| judge::consul_answer(path, hosts));
            let consul =
                consul.map_err(|cause| TrialError::Run { program: "a stand-in for Consul".to_owned(), cause })?;
            let config = self.template_config(&consul.address().to_string())?;
            let words: [OsString; 4] = [
                judge.program.clone().into(),
                "-once".into(),
                "-dry".into(),
                format!("-config={}", config.display()).into(),
            ];
            let ran = run(&words, TEMPLATE_LIMIT).await?;
            let written = match &ran {
                Ran::Ended { good: true, stdout, .. } => {
                    judge::dry(&String::from_utf8_lossy(stdout)).map(str::to_owned)
                }
                _ => None,
            };
            // It waits for ever for what the stand-in does not have, which says nothing of the template.
            let verdict = match ran {
                Ran::TimedOut => {
                    let limit = TEMPLATE_LIMIT.as_secs();
                    Verdict::NotRun { reason: format!("it did not come to its end within {limit} s") }
                }
                ran => self.verdict(ran, judge.by.clone(), &[]),
            };
            outcomes.push((title(told), verdict));
            if let Some(text) = written {
                outcomes.extend(self.candidate(&text, told).await?);
            }
        }
        Ok(outcomes)
    }

    /// Its configuration, with the paths of this tree and our own Consul.
    fn template_config(&self, consul: &str) -> Result<PathBuf, TrialError> {
        let folder = CONSUL_TEMPLATE_FOLDER;
        let config = HostPath::new(format!("{folder}/consul-template.hcl")).expect("a valid path");
        let text = judge::texts(&self.image.wanted).find(|(path, _)| **path == config).map(|(_, text)| text);
        let text = judge::moved_consul_template(text.unwrap_or_default(), &self.root(), consul);
        self.tree.put(&HostPath::new(format!("{folder}/tried.hcl")).expect("a valid path"), text.as_bytes(), false)
    }

    /// What it printed, judged as it would be on the host, beside the rules that it names.
    async fn candidate(&self, text: &str, told: &str) -> Result<Option<Outcome>, TrialError> {
        let Some(check) = self.image.wanted.checks.iter().find(|check| check.title.starts_with("promtool")) else {
            return Ok(None);
        };
        let path = HostPath::new(PROMETHEUS_CANDIDATE).expect("a valid path");
        let path = self.tree.put(&path, text.as_bytes(), false)?;
        let verdict = self.by_program(check, &[(PROMETHEUS_CONFIG, &path)]).await?;
        Ok(Some((format!("{} of what is rendered with {told} in Consul", check.title), verdict)))
    }

    fn verdict(&self, ran: Ran, by: Option<String>, complaints: &[String]) -> Verdict {
        let (good, said) = match ran {
            Ran::Ended { good, stdout, stderr } => (good, [stderr, stdout]),
            Ran::TimedOut => {
                let line = format!("it did not come to its end within {} s", LIMIT.as_secs());
                return Verdict::Failed { lines: vec![line], by };
            }
        };
        // The tree's own place is another one each time, and nobody's concern.
        let root = self.root();
        let lines = said.iter().flat_map(|said| judge::words(said)).map(|line| line.replace(&root, ""));
        if good {
            let complaints = lines.filter(|line| complaints.iter().any(|part| line.contains(part))).collect();
            Verdict::Passed { complaints, by }
        } else {
            Verdict::Failed { lines: lines.collect(), by }
        }
    }
}

fn is_unit(path: &HostPath) -> bool {
    path.as_str().starts_with("/etc/systemd/")
}

fn is_run(file: &ManagedFile) -> bool {
    file.mode & 0o111 != 0
}

fn nobody<'a>(name: &str, wanted: &Version, others: impl Iterator<Item = &'a Version>) -> String {
    let others: Vec<String> = others.map(ToString::to_string).collect();
    let mut reason = format!("{name} {wanted} is neither in the cache nor on PATH");
    if !others.is_empty() {
        reason.push_str(&format!(" ({} would read other files)", others.join(", ")));
    }
    reason
}

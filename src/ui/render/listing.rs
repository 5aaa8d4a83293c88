//! Lists: the artifact cache, and plain lists of lines such as what was removed.

use serde::Serialize;

use super::super::escape::plain;
use super::super::table::Table;
use super::super::words::bytes;
use super::{Document, View, envelope};
use crate::model::artifact::{Artifact, Executable, Packed};

/// `artifacts list`.
pub struct ArtifactsReport<'a>(pub &'a [Artifact]);

/// Digits of a sum that tell artifacts apart; verbose shows all 64.
const DIGITS: usize = 12;

/// An artifact in JSON: its name's parts beside its values, and paths as text.
#[derive(Serialize)]
struct Row<'a> {
    program: &'a str,
    version: String,
    arch: &'a str,
    size: u64,
    sha256: &'a str,
    source: &'a str,
    executables: Vec<Part<'a>>,
}

#[derive(Serialize)]
struct Part<'a> {
    name: &'a str,
    sha256: &'a str,
    size: u64,
    gzip: &'a Packed,
    zstd: &'a Packed,
}

#[derive(Serialize)]
struct Rows<'a> {
    artifacts: Vec<Row<'a>>,
}

impl<'a> Row<'a> {
    fn of(artifact: &'a Artifact) -> Self {
        let part = |e: &'a Executable| Part {
            name: &e.name,
            sha256: e.sha256.as_str(),
            size: e.size,
            gzip: &e.gzip,
            zstd: &e.zstd,
        };
        Self {
            program: artifact.id.program.as_str(),
            version: artifact.id.version.to_string(),
            arch: artifact.id.arch.as_str(),
            size: size(artifact),
            sha256: artifact.sha256.as_str(),
            source: &artifact.source,
            executables: artifact.executables.iter().map(part).collect(),
        }
    }
}

/// In bytes, as it will stand on a host.
fn size(artifact: &Artifact) -> u64 {
    artifact.executables.iter().map(|e| e.size).sum()
}

impl Document for ArtifactsReport<'_> {
    fn json(&self) -> String {
        envelope("artifacts", &Rows { artifacts: self.0.iter().map(Row::of).collect() })
    }

    fn text(&self, view: &View) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let mut table = Table::new(&["PROGRAM", "VERSION", "ARCH", "SIZE", "SHA-256", "SOURCE"]);
        for artifact in self.0 {
            let sum = artifact.sha256.as_str();
            table.row([
                artifact.id.program.as_str().into(),
                artifact.id.version.to_string().into(),
                artifact.id.arch.as_str().into(),
                bytes(size(artifact)).into(),
                if view.verbose { sum } else { &sum[..DIGITS] }.into(),
                artifact.source.as_str().into(),
            ]);
        }
        table.render(view.width)
    }

    fn beside(&self, _view: &View) -> Option<String> {
        self.0.is_empty().then(|| "the cache has no artifacts".to_owned())
    }
}

/// One thing a line: what `down` removed, what `prune` deleted.
pub struct Listing<'a> {
    /// The document's name in JSON, such as `removed`; a participle, for people read it too.
    pub document: &'a str,
    pub lines: &'a [String],
    /// What was left on purpose.
    pub kept: &'a [String],
}

impl Document for Listing<'_> {
    fn json(&self) -> String {
        #[derive(Serialize)]
        struct Items<'a> {
            items: &'a [String],
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            kept: &'a [String],
        }
        envelope(self.document, &Items { items: self.lines, kept: self.kept })
    }

    fn text(&self, _view: &View) -> String {
        self.lines.iter().map(|line| format!("{}\n", plain(line))).collect()
    }

    fn beside(&self, _view: &View) -> Option<String> {
        self.lines.is_empty().then(|| format!("nothing was {}", plain(self.document)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{artifacts, text, view};
    use super::*;

    #[test]
    fn artifacts_in_a_table() {
        insta::assert_snapshot!(text(&ArtifactsReport(&artifacts()), &view()), @"
        PROGRAM     VERSION  ARCH   SIZE      SHA-256       SOURCE
        consul      1.22.7   amd64  50.0 MB   b713f0bd8f48  imported from consul.tar.gz
        prometheus  3.13.3   amd64  100.0 MB  1809f7cd0c75  imported from prometheus.tar.gz
        ");
        let verbose = text(&ArtifactsReport(&artifacts()), &View { verbose: true, ..view() });
        assert!(verbose.contains(artifacts()[0].sha256.as_str()));
    }

    #[test]
    fn the_document() {
        insta::assert_snapshot!(ArtifactsReport(&artifacts()[..1]).json(), @r#"
        {
          "document": "artifacts",
          "version": 1,
          "artifacts": [
            {
              "program": "consul",
              "version": "1.22.7",
              "arch": "amd64",
              "size": 50000000,
              "sha256": "b713f0bd8f48dfad2263cabc455ade78f7e4e99a548101f31f935686dff67124",
              "source": "imported from consul.tar.gz",
              "executables": [
                {
                  "name": "consul",
                  "sha256": "b713f0bd8f48dfad2263cabc455ade78f7e4e99a548101f31f935686dff67124",
                  "size": 50000000,
                  "gzip": {
                    "path": "/cache/consul.gz",
                    "size": 17000000
                  },
                  "zstd": {
                    "path": "/cache/consul.zst",
                    "size": 14000000
                  }
                }
              ]
            }
          ]
        }
        "#);
    }

    #[test]
    fn an_empty_cache_says_so_beside_the_data() {
        let report = ArtifactsReport(&[]);
        assert_eq!(report.text(&view()), "");
        assert_eq!(report.beside(&view()).as_deref(), Some("the cache has no artifacts"));
    }

    #[test]
    fn what_was_removed() {
        let lines = ["host dev-node-1".to_owned(), "bridge \x1b[0m".to_owned()];
        let listing = Listing { document: "removed", lines: &lines, kept: &[] };
        assert_eq!(listing.text(&view()), "host dev-node-1\nbridge \\u{1b}[0m\n");
        assert_eq!(listing.beside(&view()), None);
        insta::assert_snapshot!(listing.json(), @r#"
        {
          "document": "removed",
          "version": 1,
          "items": [
            "host dev-node-1",
            "bridge \u001b[0m"
          ]
        }
        "#);
    }
}

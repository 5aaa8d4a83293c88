//! docs/versions.md, made from the data.

use std::fmt::Write as _;

use super::table::TABLE;
use super::{OLDEST_UPSTART, Part, Row, name, oldest};
use crate::model::version::{Preset, Program};

const PROGRAMS: [Program; 5] =
    [Program::Consul, Program::ConsulTemplate, Program::Prometheus, Program::NodeExporter, Program::Alertmanager];

/// The whole text.
pub fn document() -> String {
    let mut text = String::from(
        "# Versions and their dialects\n\n\
         Made from the data in `src/core/dialect/table.rs`: a test compares the two, and `CLUSTERCTL_BLESS=1 cargo test \
         --lib dialect` writes it anew.\n\n\
         A spec names versions in `[versions]`, one by one or by a preset; what is rendered is what those versions \
         read. Any mixture is taken, unless two of them cannot work together: then the spec is refused with the reason.\n\n\
         ## What is supported\n\n| program | oldest | preset `classic` | preset `current` |\n|---|---|---|---|\n",
    );
    let presets = Preset::ALL.map(Preset::versions);
    for program in PROGRAMS {
        let version = |preset: usize| presets[preset].get(program).map(ToString::to_string).unwrap_or_default();
        let classic = if program == Program::Alertmanager { "none".to_owned() } else { version(0) };
        let _ = writeln!(text, "| {program} | {} | {classic} | {} |", oldest(program), version(1));
    }
    let _ = write!(
        text,
        "| Upstart | {OLDEST_UPSTART} | as found on the host | |\n| systemd | 219, tested with 252 | | as found on the host |\n\n\
         `classic` finds targets by Consul Template, `current` by Prometheus' own `consul_sd_configs`; \
         `discovery` in `[prometheus]` chooses either for all versions.\n"
    );
    for program in PROGRAMS {
        table(&mut text, &format!("{program}"), Part::Program(program));
    }
    table(&mut text, "Upstart", Part::Upstart);
    text
}

fn table(text: &mut String, title: &str, of: Part) {
    let _ = write!(
        text,
        "\n## {title}\n\n| versions | what is written | `can.` in templates | source |\n|---|---|---|---|\n"
    );
    for row in TABLE.iter().filter(|row| row.of == of) {
        let _ = writeln!(text, "| {} | {} | `{}` | {} |", range(row), row.what, name(row.capability), row.source);
    }
}

fn range(row: &Row) -> String {
    let shown = |[major, minor, patch]: [u16; 3]| format!("{major}.{minor}.{patch}");
    match (row.since, row.until) {
        (Some(since), None) => format!("from {}", shown(since)),
        (None, Some(until)) => format!("before {}", shown(until)),
        (Some(since), Some(until)) => format!("from {}, before {}", shown(since), shown(until)),
        (None, None) => "all".to_owned(),
    }
}

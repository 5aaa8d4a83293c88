//! Where everything stands on a host, for asking it before its facts, its address or the artifacts are known.

use super::{RenderError, Renderer, Subject};
use crate::core::dialect::OLDEST_UPSTART;
use crate::model::artifact::{Arch, Artifact, ArtifactId, Executable, Packed, Sha256};
use crate::model::file::Wanted;
use crate::model::host::Role;
use crate::model::init::Init;
use crate::model::name::HostName;
use crate::model::spec::Spec;
use crate::model::version::Program;

/// What may be wanted on a host of this role, once for each init system that it may turn out to have.
pub fn layout(renderer: &Renderer, spec: &Spec, name: &HostName, role: Role) -> Result<Vec<Wanted>, RenderError> {
    layout_of(renderer, spec, Some(name), role)
}

/// The same for any host of the role, as in an image.
pub fn image_layout(renderer: &Renderer, spec: &Spec, role: Role) -> Result<Vec<Wanted>, RenderError> {
    layout_of(renderer, spec, None, role)
}

fn layout_of(
    renderer: &Renderer,
    spec: &Spec,
    name: Option<&HostName>,
    role: Role,
) -> Result<Vec<Wanted>, RenderError> {
    let artifacts = absent(spec, role);
    [Init::Systemd, Init::Upstart(OLDEST_UPSTART)]
        .into_iter()
        .map(|init| {
            let subject = Subject { role, init, name: name.cloned(), address: None, servers: Vec::new() };
            renderer.made(spec, &subject, &artifacts, false)
        })
        .collect()
}

/// Artifacts that only have their executables' names: for whoever wants the texts alone.
pub fn absent(spec: &Spec, role: Role) -> std::collections::BTreeMap<Program, Artifact> {
    let artifact = |(program, version): (Program, &semver::Version)| {
        let nothing = Sha256::of(b"");
        let executable = |name: &&str| Executable {
            name: (*name).to_owned(),
            sha256: nothing.clone(),
            size: 0,
            gzip: Packed::default(),
            zstd: Packed::default(),
        };
        let artifact = Artifact {
            id: ArtifactId { program, version: version.clone(), arch: Arch::Amd64 },
            sha256: nothing.clone(),
            source: String::new(),
            executables: program.executables(version).iter().map(executable).collect(),
        };
        (program, artifact)
    };
    spec.releases(role).into_iter().map(artifact).collect()
}

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use super::context::{self, sources};
use super::paths::Paths;
use super::{Global, exit};
use crate::model::artifact::{Arch, ArtifactId, Sha256};
use crate::model::host::Role;
use crate::model::spec::Spec;
use crate::ui::render::{ArtifactsReport, Listing};
use crate::ui::words;
use crate::world::artifacts::Cache;

/// The programs that clusterctl installs, as its local cache holds them
#[derive(Debug, Subcommand)]
pub enum ArtifactsVerb {
    /// List what the cache holds
    List,
    /// Fetch what the spec's versions need (or today's, without a spec), from its mirror or the official releases
    Fetch(FetchArgs),
    /// Take a release archive from a file into the cache; its name says what it is
    Import(ImportArgs),
    /// Remove what the spec's versions (or today's) do not need, and leftovers of killed runs
    Prune,
}

#[derive(Debug, Args)]
pub struct FetchArgs {
    /// For this processor [default: this machine's]
    #[arg(long, value_parser = ["amd64", "arm64"])]
    arch: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Archives with their official names, such as consul_1.22.7_linux_amd64.zip
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The archive's expected SHA-256 sum (for one file)
    #[arg(long)]
    sha256: Option<Sha256>,
}

pub async fn run(global: Global, verb: ArtifactsVerb) -> Result<u8> {
    let paths = Paths::from_environment()?;
    let ui = global.ui();
    let cache = Cache::open(paths.artifacts())?;
    match verb {
        ArtifactsVerb::List => {
            for broken in cache.broken()? {
                ui.warn(&format!(
                    "{} in {} is broken and not used: {}",
                    broken.id,
                    broken.path.display(),
                    broken.reason
                ));
            }
            ui.show(&ArtifactsReport(&cache.list()?), &ui.view())?;
            Ok(exit::OK)
        }
        ArtifactsVerb::Fetch(args) => fetch(&global, &paths, &cache, &args).await,
        ArtifactsVerb::Import(args) => {
            if args.sha256.is_some() && args.files.len() > 1 {
                anyhow::bail!(super::Usage("--sha256 goes with one file".to_owned()));
            }
            let reporter = context::reporter(&global, &ui)?;
            let mut imported = Vec::new();
            for file in &args.files {
                let artifact = cache.import_telling(file, args.sha256.as_ref(), &reporter.events()).await;
                imported.push(artifact.with_context(|| format!("importing {}", file.display()))?);
            }
            reporter.show(&ArtifactsReport(&imported), &ui.view())?;
            Ok(exit::OK)
        }
        ArtifactsVerb::Prune => {
            let spec = context::spec_or_default(&global, &paths)?;
            let keep: Vec<ArtifactId> = [Arch::Amd64, Arch::Arm64].iter().flat_map(|arch| ids(&spec, *arch)).collect();
            let removed = cache.prune(&keep)?;
            let lines: Vec<String> =
                removed.iter().map(|pruned| format!("{pruned} ({})", words::bytes(pruned.bytes))).collect();
            ui.show(&Listing { document: "removed", lines: &lines, kept: &[] }, &ui.view())?;
            Ok(exit::OK)
        }
    }
}

/// A server runs all that a cluster needs.
fn ids(spec: &Spec, arch: Arch) -> Vec<ArtifactId> {
    let id = |(program, version): (_, &semver::Version)| ArtifactId { program, version: version.clone(), arch };
    spec.releases(Role::Server).into_iter().map(id).collect()
}

async fn fetch(global: &Global, paths: &Paths, cache: &Cache, args: &FetchArgs) -> Result<u8> {
    let ui = global.ui();
    let spec = context::spec_or_default(global, paths)?;
    let archs: Vec<Arch> = if args.arch.is_empty() {
        let here = Arch::from_machine(std::env::consts::ARCH);
        vec![here.context("this machine's processor has no releases: name one with --arch")?]
    } else {
        args.arch.iter().filter_map(|arch| Arch::from_machine(arch)).collect()
    };
    let wanted: Vec<ArtifactId> = archs.iter().flat_map(|arch| ids(&spec, *arch)).collect();
    let cancel = global.cancel(&ui);
    let reporter = context::reporter(global, &ui)?;
    let fetched = cache.ensure_sound(&wanted, &sources(&spec), &reporter.events(), &cancel).await;
    reporter.finish();
    let (mut got, mut failed) = (Vec::new(), 0);
    for (id, result) in fetched {
        match result {
            Ok(artifact) => got.push(artifact),
            Err(error) => {
                failed += 1;
                let hint = error.hint();
                ui.error(&error, hint.as_deref());
                tracing::debug!(%id, "not fetched");
            }
        }
    }
    reporter.show(&ArtifactsReport(&got), &ui.view())?;
    Ok(if cancel.is_cancelled() {
        exit::INTERRUPTED
    } else if failed > 0 {
        exit::FAILED
    } else {
        exit::OK
    })
}

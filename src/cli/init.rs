use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::{Global, exit};
use crate::core::specfile;
use crate::model::name::ClusterName;
use crate::ui::Format;
use crate::ui::render::Listing;

/// Write a commented cluster.toml to start from
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to write it; `-` for stdout
    #[arg(default_value = "cluster.toml", value_name = "PATH")]
    path: PathBuf,
}

pub fn run(global: &Global, args: InitArgs) -> Result<u8> {
    let name = match &global.cluster {
        Some(name) => name.clone(),
        None => ClusterName::new("demo")?,
    };
    let text = specfile::starter(&name);
    if args.path.as_os_str() == "-" {
        global.ui().data(&text)?;
        return Ok(exit::OK);
    }
    let mut file = match std::fs::OpenOptions::new().write(true).create_new(true).open(&args.path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} exists already: it is left as it is; name another file", args.path.display())
        }
        Err(error) => return Err(error).with_context(|| format!("making {}", args.path.display())),
    };
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", args.path.display()))?;
    if global.output == Format::Json {
        let written = [args.path.display().to_string()];
        global.ui().show(&Listing { document: "written", lines: &written, kept: &[] }, &global.ui().view())?;
    }
    global.ui().note(&format!("wrote {}; next: clusterctl up -f {}", args.path.display(), args.path.display()));
    Ok(exit::OK)
}

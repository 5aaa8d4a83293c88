use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, exit};
use crate::ui::{ColorWhen, Format, Ui};

/// Print the completion script for a shell
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    shell: Shell,
}

pub fn run(args: CompletionsArgs) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "clusterctl", &mut script);
    Ui::new(Format::Text, ColorWhen::Never).data(&String::from_utf8(script)?)?;
    Ok(exit::OK)
}

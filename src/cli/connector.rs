//! The SSH connector of a session: which keys are known, who becomes root how.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

use super::Global;
use super::paths::Paths;
use crate::model::spec::Spec;
use crate::ui::Ui;
use crate::world::remote::ssh::{Secret, SshConnector, SshSettings, UnknownKey};

/// Made of the command line, the spec and the user's own files.
pub fn connector(
    global: &Global,
    paths: &Paths,
    spec: &Spec,
    ui: &Ui,
    cancel: &CancellationToken,
) -> Result<SshConnector> {
    let settings = SshSettings {
        known_hosts: paths.known_hosts(&spec.cluster),
        ssh_config: Some(paths.home.join(".ssh/config")),
        home: paths.home.clone(),
        default_user: paths.user.clone(),
        sudo_password: if global.ask_sudo_password { Some(sudo_password(ui)?) } else { None },
        unknown_key: if global.accept_new_host_keys { UnknownKey::AcceptNew } else { UnknownKey::Refuse },
        cancel: cancel.clone(),
    };
    Ok(SshConnector::new(settings))
}

/// From the terminal without an echo, or the first line of a pipe; never an argument, which `ps` shows.
fn sudo_password(ui: &Ui) -> Result<Secret> {
    let stdin = std::io::stdin();
    let password = if stdin.is_terminal() && ui.is_ci() {
        anyhow::bail!(super::Usage(
            "--ask-sudo-password: CI is set, so that nobody is asked: give the password as the first line of a pipe"
                .to_owned()
        ));
    } else if stdin.is_terminal() {
        rpassword::prompt_password("Password for sudo on the hosts: ").context("reading the password")?
    } else {
        let mut line = String::new();
        stdin.lock().read_line(&mut line).context("reading the password for sudo from standard input")?;
        line.trim_end_matches(['\n', '\r']).to_owned()
    };
    if password.is_empty() {
        anyhow::bail!(super::Usage("--ask-sudo-password: no password came".to_owned()));
    }
    Ok(Secret::new(password))
}

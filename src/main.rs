//! Parses the command line, sets up tracing, and turns what comes back into an exit code.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clusterctl::cli::{Cli, exit, hints};
use clusterctl::ui::progress::{LogFile, system_clock};
use clusterctl::ui::{Ui, error, style};
use tracing_subscriber::EnvFilter;

/// Libraries that sign requests or carry them.
const SECRETIVE: [&str; 8] = [
    "aws_config",
    "aws_credential_types",
    "aws_runtime",
    "aws_sigv4",
    "aws_smithy_http_client",
    "aws_smithy_runtime",
    "aws_smithy_runtime_api",
    "hyper_util",
];

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    let ui = cli.global.ui();
    trace(cli.global.verbose, &ui);
    let log_file = cli.global.log_file.clone();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            ui.error(&error, None);
            return ExitCode::from(exit::FAILED);
        }
    };
    let code = match runtime.block_on(cli.run()) {
        Ok(code) => code,
        Err(error) => {
            let hint = hints::hint(&error);
            ui.error(error.as_ref(), hint.as_deref());
            if let Some(path) = log_file {
                log(&path, &error, hint.as_deref());
            }
            hints::code(&error)
        }
    };
    // A blocking thread that waits for a dead host must not hold up the end.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// The log's last lines say why the command ended. A log that cannot be written has been told of already.
fn log(path: &Path, error: &anyhow::Error, hint: Option<&str>) {
    if let Ok(log) = LogFile::append(path, system_clock()) {
        log.line(&style::strip(&error::text(&error::chain(error.as_ref()), hint)));
    }
}

/// `-vv` shows what clusterctl itself does, `-vvv` its libraries too; `RUST_LOG` says it more finely.
fn trace(verbose: u8, ui: &Ui) {
    let level = match verbose {
        0 | 1 => "warn",
        2 => "clusterctl=debug,warn",
        _ => "clusterctl=trace,debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // At their lower levels these write out whole requests, and with them session tokens and signatures: nobody's
    // wish to see more is to put those into a log.
    // Their warnings speak to programmers, and each error that matters comes up to us anyway.
    let level = if verbose < 3 { "error" } else { "info" };
    let filter = SECRETIVE.iter().fold(filter, |filter, krate| {
        filter.add_directive(format!("{krate}={level}").parse().expect("a crate's name and a level"))
    });
    let ui = ui.clone();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || ui.err_writer()).with_ansi(false).init();
}

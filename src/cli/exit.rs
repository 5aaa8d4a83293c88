//! The exit codes, few and documented (README, "Exit codes").

/// All is as it should be.
pub const OK: u8 = 0;
/// The command failed, or could not begin.
pub const FAILED: u8 = 1;
/// `plan`: something would change.
pub const CHANGES: u8 = 2;
/// Some hosts failed, or Consul or Prometheus did not confirm them; the others are done.
pub const HOSTS_FAILED: u8 = 3;
/// The command line or the spec is wrong (sysexits' EX_USAGE).
pub const USAGE: u8 = 64;
/// `--timeout` ended the command (as coreutils' `timeout` exits).
pub const TIMED_OUT: u8 = 124;
/// Ctrl-C or SIGTERM (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

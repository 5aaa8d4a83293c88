//! Runs other programs: arguments as they are (never a shell line), the status checked, and a failure
//! told with the program's own last words. What the programs are asked stands with those who ask.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::world::cloud::CloudError;

/// Where system programs lie that a plain user's `PATH` may lack.
const SYSTEM: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The program's path, looked up as the shell would, then in the system's own folders.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM.iter().map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_absolute() && is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// A command with the program looked up, in the C locale (its output is parsed), without standard input.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| PathBuf::from(program)));
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Runs to the end; the answer is its standard output.
pub fn run<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Result<String, CloudError> {
    let mut command = command(program);
    command.args(args);
    output(command, None)
}

/// The same with `input` on standard input.
pub fn run_with<S: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = S>,
    input: &str,
) -> Result<String, CloudError> {
    let mut command = command(program);
    command.args(args);
    output(command, Some(input))
}

fn output(mut command: Command, input: Option<&str>) -> Result<String, CloudError> {
    let shown = shown(&command);
    let failed = |detail: String| CloudError::Command { command: shown.clone(), detail };
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(format!("it could not be started: {e}")))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // A program that ends early closes its input; its status tells more than the broken pipe.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{}; it said: {}", output.status, last_lines(&said, 5))))
}

/// The command as one line for people.
pub fn shown(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    command.get_args().fold(name, |line, arg| line + " " + &arg.to_string_lossy())
}

/// The last `count` lines that say something, without the terminal's control codes.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<String> = text.lines().map(plain).filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Without escape sequences and control characters: a host's console may hold anything.
fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // `ESC [ … letter`; what is not of this form loses its escape and the next character.
            if chars.next() == Some('[') {
                chars.by_ref().find(|c| c.is_ascii_alphabetic());
            }
        } else if !c.is_control() || c == '\t' {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_the_programs_last_words() {
        let error = run("sh", ["-c", "echo one >&2; echo two >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("one\ntwo"), "{error}");
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(run_with("cat", [""; 0], "hello").unwrap(), "hello");
    }

    #[test]
    fn an_absent_program_is_an_error() {
        let error = run("no-such-program-anywhere", ["x"]).unwrap_err().to_string();
        assert!(error.contains("no-such-program-anywhere x"), "{error}");
    }

    #[test]
    fn last_lines_are_plain() {
        assert_eq!(last_lines("a\n\u{1b}[0;32mok\u{1b}[0m\r\n\n\u{7}b\n", 2), "ok\nb");
    }
}

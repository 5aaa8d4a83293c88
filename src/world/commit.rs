//! Which spec a file is: the commit that it stands in, or its own sum.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::model::artifact::Sha256;

/// The commit of the folder that `file` lies in, where nothing in that folder differs from it; else `sha256:…` of the
/// file; `none` where there is no file.
pub async fn of(file: Option<&Path>) -> String {
    let Some(file) = file else { return "none".to_owned() };
    if let Some(commit) = clean_commit(file).await {
        return commit;
    }
    std::fs::read(file).map_or_else(|_| "none".to_owned(), |bytes| format!("sha256:{}", Sha256::of(&bytes)))
}

async fn clean_commit(file: &Path) -> Option<String> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A file that git ignores differs from nothing, and is in no commit either.
    let name = file.file_name()?.to_str()?;
    git(folder, &["ls-files", "--error-unmatch", "--", name]).await?;
    let changed = git(folder, &["status", "--porcelain", "--", "."]).await?;
    if !changed.is_empty() {
        return None;
    }
    let commit = git(folder, &["rev-parse", "--verify", "HEAD"]).await?;
    (commit.len() >= 40 && commit.bytes().all(|b| b.is_ascii_hexdigit())).then_some(commit)
}

/// What git says; nothing where it fails or is not there. A repository's own settings start no program.
async fn git(folder: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "core.fsmonitor=false", "--no-optional-locks"])
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(folder: &Path, args: &[&str]) {
        let who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
        git(folder, &[&who[..], args].concat()).await.unwrap_or_else(|| panic!("git {args:?}"));
    }

    #[tokio::test]
    async fn a_clean_folder_is_its_commit_and_anything_else_its_sum() {
        assert_eq!(of(None).await, "none");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cluster.toml");
        assert_eq!(of(Some(&file)).await, "none");
        std::fs::write(&file, "a").unwrap();
        let sum = format!("sha256:{}", Sha256::of(b"a"));
        assert_eq!(of(Some(&file)).await, sum);

        run(dir.path(), &["init", "-q"]).await;
        assert_eq!(of(Some(&file)).await, sum, "it is in no commit");
        run(dir.path(), &["add", "."]).await;
        run(dir.path(), &["commit", "-q", "-m", "a"]).await;
        let commit = of(Some(&file)).await;
        assert_eq!(commit.len(), 40, "{commit}");
        std::fs::write(dir.path().join("beside"), "").unwrap();
        assert_eq!(of(Some(&file)).await, sum, "a template beside it may be changed");
    }
}

//! A folder of rendered files that is ours: written anew by each run, with a list of what stands in it, so that the next
//! run takes away what it no longer writes and touches nothing else. Nothing is written outside of it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::model::file::HostPath;

/// Lists what stands in the folder, folders with a slash behind; it makes the folder ours.
pub const MARKER: &str = ".clusterctl-render";
const MARKER_HEAD: &str =
    "# What `clusterctl render` wrote here. Its next run removes what it writes no more, and only that.\n";

#[derive(Debug, Error)]
pub enum FolderError {
    #[error("{doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{} is not empty, and `clusterctl render` did not write what is in it: name another folder, or empty it", dir.display())]
    NotOurs { dir: PathBuf },
    #[error("{} is no folder", path.display())]
    NoFolder { path: PathBuf },
    #[error("{} was not written by `clusterctl render`, and stands where a file of its belongs: move it away", path.display())]
    Foreign { path: PathBuf },
    #[error("{} is a link, and nothing is written through links: remove it", path.display())]
    Link { path: PathBuf },
    #[error("{}: \"{}\" is no path that `clusterctl render` writes: remove that line", path.display(), line.escape_debug())]
    Marker { path: PathBuf, line: String },
}

fn file<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FolderError + 'a {
    move |cause| FolderError::File { doing, path: path.to_owned(), cause }
}

/// A file for the folder; as on a host, `/` is the folder itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    pub path: HostPath,
    pub mode: u32,
    /// `None`: a folder.
    pub text: Option<&'a str>,
}

/// What a run did to the folder; paths from there, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Every file of ours that now stands there.
    pub files: Vec<String>,
    /// Those of them that were not there, or were other ones.
    pub changed: usize,
    pub removed: Vec<String>,
}

/// Makes the folder hold these entries; of what an earlier run wrote, nothing else stays.
///
/// # Errors
/// [`FolderError`]; nothing was changed where it is about whose the folder is.
pub fn write(dir: &Path, entries: &[Entry<'_>]) -> Result<Written, FolderError> {
    let old = ours(dir)?;
    let mut new = BTreeSet::new();
    for entry in entries {
        let relative = entry.path.as_str().trim_start_matches('/');
        new.extend(relative.match_indices('/').map(|(at, _)| relative[..=at].to_owned()));
        new.insert(if entry.text.is_some() { relative.to_owned() } else { format!("{relative}/") });
    }
    for path in &new {
        inspect(dir, path, &old)?;
    }
    for path in old.difference(&new) {
        unlinked(dir, path)?;
    }
    fs::create_dir_all(dir).map_err(file("making", dir))?;
    // Should this run end early, the next one knows all that may be ours.
    mark(dir, &old.union(&new).cloned().collect())?;
    let mut written = Written::default();
    for path in new.iter().filter(|path| path.ends_with('/')) {
        make_folder(&dir.join(path), 0o755)?;
    }
    for entry in entries {
        let relative = entry.path.as_str().trim_start_matches('/');
        let at = dir.join(relative);
        let Some(text) = entry.text else {
            set_mode(&at, entry.mode)?;
            continue;
        };
        if put(&at, text.as_bytes(), entry.mode)? {
            written.changed += 1;
        }
        written.files.push(relative.to_owned());
    }
    written.files.sort();
    // From below, so that folders are empty when their turn comes.
    for path in old.iter().rev().filter(|path| !new.contains(*path)) {
        if remove(&dir.join(path), path.ends_with('/'))? {
            written.removed.push(path.clone());
        }
    }
    written.removed.sort();
    mark(dir, &new)?;
    Ok(written)
}

/// What an earlier run wrote; nothing where the folder is not there or empty.
fn ours(dir: &Path) -> Result<BTreeSet<String>, FolderError> {
    let mut listed = match fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(FolderError::NoFolder { path: dir.to_owned() });
        }
        Err(error) => return Err(file("reading", dir)(error)),
    };
    let marker = dir.join(MARKER);
    let text = match fs::symlink_metadata(&marker) {
        Ok(found) if found.is_symlink() => return Err(FolderError::Link { path: marker }),
        // A pipe, say, would be waited for.
        Ok(found) if !found.is_file() => return Err(FolderError::Foreign { path: marker }),
        Ok(_) => fs::read_to_string(&marker).map_err(file("reading", &marker))?,
        Err(_) if listed.next().is_none() => return Ok(BTreeSet::new()),
        Err(_) => return Err(FolderError::NotOurs { dir: dir.to_owned() }),
    };
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let checked = lines.map(|line| {
        // The same letters as on a host: nothing that leads out of the folder.
        match HostPath::new(format!("/{}", line.strip_suffix('/').unwrap_or(line))) {
            Ok(_) => Ok(line.to_owned()),
            Err(_) => Err(FolderError::Marker { path: marker.clone(), line: line.to_owned() }),
        }
    });
    checked.collect()
}

/// May `path` be written? Neither through a link, nor over what others put there.
fn inspect(dir: &Path, path: &str, old: &BTreeSet<String>) -> Result<(), FolderError> {
    let at = dir.join(path.trim_end_matches('/'));
    match fs::symlink_metadata(&at) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file("looking at", &at)(error)),
        Ok(found) if found.is_symlink() => Err(FolderError::Link { path: at }),
        Ok(found) if found.is_dir() && path.ends_with('/') => Ok(()),
        Ok(found) if found.is_file() && old.contains(path) => Ok(()),
        Ok(_) if path.ends_with('/') => Err(FolderError::NoFolder { path: at }),
        Ok(_) => Err(FolderError::Foreign { path: at }),
    }
}

/// Does a link lead to what is to be removed?
fn unlinked(dir: &Path, path: &str) -> Result<(), FolderError> {
    let above = path.match_indices('/').map(|(at, _)| dir.join(&path[..at]));
    match above.into_iter().find(|folder| folder.is_symlink()) {
        Some(path) => Err(FolderError::Link { path }),
        None => Ok(()),
    }
}

fn mark(dir: &Path, paths: &BTreeSet<String>) -> Result<(), FolderError> {
    let mut text = MARKER_HEAD.to_owned();
    for path in paths {
        text.push_str(path);
        text.push('\n');
    }
    put(&dir.join(MARKER), text.as_bytes(), 0o644).map(|_| ())
}

fn make_folder(at: &Path, mode: u32) -> Result<(), FolderError> {
    match fs::create_dir(at) {
        Ok(()) => set_mode(at, mode),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(file("making", at)(error)),
    }
}

fn set_mode(at: &Path, mode: u32) -> Result<(), FolderError> {
    let now = fs::symlink_metadata(at).map_err(file("looking at", at))?.permissions().mode() & 0o7777;
    if now == mode {
        return Ok(());
    }
    fs::set_permissions(at, fs::Permissions::from_mode(mode)).map_err(file("changing the mode of", at))
}

/// Writes beside and renames, so that each file is old or new. `false`: it was so already.
fn put(at: &Path, bytes: &[u8], mode: u32) -> Result<bool, FolderError> {
    let same = fs::symlink_metadata(at).is_ok_and(|now| now.is_file() && now.permissions().mode() & 0o7777 == mode)
        && fs::read(at).is_ok_and(|now| now == bytes);
    // A run that was killed may have left it.
    let beside = beside(at);
    forget(&beside)?;
    if same {
        return Ok(false);
    }
    let write = || {
        let mut new = File::create_new(&beside)?;
        new.set_permissions(fs::Permissions::from_mode(mode))?;
        new.write_all(bytes)?;
        fs::rename(&beside, at)
    };
    let done = write();
    if done.is_err() {
        let _ = fs::remove_file(&beside);
    }
    done.map(|()| true).map_err(file("writing", at))
}

fn beside(at: &Path) -> PathBuf {
    let name = at.file_name().unwrap_or_default().to_string_lossy();
    at.with_file_name(format!(".{name}.clusterctl-new"))
}

/// `false`: nothing to remove, or a folder in which others have put something.
fn remove(at: &Path, folder: bool) -> Result<bool, FolderError> {
    if !folder {
        forget(&beside(at))?;
        return forget(at);
    }
    match fs::remove_dir(at) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(false),
        // Somebody made a file or a link of it: theirs.
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(file("removing", at)(error)),
    }
}

fn forget(at: &Path) -> Result<bool, FolderError> {
    match fs::remove_file(at) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(file("removing", at)(error)),
    }
}

#[cfg(test)]
mod tests;

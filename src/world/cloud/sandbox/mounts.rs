//! Mounts: which there are, and how ours are made and undone. Parsing is strict, since what is found
//! here decides what is unmounted and whose processes are killed.

use std::path::{Path, PathBuf};
use std::{ffi::CString, fs, io};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::world::cloud::CloudError;

/// One line of a `mountinfo` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub point: PathBuf,
    pub kind: String,
    pub options: String,
}

impl Mount {
    /// An overlay's upper folder.
    pub fn upper(&self) -> Option<&str> {
        (self.kind == "overlay").then(|| self.options.split(',').find_map(|o| o.strip_prefix("upperdir=")))?
    }

    /// An overlay's lower folders.
    pub fn lowers(&self) -> impl Iterator<Item = &str> {
        let options = self.options.split(',').filter(|_| self.kind == "overlay");
        options.filter_map(|o| o.strip_prefix("lowerdir=")).flat_map(|lowers| lowers.split(':'))
    }
}

/// All well-formed lines; others are skipped.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/root rw,errors=continue`
fn parse_line(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let point = mount.split(' ').nth(4).filter(|p| p.starts_with('/'))?;
    let mut file_system = file_system.split(' ');
    let kind = file_system.next()?.to_owned();
    let options = file_system.nth(1)?.to_owned();
    Some(Mount { point: PathBuf::from(unescape(point)), kind, options })
}

/// Undoes the kernel's `\ooo` for blanks and backslashes.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal =
            bytes.get(at + 1..at + 4).filter(|o| bytes[at] == b'\\' && o.iter().all(|d| (b'0'..=b'7').contains(d)));
        let value = octal.and_then(|o| u8::from_str_radix(std::str::from_utf8(o).ok()?, 8).ok());
        out.push(value.unwrap_or(bytes[at]));
        at += if value.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// This process' mounts.
pub fn current() -> Result<Vec<Mount>, CloudError> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(path).map_err(|e| super::file_error("reading", path, e))?;
    Ok(parse(&text))
}

/// The mount points at or below `dir`, deepest first: the later a mount, the earlier it must go.
pub fn below<'a>(mounts: &'a [Mount], dir: &'a Path) -> impl Iterator<Item = &'a Path> {
    mounts.iter().rev().map(|m| m.point.as_path()).filter(move |point| point.starts_with(dir))
}

/// Unmounts all at or below `dir`; repeatable. The answer is how many there were.
pub fn unmount_below(dir: &Path) -> Result<usize, CloudError> {
    let mounts = current()?;
    let mut count = 0;
    for point in below(&mounts, dir) {
        count += 1;
        // Lazily when busy: whoever still looks at it loses nothing, and the name is free again.
        if rustix::mount::unmount(point, UnmountFlags::empty()).is_err() {
            match rustix::mount::unmount(point, UnmountFlags::DETACH) {
                Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
                Err(e) => return Err(super::file_error("unmounting", point, e.into())),
            }
        }
    }
    Ok(count)
}

/// Lays `upper` over `lowers`, of which the first is the uppermost, seen at `point`. The paths have been checked to
/// hold no `,` and `:`.
pub fn overlay(lowers: &[PathBuf], upper: &Path, work: &Path, point: &Path) -> io::Result<()> {
    let lowers: Vec<String> = lowers.iter().map(|lower| lower.display().to_string()).collect();
    let options = format!("lowerdir={},upperdir={},workdir={}", lowers.join(":"), upper.display(), work.display());
    let options = CString::new(options).map_err(io::Error::other)?;
    rustix::mount::mount("overlay", point, "overlay", MountFlags::empty(), options.as_c_str())?;
    Ok(())
}

/// Removes a tree, but only when nothing is mounted in it: a mount of the machine would be emptied.
pub fn remove_tree(dir: &Path) -> Result<(), CloudError> {
    unmount_below(dir)?;
    if below(&current()?, dir).next().is_some() {
        let busy = io::Error::new(io::ErrorKind::ResourceBusy, "something is still mounted in it");
        return Err(super::file_error("removing", dir, busy));
    }
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(super::file_error("removing", dir, e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 24 0:39 / /srv/x rw,relatime shared:3 - overlay overlay rw,lowerdir=/b,upperdir=/srv/u,workdir=/srv/w
31 30 0:4 / /srv/x/proc rw - proc proc rw
32 24 0:5 / /srv/with\\040blank rw - tmpfs tmpfs rw
33 24 0:6 / /srv/xylophone rw - tmpfs tmpfs rw
";

    #[test]
    fn lines_are_read() {
        let mounts = parse(TEXT);
        assert_eq!(mounts.len(), 5);
        assert_eq!(mounts[1].upper(), Some("/srv/u"));
        assert_eq!(mounts[0].upper(), None);
        assert_eq!(mounts[1].lowers().collect::<Vec<_>>(), ["/b"]);
        assert_eq!(mounts[0].lowers().count(), 0);
        let two = parse("1 2 3 4 / x - overlay overlay rw,lowerdir=/a:/b,upperdir=/u");
        assert_eq!(two[0].lowers().collect::<Vec<_>>(), ["/a", "/b"]);
        assert_eq!(mounts[3].point, Path::new("/srv/with blank"));
    }

    #[test]
    fn below_is_deepest_first_and_by_whole_names() {
        let mounts = parse(TEXT);
        let points: Vec<_> = below(&mounts, Path::new("/srv/x")).collect();
        assert_eq!(points, [Path::new("/srv/x/proc"), Path::new("/srv/x")]);
    }

    #[test]
    fn hostile_lines_are_skipped_or_harmless() {
        assert!(parse("").is_empty());
        assert!(parse("garbage\n - \n1 2 3 4 - ext4 a\n1 2 3 4 relative x - ext4 a b\n").is_empty());
        let odd = parse("1 2 3 4 /a\\9z\\ x - overlay overlay upperdir=");
        assert_eq!(odd[0].point, Path::new("/a\\9z\\"));
        assert_eq!(odd[0].upper(), Some(""));
        // Another file system's options say nothing of an overlay.
        assert_eq!(parse("1 2 3 4 / x - fuse x rw,upperdir=/srv/u")[0].upper(), None);
    }
}

//! The sandbox: real Linux hosts on this machine, each a systemd-nspawn over an overlay on one base tree,
//! with its own address, systemd and sshd. docs/sandbox.md says where all of it lies.
//!
//! This file is the trait; what it does on the machine stands in [`site`], one step below.

mod base;
mod command;
mod fitness;
mod host;
mod images;
mod launch;
mod lock;
mod mirror;
mod mounts;
mod nat;
mod net;
mod nspawn;
mod process;
mod removal;
mod site;
mod state;
mod subnet;
mod tree;

use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;

use self::site::Site;
use super::{Cloud, CloudError, Images, Launch, Removed};
use crate::model::baked::{Baked, ImageId, Label};
use crate::model::event::Events;
use crate::model::host::{Host, HostId};
use crate::model::name::ClusterName;
use crate::model::report::Finding;

/// As much of a console as is read: its end.
const CONSOLE: u64 = 1 << 20;

/// One cluster of hosts on this machine.
#[derive(Debug, Clone)]
pub struct Sandbox(Arc<Site>);

impl Sandbox {
    /// `root` is the folder for all clusters of this machine and for the base tree (`base` in it).
    /// Nothing is made or looked at yet, except that this is Linux and we are root.
    ///
    /// # Errors
    /// [`CloudError::Unfit`].
    pub fn open(cluster: ClusterName, root: PathBuf) -> Result<Self, CloudError> {
        let base = root.join("base");
        Self::open_with_base(cluster, root, base)
    }

    /// The same with the base tree elsewhere, so that several roots share it.
    ///
    /// # Errors
    /// [`CloudError::Unfit`].
    pub fn open_with_base(cluster: ClusterName, root: PathBuf, base: PathBuf) -> Result<Self, CloudError> {
        fitness::check_rights()?;
        Ok(Self(Arc::new(Site::new(cluster, &plain(root)?, plain(base)?))))
    }

    async fn blocking<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&Site) -> T + Send + 'static,
    {
        let site = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&site)).await.expect("the sandbox's work does not panic")
    }
}

/// The images in `root`, whatever cluster they are of, the newest first.
///
/// # Errors
/// When the folder cannot be read.
pub fn images(root: &Path) -> Result<Vec<Baked>, CloudError> {
    images::of_root(root)
}

/// The clusters that have something in `root`, by name.
///
/// # Errors
/// When the folder cannot be read.
pub fn clusters(root: &Path) -> Result<Vec<ClusterName>, CloudError> {
    state::names(&root.join(site::CLUSTERS))
}

#[async_trait]
impl Cloud for Sandbox {
    fn provider(&self) -> &'static str {
        "sandbox"
    }

    async fn prepare(&self, events: &Events) -> Result<(), CloudError> {
        let events = events.clone();
        self.blocking(move |site| site.prepare(&events)).await
    }

    async fn list(&self) -> Result<Vec<Host>, CloudError> {
        self.blocking(Site::list).await
    }

    async fn launch(&self, wanted: &[Launch], events: &Events) -> Vec<Result<Host, CloudError>> {
        let (wanted, events) = (wanted.to_vec(), events.clone());
        self.blocking(move |site| site.launch(&wanted, &events)).await
    }

    async fn wait(&self, id: &HostId, deadline: Instant) -> Result<Host, CloudError> {
        let id = id.clone();
        self.blocking(move |site| site.wait(&id, deadline)).await
    }

    async fn terminate(&self, ids: &[HostId], events: &Events) -> Result<(), CloudError> {
        let (ids, events) = (ids.to_vec(), events.clone());
        self.blocking(move |site| site.terminate(&ids, &events)).await
    }

    async fn console(&self, id: &HostId) -> Result<String, CloudError> {
        let id = id.clone();
        self.blocking(move |site| site.console(&id)).await
    }

    async fn examine(&self) -> Vec<Finding> {
        self.blocking(Site::examine).await
    }

    async fn destroy(&self, keep_data: bool, events: &Events) -> Result<Removed, CloudError> {
        if keep_data {
            return Err(CloudError::Unsupported {
                provider: "sandbox",
                what: "keep data",
                cure: "copy what you need off the hosts first, and leave out --keep-data".to_owned(),
            });
        }
        let events = events.clone();
        self.blocking(move |site| site.destroy(&events)).await
    }

    fn images(&self) -> Option<&dyn Images> {
        Some(self)
    }
}

#[async_trait]
impl Images for Sandbox {
    async fn seal(&self, host: &HostId, label: &Label, events: &Events) -> Result<ImageId, CloudError> {
        let (host, label, events) = (host.clone(), label.clone(), events.clone());
        self.blocking(move |site| site.seal(&host, &label, &events)).await
    }

    async fn baked(&self) -> Result<Vec<Baked>, CloudError> {
        let mut all = self.blocking(|site| images::of_root(&site.root)).await?;
        all.retain(|baked| baked.label.cluster == self.0.cluster);
        Ok(all)
    }

    async fn prove(&self, id: &ImageId) -> Result<(), CloudError> {
        let id = id.clone();
        self.blocking(move |site| site.prove_image(&id, &Events::silent())).await
    }

    async fn copy(&self, _: &ImageId, _: &str, _: &Events) -> Result<ImageId, CloudError> {
        Err(CloudError::Unsupported {
            provider: "sandbox",
            what: "copy an image to another region",
            cure: "leave out `regions` in [image]: the sandbox is this machine, and has no others".to_owned(),
        })
    }

    async fn remove(&self, id: &ImageId) -> Result<(), CloudError> {
        let id = id.clone();
        self.blocking(move |site| site.remove_image(&id, &Events::silent())).await
    }
}

fn file_error(doing: &'static str, path: &Path, source: std::io::Error) -> CloudError {
    CloudError::File { doing, path: path.to_owned(), source }
}

/// A file's last bytes, as text.
fn read_tail(path: &Path, bytes: u64) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut tail = Vec::new();
    file.take(bytes).read_to_end(&mut tail)?;
    Ok(String::from_utf8_lossy(&tail).into_owned())
}

/// The folder by its one true name, as the kernel shows it in mounts and command lines: absolute, without
/// symbolic links. It need not exist. Names that a mount option would have to escape are refused.
fn plain(path: PathBuf) -> Result<PathBuf, CloudError> {
    let path = std::path::absolute(&path).map_err(|e| file_error("looking up", &path, e))?;
    let mut real = path.clone();
    let mut missing = Vec::new();
    let real = loop {
        match real.canonicalize() {
            Ok(real) => break real,
            Err(_) => match (real.file_name().map(ToOwned::to_owned), real.pop()) {
                (Some(name), true) => missing.push(name),
                _ => break path,
            },
        }
    };
    let path = missing.into_iter().rev().fold(real, |path, name| path.join(name));
    let is_plain = |c: Component<'_>| match c {
        Component::RootDir => true,
        Component::Normal(name) => {
            name.to_str().is_some_and(|n| n.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_+@".contains(&b)))
        }
        _ => false,
    };
    if path.components().all(is_plain) {
        return Ok(path);
    }
    Err(CloudError::Unfit {
        missing: format!("{} cannot be a sandbox's folder", path.display()),
        cure: "take one whose path has only letters, digits and . - _ + @".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_known_by_its_true_name() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        assert_eq!(plain(real.join("link/a/b")).unwrap(), real.join("a/b"));
        assert_eq!(plain(real.join("new")).unwrap(), real.join("new"));
    }

    #[test]
    fn a_folder_that_mount_would_misread_is_refused() {
        for wrong in ["/x,y", "/a b", "/a:b", "/a\\b", "/a\nb", "/nowhere/../x"] {
            assert!(matches!(plain(PathBuf::from(wrong)), Err(CloudError::Unfit { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn a_tail_is_the_end_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(read_tail(&path, 4).unwrap(), "6789");
        assert_eq!(read_tail(&path, 40).unwrap(), "0123456789");
    }
}

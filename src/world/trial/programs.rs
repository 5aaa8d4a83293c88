//! The programs that may judge: those of the artifact cache, and those on `PATH`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::GzDecoder;
use semver::Version;

use super::{Ran, TrialError, file, run};
use crate::core::judge;
use crate::model::artifact::{Arch, Executable};
use crate::model::version::Program;
use crate::world::artifacts::Cache;

/// For a program to say its version.
const ANSWERS: Duration = Duration::from_secs(10);

/// Where an executable was found.
#[derive(Debug, Clone)]
pub enum Place {
    Cache(Box<Executable>),
    Path(PathBuf),
}

/// Looks programs up, and unpacks each at most once.
pub struct Programs {
    cache: Cache,
    path: Vec<PathBuf>,
    unpacked: tempfile::TempDir,
}

impl Programs {
    /// `path` are the folders to look in for programs that the cache does not have.
    ///
    /// # Errors
    /// When no temporary folder can be made.
    pub fn new(cache: Cache, path: Vec<PathBuf>) -> Result<Self, TrialError> {
        let unpacked = tempfile::Builder::new().prefix("clusterctl-programs-").tempdir();
        let unpacked = unpacked.map_err(file("making a folder in", &std::env::temp_dir()))?;
        Ok(Self { cache, path, unpacked })
    }

    /// Every version of an executable that can be run here, those of the cache first.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub async fn offers(&self, program: Program, executable: &str) -> Result<Vec<(Version, Place)>, TrialError> {
        let here = Arch::from_machine(std::env::consts::ARCH);
        let listed = self.cache.list().map_err(|error| TrialError::Cache(Box::new(error)))?;
        let of_it = listed.into_iter().filter(|a| a.id.program == program && Some(a.id.arch) == here);
        let mut offers: Vec<(Version, Place)> = of_it
            .filter_map(|a| Some((a.id.version.clone(), Place::Cache(Box::new(a.executable(executable)?.clone())))))
            .collect();
        if let Some(found) = self.on_path(executable)
            && let Some(version) = version_of(&found).await
        {
            offers.push((version, Place::Path(found)));
        }
        Ok(offers)
    }

    pub fn on_path(&self, executable: &str) -> Option<PathBuf> {
        executable_on(&self.path, executable)
    }

    /// Where it can be run.
    ///
    /// # Errors
    /// When it cannot be unpacked.
    pub fn ready(&self, version: &Version, place: &Place) -> Result<PathBuf, TrialError> {
        let executable = match place {
            Place::Path(path) => return Ok(path.clone()),
            Place::Cache(executable) => executable,
        };
        let folder = self.unpacked.path().join(version.to_string());
        let to = folder.join(&executable.name);
        if to.exists() {
            return Ok(to);
        }
        fs::create_dir_all(&folder).map_err(file("making", &folder))?;
        let from = &executable.gzip.path;
        let mut packed = GzDecoder::new(File::open(from).map_err(file("reading", from))?);
        let mut out = File::create(&to).map_err(file("writing", &to))?;
        io::copy(&mut packed, &mut out).map_err(file("unpacking", from))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).map_err(file("changing the mode of", &to))?;
        Ok(to)
    }
}

/// The first file of that name in these folders that can be run.
pub fn executable_on(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    let is_one = |path: &Path| fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
    folders.iter().filter(|folder| folder.is_absolute()).map(|folder| folder.join(name)).find(|path| is_one(path))
}

/// Older ones know only the second or the third.
async fn version_of(program: &Path) -> Option<Version> {
    for word in ["--version", "-version", "version"] {
        if let Ok(Ran::Ended { stdout, stderr, .. }) = run(&[program.into(), word.into()], ANSWERS).await {
            let said = [stdout, stderr].concat();
            if let Some(version) = judge::version_in(&String::from_utf8_lossy(&said)) {
                return Some(version);
            }
        }
    }
    None
}

//! Reads the user's own templates.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::core::templates::Overrides;

/// Every file below `folder`, by its path from there. Hidden files and editors' backups are left out.
pub fn read(folder: &Path) -> Result<Overrides> {
    if !folder.is_dir() {
        let what = if folder.exists() { "is no folder" } else { "does not exist" };
        let cure = "name the folder of your templates in [cluster], or take `templates` out: then ours are used";
        bail!(super::Usage(format!("the templates folder {} {what}: {cure}", folder.display())));
    }
    let mut found = Overrides::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let reading = || format!("reading the templates in {}", next.display());
        for entry in std::fs::read_dir(&next).with_context(reading)? {
            let path = entry.with_context(reading)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') || name.ends_with('~') {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let below = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            found.insert(below, text);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_named_from_their_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("consul")).unwrap();
        std::fs::write(dir.path().join("consul/agent.json"), "{}").unwrap();
        std::fs::write(dir.path().join("consul/agent.json~"), "old").unwrap();
        std::fs::write(dir.path().join(".hidden"), "").unwrap();
        let found = read(dir.path()).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("consul/agent.json".to_owned(), "{}".to_owned())]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = read(Path::new("/nonexistent/templates")).unwrap_err();
        assert!(error.is::<super::super::Usage>() && error.to_string().contains("/nonexistent/templates"), "{error}");
    }
}

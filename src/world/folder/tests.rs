use super::*;

fn entry<'a>(path: &str, mode: u32, text: &'a str) -> Entry<'a> {
    Entry { path: HostPath::new(path).unwrap(), mode, text: Some(text) }
}

fn folder(path: &str, mode: u32) -> Entry<'static> {
    Entry { path: HostPath::new(path).unwrap(), mode, text: None }
}

/// Every file and folder below, with its mode.
fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(next) = folders.pop() {
        for one in fs::read_dir(next).unwrap() {
            let path = one.unwrap().path();
            let mode = fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777;
            found.push(format!("{} {mode:04o}", path.strip_prefix(dir).unwrap().display()));
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_written_has_its_mode_and_what_is_not_wanted_goes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("new/deep");
    let first = [folder("/node/var/lib/x", 0o750), entry("/node/etc/a", 0o640, "a"), entry("/node/etc/b", 0o755, "b")];
    let written = write(&dir, &first).unwrap();
    assert_eq!((written.files, written.changed), (vec!["node/etc/a".to_owned(), "node/etc/b".to_owned()], 2));
    assert_eq!(
        tree(&dir),
        [
            ".clusterctl-render 0644",
            "node 0755",
            "node/etc 0755",
            "node/etc/a 0640",
            "node/etc/b 0755",
            "node/var 0755",
            "node/var/lib 0755",
            "node/var/lib/x 0750"
        ]
    );
    let written = write(&dir, &first).unwrap();
    assert_eq!((written.changed, written.removed.len()), (0, 0));

    fs::write(dir.join("node/mine"), "mine").unwrap();
    fs::write(dir.join("node/var/mine"), "mine").unwrap();
    let written = write(&dir, &[entry("/server/etc/a", 0o644, "c")]).unwrap();
    assert_eq!(written.removed, ["node/etc/", "node/etc/a", "node/etc/b", "node/var/lib/", "node/var/lib/x/"]);
    let stays = [
        ".clusterctl-render 0644",
        "node 0755",
        "node/mine 0644",
        "node/var 0755",
        "node/var/mine 0644",
        "server 0755",
        "server/etc 0755",
        "server/etc/a 0644",
    ];
    assert_eq!(tree(&dir), stays);
}

#[test]
fn a_folder_of_others_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mine"), "mine").unwrap();
    assert!(matches!(write(dir.path(), &[entry("/a", 0o644, "")]), Err(FolderError::NotOurs { .. })));
    assert!(matches!(write(&dir.path().join("mine"), &[entry("/a", 0o644, "")]), Err(FolderError::NoFolder { .. })));
    assert_eq!(tree(dir.path()), ["mine 0644"]);
}

#[test]
fn files_of_others_among_ours_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[entry("/node/a", 0o644, "a")]).unwrap();
    fs::write(dir.path().join("node/b"), "mine").unwrap();
    let both = [entry("/node/a", 0o644, "new"), entry("/node/b", 0o644, "b")];
    assert!(matches!(write(dir.path(), &both), Err(FolderError::Foreign { .. })));
    // Nothing else has changed either.
    assert_eq!(fs::read_to_string(dir.path().join("node/a")).unwrap(), "a");
    assert_eq!(fs::read_to_string(dir.path().join("node/b")).unwrap(), "mine");
}

#[test]
fn nothing_leads_out_of_the_folder() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let entries = [entry("/node/etc/a", 0o644, "a")];
    write(dir.path(), &entries).unwrap();
    fs::rename(dir.path().join("node/etc"), outside.path().join("etc")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("etc"), dir.path().join("node/etc")).unwrap();
    assert!(matches!(write(dir.path(), &[entry("/node/etc/a", 0o644, "b")]), Err(FolderError::Link { .. })));
    assert_eq!(fs::read_to_string(outside.path().join("etc/a")).unwrap(), "a");

    for line in ["../a", "node/../../a", "/etc/passwd", "a//b"] {
        fs::write(dir.path().join(MARKER), format!("{line}\n")).unwrap();
        assert!(matches!(write(dir.path(), &[]), Err(FolderError::Marker { .. })), "{line}");
    }
    // Nobody waits for what never says anything.
    let marker = dir.path().join(MARKER);
    fs::remove_file(&marker).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&marker).status().unwrap().success());
    assert!(matches!(write(dir.path(), &[]), Err(FolderError::Foreign { .. })));
}

/// What is no longer wanted may stand behind a link by now: it is not ours any more.
#[test]
fn nothing_is_removed_through_a_link() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(dir.path(), &[entry("/node/etc/a", 0o644, "a")]).unwrap();
    fs::rename(dir.path().join("node/etc"), outside.path().join("etc")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("etc"), dir.path().join("node/etc")).unwrap();
    let _ = write(dir.path(), &[entry("/server/a", 0o644, "b")]);
    assert!(outside.path().join("etc/a").exists());
}

#[test]
fn what_a_killed_run_left_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[entry("/node/a", 0o644, "a"), entry("/node/b", 0o644, "b")]).unwrap();
    fs::write(dir.path().join("node/.a.clusterctl-new"), "half").unwrap();
    fs::write(dir.path().join("node/.b.clusterctl-new"), "half").unwrap();
    write(dir.path(), &[entry("/node/a", 0o644, "new")]).unwrap();
    assert_eq!(tree(dir.path()), [".clusterctl-render 0644", "node 0755", "node/a 0644"]);
}

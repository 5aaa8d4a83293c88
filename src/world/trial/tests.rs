use super::*;

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[tokio::test]
async fn a_command_has_a_limit_and_nothing_of_our_environment() {
    let command = words(&["/bin/sh", "-c", "echo out; echo err >&2; echo ${HOME-none}; exit 3"]);
    let ran = run(&command, Duration::from_secs(10)).await.unwrap();
    let expected = Ran::Ended { good: false, stdout: b"out\nnone\n".to_vec(), stderr: b"err\n".to_vec() };
    assert_eq!(ran, expected);
    let slow = run(&words(&["/bin/sh", "-c", "exec sleep 60"]), Duration::from_millis(50)).await.unwrap();
    assert_eq!(slow, Ran::TimedOut);
    let error = run(&words(&["/nonexistent/program"]), Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "running /nonexistent/program");
}

#[test]
fn only_what_can_be_run_is_found_and_only_by_whole_paths() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(first.path().join("consul"), "no program").unwrap();
    fs::write(second.path().join("consul"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(second.path().join("consul"), fs::Permissions::from_mode(0o755)).unwrap();
    let folders = [PathBuf::from("."), first.path().to_owned(), second.path().to_owned()];
    assert_eq!(executable_on(&folders, "consul"), Some(second.path().join("consul")));
    assert_eq!(executable_on(&folders[..2], "consul"), None);
}

#[test]
fn a_tree_is_gone_when_it_is_dropped() {
    let tree = Tree::new().unwrap();
    let at = tree.put(&HostPath::new("/usr/local/bin/consul").unwrap(), b"#!/bin/sh\n", true).unwrap();
    assert_eq!(fs::metadata(&at).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(at.starts_with(tree.root()));
    drop(tree);
    assert!(!at.exists());
}

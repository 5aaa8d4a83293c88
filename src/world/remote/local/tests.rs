use std::sync::Mutex;

use super::*;

fn local() -> (Local, CancellationToken) {
    let cancel = CancellationToken::new();
    (Local::new(HostName::new("here").unwrap(), cancel.clone()), cancel)
}

fn command(line: &str) -> Command {
    Command { line: line.to_owned(), timeout: Duration::from_secs(30), ..Command::default() }
}

#[derive(Default)]
struct Seen {
    lines: Mutex<Vec<String>>,
    sent: Mutex<Vec<(u64, u64)>>,
}

impl Watch for Seen {
    fn sent(&self, sent: u64, total: u64) {
        self.sent.lock().unwrap().push((sent, total));
    }
    fn line(&self, line: &str) {
        self.lines.lock().unwrap().push(line.to_owned());
    }
}

#[tokio::test]
async fn a_command_has_its_input_its_output_and_its_status() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("part");
    std::fs::write(&path, vec![b'x'; 200_000]).unwrap();
    let seen = Arc::new(Seen::default());
    let stdin =
        vec![Part::Bytes(b"one\ntwo".to_vec()), Part::File { path, size: 200_000 }, Part::Bytes(b"\nlast".to_vec())];
    let run = Command { stdin, ..command("cat; echo no >&2; exit 7") };
    let output = local().0.run(run, Arc::clone(&seen) as _).await.unwrap();
    assert_eq!((output.status, output.stderr.as_slice()), (7, &b"no\n"[..]));
    assert_eq!(output.stdout.len(), 7 + 200_000 + 5);
    let lines = seen.lines.lock().unwrap().clone();
    assert_eq!((lines.len(), lines[0].as_str(), lines[2].as_str()), (3, "one", "last"));
    assert_eq!(*seen.sent.lock().unwrap().last().unwrap(), (200_012, 200_012));

    let killed = local().0.run(command("kill -TERM $$"), Arc::new(super::super::Unwatched)).await.unwrap();
    assert_eq!(killed.status, 143);
}

/// Who reads none of it fails for its own reasons, and nobody waits for it to read.
#[tokio::test]
async fn a_program_that_does_not_read_has_its_own_say() {
    let stdin = vec![Part::Bytes(vec![0; 10 << 20])];
    let output = local().0.run(Command { stdin, ..command("exit 3") }, Arc::new(super::super::Unwatched)).await;
    assert_eq!(output.unwrap().status, 3);
}

#[tokio::test]
async fn a_part_that_is_cut_short_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("short");
    std::fs::write(&path, "x").unwrap();
    let stdin = vec![Part::File { path: path.clone(), size: 2 }];
    let error =
        local().0.run(Command { stdin, ..command("cat") }, Arc::new(super::super::Unwatched)).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Input { path: named, .. } if *named == path), "{error}");
}

/// Is anything left of what wrote its number into the file?
fn is_alive(file: &std::path::Path) -> bool {
    let pid = std::fs::read_to_string(file).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

async fn gone(file: &std::path::Path) {
    for _ in 0..100 {
        if !is_alive(file) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it still runs");
}

#[tokio::test]
async fn the_whole_group_ends_with_its_time_and_with_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let line = format!("sleep 600 & echo $! >{}; wait", file.display());
    let late = Command { timeout: Duration::from_millis(300), ..command(&line) };
    let error = local().0.run(late, Arc::new(super::super::Unwatched)).await.unwrap_err();
    assert!(matches!(error, RemoteError::TimedOut { .. }), "{error}");
    gone(&file).await;

    let (local, cancel) = local();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(is_alive(&file));
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(local.run(command(&line), Arc::new(super::super::Unwatched)), stop);
    assert!(matches!(ended, Err(RemoteError::Cancelled { .. })));
    gone(&file).await;
    let again = local.run(command("true"), Arc::new(super::super::Unwatched)).await;
    assert!(matches!(again, Err(RemoteError::Cancelled { .. })));
}

#[tokio::test]
async fn too_much_is_too_much() {
    let error = local().0.run(command("cat /dev/zero"), Arc::new(super::super::Unwatched)).await.unwrap_err();
    assert!(matches!(error, RemoteError::TooMuch { .. }), "{error}");
}

#[tokio::test]
async fn a_port_is_talked_to() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 3];
        stream.read_exact(&mut asked).unwrap();
        stream.write_all(b"pong").unwrap();
        asked
    });
    let (local, _) = local();
    let address = IpAddr::from([127, 0, 0, 1]);
    let said = local.exchange(address, port, b"abc".to_vec(), Duration::from_secs(10)).await.unwrap();
    assert_eq!((said.as_slice(), &answer.join().unwrap()), (&b"pong"[..], b"abc"));
    let closed = local.exchange(address, port, Vec::new(), Duration::from_secs(10)).await.unwrap_err();
    assert!(matches!(closed, RemoteError::NotListening { .. }), "{closed}");
}

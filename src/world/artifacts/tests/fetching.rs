//! Downloads: faults, resuming, races, interruption.

use super::server::Reply;
use super::*;
use crate::model::event::Doing;

#[tokio::test]
async fn both_layouts_come_checked_and_only_once() {
    let ids = [prometheus(), consul(), id(Program::NodeExporter, Arch::Arm64)];
    let (server, (_dir, cache)) = (serving(&ids), cache());
    let (seen, events) = Seen::new(|_| {});
    for round in 0..2 {
        let outcomes = cache.ensure(&ids, &mirror(&server), &events, &CancellationToken::new()).await;
        let order: Vec<_> = outcomes.iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(order, ids);
        for (id, outcome) in outcomes {
            let artifact = outcome.unwrap();
            assert_eq!(artifact.sha256, Sha256::of(&release_of(&id)));
            assert_eq!(artifact.source, format!("{}/{}", server.base(), archive_path(&id)));
            assert_whole(&cache, &artifact);
        }
        assert_eq!(server.log().len(), 6, "round {round}");
    }
    for id in &ids {
        let doing = Doing::FetchArtifact { artifact: id.clone() };
        let size = release_of(id).len() as u64;
        let of_this = |kind: &EventKind| match kind {
            EventKind::Began { doing: d } | EventKind::Ended { doing: d, .. } => *d == doing,
            EventKind::Fetched { artifact, .. } => artifact == id,
            _ => false,
        };
        let kinds: Vec<_> = seen.kinds().into_iter().filter(of_this).collect();
        assert_eq!(kinds.first(), Some(&EventKind::Began { doing: doing.clone() }));
        assert_eq!(kinds.last(), Some(&EventKind::Ended { doing, changed: true }));
        let last = EventKind::Fetched { artifact: id.clone(), done: size, total: size };
        assert_eq!(kinds[kinds.len() - 2], last);
    }
}

#[tokio::test]
async fn the_sums_of_a_release_are_fetched_once_for_all_its_archives() {
    let ids = [id(Program::Consul, Arch::Amd64), id(Program::Consul, Arch::Arm64)];
    let (server, (_dir, cache)) = (serving(&ids), cache());
    for (_, outcome) in cache.ensure(&ids, &mirror(&server), &Events::silent(), &CancellationToken::new()).await {
        assert_whole(&cache, &outcome.unwrap());
    }
    assert_eq!(server.ranges(&sums_path(&ids[0])), [None]);
    assert_eq!(server.log().len(), 3);
}

#[tokio::test]
async fn passing_faults_are_tried_again_and_lasting_ones_are_named() {
    let (server, (_dir, cache)) = (serving(&[consul()]), cache());
    let (sums, archive) = (sums_path(&consul()), archive_path(&consul()));
    server.script(&sums, [Reply::Status(500), Reply::Status(429)]);
    server.script(&archive, [Reply::Status(503), Reply::Status(502)]);
    assert_whole(&cache, &get(&cache, &consul(), &mirror(&server)).await.unwrap());
    assert_eq!((server.ranges(&sums).len(), server.ranges(&archive).len()), (3, 3));

    let (_dir, cache) = super::cache();
    server.script(&archive, vec![Reply::Status(500); 9]);
    let error = get(&cache, &consul(), &mirror(&server)).await.unwrap_err();
    assert_eq!(server.ranges(&archive).len(), 3 + 4, "bounded");
    assert_eq!(
        error.to_string(),
        format!(
            "consul 1.2.3 linux/amd64 could not be had: {}/{archive} cannot be reached (it answered with status 500)",
            server.base()
        )
    );
    let hint = error.hint().unwrap();
    assert!(hint.contains(&archive) && hint.contains("artifacts import consul_1.2.3_linux_amd64.zip"), "{hint}");

    server.script(&archive, [Reply::Status(403)]);
    let error = get(&cache, &consul(), &mirror(&server)).await.unwrap_err();
    assert!(error.to_string().ends_with("answered with status 403"), "{error}");
    assert_empty(&cache);
}

#[tokio::test]
async fn a_release_that_is_nowhere_is_told_with_all_places() {
    let (server, (dir, cache)) = (Server::start(), cache());
    let sources = Sources { folder: Some(dir.path().join("none")), ..mirror(&server) };
    let error = get(&cache, &consul(), &sources).await.unwrap_err();
    let ArtifactError::Unavailable { tried, .. } = &error else { panic!("{error}") };
    let sums = format!("{}/{}", server.base(), sums_path(&consul()));
    assert_eq!(tried[0].place, dir.path().join("none/consul_1.2.3_linux_amd64.zip").display().to_string());
    assert_eq!(tried[1], Tried { place: sums.clone(), miss: Miss::Absent });
    assert_eq!(tried.len(), 2);

    server.put(&sums_path(&consul()), sums_of(&[("other.zip", b"")]).as_bytes(), "\"x\"");
    let error = get(&cache, &consul(), &mirror(&server)).await.unwrap_err();
    let ArtifactError::Unavailable { tried, .. } = &error else { panic!("{error}") };
    assert_eq!(tried[..], [Tried { place: sums, miss: Miss::Unlisted }]);

    let error = get(&cache, &consul(), &Sources::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "consul 1.2.3 linux/amd64 could not be had: no source is set");
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_told_with_the_ways_around_it() {
    let (_dir, cache) = cache();
    // Nobody listens there any more.
    let base = Server::start().base();
    let sources = Sources { mirror: Some(base.clone()), ..Sources::default() };
    let error = get(&cache, &consul(), &sources).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&base) && text.contains("cannot be reached (Connection refused"), "{text}");
    assert!(error.hint().unwrap().contains("artifacts.mirror"));
}

#[tokio::test]
async fn a_cut_connection_is_resumed_where_it_ended() {
    let (server, (_dir, cache)) = (serving(&[prometheus()]), cache());
    let archive = archive_path(&prometheus());
    server.script(&archive, [Reply::Cut(100_000), Reply::Cut(50_000)]);
    assert_whole(&cache, &get(&cache, &prometheus(), &mirror(&server)).await.unwrap());
    let ranges = server.ranges(&archive);
    assert_eq!(ranges, [None, Some("bytes=100000-".into()), Some("bytes=150000-".into())]);
    let etags: Vec<_> = server.log().into_iter().filter_map(|request| request.if_range).collect();
    assert_eq!(etags, ["\"one\"", "\"one\""]);
}

/// Each try brings bytes, and none brings more than the one before it.
#[tokio::test]
async fn a_server_that_always_cuts_at_the_same_place_is_given_up() {
    let (server, (_dir, cache)) = (serving(&[consul()]), cache());
    let archive = archive_path(&consul());
    server.script(&archive, vec![Reply::CutAnew(100_000); 50]);
    let error = get(&cache, &consul(), &mirror(&server)).await.unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    // The first one got somewhere.
    assert_eq!(server.ranges(&archive).len(), 4);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left_and_resumed() {
    let (server, (_dir, mut cache)) = (serving(&[consul()]), cache());
    cache.limits.stall = Duration::from_millis(500);
    // A loaded machine may be slow to answer too; that only costs another try.
    cache.limits.attempts = 20;
    server.script(&archive_path(&consul()), [Reply::Stall(100_000)]);
    assert_whole(&cache, &get(&cache, &consul(), &mirror(&server)).await.unwrap());
    assert_eq!(server.ranges(&archive_path(&consul()))[1], Some("bytes=100000-".into()));
}

#[tokio::test]
async fn it_starts_anew_where_resuming_does_not_work() {
    let archive = archive_path(&consul());
    let (server, (_dir, cache)) = (serving(&[consul()]), cache());
    server.script(&archive, [Reply::Cut(100_000), Reply::IgnoreRange]);
    assert_whole(&cache, &get(&cache, &consul(), &mirror(&server)).await.unwrap());
    assert_eq!(server.ranges(&archive), [None, Some("bytes=100000-".into())]);

    // The file behind the URL has another tag than the part: the server answers with all of it.
    let (server, (_dir, cache)) = (serving(&[consul()]), super::cache());
    server.put(&archive, &vec![7; 400_000], "\"zero\"");
    server.script(&archive, [Reply::Cut(100_000), Reply::Gate]);
    let (server, changed) = (Arc::new(server), release_of(&consul()));
    let other = Arc::clone(&server);
    let (_, events) = Seen::new(move |kind| {
        if matches!(kind, EventKind::Note { message } if message.contains("trying again")) {
            other.put(&archive_path(&consul()), &changed, "\"one\"");
            other.open_gate();
        }
    });
    let outcomes = cache.ensure(&[consul()], &mirror(&server), &events, &CancellationToken::new()).await;
    assert_whole(&cache, outcomes[0].1.as_ref().unwrap());
    assert_eq!(server.ranges(&archive), [None, Some("bytes=100000-".into())]);
}

/// What an earlier run left of a download.
fn leave_part(cache: &Cache, id: &ArtifactId, bytes: &[u8]) {
    let dir = cache.store.work_dir(id);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(format!("{}.part", Sha256::of(&release_of(id)))), bytes).unwrap();
}

#[tokio::test]
async fn what_a_killed_run_left_is_resumed_and_distrusted() {
    let archive = archive_path(&consul());
    let whole = release_of(&consul());
    for (left, ranges) in [
        (whole[..1000].to_vec(), vec![Some("bytes=1000-".to_owned())]),
        // It ended after the last byte.
        (whole.clone(), vec![Some(format!("bytes={}-", whole.len()))]),
        // Half of something else: the sum tells, and it starts anew once.
        (vec![7; 1000], vec![Some("bytes=1000-".to_owned()), None]),
        (vec![7; whole.len()], vec![Some(format!("bytes={}-", whole.len())), None]),
        // Longer than the archive.
        (vec![7; whole.len() + 5], vec![Some(format!("bytes={}-", whole.len() + 5)), None]),
    ] {
        let (server, (_dir, cache)) = (serving(&[consul()]), cache());
        leave_part(&cache, &consul(), &left);
        std::fs::create_dir_all(cache.store.work_dir(&consul()).join("new")).unwrap();
        std::fs::write(cache.store.work_dir(&consul()).join("new/consul.gz"), "half").unwrap();
        assert_empty(&cache);
        assert_whole(&cache, &get(&cache, &consul(), &mirror(&server)).await.unwrap());
        assert_eq!(server.ranges(&archive), ranges);
    }
}

#[tokio::test]
async fn wrong_bytes_are_refused_named_and_not_kept() {
    let (server, (_dir, cache)) = (serving(&[consul()]), cache());
    let archive = archive_path(&consul());
    server.script(&archive, [Reply::Wrong, Reply::Wrong]);
    let sources = Sources { official: true, ..mirror(&server) };
    let error = get(&cache, &consul(), &sources).await.unwrap_err();
    let mut wrong = release_of(&consul());
    let expected = Sha256::of(&wrong);
    wrong.reverse();
    let got = Sha256::of(&wrong);
    let place = format!("{}/{archive}", server.base());
    assert_eq!(
        error.to_string(),
        format!("{place} is not what was published: its SHA-256 sum is {got}, expected {expected}")
    );
    assert_eq!(server.ranges(&archive).len(), 1);
    assert_empty(&cache);
    assert_eq!(store::tree_size(&cache.store.root.join(".work/consul_1.2.3_amd64")), place.len() as u64 + 6);
    // The next run begins anew, and finds it whole again.
    server.script(&archive, []);
    assert_whole(&cache, &get(&cache, &consul(), &mirror(&server)).await.unwrap());
    assert_eq!(server.ranges(&archive), [None, None]);
}

#[tokio::test]
async fn a_published_archive_for_another_platform_is_refused() {
    let server = Server::start();
    let foreign = zip_of(&[("consul", &program("consul", Arch::Arm64))]);
    server.put(&archive_path(&consul()), &foreign, "\"x\"");
    server.put(&sums_path(&consul()), sums_of(&[(&archive_name(&consul()), &foreign)]).as_bytes(), "\"y\"");
    let (_dir, cache) = cache();
    let error = get(&cache, &consul(), &mirror(&server)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}/{} is for another platform: its consul is an ELF file for arm64, wanted is a 64-bit Linux program for \
             amd64",
            server.base(),
            archive_path(&consul())
        )
    );
    assert_empty(&cache);
}

#[tokio::test]
async fn what_is_too_large_is_not_taken_in() {
    let (server, (_dir, mut cache)) = (serving(&[consul()]), cache());
    cache.limits.archive = 100_000;
    let error = get(&cache, &consul(), &mirror(&server)).await.unwrap_err();
    assert!(error.to_string().ends_with("is larger than the 100000 bytes that an archive may have"), "{error}");
    cache.limits.sums = 20;
    let error = get(&cache, &consul(), &mirror(&server)).await.unwrap_err();
    assert!(error.to_string().ends_with("is larger than the 20 bytes that a file of sums may have"), "{error}");
    server.put(&sums_path(&consul()), b"<html>log in</html>", "\"x\"");
    cache.limits.sums = 1000;
    let error = get(&cache, &consul(), &mirror(&server)).await.unwrap_err();
    assert!(matches!(error, ArtifactError::BadSums { .. }), "{error}");
    assert_empty(&cache);
}

#[tokio::test]
async fn two_runs_at_once_download_once() {
    let (server, (dir, first)) = (Arc::new(serving(&[consul()])), cache());
    let second = cache_in(dir.path());
    server.script(&archive_path(&consul()), [Reply::Gate]);
    let other = Arc::clone(&server);
    let (seen, events) = Seen::new(move |kind| {
        if matches!(kind, EventKind::Note { message } if message.contains("waiting for another run")) {
            other.open_gate();
        }
    });
    let (wanted, sources, cancel) = ([consul()], mirror(&server), CancellationToken::new());
    let (one, two) = tokio::join!(
        first.ensure(&wanted, &sources, &events, &cancel),
        second.ensure(&wanted, &sources, &events, &cancel),
    );
    assert_eq!(one[0].1.as_ref().unwrap(), two[0].1.as_ref().unwrap());
    assert_whole(&second, two[0].1.as_ref().unwrap());
    assert_eq!(server.log().len(), 2);
    let began = seen.kinds().into_iter().filter(|kind| matches!(kind, EventKind::Began { .. })).count();
    assert_eq!(began, 1, "who waits does not fetch");
}

#[tokio::test]
async fn an_interrupted_run_ends_at_once_and_the_next_one_resumes() {
    let (server, (_dir, cache)) = (serving(&[consul(), prometheus()]), cache());
    let archive = archive_path(&consul());
    server.script(&archive, [Reply::Stall(200_000)]);
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let (_, events) = Seen::new(move |kind| {
        if matches!(kind, EventKind::Fetched { artifact, done: 150_000.., .. } if *artifact == consul()) {
            stop.cancel();
        }
    });
    let outcomes = cache.ensure(&[consul()], &mirror(&server), &events, &cancel).await;
    assert!(matches!(outcomes[0].1, Err(ArtifactError::Cancelled { .. })), "{outcomes:?}");
    assert_empty(&cache);
    assert_whole(&cache, &get(&cache, &consul(), &mirror(&server)).await.unwrap());
    let ranges = server.ranges(&archive);
    let from = ranges[1].as_ref().unwrap().strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap();
    assert!((100_000..=200_000).contains(&from.parse::<u64>().unwrap()), "{from}");

    let outcomes = cache.ensure(&[consul(), prometheus()], &mirror(&server), &Events::silent(), &cancel).await;
    assert!(outcomes[0].1.is_ok(), "what is there needs no work");
    assert!(matches!(outcomes[1].1, Err(ArtifactError::Cancelled { .. })));
}

#[tokio::test]
async fn each_artifact_has_its_own_outcome() {
    let exporter = id(Program::NodeExporter, Arch::Amd64);
    let (server, (_dir, cache)) = (serving(&[consul(), prometheus()]), cache());
    server.script(&archive_path(&prometheus()), [Reply::Wrong]);
    let wanted = [exporter, prometheus(), consul()];
    let outcomes = cache.ensure(&wanted, &mirror(&server), &Events::silent(), &CancellationToken::new()).await;
    assert!(matches!(outcomes[0].1, Err(ArtifactError::Unavailable { .. })));
    assert!(matches!(outcomes[1].1, Err(ArtifactError::WrongSum { .. })));
    assert_whole(&cache, outcomes[2].1.as_ref().unwrap());
}

#[tokio::test]
async fn redirects_are_followed_and_passwords_stay_out_of_sight() {
    let (server, (_dir, cache)) = (serving(&[consul()]), cache());
    let archive = archive_path(&consul());
    server.put("elsewhere", &release_of(&consul()), "\"z\"");
    server.script(&archive, [Reply::Redirect("/mirror/elsewhere".into())]);
    let secret = format!("http://me:hunter2@{}/mirror/", server.address);
    let sources = Sources { mirror: Some(secret), ..Sources::default() };
    let artifact = get(&cache, &consul(), &sources).await.unwrap();
    assert_whole(&cache, &artifact);
    assert_eq!(artifact.source, format!("{}/{archive}", server.base()));
    assert_eq!(server.log()[0].authorization.as_deref(), Some("Basic bWU6aHVudGVyMg=="));

    server.script(&archive_path(&prometheus()), [Reply::Status(401)]);
    let (seen, events) = Seen::new(|_| {});
    let gone = Server::start().address.clone();
    for address in [&server.address, &gone] {
        let sources = Sources { mirror: Some(format!("http://me:hunter2@{address}/mirror")), ..Sources::default() };
        let outcomes = cache.ensure(&[prometheus()], &sources, &events, &CancellationToken::new()).await;
        let error = outcomes[0].1.as_ref().unwrap_err();
        assert!(!format!("{error} {error:?} {:?}", seen.kinds()).contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_mirror_that_is_no_base_url_is_named() {
    let (_dir, cache) = cache();
    for (url, shown) in [
        ("mirror.example", "mirror.example"),
        ("ftp://me:pw@mirror.example", "ftp://mirror.example/"),
        ("https://mirror.example/?to=", "https://mirror.example/?to="),
        ("https://me:pw@:1:/x", ":1:/x"),
    ] {
        let sources = Sources { mirror: Some(url.to_owned()), ..Sources::default() };
        let error = get(&cache, &consul(), &sources).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("the mirror \"{shown}\" is no base URL: ")), "{error}");
    }
}

/// The engine runs this on any of its threads.
#[test]
fn its_futures_can_move_between_threads() {
    fn movable<T: Send>(_: T) {}
    let (_dir, cache) = cache();
    let (sources, events, cancel) = (Sources::default(), Events::silent(), CancellationToken::new());
    movable(cache.ensure(&[], &sources, &events, &cancel));
    movable(cache.import(Path::new("x"), None));
}

//! Archives from files: imported by hand, or found in the folder of an air-gapped site.

use std::fs;
use std::path::PathBuf;

use super::*;

/// A folder with an archive of the official name.
fn archive_of(dir: &TempDir, id: &ArtifactId, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(archive_name(id));
    fs::write(&path, bytes).unwrap();
    path
}

fn sums_file(dir: &TempDir, name: &str, files: &[(&str, &[u8])]) {
    fs::write(dir.path().join(name), sums_of(files)).unwrap();
}

#[tokio::test]
async fn an_archive_is_imported_by_its_official_name() {
    for id in [consul(), prometheus(), id(Program::NodeExporter, Arch::Arm64)] {
        let (_dir, cache) = cache();
        let from = TempDir::new().unwrap();
        let bytes = release_of(&id);
        let file = archive_of(&from, &id, &bytes);
        let (seen, events) = Seen::new(|_| {});
        let artifact = cache.import_telling(&file, None, &events).await.unwrap();
        assert_eq!((&artifact.id, &artifact.sha256), (&id, &Sha256::of(&bytes)));
        assert_whole(&cache, &artifact);
        let warnings = seen.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("no file of sums"), "{warnings:?}");
        assert!(file.exists(), "the user's file is left where it is");
    }
}

#[tokio::test]
async fn a_sum_beside_it_or_a_given_one_vouches_for_it() {
    let (_dir, cache) = cache();
    let from = TempDir::new().unwrap();
    let bytes = release_of(&consul());
    let file = archive_of(&from, &consul(), &bytes);
    sums_file(&from, "consul_1.2.3_SHA256SUMS", &[(&archive_name(&consul()), &bytes)]);
    let (seen, events) = Seen::new(|_| {});
    let artifact = cache.import_telling(&file, None, &events).await.unwrap();
    cache.import_telling(&file, Some(&artifact.sha256), &events).await.unwrap();
    assert_eq!(seen.warnings(), [""; 0]);

    let other = Sha256::of(b"another archive");
    let error = cache.import(&file, Some(&other)).await.unwrap_err();
    assert!(matches!(error, ArtifactError::WrongSum { .. }), "{error}");
    sums_file(&from, "consul_1.2.3_SHA256SUMS", &[(&archive_name(&consul()), b"what it should be")]);
    let error = cache.import(&file, None).await.unwrap_err();
    assert!(matches!(&error, ArtifactError::WrongSum { place, .. } if place.contains("consul_1.2.3")), "{error}");
    // What was there before is there still.
    assert_whole(&cache, &artifact);
}

#[tokio::test]
async fn what_is_no_file_is_refused_at_once() {
    let (_dir, cache) = cache();
    let from = TempDir::new().unwrap();
    let pipe = from.path().join(archive_name(&consul()));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let folder = from.path().join(archive_name(&prometheus()));
    fs::create_dir(&folder).unwrap();
    for path in [pipe, folder] {
        let error = cache.import(&path, None).await.unwrap_err();
        assert!(matches!(error, ArtifactError::NoFile { .. }), "{error}");
    }
    assert_empty(&cache);
}

#[tokio::test]
async fn names_that_say_nothing_are_refused() {
    let (_dir, cache) = cache();
    let from = TempDir::new().unwrap();
    for name in
        ["consul.zip", "consul_1.2.3_darwin_amd64.zip", "consul_1.2_linux_amd64.zip", "vault_1.2.3_linux_amd64.zip"]
    {
        let file = from.path().join(name);
        fs::write(&file, release_of(&consul())).unwrap();
        let error = cache.import(&file, None).await.unwrap_err();
        assert!(matches!(error, ArtifactError::UnknownName { .. }), "{name}: {error}");
        assert!(error.hint().unwrap().contains("consul_"), "{error:?}");
    }
    let gone = from.path().join(archive_name(&consul()));
    let error = cache.import(&gone, None).await.unwrap_err();
    assert!(matches!(error, ArtifactError::File { .. }) && error.to_string().contains("consul_1.2.3"), "{error}");
    assert_empty(&cache);
}

/// Each is refused, named, and leaves nothing.
#[tokio::test]
async fn archives_that_are_not_what_they_should_be() {
    let (consul, prometheus) = (consul(), prometheus());
    let good = program("consul", Arch::Amd64);
    let arm = program("consul", Arch::Arm64);
    let mut macos = good.clone();
    macos[..4].copy_from_slice(&[0xcf, 0xfa, 0xed, 0xfe]);
    let mut windows = good.clone();
    windows[..2].copy_from_slice(b"MZ");
    let zip = |bytes: &[u8]| zip_of(&[("consul", bytes)]);
    let (whole_zip, whole_tar) = (release_of(&consul), release_of(&prometheus));
    let promtool = program("promtool", Arch::Amd64);
    let cases: Vec<(&str, &ArtifactId, Vec<u8>, &str)> = vec![
        ("a zip cut off", &consul, whole_zip[..whole_zip.len() - 100].to_vec(), "Damaged"),
        ("a tar cut off", &prometheus, whole_tar[..whole_tar.len() / 2].to_vec(), "Damaged"),
        ("a proxy's page", &prometheus, b"<html>please log in</html>".to_vec(), "Damaged"),
        ("an empty file", &consul, Vec::new(), "Damaged"),
        ("another processor's", &consul, zip(&arm), "Foreign"),
        ("macOS'", &consul, zip(&macos), "Foreign"),
        ("Windows'", &consul, zip(&windows), "Foreign"),
        ("a script", &consul, zip(b"#!/bin/sh\n"), "Foreign"),
        ("another program's", &consul, zip_of(&[("vault", &good)]), "Lacks"),
        ("one of two", &prometheus, tar_gz_of(&[("prometheus-1.2.3.linux-amd64/promtool", &promtool)]), "Lacks"),
        (
            "twice the same",
            &prometheus,
            tar_gz_of(&[("a/prometheus", &good), ("b/prometheus", &good), ("a/promtool", &promtool)]),
            "Ambiguous",
        ),
    ];
    for (what, id, bytes, kind) in cases {
        let (_dir, cache) = cache();
        let from = TempDir::new().unwrap();
        let error = cache.import(&archive_of(&from, id, &bytes), None).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(kind), "{what}: {error:?}");
        assert!(error.to_string().contains(&archive_name(id)), "{what}: {error}");
        assert!(error.hint().is_some(), "{what}: {error:?}");
        assert_empty(&cache);
    }
}

/// Names in an archive decide nothing about where bytes go.
#[tokio::test]
async fn no_name_in_an_archive_leads_outside() {
    let promtool = program("promtool", Arch::Amd64);
    let evil = b"evil".as_slice();
    let (outer, from) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let cache = cache_in(outer.path());
    let absolute = from.path().join("absolute").display().to_string();
    let prometheus_bytes = program("prometheus", Arch::Amd64);
    let files: [(&str, &[u8]); 5] = [
        ("../../../../escaped", evil),
        (&absolute, evil),
        ("prometheus-1.2.3.linux-amd64/../../escaped2", evil),
        ("prometheus-1.2.3.linux-amd64/prometheus", &prometheus_bytes),
        ("prometheus-1.2.3.linux-amd64/promtool", &promtool),
    ];
    let artifact = cache.import(&archive_of(&from, &prometheus(), &tar_gz_of(&files)), None).await.unwrap();
    assert_whole(&cache, &artifact);
    let zip = zip_of(&[("../../escaped", evil), ("/escaped", evil), ("consul", &program("consul", Arch::Amd64))]);
    let artifact = cache.import(&archive_of(&from, &consul(), &zip), None).await.unwrap();
    assert_whole(&cache, &artifact);
    let output = std::process::Command::new("find").args([outer.path(), from.path()]).output().unwrap();
    let all = String::from_utf8(output.stdout).unwrap();
    assert!(!all.contains("escaped") && !all.contains("absolute"), "{all}");
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_fills_the_disk() {
    let (_dir, mut cache) = cache();
    cache.limits.executable = 100_000;
    let from = TempDir::new().unwrap();
    let file = archive_of(&from, &consul(), &release_of(&consul()));
    let error = cache.import(&file, None).await.unwrap_err();
    assert!(matches!(error, ArtifactError::TooLarge { limit: 100_000, .. }), "{error:?}");
    cache.limits.archive = 1000;
    let error = cache.import(&file, None).await.unwrap_err();
    assert!(matches!(error, ArtifactError::TooLarge { limit: 1000, .. }), "{error:?}");
    assert_empty(&cache);
}

#[tokio::test]
async fn an_air_gapped_folder_gives_what_it_has() {
    let (_dir, cache) = cache();
    let folder = TempDir::new().unwrap();
    let bytes = release_of(&consul());
    archive_of(&folder, &consul(), &bytes);
    sums_file(&folder, "consul_1.2.3_SHA256SUMS", &[(&archive_name(&consul()), &bytes)]);
    let sources = Sources { folder: Some(folder.path().to_owned()), ..Sources::default() };
    let artifact = get(&cache, &consul(), &sources).await.unwrap();
    assert_whole(&cache, &artifact);

    let error = get(&cache, &prometheus(), &sources).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains(&archive_name(&prometheus())), "{error}");
    // A wrong one is refused and does not pass for a missing one.
    fs::write(folder.path().join(archive_name(&prometheus())), b"junk").unwrap();
    sums_file(&folder, "sha256sums.txt", &[(&archive_name(&prometheus()), b"other")]);
    let error = get(&cache, &prometheus(), &sources).await.unwrap_err();
    assert!(matches!(error, ArtifactError::WrongSum { .. }), "{error:?}");
}

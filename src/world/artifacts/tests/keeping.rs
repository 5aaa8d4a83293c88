//! What is in the cache stays whole, and what is not whole is not in it.

use std::fs;

use super::*;
use crate::model::artifact::Compression;
use crate::world::artifacts::store::tree_size;

async fn filled(ids: &[ArtifactId]) -> (TempDir, Cache) {
    let (dir, cache) = cache();
    let server = serving(ids);
    for id in ids {
        get(&cache, id, &mirror(&server)).await.unwrap();
    }
    (dir, cache)
}

#[tokio::test]
async fn what_is_there_is_listed_in_order_and_not_fetched_again() {
    let ids = [prometheus(), consul(), id(Program::Consul, Arch::Arm64)];
    let (_dir, cache) = filled(&ids).await;
    let listed: Vec<ArtifactId> = cache.list().unwrap().into_iter().map(|artifact| artifact.id).collect();
    let mut sorted = ids.to_vec();
    sorted.sort();
    assert_eq!(listed, sorted);
    // No source at all: only the cache can give it.
    let artifact = get(&cache, &consul(), &Sources::default()).await.unwrap();
    assert_whole(&cache, &artifact);
}

#[tokio::test]
async fn a_damaged_entry_is_named_never_used_and_replaced() {
    type Damage = fn(&Cache, &Artifact);
    let damages: [(&str, Damage); 4] = [
        ("an executable is cut off", |_, artifact| {
            let gz = &artifact.executables[0].gzip.path;
            let bytes = fs::read(gz).unwrap();
            fs::write(gz, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("an executable is gone", |_, artifact| fs::remove_file(&artifact.executables[0].gzip.path).unwrap()),
        ("the record is cut off", |cache, artifact| {
            fs::write(cache.store.entry_dir(&artifact.id).join("artifact.json"), "{").unwrap();
        }),
        ("the record is of another artifact", |cache, artifact| {
            let path = cache.store.entry_dir(&artifact.id).join("artifact.json");
            let text = fs::read_to_string(&path).unwrap().replace("1.2.3", "1.2.4");
            fs::write(&path, text).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let (_dir, cache) = filled(&[consul()]).await;
        damage(&cache, &cache.get(&consul()).unwrap().unwrap());
        assert_eq!(cache.get(&consul()).unwrap(), None, "{what}");
        assert_eq!(cache.list().unwrap(), [], "{what}");
        let broken = cache.broken().unwrap();
        assert!(broken.len() == 1 && broken[0].id == consul() && !broken[0].reason.is_empty(), "{what}: {broken:?}");
        let server = serving(&[consul()]);
        let artifact = get(&cache, &consul(), &mirror(&server)).await.unwrap();
        assert_whole(&cache, &artifact);
        assert_eq!(cache.broken().unwrap(), [], "{what}");
    }
}

/// Other bytes of the same length: nobody reads them all at each run, but whoever fetches or imports does.
#[tokio::test]
async fn silent_damage_is_found_by_fetching_and_importing() {
    let flip = |path: &std::path::Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::write(path, bytes).unwrap();
    };
    // As a cache of before: no sums of the compressed files.
    let forget_sums = |cache: &Cache| {
        let path = cache.store.entry_dir(&consul()).join("artifact.json");
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for packed in ["gzip", "zstd"] {
            assert!(record["executables"][0][packed].as_object_mut().unwrap().remove("sha256").is_some());
        }
        fs::write(&path, record.to_string()).unwrap();
    };
    for (old, compression) in [false, true].into_iter().flat_map(|old| Compression::ALL.map(|c| (old, c))) {
        let (dir, cache) = filled(&[consul()]).await;
        if old {
            forget_sums(&cache);
        }
        let server = serving(&[consul()]);
        let fetch = async || {
            let (seen, events) = Seen::new(|_| {});
            let cancel = CancellationToken::new();
            let mut got = cache.ensure_sound(&[consul()], &mirror(&server), &events, &cancel).await;
            (got.remove(0).1.unwrap(), seen.warnings())
        };
        let (artifact, warnings) = fetch().await;
        assert_eq!(warnings, [""; 0], "{old} {compression:?}");
        assert_eq!(damage_of(&artifact.executables[0], compression), None);
        flip(&artifact.executables[0].packed(compression).path);
        assert!(damage_of(&artifact.executables[0], compression).is_some(), "{old} {compression:?}");
        assert_eq!(cache.get(&consul()).unwrap(), Some(artifact), "sizes do not tell");
        let (artifact, warnings) = fetch().await;
        assert!(warnings.len() == 1 && warnings[0].contains("damaged: consul."), "{warnings:?}");
        assert_whole(&cache, &artifact);

        flip(&artifact.executables[0].packed(compression).path);
        let archive = dir.path().join(archive_name(&consul()));
        fs::write(&archive, release_of(&consul())).unwrap();
        assert_whole(&cache, &cache.import(&archive, None).await.unwrap());
    }
}

/// A process that is killed leaves its work folder and an unlocked lock.
#[tokio::test]
async fn what_a_killed_run_left_is_no_entry_and_goes() {
    let (_dir, cache) = cache();
    let work = cache.store.try_lock(&consul()).unwrap().unwrap();
    let new = work.fresh().unwrap();
    fs::write(new.join("consul.gz"), "half").unwrap();
    drop(work);
    assert_empty(&cache);
    let pruned = cache.prune(&[consul()]).unwrap();
    assert_eq!(pruned.len(), 1);
    assert_eq!((&pruned[0].id, pruned[0].what), (&consul(), Remains::Leftover));
    assert!(!cache.store.work_dir(&consul()).exists());
    assert_eq!(cache.prune(&[]).unwrap(), []);
}

#[tokio::test]
async fn an_archive_that_was_refused_leaves_nothing_to_tell_of() {
    let (dir, cache) = cache();
    let file = dir.path().join("consul_1.22.7_linux_amd64.zip");
    fs::write(&file, "no archive").unwrap();
    cache.import(&file, None).await.unwrap_err();
    assert_eq!(cache.prune(&[]).unwrap(), []);
}

#[tokio::test]
async fn pruning_removes_what_is_not_to_be_kept_and_leaves_live_work_alone() {
    let arm = id(Program::Consul, Arch::Arm64);
    let (_dir, cache) = filled(&[consul(), arm.clone(), prometheus()]).await;
    let size = tree_size(&cache.store.entry_dir(&arm));
    fs::remove_file(&cache.get(&prometheus()).unwrap().unwrap().executables[0].gzip.path).unwrap();
    let live = cache.store.try_lock(&id(Program::NodeExporter, Arch::Amd64)).unwrap().unwrap();
    let working = live.fresh().unwrap();

    let mut pruned = cache.prune(&[consul(), prometheus()]).unwrap();
    pruned.sort_by_key(|pruned| pruned.what);
    assert_eq!(pruned[0], Pruned { id: arm, what: Remains::Artifact, bytes: size });
    assert_eq!((pruned.len(), &pruned[1].id, pruned[1].what), (2, &prometheus(), Remains::Broken));
    let kept: Vec<ArtifactId> = cache.list().unwrap().into_iter().map(|artifact| artifact.id).collect();
    assert_eq!(kept, [consul()]);
    assert!(working.is_dir(), "a live run's work was taken from it");
}

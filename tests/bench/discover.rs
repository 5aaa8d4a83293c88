//! How long finding the leader takes in a large account: ten times the instances, ten times the time.

use std::collections::BTreeMap;

use clusterctl::core::ec2::discover::Finder;
use clusterctl::model::ec2::{Candidate, tag};
use clusterctl::model::host::HostState;
use clusterctl::model::name::ClusterName;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// One leads; the others are its nodes, other clusters' leaders, and terminated ones that linger.
fn candidates(count: u32) -> Vec<Candidate> {
    let candidate = |n: u32| {
        let cluster = if n % 3 == 1 { "other" } else { "bench" };
        let mut tags = BTreeMap::from([
            (tag::CLUSTER.to_owned(), cluster.to_owned()),
            (tag::NAME.to_owned(), format!("{cluster}-node-{n}")),
        ]);
        if !n.is_multiple_of(3) || n == 0 {
            tags.insert(tag::LEADER.to_owned(), "True".to_owned());
        }
        let state = if n % 3 == 2 { HostState::Terminated } else { HostState::Running };
        let private_address = Some((0x0a00_0000 + n).to_be_bytes().into());
        Candidate { id: format!("i-{n:017x}"), state, private_address, public_address: None, tags }
    };
    (0..count).map(candidate).collect()
}

fn find(c: &mut Criterion) {
    let mut group = c.benchmark_group("find the leader");
    for count in [1_000, 10_000, 100_000] {
        let all = candidates(count);
        group.throughput(Throughput::Elements(count.into()));
        group.bench_with_input(BenchmarkId::from_parameter(count), &all, |b, all| {
            let found = |all: Vec<Candidate>| {
                let mut finder = Finder::new(ClusterName::new("bench").unwrap());
                all.into_iter().for_each(|candidate| finder.push(candidate));
                assert_eq!(finder.leader().unwrap().id, "i-00000000000000000");
            };
            b.iter_batched(|| all.clone(), found, BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, find);
criterion_main!(benches);

//! How long it takes to render and plan a large cluster; templates are compiled once.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clusterctl::core::render::{Peer, Renderer, layout};
use clusterctl::model::host::Role;
use clusterctl::model::name::{ClusterName, HostName};
use clusterctl::model::spec::Spec;
use criterion::{Criterion, criterion_group, criterion_main};

fn thousand_nodes(c: &mut Criterion) {
    let spec = Spec::sandbox(ClusterName::new("bench").unwrap());
    let renderer = Renderer::new(&BTreeMap::new()).unwrap();
    let peers: Vec<Peer> = (0..1000u32)
        .map(|n| Peer {
            name: HostName::new(format!("bench-node-{n}")).unwrap(),
            role: if n < 3 { Role::Server } else { Role::Node },
            address: IpAddr::from((0x0a00_0000 + n).to_be_bytes()),
        })
        .collect();
    c.bench_function("render 1,000 hosts", |b| {
        b.iter(|| {
            for peer in &peers {
                std::hint::black_box(layout(&renderer, &spec, &peer.name, peer.role).unwrap());
            }
        });
    });
}

fn compile(c: &mut Criterion) {
    c.bench_function("compile the templates", |b| b.iter(|| Renderer::new(&BTreeMap::new()).unwrap()));
}

criterion_group!(benches, thousand_nodes, compile);
criterion_main!(benches);

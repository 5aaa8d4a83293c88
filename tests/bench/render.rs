//! How long it takes to render a large cluster; templates are compiled once.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clusterctl::core::image::usual_init;
use clusterctl::core::render::{Peer, Renderer, Subject, absent, layout};
use clusterctl::model::host::Role;
use clusterctl::model::name::{ClusterName, HostName};
use clusterctl::model::spec::{Discovery, Spec};
use clusterctl::model::version::Preset;
use criterion::{Criterion, criterion_group, criterion_main};

fn peers() -> Vec<Peer> {
    let peer = |n: u32| Peer {
        name: HostName::new(format!("bench-node-{n}")).unwrap(),
        role: if n < 3 { Role::Server } else { Role::Node },
        address: IpAddr::from((0x0a00_0000 + n).to_be_bytes()),
    };
    (0..1000).map(peer).collect()
}

fn spec(preset: Preset) -> Spec {
    let mut spec = Spec::sandbox(ClusterName::new("bench").unwrap());
    spec.versions = preset.versions();
    spec.prometheus.discovery = Discovery::of(preset);
    spec
}

/// All files of every host, as a plan needs them: the goal is 0.2 s.
fn thousand_hosts(c: &mut Criterion) {
    let renderer = Renderer::new(&BTreeMap::new()).unwrap();
    let peers = peers();
    for preset in Preset::ALL {
        let spec = spec(preset);
        let artifacts = [Role::Server, Role::Node].map(|role| (role, absent(&spec, role)));
        let artifacts = BTreeMap::from(artifacts);
        let init = usual_init(preset);
        c.bench_function(&format!("render 1,000 hosts, {preset}, {init}"), |b| {
            b.iter(|| {
                for peer in &peers {
                    let subject = Subject::of(peer, &peers, init.clone());
                    std::hint::black_box(renderer.wanted(&spec, &subject, &artifacts[&peer.role]).unwrap());
                }
            });
        });
    }
}

/// What is asked of hosts before anything is known of them: once for each init system.
fn thousand_layouts(c: &mut Criterion) {
    let renderer = Renderer::new(&BTreeMap::new()).unwrap();
    let (peers, spec) = (peers(), spec(Preset::Current));
    c.bench_function("lay out 1,000 hosts", |b| {
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

criterion_group!(benches, thousand_hosts, thousand_layouts, compile);
criterion_main!(benches);

//! Images of the sandbox with real hosts: one is sealed, others boot from it. Needs what `sandbox` needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use clusterctl::model::baked::{ImageId, Label};
use clusterctl::model::event::Events;
use clusterctl::model::host::{Host, HostState, Role};
use clusterctl::model::name::{ClusterName, HostName};
use clusterctl::world::cloud::sandbox::{Sandbox, clusters, images};
use clusterctl::world::cloud::{Cloud, CloudError, Images, Launch};

use crate::sandbox::{Root, bridge, kill, nspawn, ssh, states, traces, up, wanted};
use crate::support::{answer, binary};

fn label(name: &str, cluster: &str, role: Role) -> Label {
    Label {
        name: name.to_owned(),
        cluster: ClusterName::new(cluster).unwrap(),
        role,
        servers: 1,
        programs: BTreeMap::new(),
        sums: BTreeMap::new(),
        spec: "sha256:00".to_owned(),
        created: "2026-01-01T00:00:00Z".parse().unwrap(),
    }
}

fn images_of(sandbox: &Sandbox) -> &dyn Images {
    sandbox.images().expect("the sandbox has images")
}

/// A node with something on it becomes the image `web`; the answer also has its machine-id and host key.
async fn seal(root: &Root) -> (ImageId, Vec<String>) {
    let sandbox = root.sandbox("image-build");
    let node = Launch { lifetime: Some(Duration::from_secs(1)), ..wanted("image-build", 2).remove(1) };
    let host = up(&sandbox, &[node]).await.remove(0);
    ssh(
        &host,
        "mkdir -p /opt/app && echo hello > /opt/app/file && chown 7:8 /opt/app/file && chmod 640 /opt/app/file && \
         rm /etc/issue.net && rm -r /usr/share/doc/bash && mkdir /usr/share/doc/bash && echo new > /usr/share/doc/bash/x && \
         mkdir -m 700 /etc/clusterctl && echo '{}' > /etc/clusterctl/image.json && \
         printf '[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/sh -c \"cp /etc/clusterctl/boot /run/told\"\\n\
         [Install]\\nWantedBy=multi-user.target\\n' > /etc/systemd/system/told.service && systemctl enable told",
    );
    let own = vec![ssh(&host, "cat /etc/machine-id"), host.host_keys[0].clone()];
    let label = label("web", "image", Role::Node);
    let events = Events::silent();
    let wrong = Label { role: Role::Server, ..label.clone() };
    images_of(&sandbox).seal(&host.id, &wrong, &events).await.unwrap_err();
    assert_eq!(states(&sandbox).await, [HostState::Running], "what cannot become an image is left as it is");

    let id = images_of(&sandbox).seal(&host.id, &label, &events).await.unwrap();
    assert_eq!(id, ImageId("web/node".to_owned()));
    assert!(sandbox.list().await.unwrap().is_empty(), "the host is given up");
    sandbox.terminate(std::slice::from_ref(&host.id), &events).await.unwrap();
    assert!(matches!(images_of(&sandbox).seal(&host.id, &label, &events).await, Err(CloudError::NoSuchHost { .. })));
    sandbox.destroy(false, &events).await.unwrap();
    (id, own)
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_boot_from_an_image_and_are_hosts_of_their_own() {
    let root = Root::new();
    let (id, built) = seal(&root).await;
    let (sandbox, events) = (root.sandbox("image"), Events::silent());
    let baked = images_of(&sandbox).baked().await.unwrap();
    assert_eq!((baked.len(), &baked[0].id, baked[0].is_trusted()), (1, &id, false));
    assert!(images_of(&root.sandbox("other")).baked().await.unwrap().is_empty());
    images_of(&sandbox).prove(&id).await.unwrap();
    assert!(images(root.path()).unwrap()[0].is_trusted());
    images_of(&sandbox).copy(&id, "eu-west-1", &events).await.unwrap_err();

    // What a killed run left of another image goes with the next launch.
    let half = root.path().join("images/.half-web-node-00/tree");
    fs::create_dir_all(&half).unwrap();
    let mut wanted = wanted("image", 3);
    wanted[1..].iter_mut().for_each(|node| node.image = Some(id.clone()));
    let hosts = up(&sandbox, &wanted).await;
    assert!(!half.exists() && images(root.path()).unwrap().len() == 1);

    assert_eq!(hosts.iter().map(Host::is_baked).collect::<Vec<_>>(), [false, true, true]);
    let mut own: BTreeSet<String> = built.into_iter().collect();
    for host in &hosts {
        own.extend([ssh(host, "cat /etc/machine-id"), host.host_keys[0].clone()]);
    }
    assert_eq!(own.len(), 8, "each has its own machine-id and host key");
    for node in &hosts[1..] {
        let seen = ssh(
            node,
            "cat /opt/app/file; stat -c %u:%g:%a /opt/app/file; ls /etc/issue.net 2>/dev/null; ls /usr/share/doc/bash; \
             ls /etc/clusterctl; stat -c %U:%a /etc/clusterctl/boot; hostname; systemctl is-system-running --wait",
        );
        let expected =
            ["hello", "7:8:640", "x", "boot", "image.json", "root:644", node.name.as_str(), "running"].join("\n");
        assert_eq!(seen, expected);
        let (server, own) = (&hosts[0].ssh.host, &node.ssh.host);
        let told = format!("cluster=image\nname={}\nservers={server}\naddress={own}", node.name);
        assert_eq!(ssh(node, "cat /run/told"), told, "it is there before the host boots");
    }
    // One layer for itself: the other one and the image do not see it.
    ssh(&hosts[1], "echo mine > /opt/app/file");
    assert_eq!(ssh(&hosts[2], "cat /opt/app/file"), "hello");

    a_stopped_host_is_started_as_itself(&sandbox, &wanted, &hosts).await;

    let refused = images_of(&sandbox).remove(&id).await.unwrap_err();
    assert!(refused.to_string().contains("image-node-1, image-node-2 stand on it"), "{refused}");
    assert!(refused.cure().unwrap().contains("down --sandbox --cluster image"));
    let bridge = bridge(&hosts[0]);
    sandbox.destroy(false, &events).await.unwrap();
    assert_eq!(images(root.path()).unwrap().len(), 1, "an image outlives the clusters that used it");
    images_of(&sandbox).remove(&id).await.unwrap();
    images_of(&sandbox).remove(&id).await.unwrap();
    assert_eq!(traces(root.path(), &bridge), [""; 0]);
    assert!(!root.path().exists(), "no folder is left");
}

async fn a_stopped_host_is_started_as_itself(sandbox: &Sandbox, wanted: &[Launch], hosts: &[Host]) {
    kill(nspawn(&hosts[1]));
    // Without its image: what it stands on is written down.
    let plain: Vec<Launch> = wanted.iter().map(|one| Launch::plain(one.name.clone(), one.role)).collect();
    assert_eq!(up(sandbox, &plain).await, hosts);
    assert_eq!(ssh(&hosts[1], "cat /opt/app/file; cat /run/told | head -1"), "mine\ncluster=image");

    let boot = "cut -d' ' -f22 /proc/1/stat";
    let before = ssh(&hosts[2], boot);
    ssh(&hosts[2], "systemctl reboot --no-block");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        assert!(Instant::now() < deadline, "the host reboots");
        if sandbox.wait(&hosts[2].id, deadline).await.is_ok()
            && crate::sandbox::try_ssh(&hosts[2], boot).is_ok_and(|now| now != before)
        {
            break;
        }
    }
    assert_eq!(ssh(&hosts[2], "cat /opt/app/file; grep name= /run/told"), "hello\nname=image-node-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_image_is_not_launched_from_one() {
    let root = Root::new();
    let sandbox = root.sandbox("imageless");
    let launch = |name: &str, image: &str| Launch {
        image: Some(ImageId(image.to_owned())),
        ..Launch::plain(HostName::new(name).unwrap(), Role::Node)
    };
    let wanted = [launch("imageless-node-1", "web/node"), launch("imageless-node-2", "../../x/node")];
    for result in sandbox.launch(&wanted, &Events::silent()).await {
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with("imageless-node-") && error.contains("image"), "{error}");
    }
    assert!(sandbox.list().await.unwrap().is_empty());
    sandbox.destroy(false, &Events::silent()).await.unwrap();
}

#[test]
fn up_says_which_images_there_are() {
    let root = Root::new();
    let state = tempfile::tempdir().unwrap();
    let up = |args: &[&str]| {
        let mut command = binary();
        command.env("CLUSTERCTL_SANDBOX_DIR", root.path()).env("CLUSTERCTL_STATE_DIR", state.path());
        command.current_dir(state.path()).args(["up", "--sandbox", "--cluster", "imageless-up"]).args(args);
        answer(command)
    };
    let none = up(&["--image", "web"]).expect(1);
    assert!(none.stderr.contains("there is no image \"web\" for a server: there is none"), "{none}");
    assert!(none.stderr.contains("hint: `clusterctl ami build --sandbox`"), "{none}");
    up(&["--image", "../web"]).expect(64);
    assert_eq!(clusters(root.path()).unwrap(), [], "nothing was launched");

    let spec = state.path().join("mine.toml");
    let text = "[cluster]\nname = \"mine\"\nprovider = \"inventory\"\n[[host]]\nname = \"a\"\nrole = \"server\"\naddress = \"192.0.2.1\"\n";
    fs::write(&spec, text).unwrap();
    let mut elsewhere = binary();
    elsewhere.env("CLUSTERCTL_STATE_DIR", state.path()).args(["up", "--image", "web", "-f"]).arg(&spec);
    let elsewhere = answer(elsewhere).expect(64);
    assert!(elsewhere.stderr.contains("--image is for hosts of the sandbox"), "{elsewhere}");
}

//! Images on EC2, from a host that is switched off to hosts that boot from them, against EC2's API in the lab.
//!
//! The provider finds its account in the environment of its process, which tests share: so each step of it runs in a
//! process of its own, this test binary again.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clusterctl::model::artifact::Sha256;
use clusterctl::model::baked::{ImageId, Label};
use clusterctl::model::ec2::Ec2Spec;
use clusterctl::model::event::Events;
use clusterctl::model::host::{Host, HostId, Role};
use clusterctl::model::name::{ClusterName, HostName};
use clusterctl::model::spec::Spec;
use clusterctl::model::version::Program;
use clusterctl::world::cloud::{Cloud, CloudError, Ec2, Launch};
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::lab::{Lab, fields};
use crate::support::eventually;

const CLUSTER: &str = "img";
/// What a step is asked for: a JSON object; where it may answer.
const ASK: &str = "CLUSTERCTL_TEST_IMAGES_ASK";
const ANSWER: &str = "CLUSTERCTL_TEST_IMAGES_ANSWER";

/// One step of the provider; see `Steps`.
#[tokio::test]
#[ignore = "a step of images_of_hosts, run by it"]
async fn step() {
    let ask: Json = serde_json::from_str(&std::env::var(ASK).unwrap()).unwrap();
    let answer = match taken(&ask).await {
        Ok(answer) => json!({ "ok": answer }),
        Err(error) => json!({ "error": format!("{error:?}"), "said": error.to_string() }),
    };
    std::fs::write(std::env::var(ANSWER).unwrap(), answer.to_string()).unwrap();
}

async fn taken(ask: &Json) -> Result<Json, CloudError> {
    let mut spec = Spec::ec2(ClusterName::new(CLUSTER).unwrap());
    spec.ssh.key = Some(ask["key"].as_str().unwrap().into());
    let wanted = Ec2Spec {
        region: Some(ask["region"].as_str().unwrap_or("us-east-1").to_owned()),
        ssh_from: vec![ask["operator"].as_str().unwrap().parse().unwrap()],
        ..Ec2Spec::default()
    };
    let cancel = CancellationToken::new();
    let cloud = Ec2::new(&spec, &wanted, "/nowhere".into(), Events::silent(), cancel.clone());
    let (images, events) = (cloud.images().unwrap(), Events::silent());
    let text = |key: &str| ask[key].as_str().unwrap().to_owned();
    let image = || ImageId(text("image"));
    Ok(match ask["do"].as_str().unwrap() {
        "launch" => {
            let launch = Launch {
                image: ask["image"].as_str().map(|id| ImageId(id.to_owned())),
                lifetime: ask["lifetime"].as_u64().map(Duration::from_secs),
                ..Launch::plain(HostName::new(text("host")).unwrap(), Role::Node)
            };
            shown(&launched(&cloud, &launch).await?)
        }
        "seal" => {
            // Interrupted as soon as the file is there.
            let file = ask["cancel"].as_str().map(str::to_owned);
            tokio::spawn(async move {
                while let Some(file) = &file {
                    if Path::new(file).exists() {
                        return cancel.cancel();
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
            json!(images.seal(&HostId(text("id")), &label(&text("name"), 1), &events).await?)
        }
        "seal another" => json!(images.seal(&HostId(text("id")), &label(&text("name"), 3), &events).await?),
        "list" => json!(images.baked().await?),
        "prove" => json!(images.prove(&image()).await?),
        "copy" => json!(images.copy(&image(), &text("to"), &events).await?),
        "remove" => json!(images.remove(&image()).await?),
        "destroy" => json!(cloud.destroy(false, &events).await?.hosts),
        other => panic!("{other}?"),
    })
}

async fn launched(cloud: &Ec2, launch: &Launch) -> Result<Host, CloudError> {
    cloud.prepare(&Events::silent()).await?;
    let made = cloud.launch(std::slice::from_ref(launch), &Events::silent()).await.remove(0)?;
    cloud.wait(&made.id, Instant::now() + Duration::from_secs(60)).await
}

fn shown(host: &Host) -> Json {
    json!({ "id": host.id, "address": host.ssh.host, "tags": host.tags, "users": host.ssh.users })
}

fn label(name: &str, servers: u16) -> Label {
    Label {
        name: name.to_owned(),
        cluster: ClusterName::new(CLUSTER).unwrap(),
        role: Role::Node,
        servers,
        programs: [(Program::Consul, "1.22.7".parse().unwrap())].into(),
        sums: [(Program::Consul, Sha256::of(b"consul"))].into(),
        spec: "0123abcd".to_owned(),
        created: "2026-11-26T20:00:00Z".parse().unwrap(),
    }
}

struct Steps<'a> {
    lab: &'a Lab,
    operator: String,
}

impl Steps<'_> {
    fn begin(&self, mut ask: Json) -> Child {
        ask["key"] = json!(self.lab.path("key"));
        ask["operator"] = json!(format!("{}/32", self.operator));
        let _ = std::fs::remove_file(self.lab.path("answer"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "ec2_images::step", "--ignored", "--quiet"]).stdout(Stdio::null());
        command.envs(self.lab.environment().iter().map(|(k, v)| (k, v))).env("HOME", self.lab.dir.path());
        command.env(ASK, ask.to_string()).env(ANSWER, self.lab.path("answer")).env_remove("AWS_PROFILE");
        command.spawn().unwrap()
    }

    fn end(&self, mut step: Child) -> Json {
        assert!(step.wait().unwrap().success());
        serde_json::from_slice(&std::fs::read(self.lab.path("answer")).unwrap()).unwrap()
    }

    fn take(&self, ask: Json) -> Json {
        let shown = ask.to_string();
        let answer = self.end(self.begin(ask));
        assert!(answer.get("error").is_none(), "{shown}: {answer}");
        answer["ok"].clone()
    }

    fn refused(&self, ask: Json) -> String {
        let answer = self.end(self.begin(ask));
        answer["said"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Images and snapshots of ours.
    fn left(&self) -> Vec<String> {
        let ours = [("Filter.1.Name", "tag-key"), ("Filter.1.Value.1", "clusterctl:image-of")];
        let images = fields(&self.lab.aws("ec2", "DescribeImages", &ours), "imageId");
        let snapshots = fields(&self.lab.aws("ec2", "DescribeSnapshots", &ours), "snapshotId");
        images.into_iter().chain(snapshots).collect()
    }

    fn user_data(&self, id: &str) -> String {
        let hosts = self.lab.ask("GET", "hosts", &Json::Null);
        let host = hosts.as_array().unwrap().iter().find(|host| host["instance"] == id).unwrap().clone();
        let seed = Path::new(host["folder"].as_str().unwrap()).join("upper/var/lib/cloud/seed/nocloud/user-data");
        std::fs::read_to_string(seed).unwrap()
    }

    fn ssh(&self, host: &Json, script: &str) -> String {
        let mut ssh = Command::new("ssh");
        ssh.args([
            "-F",
            "none",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "BatchMode=yes",
        ]);
        ssh.args(["-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5", "-i"]).arg(self.lab.path("key"));
        let user = host["users"][0].as_str().unwrap();
        let said = ssh.arg(format!("{user}@{}", host["address"].as_str().unwrap())).arg(script).output().unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr)
    }
}

#[test]
fn images_of_hosts() {
    let lab = Lab::start("it-images");
    let operator = lab.ask("GET", "", &Json::Null)["operator"].as_str().unwrap().to_owned();
    let steps = Steps { lab: &lab, operator };

    // A builder, which ends by itself: the appointment is kept by systemd.
    let builder = steps.take(json!({"do": "launch", "host": "img-node-1", "lifetime": 3600}));
    let id = builder["id"].as_str().unwrap();
    let launch = lab.calls().into_iter().find(|call| call["action"] == "RunInstances").unwrap();
    assert_eq!(launch["params"]["InstanceInitiatedShutdownBehavior"], "terminate", "{launch}");
    eventually("the builder has an appointment with its end", || {
        let said = steps.ssh(&builder, "cat /run/systemd/shutdown/scheduled");
        if said.contains("MODE=poweroff") { Ok(()) } else { Err(said) }
    });
    steps.ssh(&builder, "sudo touch /opt/baked; sudo sync");

    // What cannot be made leaves nothing.
    lab.faults(&json!([{"kind": "error", "action": "CreateImage", "code": "SnapshotLimitExceeded"}]));
    let said = steps.refused(json!({"do": "seal", "id": id, "name": "img one"}));
    assert!(said.contains("SnapshotLimitExceeded"), "{said}");
    assert_eq!(lab.instances(CLUSTER, "stopped"), [id]);
    assert_eq!(steps.left(), Vec::<String>::new());
    // Nor does what is interrupted when EC2 has begun.
    lab.faults(&json!([{"kind": "hang-after", "action": "CreateImage", "times": 1}]));
    let stop = lab.path("stop");
    let step = steps.begin(json!({"do": "seal", "id": id, "name": "img one", "cancel": stop}));
    assert_eq!(lab.ask("GET", "hung?wait=30", &Json::Null).as_array().unwrap().len(), 1);
    assert_eq!(steps.left().len(), 2, "image and snapshot have their tags from the first moment");
    std::fs::write(&stop, "").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    lab.ask("POST", "release", &json!({}));
    let answer = steps.end(step);
    assert_eq!(answer["error"], "Cancelled", "{answer}");
    assert_eq!(steps.left(), Vec::<String>::new());

    // Made, and found again by what it says of itself; never twice under one name.
    let seal = json!({"do": "seal", "id": id, "name": "img one"});
    let image = steps.take(seal.clone());
    assert_eq!(steps.take(seal), image);
    let said = steps.refused(json!({"do": "seal another", "id": id, "name": "img one"}));
    assert!(said.contains(image.as_str().unwrap()) && said.contains("another one"), "{said}");
    let one =
        |list: Json| list.as_array().filter(|list| list.len() == 1).unwrap_or_else(|| panic!("{list}"))[0].clone();
    let listed = one(steps.take(json!({"do": "list"})));
    assert_eq!((&listed["id"], &listed["state"], &listed["proved"]), (&image, &json!("available"), &Json::Null));
    let mut wanted = json!(label("img one", 1));
    wanted.as_object_mut().unwrap().retain(|key, value| listed[key] != *value);
    assert_eq!(wanted, json!({}), "{listed}");
    steps.take(json!({"do": "prove", "image": image}));
    let proved = one(steps.take(json!({"do": "list"})))["proved"].clone();
    assert!(proved.is_string(), "{proved}");

    // A host of it: real cloud-init, with the lines that its boot script reads.
    let host = steps.take(json!({"do": "launch", "host": "img-node-2", "image": image, "lifetime": 5400}));
    let tags = &host["tags"];
    assert_eq!(
        (&tags["clusterctl:origin"], &tags["clusterctl:host"]),
        (&json!("image"), &json!("img-node-2")),
        "{host}"
    );
    assert_eq!(tags["clusterctl:user"], "admin", "the user of what the image was made of: {host}");
    let told = steps.user_data(host["id"].as_str().unwrap());
    assert!(told.contains("\n# clusterctl: cluster=img\n# clusterctl: name=img-node-2\n"), "{told}");
    eventually("it has what was baked, and its own appointment", || {
        let said = steps.ssh(&host, "ls /opt; cat /run/systemd/shutdown/scheduled; cloud-init status --wait");
        let all = ["baked", "MODE=poweroff", "status: done"].iter().all(|word| said.contains(word));
        if all { Ok(()) } else { Err(said) }
    });

    // A copy says the same, and is made once.
    let copy = json!({"do": "copy", "image": image, "to": "eu-west-1"});
    let copied = steps.take(copy.clone());
    assert_ne!(copied, image);
    assert_eq!(steps.take(copy), copied);
    let there = one(steps.take(json!({"do": "list", "region": "eu-west-1"})));
    assert_eq!((&there["id"], &there["proved"], &there["programs"]), (&copied, &proved, &listed["programs"]));

    // Hosts of it go on when it is removed.
    for _ in 0..2 {
        steps.take(json!({"do": "remove", "image": image}));
        steps.take(json!({"do": "remove", "image": copied, "region": "eu-west-1"}));
    }
    assert_eq!(steps.take(json!({"do": "list"})), json!([]));
    assert_eq!(steps.take(json!({"do": "list", "region": "eu-west-1"})), json!([]));
    assert_eq!(steps.left(), Vec::<String>::new());
    assert_eq!(lab.instances(CLUSTER, "running").len(), 1);
    assert_eq!(steps.take(json!({"do": "destroy"})), json!(["img-node-1", "img-node-2"]));
    assert_eq!(lab.holds(CLUSTER), Vec::<String>::new());
}

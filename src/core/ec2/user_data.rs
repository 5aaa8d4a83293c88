//! What an instance is told when it boots: who it is, for hosts of an image that join by themselves, and when it ends,
//! for hosts that only a build needs. Nothing secret: everybody on the instance can read it.

use std::fmt::Write as _;
use std::time::Duration;

use crate::model::name::{ClusterName, HostName};

/// A cloud-config. `None` where there is nothing to tell.
pub fn of(cluster: &ClusterName, name: Option<&HostName>, lifetime: Option<Duration>) -> Option<String> {
    if name.is_none() && lifetime.is_none() {
        return None;
    }
    let mut text = "#cloud-config\n".to_owned();
    if let Some(name) = name {
        // The boot script of an image looks for these lines, whatever else stands here.
        writeln!(text, "# clusterctl: cluster={cluster}\n# clusterctl: name={name}").expect("a string takes it");
    }
    if let Some(lifetime) = lifetime {
        let command = serde_json::to_string(&["sh", "-c", &shut_down(lifetime)]).expect("strings are JSON");
        // JSON is YAML. `bootcmd` runs at every boot.
        writeln!(text, "bootcmd:\n- {command}").expect("a string takes it");
    }
    Some(text)
}

/// Shell that ends the machine after so long. In the background: `bootcmd` runs before D-Bus leads to systemd-logind,
/// which keeps the appointment, and without systemd `shutdown` itself waits. What neither keeps, the last line does.
fn shut_down(lifetime: Duration) -> String {
    let minutes = lifetime.as_secs().div_ceil(60).max(1);
    format!(
        "( trap '' HUP; n=0\n\
         while [ -d /run/systemd/system ] && [ $n -lt 120 ] && ! systemctl -q is-active basic.target; do\n\
         sleep 1; n=$((n + 1))\n\
         done\n\
         shutdown -P +{minutes}\n\
         sleep {}\n\
         shutdown -P now || poweroff -f ) </dev/null >/dev/null 2>&1 &",
        minutes * 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: Option<&str>, lifetime: Option<u64>) -> Option<String> {
        let name = name.map(|name| HostName::new(name).unwrap());
        of(&ClusterName::new("web-build").unwrap(), name.as_ref(), lifetime.map(Duration::from_secs))
    }

    #[test]
    fn an_ordinary_launch_is_told_nothing() {
        assert_eq!(told(None, None), None);
    }

    #[test]
    fn a_host_of_an_image_is_told_who_it_is() {
        let text = told(Some("web-build-node-2"), None).unwrap();
        assert_eq!(text, "#cloud-config\n# clusterctl: cluster=web-build\n# clusterctl: name=web-build-node-2\n");
    }

    #[test]
    fn a_lifetime_is_whole_minutes_and_one_at_least() {
        for (seconds, minutes) in [(0, 1), (1, 1), (60, 1), (61, 2), (7200, 120)] {
            let text = told(None, Some(seconds)).unwrap();
            assert!(text.contains(&format!("\\nshutdown -P +{minutes}\\nsleep {}\\n", minutes * 60)), "{text}");
        }
    }

    /// A cloud-config whose one command is three words, and whose lines for the boot script stand by themselves.
    #[test]
    fn the_text_is_a_cloud_config() {
        let text = told(Some("web-node-1"), Some(3600)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert_eq!((lines[0], lines[3]), ("#cloud-config", "bootcmd:"));
        let command: Vec<String> = serde_json::from_str(lines[4].strip_prefix("- ").unwrap()).unwrap();
        assert_eq!(command[..2], ["sh", "-c"]);
        assert!(text.len() < 16_384, "EC2 takes no more");
    }
}

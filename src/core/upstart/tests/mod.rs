mod templates;

use proptest::prelude::*;
use semver::Version;

use super::*;

const AMAZON: Version = OLDEST;
const XENIAL: Version = Version::new(1, 13, 2);

fn job(text: &str) -> Job {
    check(text, &XENIAL).unwrap()
}

/// All mistakes, one a line.
fn mistakes_for(text: &str, version: &Version) -> String {
    let mistakes = check(text, version).expect_err(text);
    mistakes.iter().map(|mistake| format!("{mistake}\n")).collect()
}

fn mistakes(text: &str) -> String {
    mistakes_for(text, &XENIAL)
}

/// The job of the 2015 article, as it stands there.
const ARTICLE: &str = r#"description "Consul"

start on runlevel [2345]
stop on runlevel [!2345]

respawn

script
  if [ -f "/etc/service/consul" ]; then
    . /etc/service/consul
  fi

  # Make sure to use all our CPUs, because Consul can block a scheduler thread
  export GOMAXPROCS=`nproc`
  exec /usr/local/bin/consul agent \
   -server \
   ${CONSUL_FLAGS} \
   >>/var/log/consul.log 2>&1
end script
"#;

#[test]
fn the_articles_job_is_read_by_the_oldest() {
    let job = check(ARTICLE, &AMAZON).unwrap();
    assert_eq!(job.description.as_deref(), Some("Consul"));
    assert_eq!((job.start_on, job.stop_on), (vec!["runlevel".to_owned()], vec!["runlevel".to_owned()]));
    assert!(job.respawns);
    let [Process { name: "main", line: 8, body: Body::Script(script) }] = &job.processes[..] else {
        panic!("{:?}", job.processes)
    };
    // The margin that all lines have is gone; an empty line has none.
    assert!(script.starts_with("  if [ -f \"/etc/service/consul\" ]; then\n    . /etc"), "{script}");
    assert!(script.ends_with(">>/var/log/consul.log 2>&1\n"), "{script}");
}

#[test]
fn a_script_loses_the_margin_that_all_its_lines_have() {
    let job = job("post-stop script # a comment\n\t  one\n\t    two\nend\tscript # the end\nexec true");
    assert_eq!(job.scripts().collect::<Vec<_>>(), ["one\n  two\n"]);
    assert_eq!(job.execs().collect::<Vec<_>>(), ["true"]);
    assert_eq!(job.processes[0].name, "post-stop");
}

#[test]
fn quotes_and_line_breaks_are_upstarts() {
    assert_eq!(job("description 'two  words'").description.as_deref(), Some("two  words"));
    assert_eq!(job("description \"it's\\\" so\" # comment").description.as_deref(), Some("it's\" so"));
    assert_eq!(job("description \"over\n     lines\"").description.as_deref(), Some("over lines"));
    let job = job("exec /bin/x \\\n    -a 'b  c' \\\n    -d");
    assert_eq!(job.execs().collect::<Vec<_>>(), ["/bin/x -a 'b  c' -d"]);
}

#[test]
fn events_have_arguments_operators_and_parentheses() {
    let text = "start on (stopped rc RUNLEVEL=[2345]\n          and (started consul # here\n or net-up IFACE!=lo))\n\
                stop on starting rc RUNLEVEL=[016] or \"and\"\n";
    let job = job(text);
    assert_eq!(job.start_on, ["stopped", "started", "net-up"]);
    assert_eq!(job.stop_on, ["starting", "and"]);
}

#[test]
fn a_broken_expression_says_what_is_missing_and_where() {
    for (text, mistake) in [
        ("start on", "line 1: an event is missing\n"),
        ("start on a and", "line 1: an event is missing\n"),
        ("start on or a", "line 1: an event is missing\n"),
        ("start on a and or b", "line 1: an event is missing\n"),
        ("start on ()", "line 1: an event is missing\n"),
        ("start on (a", "line 1: `(` is never closed\n"),
        ("start on (a\n  and (b or c)\n", "line 1: `(` is never closed\n"),
        ("start on a)", "line 1: `)` closes nothing\n"),
        ("start on (a) b", "line 1: `and` or `or` is missing\n"),
        ("start on (a\n(b))", "line 2: `and`, `or` or `)` is missing\n"),
        ("start on a X=1 2", "line 1: `2` has no name and stands behind one that has\n"),
        ("start on a 'b", "line 1: a quote is opened here and never closed\n"),
        ("start a", "line 1: behind `start` comes `on`, not `a`\n"),
    ] {
        assert_eq!(mistakes(text), mistake, "{text}");
    }
}

#[test]
fn all_mistakes_are_told_with_their_lines() {
    let text = "# A comment\n\
                descripton \"Consul\"\n\
                respawn limit x 5\n\
                umask 0o22\n\
                author me and you\n\
                kill timeout\n\
                limit nofile 65536\n\
                end script\n\
                respawn\n\
                script\n  true\nend script\n\
                exec true\n\
                respawn\n\
                limit nofile 1 2\n\
                limit core 1 2\n\
                limit nofile 1 unlimited\n\
                console syslog\n\
                normal exit 0 SIGTERM 9999999999\n\
                description \"\"\n\
                chdir\n\
                exec\n\
                kill\n\
                exec /bin/x#y\n\
                post-stop script\n  forever\n";
    insta::assert_snapshot!(mistakes(text));
}

#[test]
fn what_a_version_lacks_is_told_with_the_version_that_brought_it() {
    let text = "description x\n\
                manual\n\
                setuid consul\n\
                setgid consul\n\
                console log\n\
                kill signal INT\n\
                reload signal USR1\n\
                oom score -500\n\
                usage x\n\
                apparmor load /etc/x\n\
                cgroup memory\n\
                exec true\n";
    insta::assert_snapshot!(mistakes_for(text, &AMAZON));
    assert!(check(text, &XENIAL).is_ok());
    let all_since = |text, version| {
        assert!(check(text, &version).is_ok(), "{text}");
        let before = Version::new(version.major, version.minor - 1, 99);
        assert!(check(text, &before).is_err(), "{text}");
    };
    all_since("kill signal INT", Version::new(1, 3, 0));
    all_since("setuid x", Version::new(1, 4, 0));
    all_since("console log", Version::new(1, 4, 0));
    all_since("reload signal HUP", Version::new(1, 10, 0));
}

#[test]
fn each_stanza_names_its_source_and_stands_once_in_the_table() {
    let mut seen = std::collections::BTreeSet::new();
    for stanza in &STANZAS {
        assert!(!stanza.source.is_empty() && seen.insert(stanza.words), "{:?}", stanza.words);
        assert!(stanza.since.as_ref().is_none_or(|since| *since > OLDEST), "{:?}", stanza.words);
    }
}

/// Text that comes near a job file.
fn nearly_a_job() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "start",
        "stop",
        "on",
        "and",
        "or",
        "(",
        ")",
        "script",
        "end",
        "exec",
        "pre-start",
        "respawn",
        "limit",
        "unlimited",
        "nofile",
        "5",
        "-1",
        "kill",
        "timeout",
        "signal",
        "TERM",
        "env",
        "A=b",
        "\"",
        "'",
        "\\",
        "#",
        "\n",
        "\n",
        "\r",
        "\t",
        " ",
        "end script\n",
        "script\n",
        "description",
        "\"x\"",
        "é",
        "\0",
        "console",
        "log",
    ]);
    let text =
        (words, prop::bool::ANY).prop_map(|(word, blank)| if blank { format!("{word} ") } else { word.to_owned() });
    prop::collection::vec(text, 0..60).prop_map(|words| words.concat())
}

fn judge(text: &str) -> Result<(), TestCaseError> {
    let lines = text.split('\n').count();
    if let Err(mistakes) = check(text, &XENIAL) {
        prop_assert!(!mistakes.is_empty());
        for mistake in mistakes {
            prop_assert!((1..=lines).contains(&mistake.line), "{mistake} of {lines} in {text:?}");
            prop_assert!(!mistake.message.is_empty());
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_text_panics_it_and_each_mistake_has_a_line(text in any::<String>()) {
        judge(&text)?;
    }

    #[test]
    fn no_near_job_panics_it_and_each_mistake_has_a_line(text in nearly_a_job()) {
        judge(&text)?;
    }

    #[test]
    fn what_one_version_reads_a_newer_one_reads_alike(text in nearly_a_job()) {
        if let Ok(job) = check(&text, &AMAZON) {
            prop_assert_eq!(check(&text, &XENIAL), Ok(job));
        }
    }
}

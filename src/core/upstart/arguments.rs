//! The arguments of stanzas that take words: how many, and which.

use super::stanzas::{Arguments, RESOURCES, Stanza, is_signal};

pub(super) fn check(stanza: &Stanza, words: &[String]) -> Result<(), String> {
    let name = stanza.words.join(" ");
    let (least, most) = match stanza.arguments {
        Arguments::None => (0, 0),
        Arguments::Texts | Arguments::Statuses => (1, usize::MAX),
        Arguments::Limit => (3, 3),
        Arguments::Respawns if words.first().is_some_and(|word| word == "unlimited") => (1, 1),
        Arguments::Respawns => (2, 2),
        _ => (1, 1),
    };
    if words.len() < least {
        return Err(format!("`{name}` takes {}, not {}", counted(least, most), words.len()));
    }
    if let Some(extra) = words.get(most) {
        return Err(format!("`{}` is too much behind `{name}`: several words need quotes", extra.escape_debug()));
    }
    let mut wrong = words.iter().enumerate().filter_map(|(at, word)| {
        let takes = takes(stanza.arguments, at, word)?;
        Some(format!("`{name}` takes {takes}, not `{}`", word.escape_debug()))
    });
    wrong.next().map_or(Ok(()), Err)
}

fn counted(least: usize, most: usize) -> String {
    let noun = if least == 1 { "argument" } else { "arguments" };
    if most == usize::MAX { format!("at least {least} {noun}") } else { format!("{least} {noun}") }
}

/// What the word at this place should be instead; `None`: it is right.
fn takes(arguments: Arguments, at: usize, word: &str) -> Option<String> {
    let number = || word.parse::<i64>().ok().filter(|_| !word.starts_with('+'));
    let natural = || number().is_some_and(|number| (0..=i64::from(i32::MAX)).contains(&number));
    let (right, takes) = match arguments {
        Arguments::None
        | Arguments::Text
        | Arguments::Texts
        | Arguments::Events
        | Arguments::Command
        | Arguments::Script => (true, String::new()),
        Arguments::Variable => (is_variable(word), "NAME or NAME=VALUE".to_owned()),
        Arguments::OneOf(known) => (known.contains(&word), format!("one of {}", known.join(", "))),
        Arguments::Number(least, most) => {
            (number().is_some_and(|n| (least..=most).contains(&n)), format!("a number from {least} to {most}"))
        }
        Arguments::NumberOrNever(least, most) => (
            word == "never" || number().is_some_and(|n| (least..=most).contains(&n)),
            format!("`never` or a number from {least} to {most}"),
        ),
        Arguments::Octal => {
            let digits = word.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
            (
                digits && u32::from_str_radix(word, 8).is_ok_and(|mask| mask <= 0o777),
                "an octal number up to 0777".to_owned(),
            )
        }
        Arguments::Signal => (is_signal(word) || natural(), "a signal".to_owned()),
        Arguments::Statuses => (is_signal(word) || natural(), "exit statuses and signals".to_owned()),
        Arguments::Limit if at == 0 => (RESOURCES.contains(&word), format!("one of {}", RESOURCES.join(", "))),
        Arguments::Limit => (
            word == "unlimited" || number().is_some_and(|limit| limit >= 0),
            "a soft and a hard limit, each `unlimited` or a number".to_owned(),
        ),
        Arguments::Respawns => (
            at == 0 && word == "unlimited" || natural(),
            "`unlimited`, or a count and an interval in seconds".to_owned(),
        ),
    };
    (!right).then_some(takes)
}

fn is_variable(word: &str) -> bool {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

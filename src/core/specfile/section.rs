//! One table of a spec, read key by key. What was never asked for is unknown, so that the reading code
//! itself is the list of what may stand there.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistakes::{Sink, Span};
use crate::core::names::nearest;

pub(super) struct Section<'a> {
    pub sink: &'a Sink<'a>,
    /// As the user writes it: `[cluster]`.
    pub name: &'a str,
    /// Where it begins.
    pub at: Span,
    table: Option<&'a DeTable<'a>>,
    known: RefCell<Vec<&'static str>>,
}

/// A value and where it stands.
pub(super) struct At<T> {
    pub value: T,
    pub at: Span,
}

impl<'a> Section<'a> {
    pub fn new(sink: &'a Sink<'a>, name: &'a str, at: Span, table: Option<&'a DeTable<'a>>) -> Self {
        Self { sink, name, at, table, known: RefCell::default() }
    }

    /// Does it stand in the file at all?
    pub fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// Does the key stand there, be its value right or wrong?
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Does something stand there that is no array?
    pub fn is_wrong(&self, key: &str) -> bool {
        let value = self.table.and_then(|table| table.get(key));
        value.is_some_and(|value| !matches!(value.get_ref(), DeValue::Array(_)))
    }

    /// Where the value of a key stands.
    pub fn place(&self, key: &str) -> Option<Span> {
        self.table?.get(key).map(Spanned::span)
    }

    /// The same for a key of a table within.
    pub fn place_within(&self, table: &str, key: &str) -> Option<Span> {
        match self.table?.get(table)?.get_ref() {
            DeValue::Table(table) => table.get(key).map(Spanned::span),
            _ => None,
        }
    }

    /// The same for one of a `[[key]]`'s tables.
    pub fn place_in(&self, key: &str, index: usize) -> Option<Span> {
        match self.table?.get(key)?.get_ref() {
            DeValue::Array(array) => array.get(index).map(Spanned::span),
            _ => None,
        }
    }

    fn get(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.borrow_mut().push(key);
        self.table?.get(key)
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str, example: &str) {
        let found = kind(value.get_ref());
        self.sink.add(
            &value.span(),
            format!("{key} in {} must be {wanted}, and this is {found}", self.name),
            format!("write for example: {key} = {example}"),
        );
    }

    /// A string without control characters: none has a meaning here, and each is a danger further on.
    pub fn text(&self, key: &'static str, example: &str) -> Option<At<String>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => self.plain(key, text, value.span()),
            _ => {
                self.wrong_type(key, value, "a string", &format!("\"{example}\""));
                None
            }
        }
    }

    fn plain(&self, key: &str, text: &str, at: Span) -> Option<At<String>> {
        if let Some(bad) = text.chars().find(|c| c.is_control()) {
            let message = format!("{key} in {} has a control character, U+{:04X}", self.name, u32::from(bad));
            self.sink.add(&at, message, "remove it");
            return None;
        }
        Some(At { value: text.to_owned(), at })
    }

    /// A string that is read further; its error's own words say what is wrong with it.
    pub fn parsed<T: FromStr<Err: Display>>(&self, key: &'static str, example: &str) -> Option<At<T>> {
        let text = self.text(key, example)?;
        self.parse_text(key, text, example)
    }

    fn parse_text<T: FromStr<Err: Display>>(&self, key: &str, text: At<String>, example: &str) -> Option<At<T>> {
        match text.value.parse() {
            Ok(value) => Some(At { value, at: text.at }),
            Err(error) => {
                let cure = format!("write for example: {key} = \"{example}\"");
                self.sink.add(&text.at, format!("{key} in {}: {error}", self.name), cure);
                None
            }
        }
    }

    pub fn integer(&self, key: &'static str, range: RangeInclusive<u16>, example: &str) -> Option<At<u16>> {
        let value = self.get(key)?;
        let DeValue::Integer(digits) = value.get_ref() else {
            self.wrong_type(key, value, "a whole number", example);
            return None;
        };
        let number = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
        match number.and_then(|number| u16::try_from(number).ok()).filter(|number| range.contains(number)) {
            Some(number) => Some(At { value: number, at: value.span() }),
            None => {
                let (from, to) = (range.start(), range.end());
                let message = format!("{key} in {} must be from {from} to {to}", self.name);
                self.sink.add(&value.span(), message, format!("write for example: {key} = {example}"));
                None
            }
        }
    }

    pub fn boolean(&self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(given) => Some(*given),
            _ => {
                self.wrong_type(key, value, "true or false", "true");
                None
            }
        }
    }

    pub fn port(&self, key: &'static str, example: &str) -> Option<u16> {
        self.integer(key, 1..=u16::MAX, example).map(|port| port.value)
    }

    /// An array of strings, each with its place; `None` where the key is absent.
    pub fn texts(&self, key: &'static str, example: &str) -> Option<Vec<At<String>>> {
        let value = self.get(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong_type(key, value, "an array of strings", &format!("[\"{example}\"]"));
            return None;
        };
        let mut texts = Vec::new();
        for item in array.iter() {
            match item.get_ref() {
                DeValue::String(text) => texts.extend(self.plain(key, text, item.span())),
                _ => self.wrong_type(key, item, "an array of strings", &format!("[\"{example}\"]")),
            }
        }
        Some(texts)
    }

    /// The same, each read further.
    pub fn all_parsed<T: FromStr<Err: Display>>(&self, key: &'static str, example: &str) -> Option<Vec<At<T>>> {
        let texts = self.texts(key, example)?;
        Some(texts.into_iter().filter_map(|text| self.parse_text(key, text, example)).collect())
    }

    /// A table within; absent where it is.
    pub fn section(&self, key: &'static str, name: &'a str) -> Section<'a> {
        self.table(key, name, &format!("begin it with a line {name}"))
    }

    /// A table that people write on one line.
    pub fn inline(&self, key: &'static str, example: &str) -> Section<'a> {
        self.table(key, key, &format!("write for example: {key} = {example}"))
    }

    fn table(&self, key: &'static str, name: &'a str, cure: &str) -> Section<'a> {
        match self.get(key).map(|value| (value, value.get_ref())) {
            Some((value, DeValue::Table(table))) => Section::new(self.sink, name, value.span(), Some(table)),
            Some((value, _)) => {
                self.sink.add(&value.span(), format!("{key} must be a table"), cure);
                Section::new(self.sink, name, value.span(), None)
            }
            None => Section::new(self.sink, name, self.at.clone(), None),
        }
    }

    /// The tables of a `[[name]]`.
    pub fn sections(&self, key: &'static str, name: &'a str) -> Vec<Section<'a>> {
        let wrong = |at: &Span| {
            self.sink.add(at, format!("{key} must be tables of their own"), format!("begin each with a line {name}"));
        };
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Array(array) = value.get_ref() else {
            wrong(&value.span());
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in array.iter() {
            match item.get_ref() {
                DeValue::Table(table) => sections.push(Section::new(self.sink, name, item.span(), Some(table))),
                _ => wrong(&item.span()),
            }
        }
        sections
    }

    /// All entries, for a table whose keys are the user's own.
    pub fn entries(&self, example: &str) -> Vec<(At<String>, At<String>)> {
        let mut entries = Vec::new();
        for (key, value) in self.table.into_iter().flatten() {
            match value.get_ref() {
                DeValue::String(text) => {
                    let key = At { value: key.get_ref().to_string(), at: key.span() };
                    entries.extend(
                        self.plain(&key.value.escape_debug().to_string(), text, value.span()).map(|v| (key, v)),
                    );
                }
                _ => self.wrong_type(&key.get_ref().escape_debug().to_string(), value, "a string", example),
            }
        }
        entries
    }

    pub fn missing(&self, key: &str, example: &str) {
        let cure = format!("add a line: {key} = {example}");
        self.sink.add(&self.at, format!("{} lacks {key}", self.name), cure);
    }

    /// Refuses every key that was not asked for.
    pub fn refuse_unknown(&self) {
        let known = self.known.borrow();
        for (key, _) in self.table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let cure = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("known here: {}", known.join(", ")),
            };
            self.sink.add(&key.span(), format!("unknown key \"{}\" in {}", name.escape_debug(), self.name), cure);
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

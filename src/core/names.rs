//! Names in sentences: the near word for a mistyped one, and many names in few words.

/// The nearest of `known`, if it is near enough that someone may have meant it.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(given, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// So many names at most in one sentence.
const LISTED: usize = 20;

/// `a, b, c`; of more than a sentence can hold, the first ones and how many others there are.
pub fn listed(names: &[String]) -> String {
    let first = &names[..names.len().min(LISTED)];
    match names.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["scrape_interval", "retention", "external_labels"];
        assert_eq!(nearest("scrape_intervall", known), Some("scrape_interval"));
        assert_eq!(nearest("retension", known), Some("retention"));
        assert_eq!(nearest("storage", known), None);
    }

    #[test]
    fn a_thousand_names_are_a_sentence() {
        let names: Vec<String> = (1..=1000).map(|n| format!("n{n}")).collect();
        assert_eq!(listed(&[]), "");
        assert_eq!(listed(&names[..2]), "n1, n2");
        assert!(!listed(&names[..20]).contains("more"));
        assert!(listed(&names).ends_with(", n20 and 980 more"));
    }
}

//! Clean-up that loses nothing, and folding of letters outside GSM 7-bit.

use super::draft::Draft;
use super::rules::{Language, Rules};
use super::tokens;
use crate::sms::gsm7;
use crate::sms::segment::{Encoding, measure};

/// NFC, single spaces and line breaks, no control characters, no invisible ones that only cost units.
///
/// Joiners between letters of Indic and Arabic scripts and inside emoji stay: they change what is shown.
pub fn tidy(text: &str) -> String {
    let text = tokens::nfc(text);
    let mut tidy = String::with_capacity(text.len());
    let mut gap = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' | '\r' | '\u{B}' | '\u{C}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                gap = Some('\n');
            }
            '\u{200B}' | '\u{FEFF}' | '\u{AD}' | '\u{2060}' => {}
            c if c.is_whitespace() => gap = gap.or(Some(' ')),
            c if c.is_control() => {}
            c => {
                if let Some(space) = gap.take()
                    && !tidy.is_empty()
                {
                    tidy.push(space);
                }
                tidy.push(c);
            }
        }
    }
    tidy
}

/// Without the marks of Markdown that models write: `**bold**` and `# heading`. A USSD code ("**21*") stays.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            plain.push('\n');
        }
        let heading = line.trim_start_matches('#');
        let mut rest = if heading.len() < line.len() && heading.starts_with(' ') {
            heading.trim_start()
        } else {
            line
        };
        let mut open = false;
        while let Some(at) = rest.find("**") {
            let behind = &rest[at + 2..];
            let opens = !open && behind.chars().next().is_some_and(char::is_alphabetic);
            plain.push_str(&rest[..at]);
            if open || opens {
                open = !open;
            } else {
                plain.push_str("**");
            }
            rest = behind;
        }
        plain.push_str(rest);
    }
    plain
}

/// Pictures that stand for "no", "danger" or "poison".
const FORBIDDING: [char; 18] = [
    '🚫', '❌', '⛔', '✖', '❎', '✗', '✘', '🔞', '☠', '💀', '⚠', '☢', '☣', '🚭', '🚯', '🚱', '🚷',
    '📵',
];

/// Without emoji and other pictures, which make a whole text UCS-2. One that forbids or warns says something,
/// and then all stay.
pub fn undecorated(text: &str) -> String {
    let picture = |c: char| matches!(c, '\u{1F000}'..='\u{1FAFF}' | '\u{2600}'..='\u{27BF}' | '\u{2B00}'..='\u{2BFF}' | '\u{FE0F}' | '\u{20E3}');
    if !text.contains(picture) || text.contains(FORBIDDING) {
        return text.to_owned();
    }
    // A joiner goes only with the picture in front of it: between letters it is spelling.
    let mut shown = String::with_capacity(text.len());
    let mut gone = false;
    for c in text.chars() {
        gone = picture(c) || (gone && matches!(c, '\u{200D}' | '\u{E0020}'..='\u{E007F}'));
        if !gone {
            shown.push(c);
        }
    }
    tidy(&shown)
}

/// Typographic characters written with those of GSM 7-bit.
fn typographic(text: &str, rules: &Rules) -> String {
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let same = rules
            .typographic
            .get(&c)
            .map(Vec::as_slice)
            .unwrap_or_default();
        if let Some((from, to)) = same
            .iter()
            .find(|(from, _)| rest.starts_with(from.as_str()))
        {
            // "1½" is "1 1/2", not "11/2".
            let digits = to.starts_with(|c: char| c.is_ascii_digit());
            if digits && written.ends_with(|c: char| c.is_ascii_digit()) {
                written.push(' ');
            }
            written.push_str(to);
            rest = &rest[from.len()..];
        } else {
            written.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    tidy(&written)
}

/// A tidy text in the characters that take the fewest segments, with the same facts.
///
/// Typographic characters change where that brings the text into GSM 7-bit or saves a segment, letters only
/// where it saves a segment.
pub fn dress(draft: &Draft<'_>) -> String {
    let text = &draft.text;
    let now = measure(text);
    if now.encoding == Encoding::Gsm7 {
        return text.clone();
    }
    let typed = typographic(text, draft.rules);
    let size = measure(&typed);
    if size.encoding != Encoding::Gsm7
        && let Some(folded) = draft.language.folding.fold(&typed)
        && measure(&folded).count < size.count.min(now.count)
        && let Some(same) = draft.rephrased(folded)
    {
        return same.text;
    }
    if (size.encoding == Encoding::Gsm7 || size.count < now.count)
        && let Some(same) = draft.rephrased(typed)
    {
        return same.text;
    }
    text.clone()
}

/// Septets of a text once its letters are folded, or None when it cannot be written in GSM 7-bit.
pub fn septets(text: &str, language: &Language, rules: &Rules) -> Option<usize> {
    gsm7::septet_count(text).or_else(|| {
        let typed = typographic(text, rules);
        gsm7::septet_count(&typed).or_else(|| gsm7::septet_count(&language.folding.fold(&typed)?))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{facts, testing};
    use super::*;
    use proptest::prelude::*;

    fn dressed(text: &str, lang: &str) -> String {
        let rules = testing::rules();
        dress(&Draft::new(tidy(text), rules.language(lang), rules))
    }

    #[test]
    fn typographic_characters_become_gsm7() {
        assert_eq!(
            dressed("“Wait” – 5…10 min,  it’s\t38 °C\u{200B}", "en"),
            "\"Wait\" - 5...10 min, it's 38 C"
        );
        assert_eq!(
            dressed("take 1½ cups ≥ 5 µg", "en"),
            "take 1 1/2 cups >= 5 mcg"
        );
    }

    #[test]
    fn letters_fold_only_where_that_saves_a_segment() {
        assert_eq!(dressed("más", "es"), "más");
        let long = "más agua ".repeat(9);
        assert!(dressed(&long, "es").starts_with("mas agua"));
        assert!(dressed(&long, "sw").starts_with("mas agua"));
        assert!(dressed(&long, "hi").starts_with("más agua"));
        assert!(dressed(&long, "xx").starts_with("más agua"));
        assert!(dressed(&format!("{long} 水"), "es").starts_with("más agua"));
        // Grandmother and grandfather, yes and if must stay apart.
        assert!(dressed(&format!("{long} avó"), "pt").contains("avó"));
        assert!(dressed(&format!("{long} Sí"), "es").ends_with("Sí"));
    }

    #[test]
    fn markdown_goes_and_ussd_codes_stay() {
        assert_eq!(
            plain("## Steps\n**Boil** it. **Now:** go"),
            "Steps\nBoil it. Now: go"
        );
        assert_eq!(plain("dial **21*123# or *123#"), "dial **21*123# or *123#");
    }

    #[test]
    fn pictures_that_forbid_stay() {
        assert_eq!(undecorated("Cool it 😊👍🏽."), "Cool it .");
        assert_eq!(undecorated("🚫 drink 😊"), "🚫 drink 😊");
    }

    proptest! {
        #[test]
        fn clean_up_is_finished_after_one_pass(text in any::<String>()) {
            let once = tidy(&text);
            prop_assert_eq!(tidy(&once), once.clone());
        }

        #[test]
        fn dressing_takes_no_more_segments_and_keeps_every_fact(
            text in prop_oneof![
                any::<String>(),
                "(não|sí|más|ni|no|12|3,5|½|ml|kg|mañana|água|œuf|maïs|sûr|₱| |\\.|[a-zà-ÿ]{1,9}){10,60}",
            ],
            lang in prop::sample::select(vec!["en", "es", "fr", "pt", "ht", "sw", "tl", "hi", "ar", "xx"]),
        ) {
            let rules = testing::rules();
            let language = rules.language(lang);
            let once = tidy(&text);
            let dressed = dress(&Draft::new(once.clone(), language, rules));
            prop_assert!(measure(&dressed).count <= measure(&once).count);
            let facts = |text: &str| -> Vec<String> {
                let found = facts::facts(text, language, rules);
                found.into_iter().map(|fact| fact.key).collect()
            };
            prop_assert_eq!(facts(&dressed), facts(&once));
            let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
            let plain = !once.contains(|c: char| rules.typographic.contains_key(&c));
            prop_assert!(!plain || digits(&dressed) == digits(&once));
        }
    }
}

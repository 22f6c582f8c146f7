//! Sentences and list items of a text.

use super::rules::Language;
use super::tokens::digit;

/// Length in bytes of a list marker ("- ", "* ", "1. ", "2) ", "(3) ", "a) ") at the beginning of `text`; 0 if none.
pub fn marker_len(text: &str) -> usize {
    let mut ahead = text.char_indices().peekable();
    let Some((_, first)) = ahead.next() else {
        return 0;
    };
    let after = |at: usize| -> usize {
        let rest = &text[at..];
        let spaces = rest.len() - rest.trim_start_matches([' ', '\u{A0}']).len();
        if spaces > 0 && spaces < rest.len() {
            at + spaces
        } else {
            0
        }
    };
    if matches!(
        first,
        '-' | '*' | '+' | '•' | '‣' | '▪' | '●' | '◦' | '–' | '—'
    ) {
        return after(first.len_utf8());
    }
    let open = first == '(';
    let body = if open { &text[1..] } else { text };
    let digits: usize = body
        .chars()
        .take_while(|c| digit(*c).is_some())
        .map(char::len_utf8)
        .sum();
    let length = if digits > 0 && body.chars().take(3).filter(|c| digit(*c).is_some()).count() <= 2
    {
        digits
    } else if digits == 0 && body.chars().next().is_some_and(|c| c.is_ascii_alphabetic()) {
        1
    } else {
        return 0;
    };
    let at = usize::from(open) + length;
    match text[at..].chars().next() {
        Some(')') => after(at + 1),
        Some('.') if !open && digits > 0 => after(at + 1),
        _ => 0,
    }
}

/// One sentence of a text; a list item may have several, of which the first has the marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// Byte offset of its first character.
    pub start: usize,
    /// Byte offset behind its last character that is not white space.
    pub end: usize,
    /// Length of its list marker, 0 when it has none.
    pub marker: usize,
}

/// Whether a mark can end a sentence.
pub fn ends_sentence(c: char) -> bool {
    matches!(
        c,
        '.' | '!' | '?' | '…' | '。' | '！' | '？' | '।' | '॥' | '؟' | '۔' | '།'
    )
}

fn closes(c: char) -> bool {
    matches!(c, '"' | '\'' | ')' | ']' | '”' | '’' | '»')
}

/// Sentences of a text in order. What is in doubt is not divided: "approx. 5 ml" and a line that was
/// broken in the middle stay whole.
pub fn sentences(text: &str, language: &Language) -> Vec<Sentence> {
    let mut found = Vec::new();
    let mut start: Option<usize> = None;
    let mut marker = 0;
    let mut last_solid = 0;
    let mut iter = text.char_indices().peekable();
    while let Some((at, c)) = iter.next() {
        if c.is_whitespace() {
            if c == '\n'
                && let Some(begin) = start
                && line_ends(&text[begin..last_solid], &text[at + 1..])
            {
                found.push(Sentence {
                    start: begin,
                    end: last_solid,
                    marker,
                });
                start = None;
            }
            continue;
        }
        if start.is_none() {
            start = Some(at);
            marker = marker_len(&text[at..]);
            if marker > 0 {
                // The marker's own full stop ends nothing.
                while iter.next_if(|(next, _)| *next < at + marker).is_some() {}
                last_solid = at + text[at..at + marker].trim_end().len();
                continue;
            }
        }
        last_solid = at + c.len_utf8();
        if !ends_sentence(c) {
            continue;
        }
        while let Some((next, more)) =
            iter.next_if(|(_, more)| ends_sentence(*more) || closes(*more))
        {
            last_solid = next + more.len_utf8();
        }
        let begin = start.unwrap_or(at);
        let behind = text[last_solid..].chars().next();
        let trails_off =
            text[begin..last_solid].ends_with(['…']) || text[begin..last_solid].ends_with("..");
        let apart = behind.is_none_or(char::is_whitespace)
            || matches!(c, '。' | '！' | '？' | '।' | '॥' | '۔' | '།');
        let goes_on = text[last_solid..]
            .trim_start_matches(' ')
            .chars()
            .next()
            .is_some_and(char::is_lowercase);
        let following = text[last_solid..].trim_start();
        // "10 min. 2. Cool it": a list number ends what is in front of it, an abbreviation or not.
        let abbreviated =
            c == '.' && marker_len(following) == 0 && is_abbreviation(&text[begin..at], language);
        if !apart || (trails_off && goes_on) || abbreviated {
            continue;
        }
        found.push(Sentence {
            start: begin,
            end: last_solid,
            marker,
        });
        start = None;
    }
    if let Some(begin) = start {
        found.push(Sentence {
            start: begin,
            end: last_solid,
            marker,
        });
    }
    found
}

/// Whether a line break behind `line` ends a sentence; `next` is what follows.
fn line_ends(line: &str, next: &str) -> bool {
    let blank = next.trim_start_matches([' ', '\t', '\r']).starts_with('\n');
    let item = marker_len(next.trim_start()) > 0;
    let closed = line
        .chars()
        .next_back()
        .is_none_or(|c| ends_sentence(c) || matches!(c, ':' | ';' | ','));
    blank || item || closed
}

/// Whether the word in front of a full stop is short for a longer one. Behind a number it may be a unit at the
/// end of its sentence: "wait 10 min." is whole, "min. 10" is not.
fn is_abbreviation(before: &str, language: &Language) -> bool {
    let word = before
        .rsplit(|c: char| c.is_whitespace() || c == '(')
        .next()
        .unwrap_or_default();
    let mut letters = word.chars();
    let initial = letters.next().is_some_and(char::is_uppercase) && letters.next().is_none();
    let counted = before[..before.len() - word.len()]
        .trim_end()
        .ends_with(|c| digit(c).is_some());
    !counted
        && (initial || (word.len() <= 12 && language.abbreviations.contains(&word.to_lowercase())))
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str) -> Vec<&str> {
        let sentences = sentences(text, testing::rules().language("en"));
        sentences.iter().map(|s| &text[s.start..s.end]).collect()
    }

    #[test]
    fn sentences_are_not_divided_in_doubt() {
        assert_eq!(
            split("Wait approx. 5 min. Then go."),
            ["Wait approx. 5 min.", "Then go."]
        );
        assert_eq!(split("Call Dr. Ray. Go now!"), ["Call Dr. Ray.", "Go now!"]);
        assert_eq!(
            split("Give 1.5 ml. Wait... then go."),
            ["Give 1.5 ml.", "Wait... then go."]
        );
        assert_eq!(split("Do not\ndrink it."), ["Do not\ndrink it."]);
        assert_eq!(split("1. Sit. 2. Rest"), ["1. Sit.", "2. Rest"]);
        assert_eq!(split("- sit\n- rest\nnow"), ["- sit", "- rest\nnow"]);
    }

    proptest! {
        #[test]
        fn sentences_hold_everything_but_space(text in "[a-z.!?\n 0-9()-]{0,80}|\\PC{0,80}") {
            let mut end = 0;
            for sentence in sentences(&text, testing::rules().language("en")) {
                prop_assert!(text[end..sentence.start].trim().is_empty());
                prop_assert!(sentence.end > sentence.start);
                end = sentence.end;
            }
            prop_assert!(text[end..].trim().is_empty());
        }
    }
}

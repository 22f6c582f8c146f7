//! How a text is divided into messages (3GPP TS 23.040 §9.2.3.24.1, TS 23.038 §6.2).

use super::gsm7;

/// Most parts that a concatenated text can have; the part number is one octet.
pub const MAX_SEGMENTS: usize = 255;

/// Alphabet of a text; one character outside GSM 7-bit makes all of it UCS-2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// GSM 7-bit default alphabet with extension table, counted in septets.
    Gsm7,
    /// UTF-16 as networks send it under the name UCS-2, counted in 16-bit units.
    Ucs2,
}

impl Encoding {
    /// Units in a text that is one message.
    pub const fn single(self) -> usize {
        match self {
            Self::Gsm7 => 160,
            Self::Ucs2 => 70,
        }
    }

    /// Units in each part of a longer text; a concatenation header with 8-bit reference takes the rest.
    pub const fn part(self) -> usize {
        match self {
            Self::Gsm7 => 153,
            Self::Ucs2 => 67,
        }
    }

    /// `gsm7` or `ucs2`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gsm7 => "gsm7",
            Self::Ucs2 => "ucs2",
        }
    }

    /// Units of one character; in GSM 7-bit it must be in the alphabet.
    fn cost(self, c: char) -> usize {
        match self {
            Self::Gsm7 => gsm7::cost(c).unwrap_or(1),
            Self::Ucs2 => c.len_utf16(),
        }
    }
}

/// Size of a text as SMS, without cutting it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Alphabet it needs.
    pub encoding: Encoding,
    /// Septets or 16-bit units of the text itself, without headers and without the unit that stays free
    /// where a character of two did not fit.
    pub units: usize,
    /// Messages it takes; an empty text takes one.
    pub count: usize,
}

impl Size {
    /// Octets of user data on the air, headers not counted.
    pub const fn octets(self) -> usize {
        match self.encoding {
            Encoding::Gsm7 => (self.units * 7).div_ceil(8),
            Encoding::Ucs2 => self.units * 2,
        }
    }
}

/// Size of a text that grows, known at every character; a copy measures what might follow.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    gsm7: bool,
    septets: Run,
    units: Run,
}

/// Units so far, and the parts they would take.
#[derive(Debug, Clone, Copy)]
struct Run {
    total: usize,
    parts: usize,
    used: usize,
}

impl Run {
    fn push(&mut self, cost: usize, limit: usize) {
        self.total += cost;
        self.used += cost;
        if self.used > limit {
            self.parts += 1;
            self.used = cost;
        }
    }
}

impl Default for Meter {
    fn default() -> Self {
        let run = Run {
            total: 0,
            parts: 1,
            used: 0,
        };
        Self {
            gsm7: true,
            septets: run,
            units: run,
        }
    }
}

impl Meter {
    /// Counts one more character.
    pub fn push(&mut self, c: char) {
        self.gsm7 &= gsm7::cost(c).is_some();
        self.septets
            .push(Encoding::Gsm7.cost(c), Encoding::Gsm7.part());
        self.units
            .push(Encoding::Ucs2.cost(c), Encoding::Ucs2.part());
    }

    /// The same with a text behind it.
    #[must_use]
    pub fn with(mut self, text: &str) -> Self {
        text.chars().for_each(|c| self.push(c));
        self
    }

    /// Size of what was counted.
    pub fn size(&self) -> Size {
        let (encoding, run) = if self.gsm7 {
            (Encoding::Gsm7, self.septets)
        } else {
            (Encoding::Ucs2, self.units)
        };
        let count = if run.total > encoding.single() {
            run.parts
        } else {
            1
        };
        Size {
            encoding,
            units: run.total,
            count,
        }
    }
}

/// A text with the places where it is cut.
///
/// No character is divided: neither an extension character's escape from its code nor a surrogate pair.
/// More than [`MAX_SEGMENTS`] is possible here; who sends it must refuse or shorten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segmentation<'t> {
    /// Alphabet and amount.
    pub size: Size,
    text: &'t str,
    /// Byte offsets where segments 2, 3, … begin.
    cuts: Vec<usize>,
}

impl<'t> Segmentation<'t> {
    /// The segments in order; joined they are the text.
    pub fn segments(&self) -> impl Iterator<Item = &'t str> {
        let text = self.text;
        let starts = std::iter::once(0).chain(self.cuts.iter().copied());
        let ends = self.cuts.iter().copied().chain(std::iter::once(text.len()));
        starts.zip(ends).map(move |(start, end)| &text[start..end])
    }

    /// Byte offsets where segments 2, 3, … begin.
    pub fn cuts(&self) -> &[usize] {
        &self.cuts
    }

    /// The offsets alone, for a holder that keeps the text itself.
    pub fn into_cuts(self) -> Vec<usize> {
        self.cuts
    }
}

/// Alphabet that a text needs, and its units in it.
fn units(text: &str) -> (Encoding, usize) {
    match gsm7::septet_count(text) {
        Some(septets) => (Encoding::Gsm7, septets),
        None => (Encoding::Ucs2, text.encode_utf16().count()),
    }
}

/// Calls `at` with the byte offset where each segment after the first begins.
fn cut(text: &str, encoding: Encoding, mut at: impl FnMut(usize)) {
    let limit = encoding.part();
    let mut used = 0;
    for (offset, c) in text.char_indices() {
        let cost = encoding.cost(c);
        if used + cost > limit {
            at(offset);
            used = 0;
        }
        used += cost;
    }
}

/// Size of a text as SMS; linear, allocates nothing.
pub fn measure(text: &str) -> Size {
    let (encoding, units) = units(text);
    let mut count = 1;
    if units > encoding.single() {
        cut(text, encoding, |_| count += 1);
    }
    Size {
        encoding,
        units,
        count,
    }
}

/// Divides a text into the messages that carry it; linear.
pub fn segment(text: &str) -> Segmentation<'_> {
    let (encoding, units) = units(text);
    let mut cuts = Vec::new();
    if units > encoding.single() {
        cut(text, encoding, |offset| cuts.push(offset));
    }
    Segmentation {
        size: Size {
            encoding,
            units,
            count: cuts.len() + 1,
        },
        text,
        cuts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lengths(text: &str) -> Vec<usize> {
        segment(text)
            .segments()
            .map(|s| s.chars().count())
            .collect()
    }

    #[test]
    fn empty_text_is_one_empty_segment() {
        let parts: Vec<_> = segment("").segments().map(str::to_owned).collect();
        assert_eq!(parts, [""]);
        assert_eq!(
            measure(""),
            Size {
                encoding: Encoding::Gsm7,
                units: 0,
                count: 1
            }
        );
    }

    #[test]
    fn limits_of_one_message() {
        assert_eq!(lengths(&"a".repeat(160)), [160]);
        assert_eq!(lengths(&"a".repeat(161)), [153, 8]);
        assert_eq!(lengths(&"á".repeat(70)), [70]);
        assert_eq!(lengths(&"á".repeat(71)), [67, 4]);
    }

    #[test]
    fn an_extension_character_never_straddles() {
        let text = format!("{}€{}", "a".repeat(152), "b".repeat(20));
        assert_eq!(lengths(&text), [152, 21]);
        // 2 × 77 = 154 septets: 76 of them fit a part, so one septet stays free in each.
        assert_eq!(lengths(&"€".repeat(81)), [76, 5]);
        assert_eq!(lengths(&"€".repeat(80)), [80]);
    }

    #[test]
    fn a_surrogate_pair_is_never_divided() {
        let text = format!("{}😀{}", "a".repeat(66), "b".repeat(20));
        assert_eq!(lengths(&text), [66, 21]);
        assert_eq!(lengths(&"😀".repeat(35)), [35]);
        assert_eq!(lengths(&"😀".repeat(36)), [33, 3]);
    }

    proptest! {
        #[test]
        fn segments_join_to_the_text_and_fit(text in prop_oneof![
            any::<String>(),
            "[a-z€{}^ ]{0,900}",
            "[a-zá😀𝄞]{0,500}",
        ]) {
            let result = segment(&text);
            prop_assert_eq!(result.size, measure(&text));
            prop_assert_eq!(result.size, Meter::default().with(&text).size());
            let parts: Vec<&str> = result.segments().collect();
            prop_assert_eq!(parts.concat(), text.as_str());
            prop_assert_eq!(parts.len(), result.size.count);
            let encoding = result.size.encoding;
            let limit = if parts.len() == 1 { encoding.single() } else { encoding.part() };
            for part in &parts {
                prop_assert!(part.chars().map(|c| encoding.cost(c)).sum::<usize>() <= limit);
            }
            // No part could have taken the first character of the next one.
            for pair in parts.windows(2) {
                let used: usize = pair[0].chars().map(|c| encoding.cost(c)).sum();
                prop_assert!(used + encoding.cost(pair[1].chars().next().unwrap()) > limit);
            }
        }
    }
}

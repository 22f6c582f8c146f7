//! The facts of a text that must survive: quantities, phone numbers, times, substances, negations, conditions.

use super::rules::{Bound, Language, Rules};
use super::sentences;
use super::tokens::{self, Kind, Token};

/// Words between a negation and the bound that it turns round, at most.
const REACH_OF_NEGATION: usize = 8;

/// What sort of fact it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FactKind {
    /// A number with its unit, its range and its bound.
    Number,
    /// A unit without a number.
    Unit,
    /// A phone number.
    Phone,
    /// A clock time or a word for one.
    Time,
    /// A drug or chemical.
    Substance,
    /// A negator.
    Negation,
    /// A word that restricts ("only", "unless").
    Condition,
}

/// One fact with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What it is.
    pub kind: FactKind,
    /// Canonical form: equal keys are the same fact ("5ml", "five millilitres").
    pub key: String,
    /// Unit of a number, to find its rivals; else empty.
    pub unit: String,
    /// First token.
    pub first: usize,
    /// Behind the last token.
    pub behind: usize,
    /// Byte offset where it begins.
    pub start: usize,
    /// Byte offset behind it.
    pub end: usize,
}

/// Facts of a text in order.
pub fn facts(text: &str, language: &Language, rules: &Rules) -> Vec<Fact> {
    read(&tokens::tokenise(text, language), language, rules)
}

/// Facts in tokens, in order. List numbers at the beginning of a sentence are none.
pub fn read(tokens: &[Token<'_>], language: &Language, rules: &Rules) -> Vec<Fact> {
    let mut reader = Reader {
        tokens,
        language,
        rules,
        marker: None,
        found: Vec::new(),
    };
    let mut at = 0;
    while at < tokens.len() {
        at += reader.step(at);
    }
    reader.found
}

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    language: &'a Language,
    rules: &'a Rules,
    /// The last list number read.
    marker: Option<u32>,
    found: Vec<Fact>,
}

impl Reader<'_> {
    fn add(&mut self, kind: FactKind, key: String, unit: &str, first: usize, behind: usize) {
        let (start, end) = (self.tokens[first].start, self.tokens[behind - 1].end);
        self.found.push(Fact {
            kind,
            key,
            unit: unit.to_owned(),
            first,
            behind,
            start,
            end,
        });
    }

    /// Reads what begins at token `at` and returns how many tokens that took.
    fn step(&mut self, at: usize) -> usize {
        let rest = &self.tokens[at..];
        let (language, token) = (self.language, &rest[0]);
        if let Some((length, bound)) = language.bounds.at(rest)
            && let Some(used) =
                self.quantity(at + length, at, Some(self.turned(*bound, at, length)))
        {
            return length + used;
        }
        if let Some(used) = self.quantity(at, at, None) {
            return used;
        }
        if let Some((length, ())) = self.rules.substances.at(rest) {
            self.add(
                FactKind::Substance,
                joined(&rest[..length]),
                "",
                at,
                at + length,
            );
            return length;
        }
        if let Some((length, unit)) = language.unit_words.at(rest) {
            self.add(FactKind::Unit, unit.clone(), "", at, at + length);
            return length;
        }
        if let Some((length, ())) = language.conditions.at(rest) {
            self.add(
                FactKind::Condition,
                joined(&rest[..length]),
                "",
                at,
                at + length,
            );
            return length;
        }
        if let Some((length, ())) = language.stops.at(rest) {
            self.add(
                FactKind::Negation,
                joined(&rest[..length]),
                "",
                at,
                at + length,
            );
            return length;
        }
        if let Some((length, ())) = language.protected.at(rest) {
            self.add(FactKind::Time, joined(&rest[..length]), "", at, at + length);
            return length;
        }
        match token.kind {
            Kind::Word if language.negators.contains(&*token.key) => {
                self.add(FactKind::Negation, token.key.to_string(), "", at, at + 1);
            }
            Kind::Word if self.sounds_like_substance(&token.key) => {
                self.add(FactKind::Substance, token.key.to_string(), "", at, at + 1);
            }
            Kind::Code => self.add(FactKind::Number, token.key.to_string(), "", at, at + 1),
            Kind::Time => self.add(FactKind::Time, token.key.to_string(), "", at, at + 1),
            Kind::Phone => self.add(FactKind::Phone, token.key.to_string(), "", at, at + 1),
            _ => {}
        }
        1
    }

    /// What a bound says behind a negation of its clause: "do not take more than 4 g" is "at most 4 g".
    ///
    /// A bound that denies itself, "no more than", stays what it is behind French "ne".
    fn turned(&self, bound: Bound, at: usize, length: usize) -> Bound {
        let language = self.language;
        let negator = |token: &Token<'_>| language.negators.contains(&*token.key);
        if self.tokens[at..at + length].iter().any(negator) {
            return bound;
        }
        let clause = self.tokens[..at].iter().rev().take_while(|token| {
            token.kind == Kind::Word
                && !language.joiners.contains(&*token.key)
                && !language.additions.contains(&*token.key)
                && !language.alternatives.contains(&*token.key)
                || negator(token)
        });
        let denied = clause.take(REACH_OF_NEGATION).any(negator);
        match bound {
            Bound::Least if denied => Bound::Most,
            Bound::Most if denied => Bound::Least,
            bound => bound,
        }
    }

    /// The ending of a drug's name, or one slip away from a name on the list.
    fn sounds_like_substance(&self, key: &str) -> bool {
        if key.len() < 6 || self.language.small.contains(key) {
            return false;
        }
        let ends = self
            .rules
            .substance_endings
            .iter()
            .any(|ending| key.len() > ending.len() + 1 && key.ends_with(ending));
        // Longer than any name on the list: not looked up, so that a word of any length costs the same.
        let nearly = |slip: u64| self.rules.substances_nearly.contains(&slip);
        ends || (key.len() <= 24 && tokens::slips(key).any(nearly))
    }

    /// A number with all that belongs to it, or None when no number begins at token `at`.
    fn quantity(&mut self, at: usize, first: usize, bound: Option<Bound>) -> Option<usize> {
        if self.is_marker(at) {
            return None;
        }
        let mut next = at;
        let mut unit = String::new();
        if let Kind::Mark('$' | '€' | '£') = self.tokens.get(at)?.kind {
            unit.push_str(&self.tokens[at].key);
            next += 1;
        }
        let (mut low, used) = self.value(next)?;
        next += used;
        let mut high = None;
        let mut used = self.range(next);
        if let Some((value, length)) = used.take() {
            high = Some(value);
            next += length;
        }
        next = self.half(next, high.as_mut().unwrap_or(&mut low));
        if let Some((name, length)) = self.unit(next) {
            unit = name;
            next += length;
            next = self.half(next, high.as_mut().unwrap_or(&mut low));
            // "10 ml to 15 ml": the second unit is the first one again.
            if high.is_none()
                && let Some((value, length)) = self.range(next)
                && let Some((same, more)) = self.unit(next + length)
                && same == unit
            {
                high = Some(value);
                next += length + more;
            }
            let per = match self.tokens.get(next) {
                Some(token)
                    if token.kind == Kind::Mark('/')
                        || self.language.per_words.contains(&*token.key) =>
                {
                    1
                }
                _ => 0,
            };
            if per > 0
                && let Some((of, length)) = self.unit(next + per)
            {
                unit = format!("{unit}/{of}");
                next += per + length;
            }
        }
        let sign = match bound {
            None => "",
            Some(Bound::Least) => ">=",
            Some(Bound::Most) => "<=",
        };
        let range = high.map(|high| format!("..{high}")).unwrap_or_default();
        self.add(
            FactKind::Number,
            format!("{sign}{low}{range} {unit}"),
            &unit,
            first,
            next,
        );
        Some(next - at)
    }

    /// "2. " where a sentence begins, counting on from "1. ": a list number. "How many? 5." is none.
    fn is_marker(&mut self, at: usize) -> bool {
        let Some(token) = self
            .tokens
            .get(at)
            .filter(|token| token.kind == Kind::Number)
        else {
            return false;
        };
        let Some(number) = token.key.parse::<u32>().ok().filter(|number| *number < 100) else {
            return false;
        };
        let begins = match at.checked_sub(1).map(|before| self.tokens[before].kind) {
            None => true,
            Some(Kind::Mark(mark)) if mark == '(' || sentences::ends_sentence(mark) => {
                number == 1 || self.marker.is_some_and(|last| number == last + 1)
            }
            Some(_) => false,
        };
        let mark = self.tokens.get(at + 1);
        let closed = mark.is_some_and(|mark| {
            matches!(mark.kind, Kind::Mark('.' | ')')) && mark.start == token.end
        });
        // "Wait 1." at the very end of a text is a number.
        let is_marker = begins && closed && at + 2 < self.tokens.len();
        if is_marker {
            self.marker = Some(number);
        }
        is_marker
    }

    /// Value of a number in digits or words at `at`, and how many tokens it is.
    fn value(&self, at: usize) -> Option<(String, usize)> {
        let token = self.tokens.get(at)?;
        if token.kind == Kind::Number {
            return Some((token.key.to_string(), 1));
        }
        if self.language.one_words.contains(&*token.key) {
            let unit = self.language.unit_words.at(self.tokens.get(at + 1..)?);
            return unit.map(|_| ("1".to_owned(), 1));
        }
        let mut value = self.language.numbers.get(&*token.key)?.clone();
        let mut used = 1;
        loop {
            let mut next = at + used;
            if self
                .tokens
                .get(next)
                .is_some_and(|token| token.kind == Kind::Mark('-'))
            {
                next += 1;
            }
            let more = self
                .tokens
                .get(next)
                .and_then(|token| self.language.numbers.get(&*token.key));
            let Some((sum, more)) =
                more.and_then(|more| Some((value.parse::<u64>().ok()?, more.parse::<u64>().ok()?)))
            else {
                break;
            };
            // "twenty five" and "two hundred" are one number, "nine one one" are three.
            let joined = match (sum, more) {
                (20..=90, 1..=9) if sum % 10 == 0 => sum + more,
                (1..=999, 100 | 1000 | 1_000_000) if sum < more => sum * more,
                (100.., 1..=99) if sum % 100 == 0 => sum + more,
                _ => break,
            };
            value = joined.to_string();
            used = next + 1 - at;
        }
        Some((value, used))
    }

    /// The upper end of a range that goes on at `at`.
    fn range(&self, at: usize) -> Option<(String, usize)> {
        let joint = self.tokens.get(at)?;
        if !matches!(joint.kind, Kind::Mark('-' | '–' | '—' | '~'))
            && !self.language.range_words.contains(&*joint.key)
        {
            return None;
        }
        let (value, used) = self.value(at + 1)?;
        Some((value, used + 1))
    }

    /// Adds "and a half"; returns where reading goes on.
    fn half(&self, at: usize, value: &mut String) -> usize {
        let rest = self.tokens.get(at..).unwrap_or_default();
        match self.language.and_half.at(rest) {
            Some((length, ())) if !value.contains(['.', '/']) => {
                value.push_str(".5");
                at + length
            }
            _ => at,
        }
    }

    /// The unit at `at`, and how many tokens it is.
    fn unit(&self, at: usize) -> Option<(String, usize)> {
        let rest = self.tokens.get(at..).filter(|rest| !rest.is_empty())?;
        if self.language.fillers.contains(&*rest[0].key) {
            let (length, unit) = self.language.unit_words.at(&rest[1..])?;
            return Some((unit.clone(), length + 1));
        }
        match rest[0].kind {
            Kind::Mark('-') => {
                let (length, unit) = self.language.unit_words.at(&rest[1..])?;
                return Some((unit.clone(), length + 1));
            }
            Kind::Mark('°' | 'º') => {
                let scale = rest
                    .get(1)
                    .and_then(|token| self.rules.unit_marks.get(&*token.key));
                return Some(match scale {
                    Some(scale) if scale == "celsius" || scale == "fahrenheit" => {
                        (scale.clone(), 2)
                    }
                    _ => ("deg".to_owned(), 1),
                });
            }
            _ => {}
        }
        // "10 a.m."
        if let [a, dot, m, ..] = rest
            && matches!(&*a.key, "a" | "p")
            && dot.kind == Kind::Mark('.')
            && m.key == "m"
            && m.start == dot.end
        {
            return Some((format!("{}m", a.key), 3));
        }
        if let Some((length, unit)) = self.language.unit_words.at(rest) {
            return Some((unit.clone(), length));
        }
        self.rules
            .unit_marks
            .get(&*rest[0].key)
            .map(|unit| (unit.clone(), 1))
    }
}

fn joined(tokens: &[Token<'_>]) -> String {
    let keys: Vec<&str> = tokens
        .iter()
        .filter(|token| token.kind != Kind::Mark('-'))
        .map(|token| &*token.key)
        .collect();
    keys.join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn keys(text: &str, lang: &str) -> Vec<String> {
        let rules = testing::rules();
        facts(text, rules.language(lang), rules)
            .into_iter()
            .map(|fact| fact.key)
            .collect()
    }

    #[test]
    fn a_quantity_is_its_value_range_unit_and_bound() {
        for (text, key) in [
            ("5ml", "5 ml"),
            ("five millilitres", "5 ml"),
            ("twenty-five min", "25 min"),
            ("two hundred metres", "200 m"),
            ("10 to 15 minutes", "10..15 min"),
            ("10 min - 15 min", "10..15 min"),
            ("no more than 4 g a day", "<=4 g/day"),
            ("up to 4 g", "<=4 g"),
            ("at least 20 seconds", ">=20 s"),
            ("1 full minute", "1 min"),
            ("one and a half cups", "1.5 cup"),
            ("38 °C", "38 celsius"),
            ("$5", "5 $"),
            ("2 tablets/day", "2 tablet/day"),
            ("10 p.m", "10 pm"),
        ] {
            assert_eq!(keys(text, "en"), [key], "{text}");
        }
        assert_eq!(
            keys("una hora y media, 1,5 horas", "es"),
            ["1.5 h", "1.5 h"]
        );
    }

    #[test]
    fn a_negation_turns_a_bound_round() {
        for (text, lang) in [
            ("Do not take more than 4 g.", "en"),
            ("No tome más de 4 g.", "es"),
            ("Ne prenez pas plus de 4 g.", "fr"),
            ("Não tome mais de 4 g.", "pt"),
        ] {
            assert!(keys(text, lang).contains(&"<=4 g".to_owned()), "{text}");
        }
        assert!(keys("Do not wait if it is over 4 g.", "en").contains(&">=4 g".to_owned()));
        assert!(keys("Tome más de 4 g.", "es").contains(&">=4 g".to_owned()));
        assert!(keys("Si deja de respirar", "es").contains(&"deja de".to_owned()));
    }

    #[test]
    fn list_numbers_are_no_facts_and_numbers_in_a_row_are_not_added() {
        assert_eq!(
            keys("1. Sit. 2. Rest. How many? 5. Then stop", "en"),
            ["5 "]
        );
        assert_eq!(keys("call nine one one", "en"), ["9 ", "1 ", "1 "]);
    }

    #[test]
    fn substances_are_known_by_list_by_ending_and_when_misspelt() {
        assert_eq!(
            keys("aspirin or flucloxacillin", "en"),
            ["aspirin", "flucloxacillin"]
        );
        assert_eq!(keys("paracetemol", "en"), ["paracetemol"]);
        assert_eq!(keys("agua oxigenada", "es"), ["agua oxigenada"]);
    }
}

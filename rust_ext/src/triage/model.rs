//! A second opinion beside the rules: a linear model over words, pairs of words and pieces of words, and over
//! what the rules said.
//!
//! Integers only, so that every machine gives the same answer. Its weights are two readable files, made by
//! `make train-triage`. It only adds: needs, and urgent where the rules said normal; and from weights of their own an
//! alarm, where the rules found nothing to take back. What the rules found stays.

use std::cmp::Reverse;
use std::ops::Range;

use rustc_hash::FxHashMap;

use super::data::{DataError, GENERAL_DANGER, NEEDS};
use super::normal::{Break, MAX_LETTERS, Tokens};
use super::{Priority, Span, Triage};

/// File name of the weights for needs and urgency.
pub const MODEL_FILE: &str = "model.tsv";
/// File name of the weights for emergencies.
pub const ALARM_FILE: &str = "alarm.tsv";
/// First line of the file: what it is, and the version of its meaning.
const MAGIC: &str = "evy-triage-model\t1";
/// The output that makes a normal text urgent; all others are needs.
const URGENT: &str = "urgent";
/// The output that makes any text an emergency, answered by the text for danger in general.
const EMERGENCY: &str = "emergency";
/// Most outputs; each costs one octet in every row.
const MAX_OUTPUTS: usize = 16;
/// Most rows; a row costs about 40 octets of memory.
const MAX_ROWS: usize = 1 << 15;
/// Largest number of the head of the file: far beyond any logit, far below an overflow.
const MAX_FIXED: i64 = 1 << 32;
/// One logit in the fixed point of scores and of the head of the file.
const LOGIT: i64 = 1 << 16;
/// Longest list of needs.
const MAX_NEEDS: usize = 3;
/// What an urgent text needs that names no thing: a plea for help.
const UNNAMED: &str = "aid_info";
/// Pieces of a text shown for one decision.
const SHOWN: usize = 3;
/// Letters of a piece of a word, its edges counted.
const PIECE: usize = 4;

/// The weights, read and checked.
#[derive(Debug)]
pub struct Model {
    outputs: Vec<Output>,
    /// Languages of the texts it learned from; it says nothing of others.
    langs: Vec<String>,
    /// Rows by the hash of their n-gram; [`Model::parse`] refuses two n-grams of one hash.
    rows: FxHashMap<u64, u32>,
    /// One weight per row and output.
    weights: Vec<i8>,
}

#[derive(Debug)]
struct Output {
    name: &'static str,
    /// What one unit of a weight is worth, in [`LOGIT`]s like all that follow.
    scale: i64,
    bias: i64,
    /// From this score on the answer is yes.
    yes: i64,
}

/// What the model found in a text.
struct Evidence {
    /// Rows of the n-grams, each once, with its first place in characters.
    found: Vec<(usize, Range<usize>)>,
    scores: Vec<i64>,
}

impl Model {
    /// Reads a file of weights.
    ///
    /// # Errors
    /// [`DataError`] where it is no such file, is damaged, or says what this program does not know.
    pub fn parse(file: &str, text: &str) -> Result<Self, DataError> {
        let wrong = |entry: &str, reason: &str| DataError::new(file, entry, reason);
        let again = "write it anew: make train-triage";
        let rest = text
            .strip_prefix(MAGIC)
            .and_then(|rest| rest.strip_prefix('\n'))
            .ok_or_else(|| wrong("line 1", "is not weights of this version"))?;
        let (sum, body) = rest
            .strip_prefix("checksum\t")
            .and_then(|rest| rest.split_once('\n'))
            .ok_or_else(|| wrong("checksum", "is missing"))?;
        if sum != format!("{:016x}", hash(&[body])) {
            return Err(wrong(
                "checksum",
                &format!("does not fit the rest: {again}"),
            ));
        }
        let mut lines = body.lines();
        let mut head = |name: &str| -> Result<Vec<&str>, DataError> {
            let mut cells = lines.next().unwrap_or_default().split('\t');
            if cells.next() != Some(name) {
                return Err(wrong(name, "is missing"));
            }
            Ok(cells.collect())
        };
        let names = head("outputs")?;
        let langs = head("langs")?.into_iter().map(str::to_owned).collect();
        let mut columns = Vec::new();
        for name in ["scale", "bias", "yes"] {
            let cells = head(name)?;
            let numbers: Option<Vec<i64>> = cells
                .iter()
                .map(|cell| cell.parse().ok().filter(|n: &i64| n.abs() <= MAX_FIXED))
                .collect();
            columns.push(
                numbers
                    .filter(|numbers| numbers.len() == names.len())
                    .ok_or_else(|| wrong(name, "must be one whole number for each output"))?,
            );
        }
        if names.is_empty() || names.len() > MAX_OUTPUTS {
            return Err(wrong("outputs", "must be 1 to 16"));
        }
        let mut outputs: Vec<Output> = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let known = NEEDS
                .iter()
                .chain([&URGENT, &EMERGENCY])
                .find(|known| *known == name);
            match known {
                Some(&name) if outputs.iter().all(|other| other.name != name) => {
                    outputs.push(Output {
                        name,
                        scale: columns[0][at],
                        bias: columns[1][at],
                        yes: columns[2][at],
                    });
                }
                _ => return Err(wrong("outputs", &format!("{name:?} is no need, or twice"))),
            }
        }
        let mut model = Self {
            rows: FxHashMap::default(),
            weights: Vec::new(),
            outputs,
            langs,
        };
        for line in lines {
            model.row(line).map_err(|reason| wrong(line, &reason))?;
        }
        Ok(model)
    }

    /// One line: an n-gram and its weights; an empty cell is 0, as are those left out at the end.
    fn row(&mut self, line: &str) -> Result<(), String> {
        let mut cells = line.split('\t');
        let ngram = cells.next().filter(|ngram| !ngram.is_empty());
        let row = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        if self.rows.len() == MAX_ROWS {
            return Err(format!("there are more than {MAX_ROWS} rows"));
        }
        if self
            .rows
            .insert(hash(&[ngram.ok_or("no n-gram")?]), row)
            .is_some()
        {
            return Err("stands there twice, or has the hash of another n-gram".to_owned());
        }
        let before = self.weights.len();
        for cell in cells {
            let weight = if cell.is_empty() { Ok(0) } else { cell.parse() };
            self.weights
                .push(weight.map_err(|_| format!("{cell:?} is no weight: -128 to 127"))?);
        }
        if self.weights.len() - before > self.outputs.len() {
            return Err("more weights than outputs".to_owned());
        }
        self.weights.resize(before + self.outputs.len(), 0);
        Ok(())
    }

    /// Names of the outputs, in the order of [`Model::scores`].
    pub fn outputs(&self) -> impl Iterator<Item = &'static str> {
        self.outputs.iter().map(|output| output.name)
    }

    /// The score of each output, in 1/65536 of a logit, given what the rules said.
    pub fn scores(&self, tokens: &Tokens, said: &Triage) -> Vec<i64> {
        self.weigh(tokens, said).scores
    }

    /// Gives the second opinion on what the rules said of a text: work grows with the text. `undone`: the rules
    /// heard a danger and took it back, by a «not», a «yesterday», a «song», which no sum of words can see.
    pub fn review(&self, tokens: &Tokens, said: &mut Triage, undone: bool) {
        let silent = |output: &Output| {
            output.name == EMERGENCY && (undone || said.priority == Priority::Emergency)
        };
        if !self.langs.contains(&said.lang) || self.outputs.iter().all(silent) {
            return;
        }
        let evidence = self.weigh(tokens, said);
        let mut asked: Vec<(i64, &'static str, usize)> = Vec::new();
        for (at, (output, score)) in self.outputs.iter().zip(&evidence.scores).enumerate() {
            let beyond = score - output.yes;
            if beyond < 0 || said.needs.contains(&output.name) {
                continue;
            }
            if output.name == EMERGENCY {
                if !undone && said.priority != Priority::Emergency {
                    said.priority = Priority::Emergency;
                    said.template = Some(GENERAL_DANGER.to_owned());
                    said.confidence = sureness(beyond);
                    self.show(&evidence, at, &mut said.why);
                }
            } else if output.name != URGENT {
                asked.push((beyond, output.name, at));
            } else if said.priority == Priority::Normal {
                said.priority = Priority::Urgent;
                said.confidence = sureness(beyond);
                self.show(&evidence, at, &mut said.why);
            }
        }
        asked.sort_by(|a, b| b.cmp(a));
        said.needs.retain(|need| *need != "none");
        for (_, need, at) in asked {
            if said.needs.len() < MAX_NEEDS {
                said.needs.push(need);
                self.show(&evidence, at, &mut said.why);
            }
        }
        if said.needs.is_empty() {
            said.needs.push(if said.priority == Priority::Urgent {
                UNNAMED
            } else {
                "none"
            });
        }
        said.why
            .sort_by(|a, b| (a.start, a.end, &a.cue).cmp(&(b.start, b.end, &b.cue)));
        said.why.dedup();
    }

    fn weigh(&self, tokens: &Tokens, said: &Triage) -> Evidence {
        let width = self.outputs.len();
        let mut sums = vec![0_i64; width];
        let mut seen = vec![0_u64; self.rows.len().div_ceil(64)];
        let mut found = Vec::new();
        ngrams(tokens, |pieces, place| {
            if let Some(&row) = self.rows.get(&hash(pieces)) {
                let row = row as usize;
                if seen[row / 64] & (1 << (row % 64)) == 0 {
                    seen[row / 64] |= 1 << (row % 64);
                    let weights = &self.weights[row * width..][..width];
                    for (sum, &weight) in sums.iter_mut().zip(weights) {
                        *sum += i64::from(weight);
                    }
                    found.push((row, place));
                }
            }
        });
        // Long texts have more evidence of everything: a sum is divided by the root of its terms.
        let root = i64::try_from(((found.len() as u64) << 16).isqrt())
            .unwrap_or(1)
            .max(1);
        let mut scores: Vec<i64> = self
            .outputs
            .iter()
            .zip(&sums)
            .map(|(output, sum)| output.bias + sum * output.scale * 256 / root)
            .collect();
        for name in std::iter::once(said.priority.name()).chain(said.needs.iter().copied()) {
            if let Some(&row) = self.rows.get(&hash(&["!", name])) {
                let weights = &self.weights[row as usize * width..][..width];
                for ((score, output), &weight) in scores.iter_mut().zip(&self.outputs).zip(weights)
                {
                    *score += i64::from(weight) * output.scale;
                }
            }
        }
        Evidence { found, scores }
    }

    /// Adds the places that spoke most for an output.
    fn show(&self, evidence: &Evidence, output: usize, why: &mut Vec<Span>) {
        let mut spoke: Vec<(i8, &Range<usize>)> = evidence
            .found
            .iter()
            .map(|(row, place)| (self.weights[row * self.outputs.len() + output], place))
            .filter(|(weight, _)| *weight > 0)
            .collect();
        spoke.sort_by_key(|(weight, place)| (Reverse(*weight), place.start, place.end));
        let mut shown: Vec<&Range<usize>> = Vec::new();
        for (_, place) in spoke {
            if shown.len() == SHOWN {
                break;
            }
            if shown
                .iter()
                .all(|other| place.end <= other.start || other.end <= place.start)
            {
                shown.push(place);
            }
        }
        why.extend(shown.into_iter().map(|place| Span {
            cue: format!("model:{}", self.outputs[output].name),
            start: place.start,
            end: place.end,
        }));
    }
}

/// How sure a decision is, 0.5 to 1, from how far its score is beyond the threshold; basic arithmetic only, so that every
/// machine gives the same.
fn sureness(beyond: i64) -> f32 {
    let logits = beyond as f32 / LOGIT as f32;
    0.5 + 0.5 * logits / (1.0 + logits)
}

/// The n-grams of a text as the file writes them, in order and with repeats.
pub fn ngrams_of(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    ngrams(&Tokens::of(text), |pieces, _| all.push(pieces.concat()));
    all
}

/// Calls `visit` with each n-gram, in parts, and its place in characters: a word (`#` for digits), two words of
/// one sentence, and `~` before [`PIECE`] letters of a word, `_` being its edge.
fn ngrams<'t>(tokens: &'t Tokens, mut visit: impl FnMut(&[&'t str], Range<usize>)) {
    let mut before: Option<(&str, usize)> = None;
    for (token, letters) in tokens.iter() {
        let place = token.start..token.end;
        let word = if letters.chars().all(char::is_numeric) {
            "#"
        } else {
            letters
        };
        visit(&[word], place.clone());
        if let Some((first, start)) = before
            && token.before != Break::Sentence
        {
            visit(&[first, " ", word], start..token.end);
        }
        before = Some((word, token.start));
        let mut ends = [0; MAX_LETTERS + 1];
        let mut count = 0;
        for (at, _) in letters.char_indices().skip(1).take(MAX_LETTERS - 1) {
            count += 1;
            ends[count] = at;
        }
        count += 1;
        ends[count] = letters.len();
        if word == "#" || count < PIECE - 1 {
            continue;
        }
        visit(&["~_", &letters[..ends[PIECE - 1]]], place.clone());
        for at in 0..=count - (PIECE - 1) {
            if at + PIECE <= count {
                visit(&["~", &letters[ends[at]..ends[at + PIECE]]], place.clone());
            } else {
                visit(&["~", &letters[ends[at]..], "_"], place.clone());
            }
        }
    }
}

/// FNV-1a, 64 bits, of the octets of all parts.
fn hash(parts: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for &octet in part.as_bytes() {
            hash = (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    const BODY: &str = "outputs\turgent\twater\tfood\nlangs\ten\tfr\nscale\t65536\t65536\t65536\nbias\t-65536\t-65536\t-65536\n\
        yes\t65536\t65536\t65536\nwe need\t6\nwater\t\t7\n~_wat\t\t1\n!urgent\t5\n!food\t\t-1\t9\n";

    fn sealed(body: &str) -> String {
        format!("{MAGIC}\nchecksum\t{:016x}\n{body}", hash(&[body]))
    }

    fn model() -> Model {
        Model::parse(MODEL_FILE, &sealed(BODY)).unwrap()
    }

    fn said(priority: Priority, needs: &[&'static str]) -> Triage {
        Triage {
            priority,
            needs: needs.to_vec(),
            template: (priority == Priority::Emergency).then(|| "flood".to_owned()),
            lang: "en".to_owned(),
            lang_confidence: 1.0,
            confidence: 0.9,
            why: Vec::new(),
        }
    }

    fn reviewed(text: &str, priority: Priority, needs: &[&'static str]) -> Triage {
        let mut triage = said(priority, needs);
        model().review(&Tokens::of(text), &mut triage, false);
        triage
    }

    #[test]
    fn it_adds_what_its_weights_say_and_shows_where() {
        let got = reviewed("We need WATER", Priority::Normal, &["none"]);
        assert_eq!(got.priority, Priority::Urgent);
        assert_eq!(got.needs, ["water"]);
        let shown: Vec<_> = got
            .why
            .iter()
            .map(|span| (span.cue.as_str(), span.start, span.end))
            .collect();
        assert_eq!(shown, [("model:urgent", 0, 7), ("model:water", 8, 13)]);
    }

    #[test]
    fn a_score_is_the_sum_over_the_root_of_its_terms_and_what_the_rules_said() {
        // «we need», «water», «~_wat»: 6 and 8 over √3; the rules' own weights are not divided.
        let scores = model().scores(
            &Tokens::of("we need water"),
            &said(Priority::Urgent, &["food"]),
        );
        let over_root = |sum: i64| sum * LOGIT * 256 / 443;
        assert_eq!(
            scores,
            [
                over_root(6) + 4 * LOGIT,
                over_root(8) - 2 * LOGIT,
                8 * LOGIT
            ]
        );
    }

    #[test]
    fn what_the_rules_found_stays() {
        for (priority, needs) in [
            (Priority::Emergency, ["rescue"]),
            (Priority::Urgent, ["shelter"]),
        ] {
            let got = reviewed("good morning", priority, &needs);
            assert_eq!(got, said(priority, &needs));
        }
        let got = reviewed(
            "we need water",
            Priority::Emergency,
            &["rescue", "fire", "medical"],
        );
        assert_eq!(got.needs, ["rescue", "fire", "medical"]);
        assert_eq!(got.template.as_deref(), Some("flood"));
    }

    #[test]
    fn of_other_languages_it_says_nothing() {
        let mut triage = said(Priority::Normal, &["none"]);
        triage.lang = "sw".to_owned();
        model().review(&Tokens::of("we need water"), &mut triage, false);
        assert_eq!((triage.priority, triage.why.len()), (Priority::Normal, 0));
    }

    #[test]
    fn an_alarm_is_raised_only_where_the_rules_took_nothing_back() {
        let body =
            "outputs\temergency\nlangs\ten\nscale\t65536\nbias\t-65536\nyes\t65536\npale\t9\n";
        let alarm = Model::parse(ALARM_FILE, &sealed(body)).unwrap();
        let heard = |text: &str, priority: Priority, undone: bool| {
            let mut triage = said(priority, &["none"]);
            alarm.review(&Tokens::of(text), &mut triage, undone);
            triage
        };
        let got = heard("stiff and PALE", Priority::Normal, false);
        assert_eq!(got.priority, Priority::Emergency);
        assert_eq!(got.template.as_deref(), Some(GENERAL_DANGER));
        assert_eq!(got.why[0].cue, "model:emergency");
        assert_eq!((got.why[0].start, got.why[0].end), (10, 14));
        assert_eq!(
            heard("pale", Priority::Urgent, false).priority,
            Priority::Emergency
        );
        for (text, undone) in [("stiff", false), ("pale", true)] {
            let got = heard(text, Priority::Normal, undone);
            assert_eq!(got, said(Priority::Normal, &["none"]));
        }
        let known = heard("pale", Priority::Emergency, false);
        assert_eq!(
            known,
            said(Priority::Emergency, &["none"]),
            "its topic stays"
        );
    }

    #[test]
    fn a_damaged_or_foreign_file_is_refused_by_name() {
        let good = sealed(BODY);
        let refused = |text: &str| Model::parse("model.tsv", text).unwrap_err().to_string();
        assert!(refused(&good.replace("water\t\t7", "water\t\t8")).contains("checksum"));
        assert!(refused(&good[..good.len() - 9]).contains("checksum"));
        assert!(refused("").contains("not weights of this version"));
        assert!(
            refused(&good.replace("model\t1", "model\t2")).contains("not weights of this version")
        );
        for (from, to, reason) in [
            ("water\t\t7", "water\t\t200", "no weight"),
            ("water\t\t7", "water\t1\t1\t1\t1", "more weights"),
            ("~_wat", "water", "twice"),
            ("~_wat", "", "no n-gram"),
            ("\tfood\n", "\tfuud\n", "no need"),
            ("\tfood\n", "\twater\n", "twice"),
            ("bias\t-65536", "bias\tmuch", "whole number"),
            ("bias\t-65536", "bias\t99999999999", "whole number"),
            ("bias", "base", "is missing"),
        ] {
            let error = refused(&sealed(&BODY.replacen(from, to, 1)));
            assert!(
                error.starts_with("model.tsv") && error.contains(reason),
                "{error}"
            );
        }
    }

    #[test]
    fn pieces_keep_whole_letters_and_digits_say_only_that_they_are_there() {
        assert_eq!(
            ngrams_of("Ça 4636. ñandú!"),
            [
                "ca", "#", "ca #", "nandu", "~_nan", "~nand", "~andu", "~ndu_"
            ]
        );
        assert_eq!(ngrams_of("गया"), ["गया", "~_गया", "~गया_"]);
    }

    proptest! {
        #[test]
        fn any_text_has_ngrams_inside_it(text in any::<String>()) {
            let length = text.chars().count();
            ngrams(&Tokens::of(&text), |parts, place| {
                assert!(place.start < place.end && place.end <= length);
                assert!(parts.iter().any(|part| !part.is_empty()));
            });
        }

        #[test]
        fn composed_and_decomposed_have_the_same(text in "\\PC{0,60}") {
            let composed: String = text.nfc().collect();
            let decomposed: String = text.nfd().collect();
            prop_assert_eq!(ngrams_of(&composed), ngrams_of(&decomposed));
        }

        #[test]
        fn any_file_is_read_or_refused(body in "(outputs|scale|bias|yes|urgent|water|-?[0-9]{1,30}|\\t|\\n|\\PC){0,60}") {
            let _ = Model::parse("model.tsv", &sealed(&body));
            let _ = Model::parse("model.tsv", &body);
        }
    }
}

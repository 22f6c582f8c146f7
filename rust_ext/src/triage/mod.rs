//! Triage: how urgent a text is, what is needed, which reviewed template answers it, in which language.
//!
//! Deterministic and data-driven: [`normal`] reads letters, [`reader`] words in their [`forms`], [`grammar`]
//! cues, and [`judge`] decides which cues are meant here and now and what they mean together. The words are in
//! one data file per language, the meaning in one rule file for all; adding a language is adding a file.

mod data;
mod forms;
mod grammar;
mod judge;
mod lexicon;
mod model;
mod normal;
mod pieces;
mod reader;
mod rules;
mod sound;
mod spelling;

pub use data::{DataError, GENERAL_DANGER, NEEDS};
pub use model::{ALARM_FILE, MODEL_FILE, ngrams_of};

use std::collections::BTreeSet;

use forms::{Forms, Place};
use grammar::{Cue, Grammar, Hit};
use lexicon::Lexicon;
use model::Model;
use normal::Tokens;
use rules::{Cues, Judge};

/// File name that holds the rules; every other file but [`MODEL_FILE`] is a language.
pub const RULES_FILE: &str = "rules.toml";
/// The one cue that needs no pattern: the text is no longer than [`ALONE_WORDS`].
const ALONE: &str = "alone";
const ALONE_WORDS: usize = 2;
/// Most languages: one bit each.
const MAX_LANGUAGES: usize = 16;

/// How urgent a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Life or limb may be lost within minutes to hours.
    Emergency,
    /// Help is needed within hours to days.
    Urgent,
    /// Everything else.
    Normal,
}

impl Priority {
    /// Name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Urgent => "urgent",
            Self::Normal => "normal",
        }
    }
}

/// A cue that decided, with its place in the original text in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Name of the cue.
    pub cue: String,
    /// First character.
    pub start: usize,
    /// Character after the last one.
    pub end: usize,
}

/// The triage of one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Triage {
    /// How urgent.
    pub priority: Priority,
    /// What is needed, at most three of [`NEEDS`]; `none` alone when nothing is.
    pub needs: Vec<&'static str>,
    /// Topic of the template; [`GENERAL_DANGER`] for an emergency without one, none for everything else.
    pub template: Option<String>,
    /// ISO 639-1 code.
    pub lang: String,
    /// How clearly the text is in that language, 0 to 1; below 0.5 other knowledge should win.
    pub lang_confidence: f32,
    /// How sure the priority is, 0 to 1.
    pub confidence: f32,
    /// The cues that decided, in the order of the text.
    pub why: Vec<Span>,
}

/// Triage with its data loaded; immutable, shared freely between threads.
#[derive(Debug)]
pub struct Triager {
    alone: Cue,
    langs: Vec<String>,
    lexicon: Lexicon,
    grammar: Grammar,
    judge: Judge,
    cues: Cues,
    /// Second opinions, each on what the rules said with the ones before.
    models: Vec<Model>,
}

impl Triager {
    /// Compiles data files given as (name, text): one [`RULES_FILE`], at least one language, [`MODEL_FILE`] and
    /// [`ALARM_FILE`] or none: then the rules decide alone. The first language is the one assumed when a text gives
    /// no evidence; `en` goes before all others.
    ///
    /// # Errors
    /// [`DataError`] names the file and the entry that is wrong.
    pub fn new(files: &[(String, String)]) -> Result<Self, DataError> {
        let (model_files, files): (Vec<_>, Vec<_>) = files.iter().partition(|(name, _)| {
            matches!(name.rsplit('/').next(), Some(MODEL_FILE | ALARM_FILE))
        });
        let models = model_files
            .into_iter()
            .map(|(name, text)| Model::parse(name, text));
        let models = models.collect::<Result<_, _>>()?;
        let (rule_files, language_files): (Vec<_>, Vec<_>) = files
            .into_iter()
            .partition(|(name, _)| name.rsplit('/').next() == Some(RULES_FILE));
        let [(rules_name, rules_text)] = rule_files[..] else {
            let reason = format!("{} files of that name; there must be one", rule_files.len());
            return Err(DataError::new(RULES_FILE, "file", reason));
        };
        let mut languages = Vec::new();
        for (name, text) in language_files {
            languages.push((name, data::Language::parse(name, text)?));
        }
        languages.sort_by_key(|(_, language)| language.lang != "en");
        if languages.is_empty() || languages.len() > MAX_LANGUAGES {
            let reason = format!(
                "{} language files; there must be 1 to {MAX_LANGUAGES}",
                languages.len()
            );
            return Err(DataError::new(rules_name, "file", reason));
        }
        let mut cues = Cues::default();
        let rules = data::Rules::parse(rules_name, rules_text)?;
        let (judge, used) = Judge::compile(rules_name, &rules, &mut cues)?;
        let mut words = lexicon::Builder::default();
        let mut grammar = grammar::Builder::default();
        let mut langs: Vec<String> = Vec::new();
        let alone = cues.intern(ALONE);
        let mut defined = BTreeSet::from([alone]);
        for (file, language) in &languages {
            if langs.contains(&language.lang) {
                return Err(DataError::new(
                    file,
                    "lang",
                    format!("{:?} has a file already", language.lang),
                ));
            }
            langs.push(language.lang.clone());
            let formed = !(language.same.is_empty()
                && language.prefixes.is_empty()
                && language.suffixes.is_empty());
            let same = language.equivalences(file)?;
            let forms = formed.then(|| Forms::of(same, language.stem_from));
            let lang = words.language(language.letter_ranges(file)?, forms);
            let sounds = sound::Rules::parse(&language.sounds).map_err(|entry| {
                DataError::new(file, "sounds", format!("{entry:?}: write letters=sound"))
            })?;
            words.sounds(lang, sounds);
            words.endings(lang, &data::plain_words(&language.endings));
            learn_words(&mut words, lang, file, language)?;
            for (name, pattern) in language.patterns(file)? {
                let cue = cues.intern(name);
                if !used.contains(&cue) {
                    return Err(DataError::new(
                        file,
                        format!("cues.{name}"),
                        format!("{rules_name} never uses it"),
                    ));
                }
                defined.insert(cue);
                let context = judge.is_context(cue);
                grammar.pattern(cue, context, lang, &pattern, |word| {
                    words.cue(
                        lang,
                        word,
                        !context && word.chars().count() >= language.repair_from,
                    )
                });
            }
        }
        if let Some(&cue) = used.difference(&defined).next() {
            return Err(DataError::new(
                rules_name,
                cues.name(cue),
                "no language has a pattern for this cue",
            ));
        }
        Ok(Self {
            alone,
            langs,
            lexicon: words.finish(),
            grammar: grammar.finish(),
            judge,
            cues,
            models,
        })
    }

    /// Languages, the assumed one first.
    pub fn langs(&self) -> &[String] {
        &self.langs
    }

    /// Every template topic the rules can choose, the most pressing first, [`GENERAL_DANGER`] not among them.
    pub fn topics(&self) -> &[String] {
        self.judge.topics()
    }

    /// Language of a text and how clear it is, 0 to 1.
    pub fn detect_lang(&self, text: &str) -> (&str, f32) {
        let guess = self.lexicon.detect(&Tokens::of(text));
        (&self.langs[guess.lang], guess.confidence)
    }

    /// Triage of one text: any text, of any length; linear in its length.
    pub fn classify(&self, text: &str) -> Triage {
        let tokens = Tokens::of(text);
        let (mut triage, undone) = self.by_rules(&tokens);
        for model in &self.models {
            model.review(&tokens, &mut triage, undone);
        }
        triage
    }

    /// Names of what the models score; none without one.
    pub fn outputs(&self) -> Vec<&'static str> {
        self.models.iter().flat_map(Model::outputs).collect()
    }

    /// The models' score of each output, in 1/65536 of a logit.
    pub fn scores(&self, text: &str) -> Vec<i64> {
        let tokens = Tokens::of(text);
        let (said, _) = self.by_rules(&tokens);
        self.models
            .iter()
            .flat_map(|model| model.scores(&tokens, &said))
            .collect()
    }

    /// What the rules say, and whether they heard a danger and took it back.
    fn by_rules(&self, tokens: &Tokens) -> (Triage, bool) {
        let read = self.lexicon.read(tokens);
        let mut hits = self.grammar.find(&read);
        if (1..=ALONE_WORDS).contains(&read.units.len()) {
            hits.insert(
                0,
                Hit {
                    cue: self.alone,
                    start: 0,
                    end: read.units.len(),
                    edits: 0,
                    made_of: 0,
                },
            );
        }
        let found = self.judge.weigh(&read.units, &hits);
        let judgement = self.judge.decide(&read.units, &found);
        let undone = found
            .iter()
            .any(|f| f.undone_by.is_some() && !self.judge.is_context(f.hit.cue));
        let mut why: Vec<Span> = judgement
            .why
            .iter()
            .map(|hit| Span {
                cue: self.cues.name(hit.cue).to_owned(),
                start: read.units[hit.start].start,
                end: read.units[hit.end - 1].end,
            })
            .collect();
        why.sort_by(|a, b| (a.start, a.end, &a.cue).cmp(&(b.start, b.end, &b.cue)));
        why.dedup();
        let mut needs: Vec<&'static str> =
            judgement.needs.iter().map(|&need| NEEDS[need]).collect();
        if needs.is_empty() {
            needs.push("none");
        }
        let triage = Triage {
            priority: judgement.priority,
            needs,
            template: (judgement.priority == Priority::Emergency)
                .then(|| self.judge.topic(judgement.topic).to_owned()),
            lang: self.langs[read.guess.lang].clone(),
            lang_confidence: read.guess.confidence,
            confidence: judgement.confidence,
            why,
        };
        (triage, undone)
    }
}

/// The words of a language that stand in no pattern.
fn learn_words(
    words: &mut lexicon::Builder,
    lang: usize,
    file: &str,
    language: &data::Language,
) -> Result<(), DataError> {
    for word in data::plain_words(&language.stop) {
        words.stop(lang, &word);
    }
    for word in data::plain_words(&language.fillers) {
        words.filler(lang, &word);
    }
    for word in data::plain_words(&language.blocks) {
        words.block(lang, &word);
    }
    for word in data::plain_words(&language.apart) {
        words.apart(lang, &word);
    }
    for word in data::plain_words(&language.known) {
        words.known(lang, &word);
    }
    for (short, meaning) in &language.short {
        let (short_words, meaning) = (data::plain_words(short), data::plain_words(meaning));
        let [short] = &short_words[..] else {
            return Err(DataError::new(
                file,
                format!("short.{short}"),
                "must be one word",
            ));
        };
        if meaning.is_empty() {
            return Err(DataError::new(
                file,
                format!("short.{short}"),
                "stands for nothing",
            ));
        }
        words.short(lang, short, &meaning);
    }
    for (place, name, affixes) in [
        (Place::Before, "prefixes", &language.prefixes),
        (Place::After, "suffixes", &language.suffixes),
    ] {
        for (writings, meaning) in affixes {
            let meaning = data::plain_words(meaning);
            for affix in writings.split_whitespace() {
                let [letters] = &data::plain_words(affix)[..] else {
                    return Err(DataError::new(
                        file,
                        format!("{name}.{affix}"),
                        "must be letters of one word",
                    ));
                };
                words.affix(lang, place, letters, &meaning);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::OnceLock;

    use proptest::prelude::*;

    use super::*;

    fn shipped() -> &'static Triager {
        static TRIAGER: OnceLock<Triager> = OnceLock::new();
        TRIAGER.get_or_init(|| {
            let directory =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../actors/knowledge/triage");
            let files: Vec<(String, String)> = std::fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| {
                    path.extension()
                        .is_some_and(|end| end == "toml" || end == "tsv")
                })
                .map(|path| {
                    let name = path.file_name().unwrap().to_string_lossy().into_owned();
                    (name, std::fs::read_to_string(path).unwrap())
                })
                .collect();
            Triager::new(&files).unwrap()
        })
    }

    fn template(text: &str) -> Option<String> {
        shipped().classify(text).template
    }

    #[test]
    fn a_negation_reaches_to_the_end_of_its_clause() {
        assert_eq!(template("nobody is bleeding"), None);
        assert_eq!(
            template("no signal, my son is bleeding").as_deref(),
            Some("bleeding")
        );
        assert_eq!(
            template("he is not hurt but the house is on fire").as_deref(),
            Some("fire_trapped")
        );
    }

    #[test]
    fn what_is_over_is_no_emergency_unless_it_is_not_over() {
        assert_eq!(template("we put the fire out"), None);
        assert_eq!(
            template("we cant put the fire out").as_deref(),
            Some("fire_trapped")
        );
        assert_eq!(template("he had a stroke two years ago"), None);
    }

    #[test]
    fn a_question_about_the_world_is_none_about_ones_own_is() {
        assert_eq!(template("what should you do if someone is choking"), None);
        assert_eq!(
            template("what do i do my son is choking").as_deref(),
            Some("choking")
        );
    }

    #[test]
    fn a_wound_outranks_a_bare_word_and_a_plea() {
        let text =
            "please help, boiling water fell from the fire on my daughter, her arm is badly burned";
        assert_eq!(template(text).as_deref(), Some("burns"));
    }

    #[test]
    fn an_idiom_hides_only_itself() {
        assert_eq!(template("my phone is dying"), None);
        let text = "my phone is dying and we are trapped under the rubble";
        assert_eq!(template(text).as_deref(), Some("earthquake_trapped"));
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in any::<String>()) {
            let got = shipped().classify(&text);
            let length = text.chars().count();
            prop_assert!(got.why.iter().all(|span| span.start < span.end && span.end <= length));
            prop_assert_eq!(got.template.is_some(), got.priority == Priority::Emergency);
        }

        #[test]
        fn words_in_any_order_are_judged(words in prop::collection::vec("not|no|help|fire|my|house|bleeding|is|if|,|\\.|was|ago|lol|[a-z]{1,12}", 0..60)) {
            let got = shipped().classify(&words.join(" "));
            prop_assert!((0.0..=1.0).contains(&got.confidence));
        }
    }
}

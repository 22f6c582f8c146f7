//! Every word the data knows and what is known of it, and the language that the words of a text speak for.
//!
//! A language that declares forms has words of its own, kept by their folded letters in [`Forms`]; the words
//! of all others share one table.

use rustc_hash::FxHashMap;

use super::forms::{Forms, Place};
use super::normal::Tokens;
use super::pieces::Piece;
use super::sound::{Rules, Sounds};
use super::spelling::Spelling;

/// Index of a word in the lexicon.
pub type Word = u32;
/// One bit per language, in the order of the files.
pub type Langs = u16;

/// Stands for any number in a pattern.
pub const NUMBER: &str = "#";
/// Stands for a number that looks like a year.
pub const YEAR: &str = "#year";

/// Letters of the shortest word that is found by its sound.
const SOUND_FROM: usize = 6;
/// Letters of the shortest ordinary word that a misspelling may mean, where patterns need it: «undr».
const STOP_FROM: usize = 5;
/// Words by which a language has to lead for a confidence of one half: one alone is not enough.
const HALF_SURE: f32 = 1.2;
/// What a word counts for its language when an affix had to be taken away: letters at its end may be chance.
const AFFIXED_VOTE: f32 = 0.5;
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    /// Languages in which the word says something about the language.
    pub langs: Langs,
    /// Languages in which a pattern may skip it.
    pub filler: Langs,
    /// Languages in which no pattern may skip it.
    pub blocks: Langs,
    /// Languages in which it stands apart when it follows an apostrophe.
    pub apart: Langs,
    /// Languages in which it is an ordinary word, never a cue's misspelling.
    pub stop: Langs,
    /// Languages where a misspelling may mean it.
    pub target: Langs,
    /// Languages with a pattern that it stands in.
    pub cue: Langs,
}

/// The language of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    /// Index of the language.
    pub lang: usize,
    /// 0 for no evidence, towards 1 with many words that only this language has.
    pub confidence: f32,
}

/// Words of all languages, fixed after loading.
#[derive(Debug, Default)]
pub struct Lexicon {
    pub(super) words: FxHashMap<Box<str>, Word>,
    entries: Vec<Entry>,
    pub(super) short: FxHashMap<Box<str>, Vec<(Langs, Vec<Word>)>>,
    letters: Vec<(char, char, usize)>,
    /// Of each language that declares forms of words; bits in `formed`.
    pub(super) forms: Vec<Option<Forms>>,
    pub(super) formed: Langs,
    pub(super) spelling: Spelling,
    pub(super) sounds: Sounds,
    languages: usize,
    pub(super) number: Word,
    pub(super) year: Word,
}

/// Collects the words of the files.
#[derive(Debug, Default)]
pub struct Builder {
    lexicon: Lexicon,
}

impl Builder {
    /// Starts a language; its index. `forms` is none for a language that declares none.
    pub fn language(&mut self, letters: Vec<(char, char)>, forms: Option<Forms>) -> usize {
        let lang = self.lexicon.languages;
        self.lexicon.languages += 1;
        self.lexicon
            .letters
            .extend(letters.into_iter().map(|(low, high)| (low, high, lang)));
        self.lexicon.formed |= Langs::from(forms.is_some()) << lang;
        self.lexicon.forms.push(forms);
        lang
    }

    /// Which letters of a language sound alike; before any of its words.
    pub fn sounds(&mut self, lang: usize, rules: Rules) {
        self.lexicon.sounds.language(lang, rules);
    }

    /// Endings of a language that make no difference; before any of its words.
    pub fn endings(&mut self, lang: usize, endings: &[String]) {
        self.lexicon.sounds.endings(lang, endings);
    }

    fn word(&mut self, text: &str) -> Word {
        let next = Word::try_from(self.lexicon.entries.len()).unwrap_or(Word::MAX);
        let word = *self.lexicon.words.entry(text.into()).or_insert(next);
        if word == next {
            self.lexicon.entries.push(Entry::default());
        }
        word
    }

    /// A word of a language, and what is noted of it. Of a language with forms both the word as written and
    /// the one its letters fold to are known; the folded one is what patterns mean.
    fn mark(&mut self, lang: usize, text: &str, note: impl Fn(&mut Entry)) -> Word {
        let written = self.word(text);
        // A number is a word of no language.
        if text.starts_with('#') || text.bytes().all(|b| b.is_ascii_digit()) {
            return written;
        }
        let Lexicon { entries, forms, .. } = &mut self.lexicon;
        entries[written as usize].langs |= 1 << lang;
        note(&mut entries[written as usize]);
        let Some(forms) = &mut forms[lang] else {
            return written;
        };
        let next = Word::try_from(entries.len()).unwrap_or(Word::MAX);
        let word = forms.add(forms.fold(text).into_owned(), next);
        if word == next {
            entries.push(Entry::default());
        }
        entries[word as usize].langs |= 1 << lang;
        note(&mut entries[word as usize]);
        word
    }

    /// An ordinary word that tells the language.
    pub fn stop(&mut self, lang: usize, text: &str) {
        self.mark(lang, text, |entry| entry.stop |= 1 << lang);
    }

    /// An ordinary word that patterns skip for nothing.
    pub fn filler(&mut self, lang: usize, text: &str) {
        self.mark(lang, text, |entry| {
            entry.stop |= 1 << lang;
            entry.filler |= 1 << lang;
        });
    }

    /// A word that no pattern skips.
    pub fn block(&mut self, lang: usize, text: &str) {
        self.mark(lang, text, |entry| entry.blocks |= 1 << lang);
    }

    /// What always stands apart after an apostrophe: «ll» of «I'll».
    pub fn apart(&mut self, lang: usize, text: &str) {
        self.filler(lang, text);
        self.mark(lang, text, |entry| entry.apart |= 1 << lang);
    }

    /// An ordinary word that only stands guard against repairs.
    pub fn known(&mut self, lang: usize, text: &str) {
        self.mark(lang, text, |_| ());
    }

    /// A word of a pattern; `repair` if a misspelling may be read as it.
    pub fn cue(&mut self, lang: usize, text: &str, repair: bool) -> Word {
        let word = self.mark(lang, text, |_| ());
        let entry = &mut self.lexicon.entries[word as usize];
        entry.cue |= 1 << lang;
        if text.chars().any(char::is_alphabetic) {
            entry.target |= Langs::from(repair) << lang;
        }
        word
    }

    /// A short form and the words it stands for.
    pub fn short(&mut self, lang: usize, text: &str, meaning: &[String]) {
        let words = self.meaning(lang, meaning);
        self.lexicon
            .short
            .entry(text.into())
            .or_default()
            .push((1 << lang, words));
    }

    /// What is written onto a word, before or after it, and the words it stands for.
    pub fn affix(&mut self, lang: usize, place: Place, letters: &str, meaning: &[String]) {
        let words = self.meaning(lang, meaning);
        if let Some(forms) = &mut self.lexicon.forms[lang] {
            forms.affix(place, letters, words);
        }
    }

    fn meaning(&mut self, lang: usize, words: &[String]) -> Vec<Word> {
        words
            .iter()
            .map(|word| self.mark(lang, word, |_| ()))
            .collect()
    }

    /// The lexicon, with its index of misspellings.
    pub fn finish(mut self) -> Lexicon {
        self.lexicon.number = self.word(NUMBER);
        self.lexicon.year = self.word(YEAR);
        let Lexicon { entries, forms, .. } = &mut self.lexicon;
        for forms in forms.iter_mut().flatten() {
            forms.relate(|word| entries[word as usize].stop != 0);
        }
        let mut sounds = std::mem::take(&mut self.lexicon.sounds);
        let Lexicon {
            words,
            entries,
            forms,
            ..
        } = &self.lexicon;
        let folded = forms.iter().flatten().flat_map(Forms::words);
        let all = words
            .iter()
            .map(|(letters, &word)| (letters.as_ref(), word));
        let targets = all.chain(folded).filter(|&(text, word)| {
            let entry = entries[word as usize];
            let letters = text.chars().count();
            entry.target & !entry.stop != 0 || entry.target != 0 && letters >= STOP_FROM
        });
        let spelling = Spelling::of(targets.map(|(text, word)| (text.chars().collect(), word)));
        for (text, &word) in words {
            let Entry { target, stop, .. } = entries[word as usize];
            let meant = |lang: usize| target & !stop & (1 << lang) != 0;
            if target & !stop != 0 {
                let letters: Vec<char> = text.chars().collect();
                sounds.stem(text, word, meant);
                if letters.len() >= SOUND_FROM {
                    sounds.word(&letters, word, meant);
                }
            }
        }
        self.lexicon.spelling = spelling;
        self.lexicon.sounds = sounds;
        self.lexicon
    }
}

impl Lexicon {
    pub(super) fn entry(&self, word: Word) -> Entry {
        self.entries[word as usize]
    }

    /// Whether these letters are a word of some language.
    pub(super) fn is_word(&self, letters: &str) -> bool {
        letters.len() > 2 && self.words.contains_key(letters)
    }

    /// Whether these letters stand apart after an apostrophe.
    pub(super) fn is_apart(&self, letters: &str) -> bool {
        let word = self.words.get(letters);
        word.is_some_and(|&word| self.entry(word).apart != 0)
    }

    /// The language alone.
    pub fn detect(&self, tokens: &Tokens) -> Guess {
        self.language(&self.pieces(tokens)).0
    }

    pub(super) fn is_known(&self, letters: &str) -> bool {
        self.words.contains_key(letters)
            || self.short.contains_key(letters)
            || self.folded(letters) != 0
    }

    /// Languages with a word that folds to the same letters.
    fn folded(&self, letters: &str) -> Langs {
        let meant = |forms: &Option<Forms>| {
            forms
                .as_ref()
                .is_some_and(|forms| forms.get(&forms.fold(letters)).is_some())
        };
        self.langs_where(meant)
    }

    /// Languages with a word in it that the letters stand for with something written onto it.
    fn affixed(&self, letters: &str) -> Langs {
        let meant = |forms: &Option<Forms>| {
            forms
                .as_ref()
                .is_some_and(|forms| forms.taken_apart(&forms.fold(letters)).is_some())
        };
        self.langs_where(meant)
    }

    fn langs_where(&self, meant: impl Fn(&Option<Forms>) -> bool) -> Langs {
        let langs = self.forms.iter().enumerate();
        langs.fold(0, |all, (lang, forms)| {
            all | (Langs::from(meant(forms)) << lang)
        })
    }

    pub(super) fn language(&self, pieces: &[Piece<'_>]) -> (Guess, Langs) {
        let mut scores = [0_f32; Langs::BITS as usize];
        let mut vote = |langs: Langs, weight: f32| {
            let share = weight / langs.count_ones().max(1) as f32;
            for (lang, score) in scores.iter_mut().enumerate().take(self.languages) {
                if langs & (1 << lang) != 0 {
                    *score += share;
                }
            }
        };
        for piece in pieces {
            if let Some(&word) = self.words.get(&*piece.letters) {
                vote(self.entry(word).langs, 1.0);
            } else if let Some(meanings) = self.short.get(&*piece.letters) {
                vote(meanings.iter().fold(0, |all, (lang, _)| all | lang), 1.0);
            } else {
                match self.folded(&piece.letters) {
                    0 => vote(self.affixed(&piece.letters), AFFIXED_VOTE),
                    langs => vote(langs, 1.0),
                }
            }
            if !piece.letters.is_ascii()
                && let Some(first) = piece.letters.chars().next()
            {
                for &(low, high, lang) in &self.letters {
                    if (low..=high).contains(&first) {
                        vote(1 << lang, 1.0);
                    }
                }
            }
        }
        let all: Langs = if self.languages >= 16 {
            Langs::MAX
        } else {
            (1 << self.languages) - 1
        };
        let mut best = 0;
        for lang in 1..self.languages {
            if scores[lang] > scores[best] + 1e-4 {
                best = lang;
            }
        }
        let top = scores[best];
        if top <= 0.0 {
            return (
                Guess {
                    lang: 0,
                    confidence: 0.0,
                },
                all,
            );
        }
        let second = (0..self.languages)
            .filter(|&l| l != best)
            .map(|l| scores[l])
            .fold(0.0, f32::max);
        let active = (0..self.languages)
            .filter(|&l| scores[l] >= top * 0.5)
            .fold(0, |all, l| all | (1 << l));
        let margin = top - second;
        let confidence = margin / (margin + HALF_SURE);
        (
            Guess {
                lang: best,
                confidence,
            },
            active,
        )
    }
}

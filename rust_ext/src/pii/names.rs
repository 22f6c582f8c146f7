//! Names of persons: by what announces them, and by the list of names.
//!
//! After «my name is» anything is a name that is no function word. After «my brother», a title or «this is» it
//! has to look like one: in the list, written with a capital in a text that has small letters too, or unknown to
//! every list and followed by a verb. By itself only a name of the list that is no ordinary word and no place
//! is taken. The name of a street, hospital or saint stays: it says where, not who.

use super::data::{
    ALSO_NAME, ARTICLE, Class, Cue, FILLER, FOLLOWS, JOIN, KIN, MONTH, NAME, NUMERAL, ORDINARY,
    PARTICLE, PLACE, PLACE_AFTER, PLACE_BEFORE, STOP, UNIT,
};
use super::read::{Case, Gap, What};
use super::{Hit, Kind, Work};

/// Words of one name.
const MAX_WORDS: usize = 6;
/// Tokens between a cue and its name.
const FILLERS: usize = 4;

pub fn find(work: &mut Work) {
    for hit in work.hits.clone() {
        match hit.cue {
            Cue::Name => announced(work, hit, Trust::Full),
            Cue::NameLabel => labelled(work, hit.end),
            Cue::MaybeName => announced(work, hit, Trust::Look),
            Cue::Title => announced(work, hit, Trust::Title),
            Cue::Role => announced(work, hit, Trust::Role),
            Cue::SignOff => signed(work, hit.end),
            Cue::After => before(work, hit.start),
            _ => {}
        }
    }
    let mut i = 0;
    while i < work.len() {
        i = listed(work, i);
    }
}

/// How much a cue says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    Full,
    Title,
    Role,
    Look,
}

impl Work<'_> {
    /// Classes of a word, an elided article or a possessive taken off when the whole is unknown.
    fn name_class(&self, i: usize) -> Class {
        let class = self.class(i);
        if class != 0 || !self.is_word(i) {
            return class;
        }
        let word = self.word(i);
        let joint = usize::from(self.reading.tokens[i].joint);
        if joint > 0 && word.is_char_boundary(joint) {
            let (head, tail) = word.split_at(joint);
            let part = if tail.len() <= 2 {
                head
            } else if head.len() <= 2 {
                tail
            } else {
                ""
            };
            return self.lexicon.class(part);
        }
        // Arabic joins «and», «to» and «by» to the word.
        let mut chars = word.chars();
        if matches!(chars.next(), Some('و' | 'ل' | 'ب')) && word.chars().count() > 4 {
            return self.lexicon.class(chars.as_str()) & NAME;
        }
        0
    }

    fn is_capital(&self, i: usize) -> bool {
        self.cased && matches!(self.case(i), Case::Capital | Case::Upper)
    }

    /// A name by itself: of the list, no ordinary word; two or three letters only with a capital.
    fn is_sure(&self, i: usize) -> bool {
        let class = self.name_class(i);
        let short = self.word(i).len() <= 3 && self.case(i) != Case::None;
        class & NAME != 0 && class & (ALSO_NAME | PLACE) == 0 && (!short || self.is_capital(i))
    }

    fn is_listed(&self, i: usize) -> bool {
        self.name_class(i) & (NAME | ALSO_NAME) != 0
    }

    /// In no list at all.
    fn is_unknown(&self, i: usize) -> bool {
        const KNOWN: Class = ORDINARY
            | STOP
            | PLACE
            | PLACE_BEFORE
            | PLACE_AFTER
            | UNIT
            | NUMERAL
            | MONTH
            | FOLLOWS
            | FILLER;
        self.is_word(i) && self.name_class(i) & KNOWN == 0 && self.word(i).chars().nth(1).is_some()
    }

    /// Unknown, and no misspelling of an ordinary word.
    fn is_strange(&self, i: usize) -> bool {
        self.is_unknown(i) && !self.lexicon.is_misspelt(self.word(i))
    }

    /// «A.» before a name.
    fn is_initial(&self, i: usize) -> bool {
        self.word(i).chars().nth(1).is_none()
            && self.is_capital(i)
            && self.is_mark(i + 1, '.')
            && self.glued(i + 1)
            && (self.is_listed(i + 2) || self.is_unknown(i + 2) || self.is_mark(i + 3, '.'))
    }

    fn same_line(&self, i: usize) -> bool {
        self.gap(i) != Gap::Line
    }

    /// A street, hospital or saint before, or a street after, makes the name of a place.
    fn names_a_place(&self, start: usize, end: usize) -> bool {
        let before = |i: usize| self.is_word(i) && self.name_class(i) & PLACE_BEFORE != 0;
        let skip = |i: usize| {
            self.has(i, PARTICLE)
                || matches!(self.what(i), What::Mark('.' | '-' | '\'')) && self.glued(i)
        };
        let mut at = start;
        for _ in 0..3 {
            if at == 0 {
                break;
            }
            at -= 1;
            if before(at) {
                return true;
            }
            if !skip(at) {
                break;
            }
        }
        self.has(end, PLACE_AFTER) && self.same_line(end)
    }
}

/// Past what may stand between a cue and its name: «is», a colon, a quotation mark, a title.
fn past_fillers(work: &Work, mut i: usize) -> (usize, bool) {
    let mut marked = false;
    for _ in 0..FILLERS {
        let mark = matches!(
            work.what(i),
            What::Mark(':' | '=' | '-' | '"' | '\'' | '.' | '*' | '(' | '«' | '#')
        );
        if !mark && !work.has(i, FILLER) {
            break;
        }
        marked |= matches!(work.what(i), What::Mark(':' | '=' | '-'));
        i += 1;
    }
    (i, marked)
}

fn announced(work: &mut Work, hit: Hit, trust: Trust) {
    let (cue_start, cue_end) = (hit.start, hit.end);
    let (i, marked) = match trust {
        Trust::Full => past_fillers(work, cue_end),
        Trust::Title if work.is_mark(cue_end, '.') => (cue_end + 1, false),
        Trust::Role
            if matches!(work.what(cue_end), What::Mark(',' | '(' | '"'))
                || work.has(cue_end, FILLER) =>
        {
            (cue_end + 1, false)
        }
        _ => (cue_end, false),
    };
    if !work.is_word(i) || !work.same_line(i) && !marked {
        return;
    }
    let follows = |at: usize| work.has(at, FOLLOWS) && work.same_line(at);
    let ends = |at: usize| !work.is_word(at) || !work.same_line(at);
    let class = work.name_class(i);
    let fits = match trust {
        // «a place called …» is none.
        Trust::Full => {
            let place = cue_start > 0 && work.has(cue_start - 1, PLACE_BEFORE | PLACE_AFTER);
            let fits =
                class & STOP == 0 || work.is_listed(i) && (work.is_capital(i) || ends(i + 1));
            fits && !place && work.word(i).chars().nth(1).is_some()
        }
        Trust::Title => {
            work.is_unknown(i)
                || work.is_listed(i)
                    && (class & (STOP | ORDINARY) == 0
                        || work.is_capital(i)
                        || class & STOP == 0 && !work.cased)
        }
        Trust::Role => {
            let verb = follows(i + 1);
            work.is_sure(i)
                || class & (NAME | ALSO_NAME) != 0
                    && (work.is_capital(i)
                        || verb
                        || work.is_sure(i + 1) && work.same_line(i + 1)
                        || class & NAME != 0 && class & STOP == 0)
                || work.is_unknown(i) && work.is_capital(i)
                || verb && work.is_strange(i)
        }
        Trust::Look => {
            work.is_sure(i)
                || work.is_listed(i)
                    && work.case(i) == Case::Capital
                    && work.cased
                    && class & (STOP | MONTH) == 0
                || work.is_unknown(i) && work.is_capital(i)
                || (work.is_listed(i) && class & STOP == 0 || follows(i + 1) && work.is_strange(i))
                    && follows(i + 1)
                    && !ends(i + 1)
        }
    };
    // «Abdul Karim», «عبد الله»
    let kin = trust != Trust::Look
        && work.has(i, KIN)
        && (work.case(i) == Case::None || work.is_capital(i))
        && work.is_word(i + 1)
        && work.same_line(i + 1);
    if fits || kin || trust != Trust::Look && work.is_initial(i) {
        let mut end = extend(work, i + usize::from(kin), trust);
        let start = if trust == Trust::Title && work.has(cue_start, KIN) {
            cue_start
        } else {
            i
        };
        work.take(start, end, Kind::Name);
        // «my sons Tino and Rudo»
        for _ in 0..MAX_WORDS {
            let next = end + 1;
            let joined = work.has(end, JOIN) || work.is_mark(end, ',') || work.is_mark(end, '&');
            let named = work.is_sure(next)
                || work.is_capital(next)
                    && (work.is_unknown(next)
                        || work.is_listed(next)
                            && work.name_class(next) & (PLACE | MONTH | STOP) == 0);
            if trust == Trust::Look
                || !joined
                || !named
                || !work.same_line(next)
                || work.names_a_place(next, next + 1)
            {
                break;
            }
            end = extend(work, next, Trust::Look);
            work.take(next, end, Kind::Name);
        }
    }
}

/// «Name: Kofi Mensah» in a form.
fn labelled(work: &mut Work, cue_end: usize) {
    let (i, marked) = past_fillers(work, cue_end);
    // «non-stop» is a word.
    let hyphen = work.is_mark(cue_end, '-') && work.glued(cue_end) && work.glued(cue_end + 1);
    if work.is_word(i) && marked && !hyphen && work.name_class(i) & STOP == 0 {
        let end = extend(work, i, Trust::Full);
        work.take(i, end, Kind::Name);
    }
}

/// What stands alone behind a sign-off at the end of the text.
fn signed(work: &mut Work, cue_end: usize) {
    let mut i = cue_end;
    while matches!(work.what(i), What::Mark(',' | '-' | '.' | '!')) && i < cue_end + 3 {
        i += 1;
    }
    let fits = work.is_strange(i)
        || work.is_capital(i) && work.is_unknown(i)
        || work.is_listed(i) && work.name_class(i) & STOP == 0;
    if !fits {
        return;
    }
    let end = extend(work, i, Trust::Full);
    let rest = (end..work.len().min(end + 3)).all(|j| matches!(work.what(j), What::Mark(_)));
    if rest && end + 3 > work.len() {
        work.take(i, end, Kind::Name);
    }
}

/// «Kofi here, …», «… speaking»: one or two words before the cue, at the beginning of a sentence.
fn before(work: &mut Work, cue: usize) {
    let name = |i: usize| {
        work.is_sure(i)
            || (work.is_unknown(i) || work.is_listed(i))
                && (work.is_capital(i) || work.case(i) == Case::Capital)
    };
    let mut start = cue;
    while start > 0 && start + 3 > cue && name(start - 1) && (start == cue || work.same_line(start))
    {
        start -= 1;
    }
    let begins = start == 0
        || matches!(work.what(start - 1), What::Mark(_))
        || work.gap(start) == Gap::Line
        || work.has(start - 1, FILLER);
    let ends = !work.is_word(cue + 1) || !work.same_line(cue + 1);
    if start < cue && begins && (ends || start + 1 == cue && work.is_sure(start)) {
        work.take(start, cue, Kind::Name);
    }
}

/// A name of the list by itself, or one that is also a word beside another. Returns where to go on.
fn listed(work: &mut Work, i: usize) -> usize {
    if !work.is_word(i) {
        return i + 1;
    }
    let class = work.name_class(i);
    // «Saint» begins the name of a place.
    if class & (NAME | ALSO_NAME) == 0 || class & PLACE_BEFORE != 0 {
        return i + 1;
    }
    if !work.is_sure(i) {
        // «Rose Desir», «Will Johnson», and «tell Mark» inside a sentence, but not «the Red Cross».
        let next = usize::from(work.is_mark(i + 1, '-') && work.glued(i + 1)) + i + 1;
        let beside = work.same_line(next)
            && work.is_sure(next)
            && work.is_capital(next) == work.is_capital(i);
        let begins = i == 0 || !work.same_line(i) || matches!(work.what(i - 1), What::Mark(_));
        let title = |at: usize| {
            work.is_capital(at) && work.is_word(at) && !work.is_sure(at) && work.word(at).len() > 1
        };
        let inside = work.case(i) == Case::Capital
            && work.cased
            && !begins
            && class & (PLACE | MONTH | STOP) == 0
            && !work.has(i - 1, ARTICLE)
            && !title(i - 1)
            && !(work.same_line(i + 1) && title(i + 1));
        let capital = work.is_capital(i) && class & (MONTH | STOP) == 0;
        if !(inside || beside && (capital || class & (ORDINARY | PLACE | MONTH | STOP) == 0)) {
            return i + 1;
        }
    }
    let end = extend(work, i, Trust::Look);
    if work.names_a_place(i, end) {
        return end;
    }
    // «Abu Muhammad»
    let start = i - usize::from(
        i > 0
            && work.has(i - 1, KIN)
            && work.same_line(i)
            && work.word(i - 1).chars().nth(1).is_some(),
    );
    work.take(start, end, Kind::Name);
    end
}

/// End of the name that begins with the word `i`: further names, initials, and «de», «bin» between them.
fn extend(work: &Work, i: usize, trust: Trust) -> usize {
    let mut end = i + 1;
    let mut words = 1;
    while words < MAX_WORDS {
        let mut at = end;
        let hyphen =
            work.glued(at) && matches!(work.what(at), What::Mark('-' | '.')) && work.glued(at + 1);
        let initial_dot = work.is_mark(at, '.')
            && work.glued(at)
            && work.is_word(at - 1)
            && work.word(at - 1).chars().nth(1).is_none();
        if hyphen || initial_dot {
            at += 1;
        }
        let (mut particles, mut kin) = (0, 0);
        while particles < 3 && work.has(at, PARTICLE) && work.same_line(at) {
            kin += usize::from(work.has(at, KIN));
            at += 1;
            if work.is_mark(at, '-') && work.glued(at) {
                at += 1;
            }
            particles += 1;
        }
        if !work.is_word(at)
            || !work.same_line(at)
            || work.glued(at) && !hyphen && !initial_dot && particles == 0
        {
            break;
        }
        let class = work.name_class(at);
        let capital = work.is_capital(at);
        let initial = work.word(at).chars().nth(1).is_none()
            && (capital
                && (work.is_mark(at + 1, '.')
                    || work.is_listed(at + 1)
                    || work.is_unknown(at + 1)))
            && particles == 0;
        let unknown = work.is_unknown(at)
            && !(work.digits(at + 1).len() <= 3
                && !work.digits(at + 1).is_empty()
                && capital
                && trust != Trust::Full);
        let fits = initial
            || work.is_sure(at)
            || class & NAME != 0 && class & (ORDINARY | STOP | PLACE) == 0
            || class & (NAME | ALSO_NAME) != 0 && class & MONTH == 0 && capital
            || class & ALSO_NAME != 0 && class & (ORDINARY | STOP | PLACE | MONTH) == 0
            || class & ALSO_NAME != 0
                && class & (MONTH | STOP) == 0
                && (trust == Trust::Full || work.is_sure(at + 1) && work.same_line(at + 1))
            || unknown
                && (capital && particles == kin || trust == Trust::Full && words == 1 && !work.has(at + 1, FOLLOWS))
            || unknown && (kin > 0 || hyphen)
            // «Tafadzwa Moyo», though a heart is «moyo» in Swahili.
            || capital && particles == 0 && class & (STOP | PLACE | PLACE_BEFORE | PLACE_AFTER | MONTH | UNIT | FOLLOWS) == 0;
        if !fits {
            break;
        }
        end = at + 1;
        words += 1;
    }
    end
}

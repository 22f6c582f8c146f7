//! Which words a misspelt token may be: a bounded number of edits, found by symmetric deletion (two words an
//! edit apart are equal after at most one letter is taken from each), so that a lookup costs by the length of
//! the token and not by the number of words.

use rustc_hash::FxHashMap;

use super::lexicon::Word;
use super::normal::MAX_LETTERS;

/// Shortest and longest token that may be a misspelling.
const REPAIR_LETTERS: std::ops::RangeInclusive<usize> = 4..=20;
/// From this many letters on a word may be two edits away, below it one.
const TWO_EDITS: usize = 9;
/// Words of so many letters are only found with two neighbouring letters swapped.
const SWAP_ONLY: usize = 4;

/// Words by what is left of them when letters are taken away.
#[derive(Debug, Default)]
pub struct Spelling {
    /// Letters of all words, one after the other; where each has its own.
    letters: Box<[char]>,
    places: FxHashMap<Word, (u32, u32)>,
    /// Where the entries begin whose hash begins with so many: the first 16 bits find a handful.
    starts: Box<[u32]>,
    /// What is left, hashed, in order, and its word: eight octets an entry, hundreds of thousands of them. Words
    /// with equal hashes are told apart by their edits.
    hashes: Box<[u32]>,
    words: Box<[Word]>,
}

impl Spelling {
    /// Index of the words that a misspelling may mean.
    pub fn of(targets: impl Iterator<Item = (Vec<char>, Word)>) -> Self {
        let (mut all, mut places) = (Vec::new(), FxHashMap::default());
        let mut deletions: Vec<(u32, Word)> = Vec::new();
        for (letters, word) in targets {
            if (SWAP_ONLY..=MAX_LETTERS).contains(&letters.len()) {
                let depth = if letters.len() >= TWO_EDITS { 2 } else { 1 };
                for_each_deletion(&letters, depth, |hash| deletions.push((short(hash), word)));
                let from = u32::try_from(all.len()).unwrap_or(u32::MAX);
                all.extend(letters);
                places.insert(word, (from, u32::try_from(all.len()).unwrap_or(u32::MAX)));
            }
        }
        deletions.sort_unstable();
        deletions.dedup();
        let first = |block: u32| deletions.partition_point(|&(hash, _)| hash >> 16 < block);
        let starts = (0..=1 << 16).map(|block| u32::try_from(first(block)).unwrap_or(u32::MAX));
        places.shrink_to_fit();
        Self {
            starts: starts.collect(),
            letters: all.into(),
            places,
            hashes: deletions.iter().map(|&(hash, _)| hash).collect(),
            words: deletions.iter().map(|&(_, word)| word).collect(),
        }
    }

    /// Letters of a word that a misspelling may mean.
    pub fn letters(&self, word: Word) -> Option<&[char]> {
        let &(from, to) = self.places.get(&word)?;
        self.letters.get(from as usize..to as usize)
    }

    /// Words that leave this.
    fn leaving(&self, hash: u64) -> &[Word] {
        let hash = short(hash);
        let block = (hash >> 16) as usize;
        let Some(&[from, to]) = self.starts.get(block..block + 2) else {
            return &[];
        };
        let (from, to) = (from as usize, to as usize);
        let hashes = &self.hashes[from..to];
        let low = from + hashes.partition_point(|&known| known < hash);
        let high = from + hashes.partition_point(|&known| known <= hash);
        &self.words[low..high]
    }

    /// The nearest words among those `meant`, at most `depth` edits away, each with its edits.
    pub fn nearest(
        &self,
        letters: &[char],
        depth: usize,
        meant: impl Fn(Word) -> bool,
    ) -> Vec<(Word, u8)> {
        let mut best: Vec<(Word, u8)> = Vec::new();
        let shortest = if depth == 1 {
            *REPAIR_LETTERS.start()
        } else {
            TWO_EDITS - 2
        };
        if !(shortest..=*REPAIR_LETTERS.end()).contains(&letters.len()) {
            return best;
        }
        for_each_deletion(letters, depth, |hash| {
            for &word in self.leaving(hash) {
                if best.iter().all(|&(known, _)| known != word)
                    && meant(word)
                    && let Some(edits) = self
                        .letters(word)
                        .and_then(|target| repair_edits(letters, target))
                    && edits <= depth
                {
                    best.push((word, u8::try_from(edits).unwrap_or(u8::MAX)));
                }
            }
        });
        let least = best.iter().map(|&(_, edits)| edits).min();
        best.retain(|&(_, edits)| Some(edits) == least);
        best.sort_unstable();
        best
    }
}

fn short(hash: u64) -> u32 {
    u32::try_from((hash ^ (hash << 32)) >> 32).unwrap_or(0)
}

/// Hash of the letters, and of the letters with up to `depth` of them taken away.
fn for_each_deletion(letters: &[char], depth: usize, mut each: impl FnMut(u64)) {
    const BASE: u64 = 0x0100_0000_01b3_6d2b;
    let mix = |hash: u64, c: char| {
        hash.wrapping_mul(BASE)
            .wrapping_add(u64::from(u32::from(c)) + 1)
    };
    let length = letters.len();
    debug_assert!(length <= MAX_LETTERS);
    // tails[i]: hash of the letters from i on, when nothing stands before them; powers to put them behind.
    let mut tails = [0_u64; MAX_LETTERS + 2];
    let mut powers = [1_u64; MAX_LETTERS + 2];
    for i in (0..length).rev() {
        let width = length - i;
        powers[width] = powers[width - 1].wrapping_mul(BASE);
        tails[i] = (u64::from(u32::from(letters[i])) + 1)
            .wrapping_mul(powers[width - 1])
            .wrapping_add(tails[i + 1]);
    }
    each(tails[0]);
    let mut head = 0_u64;
    for first in 0..length {
        let rest = length - first - 1;
        each(
            head.wrapping_mul(powers[rest])
                .wrapping_add(tails[first + 1]),
        );
        if depth > 1 {
            let mut middle = head;
            for second in first + 1..length {
                let rest = length - second - 1;
                each(
                    middle
                        .wrapping_mul(powers[rest])
                        .wrapping_add(tails[second + 1]),
                );
                middle = mix(middle, letters[second]);
            }
        }
        head = mix(head, letters[first]);
    }
}

/// Edits (insertion, deletion, substitution, swap of neighbours) if the token may be that word misspelt.
fn repair_edits(letters: &[char], target: &[char]) -> Option<usize> {
    let allowed = match target.len() {
        0..SWAP_ONLY => return None,
        SWAP_ONLY..TWO_EDITS => 1,
        _ => 2,
    };
    // The first letter is seldom wrong: it is right, or missing, or swapped with the second.
    let first = letters[0] == target[0] || target.get(1) == Some(&letters[0]);
    if !first || letters.len().abs_diff(target.len()) > allowed {
        return None;
    }
    if target.len() == SWAP_ONLY {
        let mut swapped = letters.to_vec();
        return (letters.len() == SWAP_ONLY
            && (1..SWAP_ONLY).any(|i| {
                swapped.copy_from_slice(letters);
                swapped.swap(i - 1, i);
                swapped == target
            }))
        .then_some(1);
    }
    let edits = distance(letters, target);
    (edits <= allowed).then_some(edits)
}

/// Optimal string alignment distance.
pub fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = [[0_usize; MAX_LETTERS + 1]; 3];
    for (j, cell) in rows[1].iter_mut().enumerate().take(b.len() + 1) {
        *cell = j;
    }
    for i in 1..=a.len() {
        rows[2][0] = i;
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut edits = (rows[1][j] + 1)
                .min(rows[2][j - 1] + 1)
                .min(rows[1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                edits = edits.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = edits;
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn letters(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    #[test]
    fn edits_count_a_swap_as_one() {
        for (a, b, edits) in [
            ("bleding", "bleeding", 1),
            ("siezure", "seizure", 1),
            ("unconcious", "unconscious", 1),
            ("abc", "abc", 0),
        ] {
            assert_eq!(distance(&letters(a), &letters(b)), edits, "{a} {b}");
        }
    }

    #[test]
    fn short_words_are_found_by_a_swap_only() {
        assert_eq!(repair_edits(&letters("fier"), &letters("fire")), Some(1));
        assert_eq!(repair_edits(&letters("fine"), &letters("fire")), None);
        assert_eq!(repair_edits(&letters("breth"), &letters("breath")), Some(1));
        assert_eq!(
            repair_edits(&letters("xleeding"), &letters("bleeding")),
            None
        );
    }

    proptest! {
        #[test]
        fn one_deletion_meets_in_the_index(word in "[a-z]{5,12}", at in 0_usize..12) {
            let word = letters(&word);
            let mut typed = word.clone();
            typed.remove(at % word.len());
            let (mut known, mut seen) = (Vec::new(), Vec::new());
            for_each_deletion(&word, 1, |hash| known.push(hash));
            for_each_deletion(&typed, 0, |hash| seen.push(hash));
            prop_assert!(known.contains(&seen[0]));
        }
    }
}

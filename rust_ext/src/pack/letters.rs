//! Capital letters apart from letters: a word is written in small ones, and how it stood follows it.
//!
//! The pairs are a list of our own, not the Unicode tables of the compiler, which change with its version.

/// The small letter and whether it was a capital one; other characters as they are.
pub fn fold(c: char) -> (char, bool) {
    let small = match c {
        'A'..='Z' | 'À'..='Ö' | 'Ø'..='Þ' | 'Α'..='Ρ' | 'Σ'..='Ϋ' | 'А'..='Я' => {
            u32::from(c) + 32
        }
        'Ѐ'..='Џ' => u32::from(c) + 80,
        'Ā'..='į' | 'Ŋ'..='ŷ' if u32::from(c) % 2 == 0 => u32::from(c) + 1,
        _ => return (c, false),
    };
    (char::from_u32(small).unwrap_or(c), true)
}

/// The capital letter of a small one; None for what has none.
pub fn capital(c: char) -> Option<char> {
    let large = match c {
        'a'..='z' | 'à'..='ö' | 'ø'..='þ' | 'α'..='ρ' | 'σ'..='ϋ' | 'а'..='я' => {
            u32::from(c) - 32
        }
        'ѐ'..='џ' => u32::from(c) - 80,
        'Ā'..='į' | 'Ŋ'..='ŷ' if u32::from(c) % 2 == 1 => u32::from(c) - 1,
        _ => return None,
    };
    char::from_u32(large)
}

/// How a word is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// small
    Small,
    /// First letter capital
    Title,
    /// ALL CAPITAL, two letters at least
    Capital,
    /// anY otHer way
    Mixed,
}

/// Form of a word, given which of its letters are capital ones.
pub fn form(capitals: &[bool]) -> Form {
    let count = capitals.iter().filter(|capital| **capital).count();
    if count == 0 {
        Form::Small
    } else if count == 1 && capitals[0] {
        Form::Title
    } else if count == capitals.len() {
        Form::Capital
    } else {
        Form::Mixed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capital_letter_has_one_small_letter_and_back() {
        for c in '\0'..=char::MAX {
            let (small, was_capital) = fold(c);
            if was_capital {
                assert_eq!(capital(small), Some(c));
                assert_eq!(fold(small), (small, false));
            } else {
                assert_eq!(small, c);
            }
            if let Some(large) = capital(c) {
                assert_eq!(fold(large), (c, true));
            }
        }
    }
}

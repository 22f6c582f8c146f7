//! Fits an answer into the fewest segments, and checks that a model's answer says what its passages say.
//!
//! [`check`] is the post-check, [`fit`] the shortening, [`cache`] the same with a memory. Both read a text through [`tokens`], [`sentences`],
//! [`facts`] and [`clauses`], and know words only from data files ([`rules`]).

pub mod cache;
pub mod check;
pub mod clauses;
pub mod clean;
mod cut;
mod draft;
mod drop;
pub mod facts;
pub mod fit;
pub mod folding;
pub mod phrases;
pub mod rules;
mod select;
pub mod sentences;
mod shorten;
mod support;
pub mod tokens;

#[cfg(test)]
mod testing {
    //! The shipped rules, read once, for the tests of this module.

    use std::fs;
    use std::path::Path;
    use std::sync::OnceLock;

    use super::rules::{Rules, RulesError};

    /// What [`Rules::read`] takes.
    pub struct Files {
        pub shared: String,
        pub languages: Vec<String>,
        pub substances: String,
        pub folding: String,
    }

    impl Files {
        pub fn rules(&self) -> Result<Rules, RulesError> {
            Rules::read(
                &self.shared,
                &self.languages,
                &self.substances,
                &self.folding,
            )
        }
    }

    pub fn files() -> Files {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../actors/knowledge");
        let read = |name: &str| fs::read_to_string(folder.join(name)).expect(name);
        let languages = ["en", "es", "fr", "pt"].map(|code| read(&format!("compress/{code}.toml")));
        Files {
            shared: read("compress/shared.toml"),
            languages: languages.to_vec(),
            substances: read("compress/substances.txt"),
            folding: read("folding.toml"),
        }
    }

    pub fn rules() -> &'static Rules {
        static RULES: OnceLock<Rules> = OnceLock::new();
        RULES.get_or_init(|| files().rules().expect("the shipped rules are valid"))
    }
}

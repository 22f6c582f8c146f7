//! The data that ships with EVY, as the core takes it.

use std::fs;
use std::path::{Path, PathBuf};

use evy_core::compress::rules::Rules;
use evy_core::pack::Packer;
use evy_core::pii::Redactor;
use evy_core::route;
use evy_core::triage::Triager;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Name and text of the files of one kind in a folder of the knowledge, by name.
fn files(folder: &str, kind: &str) -> Vec<(String, String)> {
    let folder = root().join("actors/knowledge").join(folder);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("a checkout")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|found| found == kind))
        .collect();
    paths.sort();
    let name = |path: &Path| {
        path.file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned()
    };
    paths.iter().map(|path| (name(path), read(path))).collect()
}

/// Triage on the shipped rules and model.
///
/// # Panics
/// When they do not compile.
pub fn triager() -> Triager {
    let mut shipped = files("triage", "toml");
    shipped.extend(files("triage", "tsv"));
    Triager::new(&shipped).expect("the shipped rules compile")
}

/// Redaction on the shipped rules.
///
/// # Panics
/// When they do not compile.
pub fn redactor() -> Redactor {
    Redactor::new(&files("pii", "toml"), &[]).expect("the shipped rules compile")
}

/// The rules of the ladder.
///
/// # Panics
/// When they do not compile.
pub fn ladder() -> route::Rules {
    let text = read(&root().join("actors/knowledge/route.toml"));
    route::Rules::parse(&text).expect("the shipped rules compile")
}

/// The rules of shortening.
///
/// # Panics
/// When they do not compile.
pub fn shortening() -> Rules {
    let mut languages = files("compress", "toml");
    let shared = languages
        .iter()
        .position(|(name, _)| name == "shared.toml")
        .expect("shared.toml");
    let (_, shared) = languages.remove(shared);
    let languages: Vec<_> = languages.into_iter().map(|(_, text)| text).collect();
    let knowledge = root().join("actors/knowledge");
    let substances = read(&knowledge.join("compress/substances.txt"));
    let folding = read(&knowledge.join("folding.toml"));
    Rules::read(&shared, &languages, &substances, &folding).expect("the shipped rules compile")
}

/// Packing with the shipped model, no text known by name.
///
/// # Panics
/// When the model cannot be read.
pub fn packer() -> Packer {
    let model = fs::read(root().join("actors/knowledge/pack.model")).expect("a checkout");
    Packer::new(&model, &[]).expect("the shipped model")
}

/// Language and text of questions of 160 characters, as people may send them where there is a mesh only.
///
/// # Panics
/// When the vectors cannot be read.
pub fn mesh_queries() -> Vec<(String, String)> {
    let text = read(&root().join("tests/vectors/mesh_queries.tsv"));
    let line = |line: &str| {
        let (lang, text) = line.split_once('\t').expect("language and text");
        (lang.to_owned(), text.to_owned())
    };
    text.lines().map(line).collect()
}

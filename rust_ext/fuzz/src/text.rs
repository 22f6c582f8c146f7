//! Any text: segments join to it and fit, triage and redaction give an answer, a shortened text fits.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use evy_core::compress::fit::{Level, Request, fit};
use evy_core::compress::rules::Rules;
use evy_core::pii::Redactor;
use evy_core::sms::gsm7;
use evy_core::sms::segment::{Encoding, measure, segment};
use evy_core::triage::Triager;
use libfuzzer_sys::fuzz_target;

static KNOWLEDGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../actors/knowledge");
static TRIAGE: LazyLock<Triager> =
    LazyLock::new(|| Triager::new(&files("triage")).expect("the shipped rules compile"));
static REDACTOR: LazyLock<Redactor> =
    LazyLock::new(|| Redactor::new(&files("pii"), &[]).expect("the shipped rules compile"));

static SHORTENING: LazyLock<Rules> = LazyLock::new(|| {
    let read = |name: &str| {
        std::fs::read_to_string(Path::new(KNOWLEDGE).join(name)).expect("a checkout in UTF-8")
    };
    let languages = ["en", "es", "fr", "pt"].map(|lang| read(&format!("compress/{lang}.toml")));
    Rules::read(
        &read("compress/shared.toml"),
        &languages,
        &read("compress/substances.txt"),
        &read("folding.toml"),
    )
    .expect("the shipped rules compile")
});

fn files(directory: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(Path::new(KNOWLEDGE).join(directory)).expect("a checkout");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml" || extension == "tsv")
        })
        .map(|path| {
            let name = path
                .file_name()
                .expect("a file")
                .to_string_lossy()
                .into_owned();
            (name, std::fs::read_to_string(&path).expect("UTF-8"))
        })
        .collect();
    files.sort();
    files
}

fuzz_target!(|octets: &[u8]| {
    let text = String::from_utf8_lossy(octets);
    let cut = segment(&text);
    assert_eq!(cut.segments().collect::<String>(), text);
    assert_eq!(cut.size, measure(&text));
    let most = if cut.size.count == 1 {
        cut.size.encoding.single()
    } else {
        cut.size.encoding.part()
    };
    for part in cut.segments() {
        let units = match cut.size.encoding {
            Encoding::Gsm7 => gsm7::septet_count(part).expect("the whole text is in the alphabet"),
            Encoding::Ucs2 => part.encode_utf16().count(),
        };
        assert!(units <= most);
    }
    let found = TRIAGE.classify(&text);
    assert!((0.0..=1.0).contains(&found.confidence), "{found:?}");
    let redacted = REDACTOR.redact(&text);
    assert!(redacted.text.len() <= 6 * text.len());
    // Language and room follow from the text, so that a finding is found again.
    let lang = ["en", "es", "fr", "pt", "hi"][octets.len() % 5];
    let max_segments = 1 + octets.len() % 3;
    let level = [Level::AsNeeded, Level::Brief][octets.len() / 5 % 2];
    let request = Request {
        text: &text,
        lang,
        verbatim: false,
        max_segments,
        hint: "MORE?",
        level,
    };
    let fitted = fit(request, &SHORTENING).expect("there is room for the hint");
    assert_eq!(fitted.size, measure(&fitted.text));
    assert!(fitted.size.count <= max_segments);
    if cut.size.count <= max_segments && level == Level::AsNeeded {
        assert!(fitted.rest.is_empty() && fitted.dropped.is_empty());
    }
});

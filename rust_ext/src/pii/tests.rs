use std::path::Path;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;

fn files(directory: &str) -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../actors/knowledge")
        .join(directory);
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn shipped() -> &'static Redactor {
    static REDACTOR: OnceLock<Redactor> = OnceLock::new();
    REDACTOR.get_or_init(|| {
        let ordinary: Vec<String> = files("triage").into_iter().map(|(_, text)| text).collect();
        Redactor::new(&files("pii"), &ordinary).unwrap()
    })
}

fn redact(text: &str) -> String {
    shipped().redact(text).text
}

#[test]
fn a_number_is_found_however_it_is_written() {
    for number in [
        "5551234",
        "555-1234",
        "(555) 123 4567",
        "+509 37.45.12.34",
        "00 33 6 12 34 56 78",
        "०९८७६५४३२१",
        "٠٩٤٤١٢٣٤٥٦",
        "0\u{200b}7\u{200b}1\u{200b}2345678",
        "zero seven one two three four five",
        "0712 then 345 then 678",
        "O7l2345678",
    ] {
        assert_eq!(
            redact(&format!("please call {number} today")),
            "please call [phone] today",
            "{number}"
        );
    }
}

#[test]
fn what_an_answer_needs_stays() {
    for text in [
        "give 500 mg every 6 hours, at most 4000 mg",
        "blood pressure 180/120, 38.5 degrees, 12 people, 112 and 911",
        "on 12/01/2010 at 16:53:10, 2009-2010, 1,200,000 litres, 5000000 people",
        "ages 34 36 12 7 5, count one two three four five six seven eight",
        "i hope you will come in may with faith",
        "rue Marie Curie, St Joseph Hospital, San Pedro, Santiago",
    ] {
        assert_eq!(redact(text), text);
    }
}

#[test]
fn a_finding_is_given_in_characters() {
    let got = shipped().redact("¡ñ! 📞 5551234");
    assert_eq!(
        got.found,
        [Found {
            kind: Kind::Phone,
            start: 6,
            end: 13
        }]
    );
}

#[test]
fn check_digits_decide_about_accounts_and_cards() {
    assert_eq!(redact("GB82 WEST 1234 5698 7654 32"), "[id]");
    assert_eq!(redact("4111111111111111"), "[id]");
}

#[test]
fn what_is_left_unread_is_said() {
    assert!(shipped().redact("меня зовут Иван").doubtful);
    assert!(shipped().redact("x@").doubtful);
    assert!(shipped().redact("12345.67890.12").doubtful || redact("12345.67890.12") == "[phone]");
    assert!(!shipped().redact("we need water for 12 people").doubtful);
}

#[test]
fn what_a_mask_took_out_can_be_put_back() {
    let masked = shipped().mask("my name is Kofi, call 5551234 or kofi@a.org. [phone1]? Kofi here");
    assert_eq!(
        masked.text,
        "my name is [name1], call [phone1] or [email1]. [phone2]? [name1] here"
    );
    let stands: Vec<(&str, &str)> = masked
        .stands
        .iter()
        .map(|(placeholder, original)| (placeholder.as_str(), original.as_str()))
        .collect();
    assert_eq!(
        stands,
        [
            ("[name1]", "Kofi"),
            ("[phone1]", "5551234"),
            ("[email1]", "kofi@a.org"),
            ("[phone2]", "[phone1]")
        ]
    );
}

#[test]
fn a_language_without_data_is_said() {
    for text in [
        "meine Großmutter Hildegard hat starke Schmerzen und braucht einen Arzt",
        "babcia Jadwiga ma silne bóle i potrzebuje lekarza natychmiast",
        "büyükannem Ayşegül çok hasta ve doktora ihtiyacı var hemen",
        "bà tôi Nguyễn Thị Lan bị sốt cao, cần bác sĩ ngay",
    ] {
        assert!(shipped().redact(text).foreign, "{text}");
    }
    for text in [
        "how do I dress the quernstone of our mill",
        "mi hermano tiene fiebre alta desde ayer",
        "MA SŒUR EST MALADE, À L'HÔPITAL",
        "",
        "?",
    ] {
        assert!(!shipped().redact(text).foreign, "{text}");
    }
}

#[test]
fn wrong_data_is_named() {
    let good = "[names]\nsure = 'kofi'\ncues = ['my name is']\n";
    let error = |text: &str| {
        Redactor::new(&[("x.toml".to_owned(), text.to_owned())], &[])
            .unwrap_err()
            .to_string()
    };
    assert!(error("[names]\nsure = 1").starts_with("x.toml: TOML"));
    assert!(error("[names]\ncues = ['my name is']").contains("names.sure"));
    assert!(error("[names]\nsure = 'kofi'").contains("names.cues"));
    assert!(error(&format!("{good}[words]\nstop = 'a-b'")).contains("words.stop"));
    assert!(error(&format!("{good}[numbers.digits]\none = 'x'")).contains("numbers.digits.one"));
    assert!(error(&format!("{good}[ids]\ncues = ['-']")).contains("ids.cues"));
}

/// Pieces that detectors trip over, in any order.
const PIECES: &str = "[0-9]{1,9}|[a-z]{1,8}|[A-Z][a-z]{1,8}|my name is|my number is|maria|Will|mr|call|at|dot|com|[-+.,:/@°'()\\[\\]#]|\\[name\\]|\\[phone\\]|zero|one|N|W|passport|born|brother|http://|is|de|\n| |अली|محمد|٣٤";

proptest! {
    #[test]
    fn any_text_is_redacted_and_redacting_twice_changes_nothing(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn pieces_in_any_order(pieces in prop::collection::vec(PIECES, 0..40), glue in " ?") {
        check(&pieces.join(&glue))?;
    }
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let once = shipped().redact(text);
    let twice = shipped().redact(&once.text);
    prop_assert_eq!(&once.text, &twice.text);
    prop_assert!(twice.found.is_empty());
    prop_assert_eq!(once.doubtful, twice.doubtful);
    prop_assert!(once.text.len() <= 6 * text.len());
    let masked = shipped().mask(text);
    prop_assert!(shipped().redact(&masked.text).found.is_empty());
    let mut back = masked.text.clone();
    for (placeholder, original) in &masked.stands {
        prop_assert!(back.contains(placeholder.as_str()));
        back = back.replace(placeholder.as_str(), &format!("\0{original}\0"));
    }
    let flat = |text: &str| text.replace('\0', "").to_lowercase();
    prop_assert!(masked.stands.iter().any(|(_, o)| o.contains('[')) || flat(&back) == flat(text));
    let length = text.chars().count();
    let mut last = 0;
    for found in &once.found {
        prop_assert!(last <= found.start && found.start < found.end && found.end <= length);
        last = found.end;
    }
    Ok(())
}

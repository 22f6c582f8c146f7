//! Any octets as a PDU: never a panic, and what was read is written so that it reads the same.

#![no_main]

use evy_core::sms::pdu::{Deliver, Received, Submit, join_text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    match Received::decode(octets) {
        Ok(Received::Deliver(deliver)) => deliver_again(&deliver),
        Ok(Received::StatusReport(report)) => {
            if let Ok(written) = report.encode() {
                assert_eq!(
                    Received::decode(&written),
                    Ok(Received::StatusReport(report))
                );
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(submit) = Submit::decode(octets) {
        let _ = submit.data.to_text();
        if let Ok(written) = submit.encode() {
            assert_eq!(Submit::decode(&written).as_ref(), Ok(&submit));
        }
    }
});

fn deliver_again(deliver: &Deliver) {
    if let Some(part) = deliver.data.concatenation() {
        assert!((1..=part.total).contains(&part.number));
    }
    let text = deliver.data.to_text();
    if text.is_some() {
        // Two parts may hold half an emoji each; joining them must not panic either.
        let joined = join_text([&deliver.data, &deliver.data]);
        assert!(joined.chars().count() <= 2 * 255);
    }
    if let Ok(written) = deliver.encode() {
        let again = Received::decode(&written);
        let Ok(Received::Deliver(again)) = again else {
            panic!("{again:?} from {deliver:?}");
        };
        assert_eq!(again.data.to_text(), text);
        assert_eq!(again.sender, deliver.sender);
    }
}

//! Any octets as a frame: a text or an error, never a panic; and any text comes back, at most one octet longer.

#![no_main]

use std::sync::LazyLock;

use evy_core::pack::Packer;
use libfuzzer_sys::fuzz_target;

static PACKER: LazyLock<Packer> = LazyLock::new(|| {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../actors/knowledge/pack.model"
    );
    let model = std::fs::read(path).expect("a checkout");
    let known = ["Boil the water for 1 minute.".to_owned()];
    Packer::new(&model, &known).expect("the shipped model")
});

fuzz_target!(|octets: &[u8]| {
    for same in [false, true] {
        if let Ok(text) = PACKER.unpack(octets) {
            comes_back(&text, same);
        }
        comes_back(&String::from_utf8_lossy(octets), same);
    }
});

fn comes_back(text: &str, same: bool) {
    match PACKER.pack(text, same) {
        Ok(frame) => {
            assert!(frame.len() <= text.len() + 1);
            assert_eq!(PACKER.unpack(&frame).as_deref(), Ok(text));
        }
        Err(error) => assert!(text.len() > 65_535, "{error}"),
    }
}

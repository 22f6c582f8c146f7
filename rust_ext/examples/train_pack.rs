//! Trains the model of `evy_core::pack` from lines of JSON on standard input; `make train-pack` calls it.

use std::io::{Read, Write};

use evy_core::pack::train::{Sample, Settings, train};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [number, gain_bits, rounds] = &arguments[..] else {
        return Err("train_pack NUMBER BITS ROUNDS < weight TAB text, one a line, > model".into());
    };
    let settings = Settings {
        number: number.parse()?,
        gain_bits: gain_bits.parse()?,
        rounds: rounds.parse()?,
    };
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input)?;
    let mut samples = Vec::new();
    for line in input.lines() {
        let (weight, text) = line.split_once('\t').ok_or("a line without a tab")?;
        samples.push(Sample {
            text: text.to_owned(),
            weight: weight.parse()?,
        });
    }
    let model = train(&samples, settings, |line| eprintln!("{line}"))?;
    std::io::stdout().write_all(&model)?;
    Ok(())
}

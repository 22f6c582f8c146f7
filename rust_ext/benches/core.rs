//! What one text costs in each part of the core.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use evy_core::compress::fit::{Level, Request, fit};
use evy_core::route::{Priority, Situation};
use evy_core::sms::segment::{measure, segment};
use evy_core_benches::{ladder, packer, redactor, shortening, triager};

const TEXTS: [(&str, &str); 4] = [
    (
        "emergency",
        "plz hlp my brother is bleding alot from his leg we r at the school in san pedro",
    ),
    (
        "chat",
        "good morning, how are you all today? see you at the market",
    ),
    ("hindi", "मेरी पत्नी को बहुत दर्द हो रहा है और खून बह रहा है"),
    ("emoji", "🆘🆘🆘 🔥🔥 👨‍👩‍👧 🙏🏽"),
];

const ANSWER: &str = "Certainly! Here is what you should do. First of all, do not drink the flood water. Bring clean \
    water to a rolling boil for at least 1 minute, or for 3 minutes above 2,000 m. Let it cool down, and keep it in a \
    clean container with a lid. If you cannot boil it, add 8 drops of plain household bleach per 4 litres, stir it, and \
    wait 30 minutes. Please remember that bleach does not remove chemicals. I hope that this information is helpful!";

fn triage(c: &mut Criterion) {
    let triager = triager();
    let mut group = c.benchmark_group("triage");
    for (name, text) in TEXTS {
        group.bench_function(name, |b| b.iter(|| triager.classify(black_box(text))));
    }
    let long = TEXTS[0].1.repeat(200);
    let long: String = long.chars().take(10_000).collect();
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("10,000 characters", |b| {
        b.iter(|| triager.classify(black_box(&long)))
    });
    group.finish();
    c.bench_function("triage/load", |b| b.iter(evy_core_benches::triager));
}

fn redact(c: &mut Criterion) {
    let redactor = redactor();
    let text = "I am Maria Lopez, +34 600 111 222, at 18.5392,-72.3364, my dad fell";
    c.bench_function("redact", |b| b.iter(|| redactor.redact(black_box(text))));
}

fn route(c: &mut Criterion) {
    let rules = ladder();
    let near = Situation {
        confidence: Some(0.6),
        ..Situation::unknown(Priority::Urgent)
    };
    c.bench_function("route", |b| b.iter(|| rules.decide(black_box(&near))));
    c.bench_function("route/load", |b| b.iter(evy_core_benches::ladder));
}

fn compress(c: &mut Criterion) {
    let rules = shortening();
    let mut group = c.benchmark_group("compress");
    for max_segments in [1, 2] {
        let request = Request {
            text: ANSWER,
            lang: "en",
            verbatim: false,
            max_segments,
            hint: "MORE?",
            level: Level::AsNeeded,
        };
        group.bench_function(format!("{max_segments} SMS"), |b| {
            b.iter(|| fit(black_box(request), &rules))
        });
    }
    group.finish();
}

fn divide(c: &mut Criterion) {
    let mut group = c.benchmark_group("segment");
    for (name, text) in [("one", TEXTS[0].1), ("three", ANSWER), ("ucs2", TEXTS[2].1)] {
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |b| {
            b.iter(|| segment(black_box(text)).segments().count())
        });
        group.bench_function(format!("{name}, counted"), |b| {
            b.iter(|| measure(black_box(text)))
        });
    }
    group.finish();
}

fn pack(c: &mut Criterion) {
    let packer = packer();
    for (name, text) in [("emergency", TEXTS[0].1), ("answer", ANSWER)] {
        let mut group = c.benchmark_group(format!("pack/{name}"));
        group.throughput(Throughput::Bytes(text.len() as u64));
        let frame = packer.pack(text, false).expect("short enough");
        group.bench_function("pack", |b| b.iter(|| packer.pack(black_box(text), false)));
        group.bench_function("unpack", |b| b.iter(|| packer.unpack(black_box(&frame))));
        group.finish();
    }
}

criterion_group!(benches, triage, redact, route, compress, divide, pack);
criterion_main!(benches);

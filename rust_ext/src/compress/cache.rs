//! Remembers what was fitted lately: a notice, a hint and a reviewed passage are asked for again and again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fit::{self, FitError, Fitted, Level, Request};
use super::rules::Rules;

/// Texts remembered at most.
const MAX_ENTRIES: usize = 1_000;

/// Octets of all of them at most, with the rough cost of a slot: an entry of two segments takes about 1 kB.
const MAX_OCTETS: usize = 1 << 20;
const SLOT_OCTETS: usize = 256;

/// [`fit::fit`] with a memory for the results used last. For any number of threads.
#[derive(Debug, Default)]
pub struct Cache {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Arc<str>, Entry>,
    /// Keys by when they were used last.
    order: BTreeMap<u64, Arc<str>>,
    clock: u64,
    octets: usize,
}

#[derive(Debug)]
struct Entry {
    fitted: Arc<Fitted>,
    used: u64,
    octets: usize,
}

impl Cache {
    /// The same as [`fit::fit`] by the same rules, which must be those of every call.
    ///
    /// # Errors
    /// Those of [`fit::fit`]; they are not remembered.
    pub fn fit(&self, request: Request<'_>, rules: &Rules) -> Result<Arc<Fitted>, FitError> {
        if request.text.len() > MAX_OCTETS / 64 {
            return fit::fit(request, rules).map(Arc::new);
        }
        let key = key(request);
        if let Some(found) = self.lock().get(&key) {
            return Ok(found);
        }
        // Not under the lock: two threads that ask the same at once both work it out.
        let fitted = Arc::new(fit::fit(request, rules)?);
        self.lock().put(key.into(), &fitted);
        Ok(fitted)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics under the lock; if it did, entries are still right or absent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn get(&mut self, key: &str) -> Option<Arc<Fitted>> {
        let entry = self.entries.get_mut(key)?;
        self.clock += 1;
        if let Some(key) = self.order.remove(&entry.used) {
            self.order.insert(self.clock, key);
        }
        entry.used = self.clock;
        Some(Arc::clone(&entry.fitted))
    }

    fn put(&mut self, key: Arc<str>, fitted: &Arc<Fitted>) {
        let dropped: usize = fitted.dropped.iter().map(String::len).sum();
        let octets = key.len() + fitted.text.len() + fitted.rest.len() + dropped + SLOT_OCTETS;
        self.clock += 1;
        let entry = Entry {
            fitted: Arc::clone(fitted),
            used: self.clock,
            octets,
        };
        self.order.insert(self.clock, Arc::clone(&key));
        self.octets += octets;
        if let Some(old) = self.entries.insert(key, entry) {
            self.order.remove(&old.used);
            self.octets -= old.octets;
        }
        while self.entries.len() > MAX_ENTRIES || self.octets > MAX_OCTETS {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            if let Some(gone) = self.entries.remove(&oldest) {
                self.octets -= gone.octets;
            }
        }
    }
}

/// Everything a result depends on; lengths keep one field from running into the next.
fn key(request: Request<'_>) -> String {
    let Request {
        text,
        lang,
        verbatim,
        max_segments,
        hint,
        level,
    } = request;
    let brief = level == Level::Brief;
    let (a, b) = (lang.len(), hint.len());
    format!("{verbatim} {brief} {max_segments} {a} {b} {lang}{hint}{text}")
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use proptest::prelude::*;

    fn request(text: &str) -> Request<'_> {
        Request {
            text,
            lang: "en",
            verbatim: false,
            max_segments: 1,
            hint: "MORE?",
            level: Level::AsNeeded,
        }
    }

    #[test]
    fn the_least_recently_used_goes_first_and_the_bounds_hold() {
        let (cache, rules) = (Cache::default(), testing::rules());
        let texts: Vec<String> = (0..=MAX_ENTRIES).map(|n| format!("text {n}")).collect();
        let first = cache.fit(request(&texts[0]), rules).unwrap();
        for text in &texts[1..MAX_ENTRIES] {
            cache.fit(request(text), rules).unwrap();
        }
        assert!(Arc::ptr_eq(
            &first,
            &cache.fit(request(&texts[0]), rules).unwrap()
        ));
        let second = cache.lock().get(&key(request(&texts[1]))).is_some();
        assert!(second);
        cache.fit(request(&texts[MAX_ENTRIES]), rules).unwrap();
        let held = |n: usize| {
            cache
                .lock()
                .entries
                .contains_key(key(request(&texts[n])).as_str())
        };
        assert!(held(0) && held(1) && !held(2) && held(MAX_ENTRIES));
        assert_eq!(cache.lock().entries.len(), MAX_ENTRIES);

        let long = "é".repeat(7_000);
        for n in 0..100 {
            cache.fit(request(&format!("{n} {long}")), rules).unwrap();
        }
        let inner = cache.lock();
        assert!(inner.octets <= MAX_OCTETS && inner.entries.len() < 100);
        assert_eq!(inner.entries.len(), inner.order.len());
        let octets: usize = inner.entries.values().map(|entry| entry.octets).sum();
        assert_eq!(inner.octets, octets);
    }

    proptest! {
        #[test]
        fn every_input_counts(text in "[ab]{0,2}", lang in "(en|es|e)", hint in "[ab]{0,2}", verbatim: bool, max in 1usize..3, brief: bool, other in "[ab]{0,2}") {
            let level = if brief { Level::Brief } else { Level::AsNeeded };
            let this = Request { text: &text, lang: &lang, verbatim, max_segments: max, hint: &hint, level };
            let that = request(&other);
            prop_assert_eq!(key(this) == key(that), this == that);
        }

        #[test]
        fn what_is_remembered_is_what_would_be_made(texts in prop::collection::vec("[a-c .]{0,200}", 1..20)) {
            let (cache, rules) = (Cache::default(), testing::rules());
            for text in texts.iter().chain(&texts) {
                let fresh = fit::fit(request(text), rules).unwrap();
                prop_assert_eq!(&*cache.fit(request(text), rules).unwrap(), &fresh);
            }
        }
    }
}

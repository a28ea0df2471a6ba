//! Real models against reference outputs: each is compiled to an object, and the object runs, on
//! this machine and as an aarch64 program under emulation, with every test data set.
//!
//! What ran, and what did not and why, is printed even where tests print nothing. `LMC_MODEL=NAME`
//! keeps to the models whose name has NAME in it.

use crate::support::models::{Entry, all};
use lmc::build::{Build, Silent};
use lmc::run::executor::Executor;
use lmc::target::{Arch, resolve};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A target and a processor.
type Place = (&'static str, &'static str);

/// Compiles for one test data set, runs, compares.
fn check(entry: &Entry, set: usize, place: Place) -> Result<(), String> {
    let build = Build::new(entry.folder.join("model.onnx")).target(place.0).cpu(place.1);
    let built = build.bindings(entry.bindings(set)).build(&Silent).map_err(|e| e.to_string())?;
    let (inputs, wanted) = entry.data(set);
    let executor = Executor::new(&built.program, &built.object.bytes, &built.target, None);
    let outputs = executor.and_then(|mut e| e.run(&inputs)).map_err(|e| e.to_string())?;
    let mut pairs = outputs.iter().zip(&wanted).enumerate();
    pairs.try_for_each(|(i, (got, want))| entry.compare(i, got, want))
}

/// The models that are asked for on some places, two at a time; panics with what failed.
fn check_all(places: &[Place], asked: fn(&Entry) -> bool) {
    let (mut models, folders) = all();
    let filter = std::env::var("LMC_MODEL").unwrap_or_default();
    models.retain(|m| m.name.contains(&filter) && asked(m));
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(entry) = models.get(next.fetch_add(1, Ordering::Relaxed)) {
            let start = Instant::now();
            let failed = check_model(entry, places);
            let result = if failed.is_empty() { "as expected".to_owned() } else { failed.join("; ") };
            let seconds = start.elapsed().as_secs_f64();
            tell(&format!(
                "{:28} {} data sets, {seconds:.1} s: {result}\n",
                entry.name,
                entry.test_sets.len()
            ));
            let named = failed.into_iter().map(|f| format!("{}: {f}", entry.name));
            failures.lock().expect("no panic").extend(named);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let names: Vec<String> = places.iter().map(|(target, cpu)| format!("{target} {cpu}")).collect();
    tell(&format!("{} models on {}\n", models.len(), names.join(", ")));
    for folder in folders.iter().filter(|f| !f.is_dir()) {
        tell(&format!("not tested: the models of {}, which is not here\n", folder.display()));
    }
    let failures = failures.into_inner().expect("no panic");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check_model(entry: &Entry, places: &[Place]) -> Vec<String> {
    let mut failed = Vec::new();
    for &place in places {
        for set in 0..entry.test_sets.len() {
            if let Err(why) = check(entry, set, place) {
                failed.push(format!("{} {} set {set}: {why}", place.0, place.1));
            }
        }
    }
    failed
}

/// Prints past the capture of tests.
fn tell(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).expect("stderr");
}

#[test]
fn on_this_machine() {
    check_all(&[("native", "generic"), ("native", "native")], |_| true);
}

#[test]
fn on_x86_64_levels() {
    let host = resolve("native", "native").expect("this machine");
    let runs = |cpu: &&str| {
        let level = resolve("x86_64", cpu).expect("a known processor");
        let runs = host.arch == Arch::X86_64 && level.features.iter().all(|f| host.has(*f));
        if !runs {
            tell(&format!("not tested: x86_64 {cpu}, which this machine cannot run\n"));
        }
        runs
    };
    let levels: Vec<Place> =
        ["x86-64-v2", "x86-64-v3", "x86-64-v4"].into_iter().filter(runs).map(|cpu| ("x86_64", cpu)).collect();
    check_all(&levels, |_| true);
}

#[test]
fn on_aarch64_under_emulation() {
    check_all(&[("aarch64", "generic"), ("aarch64", "neoverse-n1")], |_| true);
    // What else newer processors have multiplies bytes.
    check_all(&[("aarch64", "neoverse-n2")], |entry| !entry.dtype.starts_with("fp"));
}

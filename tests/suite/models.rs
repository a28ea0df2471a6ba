//! Real models against reference outputs: each is compiled to an object, and the object runs, on
//! this machine and as an aarch64 program under emulation, with every test data set.
//!
//! What ran, and what did not and why, is printed even where tests print nothing.

use crate::support::models::{Entry, all};
use crate::support::pipeline::build;
use crate::support::scratch;
use lmc::run::foreign::Foreign;
use lmc::run::load::Loaded;
use lmc::target::{Target, resolve};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A target and how its objects run.
struct Place {
    target: Target,
    native: bool,
}

/// The processors that models are compiled for and run on; those this machine lacks are left out.
fn places(list: &[(&str, &str)]) -> Vec<Place> {
    let here = resolve("native", "native").expect("this machine");
    let place = |&(target, cpu): &(&str, &str)| {
        let target = resolve(target, cpu).expect("a known target");
        let native = target.arch == here.arch;
        let runs = !native || target.features.iter().all(|f| here.has(*f));
        runs.then_some(Place { native, target })
    };
    list.iter().filter_map(place).collect()
}

/// Compiles for one test data set, runs, compares; what is wrong, if anything.
fn check(entry: &Entry, model: &lmc::import::Model, set: usize, place: &Place) -> Result<(), String> {
    let built = build(model, &entry.bindings(set), "model", &place.target).map_err(|e| e.to_string())?;
    let (inputs, wanted) = entry.data(set);
    let inputs: Vec<&[u8]> = inputs.iter().map(|t| &*t.data).collect();
    let mut symbols: Vec<i64> = built.program.symbols.iter().map(|s| s.max as i64).collect();
    let mut outputs = Vec::new();
    let status = if place.native {
        let loaded = Loaded::load(&built.emitted.bytes, "model").map_err(|e| e.to_string())?;
        loaded.run(&inputs, &mut symbols, &mut outputs).map_err(|e| e.to_string())?
    } else {
        let folder = scratch(&format!("models/{}_{set}_{}", entry.name, place.target.cpu));
        let object = crate::support::write(&folder, "model.o", &built.emitted.bytes);
        let ran = Foreign::link(&object, "model", &place.target, None, &folder)
            .and_then(|program| program.run(&inputs, &symbols, wanted.len(), 1));
        std::fs::remove_dir_all(&folder).map_err(|e| e.to_string())?;
        let outcome = ran.map_err(|e| e.to_string())?;
        outputs = outcome.outputs;
        outcome.status
    };
    if status != 0 {
        return Err(format!("the model returned {status}"));
    }
    let compare = |(i, want)| entry.compare(i, &outputs[i], want);
    wanted.iter().enumerate().try_for_each(compare)
}

/// All models on some places, two at a time; panics with what failed.
fn check_all(places: &[Place], choose: impl Fn(&Entry) -> bool + Sync) {
    let (mut models, folders) = all();
    models.retain(choose);
    let filter = std::env::var("LMC_MODEL").unwrap_or_default();
    models.retain(|m| m.name.contains(&filter));
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
            failures
                .lock()
                .expect("no panic")
                .extend(failed.into_iter().map(|f| format!("{}: {f}", entry.name)));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let cpus: Vec<&str> = places.iter().map(|p| p.target.cpu.as_str()).collect();
    tell(&format!("{} models on {}\n", models.len(), cpus.join(", ")));
    for folder in folders.iter().filter(|f| !f.is_dir()) {
        tell(&format!("not tested: the models of {}, which is not here\n", folder.display()));
    }
    let failures = failures.into_inner().expect("no panic");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check_model(entry: &Entry, places: &[Place]) -> Vec<String> {
    let model = match lmc::import::read(&entry.folder.join("model.onnx")) {
        Ok(model) => model,
        Err(error) => return vec![error.to_string()],
    };
    let mut failed = Vec::new();
    for place in places {
        for set in 0..entry.test_sets.len() {
            if let Err(why) = check(entry, &model, set, place) {
                failed.push(format!("{} set {set}: {why}", place.target.cpu));
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
    let list = [("native", "generic"), ("native", "native")];
    check_all(&places(&list), |_| true);
}

#[test]
fn on_x86_64_levels() {
    let list = [("x86_64", "x86-64-v2"), ("x86_64", "x86-64-v3"), ("x86_64", "x86-64-v4")];
    let host = resolve("native", "native").expect("this machine");
    if host.arch == lmc::target::Arch::X86_64 {
        check_all(&places(&list), |_| true);
    }
}

#[test]
fn on_aarch64_under_emulation() {
    check_all(&places(&[("aarch64", "generic")]), |_| true);
}

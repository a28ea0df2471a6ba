//! `lmc tune` and `lmc build --schedule`: from a search to the same results, and what is refused.

use crate::support::{models, scratch};
use lmc::Build;
use lmc::build::Silent;
use lmc::run::executor::Executor;
use lmc::schedule::choose::choose;
use lmc::schedule::{Schedule, Schedules, neighbours};
use lmc::target::resolve;
use lmc::tune::tune;
use std::time::Duration;

/// Every kernel of a model under other schedules than the chosen ones, by way of a file: its results
/// stay within the model's tolerance. Schedules for other models are noted, those for other targets refused.
#[test]
fn schedules_of_a_file_are_built() {
    let entry = models::named("kws_dscnn");
    let build = Build::new(entry.folder.join("model.onnx")).bindings(entry.bindings(0)).cpu("native");
    let target = resolve("native", "native").expect("this machine");
    let definitions = build.definitions(&Silent).expect("definitions");
    let mut file = Schedules::new(&target);
    for linear in &definitions {
        let found = tune(linear, &target, Duration::from_millis(30)).expect("a search");
        assert!(found.wrong.is_empty(), "{}", found.wrong[0].display(linear));
        let other = |s: &Schedule| neighbours(s, linear, &target).into_iter().next();
        let best =
            if found.best.0 == choose(linear, &target) { other(&found.best.0) } else { Some(found.best.0) };
        best.iter().for_each(|schedule| file.insert(linear, schedule));
    }
    let path = scratch("tune").join("kws.schedules");
    std::fs::write(&path, file.to_string()).expect("a file");
    let built = build.clone().schedules(&path).build(&Silent).expect("a build");
    assert!(!built.notes.iter().any(|n| n.contains("schedules")), "{:?}", built.notes);
    let plain = build.build(&Silent).expect("a build");
    assert_ne!(built.program.kernels, plain.program.kernels);
    let (inputs, outputs) = entry.data(0);
    let mut executor =
        Executor::new(&built.program, &built.object.bytes, &built.target, None).expect("it loads");
    let results = executor.run(&inputs).expect("a run");
    for (i, (got, want)) in results.iter().zip(&outputs).enumerate() {
        entry.compare(i, got, want).expect("the same result");
    }
    let other = models::named("sww_streaming");
    let noted = Build::new(other.folder.join("model.onnx")).bindings(other.bindings(0)).cpu("native");
    let noted = noted.schedules(&path).build(&Silent).expect("a build");
    assert!(noted.notes.iter().any(|n| n.contains("belong to no kernel of this model")), "{:?}", noted.notes);
    let damaged = path.with_file_name("damaged.schedules");
    let text = std::fs::read_to_string(&path).expect("schedules").replace("{\n", "{\n  nothing\n");
    std::fs::write(&damaged, text).expect("a file under target");
    let refused = build.clone().schedules(&damaged).build(&Silent).err().expect("no schedule");
    assert!(refused.to_string().contains("damaged.schedules: line "), "{refused}");
    let refused = build.target("aarch64").cpu("cortex-a53").schedules(&path).build(&Silent);
    let refused = refused.err().expect("another target");
    assert!(refused.to_string().contains("not for aarch64 cortex-a53"), "{refused}");
}

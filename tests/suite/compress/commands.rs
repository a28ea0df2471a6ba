//! The commands of the documentation, and what is said to bad options.

use crate::golden::check_text;
use crate::support::{models, repository, run, scratch};
use lmc::base::Tensor;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// Runs the commands of docs/quantization.md as they stand.
#[test]
fn the_documented_commands_work() {
    let text = std::fs::read_to_string(repository().join("docs/quantization.md")).expect("the document");
    let commands = text.split("```sh\n").nth(1).and_then(|t| t.split("```").next()).expect("commands");
    let folder = scratch("quantization");
    let tests = std::fs::canonicalize(repository().join("tests")).expect("the tests");
    std::os::unix::fs::symlink(tests, folder.join("tests")).expect("a link");
    let lmc = Path::new(env!("CARGO_BIN_EXE_lmc")).parent().expect("a folder");
    let path = format!("{}:{}", lmc.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    let printed = run(command.args(["-e", "-c", commands]).current_dir(&folder).env("PATH", path));
    assert!(
        printed.contains("channels removed, 4 samples") && printed.contains("cosine with float"),
        "{printed}"
    );
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("static.json")).expect("a report")).expect("JSON");
    let layer = &report["report"]["layers"][0];
    assert!(layer["error"].is_f64() && layer["range"].is_array() && layer["saturation"].is_f64(), "{layer}");
    let quantized = std::fs::metadata(folder.join("static.onnx")).expect("a file").len();
    assert_eq!(report["bytes"], quantized);
}

/// Without samples the outputs are compared on seeded inputs; where these have no shape, the report says so.
#[test]
fn what_was_compared_is_said() {
    let folder = scratch("compared");
    let model = |name: &str| models::named(name).folder.join("model.onnx");
    let report = |args: &[&str], model: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lmc"));
        command.args(args).arg(model).args(["-o", "made.onnx", "--report", "report.json"]);
        let printed = run(command.current_dir(&folder));
        let json = std::fs::read(folder.join("report.json")).expect("a report");
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        (printed, json["report"].clone())
    };
    let kws = model("kws_dscnn");
    for args in
        [["quantize", "--dynamic"].as_slice(), &["quantize", "--fp16"], &["prune", "--sparsity", "0.5"]]
    {
        let (printed, report) = report(args, &kws);
        assert!(printed.contains("on seeded inputs") && report["compared"] == "seeded_inputs", "{printed}");
        let cosine = report["cosine"][0][1].as_f64().expect("a cosine");
        assert!(cosine > 0.5 && cosine < 1.0, "{args:?}: {cosine}");
    }
    let (printed, report) = report(&["quantize", "--dynamic"], &model("mtcnn_pnet"));
    assert!(printed.contains("not compared") && report["compared"] == "nothing", "{printed}");
    assert_eq!(report["cosine"].as_array().map(Vec::len), Some(0));
}

/// What the commands say to bad options, and that nothing is written.
#[test]
fn bad_options_are_refused() {
    let folder = scratch("quantize_options");
    let model = std::fs::canonicalize(models::named("kws_dscnn").folder.join("model.onnx")).expect("a model");
    std::os::unix::fs::symlink(model, folder.join("model.onnx")).expect("a link");
    std::fs::create_dir(folder.join("empty")).expect("a folder");
    std::fs::create_dir(folder.join("wrong")).expect("a folder");
    let tensor = Tensor::new([1, 49, 9, 1], &vec![0.0f32; 441]);
    lmc::data::write_npy(&folder.join("wrong/a.npy"), &tensor).expect("a file");
    let mut said = String::new();
    for args in [
        ["quantize", "model.onnx", "-o", "q.onnx"].as_slice(),
        &["quantize", "model.onnx", "-o", "q.onnx", "--data", "absent"],
        &["quantize", "model.onnx", "-o", "q.onnx", "--data", "empty"],
        &["quantize", "model.onnx", "-o", "q.onnx", "--data", "wrong"],
        &["quantize", "model.onnx", "-o", "q.onnx", "--random-data", "1", "--exclude", "nothing"],
        &[
            "quantize",
            "model.onnx",
            "-o",
            "q.onnx",
            "--random-data",
            "1",
            "--calibration",
            "min-max",
            "--min-cosine",
            "1.1",
        ],
        &["quantize", "absent.onnx", "-o", "q.onnx", "--dynamic"],
        &["prune", "model.onnx", "-o", "q.onnx", "--sparsity", "1.5"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_lmc")).current_dir(&folder).args(args).output();
        let output = output.expect("lmc starts");
        let text = String::from_utf8_lossy(&output.stderr);
        writeln!(said, "$ lmc {}\n{text}exit code {}\n", args.join(" "), output.status.code().unwrap_or(-1))
            .expect("writing to a string");
    }
    assert!(!folder.join("q.onnx").exists(), "a failed command has written its file");
    check_text("compress/options.txt", &said);
}

/// One array that holds many samples is what a file per sample is.
#[test]
fn an_array_holds_many_samples() {
    let folder = scratch("quantize_arrays");
    let model = models::named("kws_dscnn").folder.join("model.onnx");
    let seeded: Vec<f32> = (0..3 * 490).map(|i| ((i * 37 % 101) as f32 - 50.0) / 10.0).collect();
    let mut written = Vec::new();
    for (name, shape) in [("batches", vec![3, 49, 10, 1]), ("stacked", vec![3, 1, 49, 10, 1])] {
        let data = folder.join(format!("{name}.npy"));
        lmc::data::write_npy(&data, &Tensor::new(shape, &seeded)).expect("a file");
        written.push((name, data));
    }
    let single = folder.join("single");
    std::fs::create_dir(&single).expect("a folder");
    for (i, part) in seeded.chunks(490).enumerate() {
        let tensor = Tensor::new([1, 49, 10, 1], part);
        lmc::data::write_npy(&single.join(format!("{i}.npy")), &tensor).expect("a file");
    }
    written.push(("single", single));
    let quantized = |(name, data): &(&str, std::path::PathBuf)| {
        let out = folder.join(format!("{name}.onnx"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_lmc"));
        command.args(["quantize", "--calibration", "mse", "--no-balancing", "--no-bias-correction"]);
        let output =
            command.arg(&model).arg("--data").arg(data).arg("-o").arg(&out).output().expect("lmc starts");
        let text = String::from_utf8_lossy(&output.stdout).to_string();
        assert!(output.status.success() && text.contains("3 samples"), "{name}: {text}{output:?}");
        std::fs::read(out).expect("a model")
    };
    let models: Vec<Vec<u8>> = written.iter().map(quantized).collect();
    assert!(models[0] == models[2] && models[1] == models[2], "other files");
}

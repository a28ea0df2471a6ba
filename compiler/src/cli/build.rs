//! `lmc build`: an object file, its header and bindings.

use super::options::{FormArgs, ModelArgs, TargetArgs};
use super::report::{Report, table, thousands};
use crate::build::{Built, Files, stages};
use crate::error::{Error, Result};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `lmc build`.
#[derive(Args)]
pub(super) struct BuildArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    form: FormArgs,
    /// Folder for NAME.o, NAME.h, NAME.rs and NAME.json.
    #[arg(short, long, default_value = ".")]
    out: PathBuf,
    /// Prefix of the symbols and files; otherwise the model's file name.
    #[arg(long)]
    name: Option<String>,
    /// Print the intermediate form after a stage (graph, a pass, lower, group, strips, schedule, nest, plan); the
    /// object is built all the same.
    #[arg(long, value_name = "STAGE")]
    dump_after: Vec<String>,
}

pub(super) fn run(args: &BuildArgs, report: &Report) -> Result<ExitCode> {
    if let Some(unknown) = args.dump_after.iter().find(|s| !stages().contains(&s.as_str())) {
        return Err(Error::options(format!("there is no stage '{unknown}'"))
            .advise(format!("Stages: {}", stages().join(", ")))
            .at("--dump-after"));
    }
    let mut build = args.form.of(args.target.build(&args.model)?);
    if let Some(name) = &args.name {
        build = build.name(name);
    }
    let built = report.follow(&args.dump_after, |observer| build.build(observer))?;
    let files = built.write(&args.out)?;
    built.notes.iter().chain(&args.target.advice(&built.target)).for_each(|n| report.note(n));
    report.result("built", &text(&built, &files), data(&built, &files)?);
    Ok(ExitCode::SUCCESS)
}

fn text(built: &Built, files: &Files) -> String {
    let manifest = built.manifest();
    let row = |what: &str, value: String, note: String| vec![what.to_string(), value, note];
    let number = |n: usize| format!("{:>12}", thousands(n as u64));
    let arena_note = match manifest.arena_bound {
        bound if bound == manifest.arena_bytes => "the lower bound".to_string(),
        bound => format!("lower bound {}", thousands(bound as u64)),
    };
    let rows = vec![
        row("flash", number(manifest.flash_bytes), "bytes".to_string()),
        row("  code", number(manifest.code_bytes), String::new()),
        row("  constants", number(manifest.constant_bytes), String::new()),
        row("arena", number(manifest.arena_bytes), arena_note),
        row("stack", number(manifest.stack_bytes), String::new()),
        row("multiply-adds", format!("{:>12}", thousands(manifest.macs)), String::new()),
        row("kernels", number(manifest.kernels), String::new()),
    ];
    format!("{} for {} ({})\n{}", files.object.display(), built.target.triple, built.target.cpu, table(&rows))
}

fn data(built: &Built, files: &Files) -> Result<serde_json::Value> {
    let manifest = serde_json::to_value(built.manifest())
        .map_err(|e| Error::bug(format!("the manifest is no JSON: {e}")))?;
    Ok(json!({
        "files": [files.object, files.header, files.binding, files.manifest], "manifest": manifest,
        "seconds": built.timings,
    }))
}
